"""The arguments of a command as data: recorded once, written to a file, and given to a parser.

The modules of the commands need Keras, which takes seconds to import. Their arguments are in
`arguments.json`, so that help, typos and missing files are answered at once. `python -m
keras_ganprune.cli.record` writes the file; a test compares it with the modules.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
from typing import Any

FILE = pathlib.Path(__file__).with_name("arguments.json")
_TYPES: dict[str, Any] = {"int": int, "float": float, "str": str}
_ACTIONS: dict[str, Any] = {"optional bool": argparse.BooleanOptionalAction}


class Recorder:
    """Takes the arguments of a command as an `argparse.ArgumentParser` does, and keeps them as data.

    Attributes:
        records: One dict per argument, which JSON can hold.

    Example:
    >>> recorder = Recorder()
    >>> recorder.add_argument("--seed", type=int, default=0, help="Seed. Defaults to 0.")
    >>> recorder.records[0]["flags"], recorder.records[0]["type"]
    (['--seed'], 'int')
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._group: str | None = None

    def group(self, title: str | None) -> None:
        """Put the arguments that follow under a heading of the help; None ends the group."""
        self._group = title

    def add_argument(
        self,
        *flags: str,
        name: str | None = None,
        known: Any = (),
        check: Any = None,
        **settings: Any,
    ) -> None:
        """Add an argument.

        Args:
            *flags: Its flags, or the name of a positional argument.
            name: Its name in Python, where it is not that of the flag.
            known: Its valid values; another one is an error of this package with the most similar one.
            check: Name of the function of `utils.validation` that checks the value.
            **settings: Arguments of `argparse.ArgumentParser.add_argument`.
        """
        record = {"flags": list(flags), **settings}
        if "type" in record:
            record["type"] = record["type"].__name__
        if record.get("action") is argparse.BooleanOptionalAction:
            record["action"] = "optional bool"
        extras = {"group": self._group, "name": name, "known": list(known), "check": check}
        self.records.append({**record, **{key: value for key, value in extras.items() if value}})


@functools.cache
def recorded() -> dict[str, Any]:
    """Return what is in the file: the commands, the applications, and the data sets of images."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def add_to(
    parser: argparse.ArgumentParser, records: list[dict[str, Any]], known: bool = False
) -> None:
    """Add recorded arguments to a parser.

    Args:
        parser: The parser.
        records: The recorded arguments.
        known: Whether the parser knows the valid values, too. Defaults to False.

    Example:
    >>> parser = argparse.ArgumentParser()
    >>> add_to(parser, [{"flags": ["--seed"], "type": "int", "default": 0}])
    >>> parser.parse_args(["--seed", "3"]).seed
    3
    """
    groups: dict[str, Any] = {}
    for record in records:
        settings = {k: v for k, v in record.items() if k not in _OURS}
        if "type" in settings:
            settings["type"] = _TYPES[settings["type"]]
        if "action" in settings:
            settings["action"] = _ACTIONS.get(settings["action"], settings["action"])
        if known and "known" in record:
            settings["choices"] = record["known"]
        title = record.get("group")
        if title is not None and title not in groups:
            groups[title] = parser.add_argument_group(title)
        (parser if title is None else groups[title]).add_argument(*record["flags"], **settings)


_OURS = ("flags", "group", "name", "known", "check")


def dest_of(record: dict[str, Any]) -> str:
    """Return the name of an argument among the parsed ones.

    Example:
    >>> dest_of({"flags": ["--round-to"]}), dest_of({"flags": ["--import"], "dest": "modules"})
    ('round_to', 'modules')
    """
    return record.get("dest") or record["flags"][0].lstrip("-").replace("-", "_")


def is_flag(record: dict[str, Any]) -> bool:
    """Return whether an argument has a flag; otherwise it has a place."""
    return record["flags"][0].startswith("-")
