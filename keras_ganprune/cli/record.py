"""Write `arguments.json`: the arguments of all commands, which parsers read without Keras.

python -m keras_ganprune.cli.record
"""

from __future__ import annotations

import importlib
import inspect
import json
from typing import Any

from keras_ganprune.applications import catalog
from keras_ganprune.cli.arguments import FILE, Recorder
from keras_ganprune.datasets.lookup import LOADERS

#: The commands, in the order of the help. To add a command: its file in this folder, and a name here.
COMMANDS = ("demo", "compress", "sweep", "shrink", "export", "benchmark", "report")


def arguments_of_commands() -> dict[str, Any]:
    """Return what `arguments.json` holds."""
    commands = {}
    for name in COMMANDS:
        module = importlib.import_module(f"keras_ganprune.cli.{name}")
        takes_application = "application" in inspect.signature(module.add_arguments).parameters
        commands[name] = {
            "help": module.HELP,
            "examples": list(module.EXAMPLES),
            "arguments": _records(module),
        }
        if takes_application:
            commands[name]["applications"] = {
                application: _records(module, application) for application in catalog.names()
            }
    applications = {name: catalog.get(name).help for name in catalog.names()}
    return {"commands": commands, "applications": applications, "images": list(LOADERS)}


def _records(module: Any, *application: str) -> list[dict[str, Any]]:
    recorder = Recorder()
    module.add_arguments(recorder, *application)
    return recorder.records


def text() -> str:
    """Return the text of the file."""
    return json.dumps(arguments_of_commands(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"Written: {FILE}")
