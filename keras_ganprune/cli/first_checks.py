"""What is checked before Keras is imported: values, paths, and packages that are not installed.

The functions that do the work check the same again, with the same texts. Here, a wrong argument costs a tenth
of a second instead of seconds.
"""

from __future__ import annotations

import argparse
import math
import pathlib
from typing import Any

from keras_ganprune.cli.arguments import dest_of, recorded
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.utils import files, given_paths, optional_imports, validation

# Package -> the extra that installs it, and what needs it.
_PACKAGES = {
    "demo": {"matplotlib": ("demo", "Pictures"), "PIL": ("demo", "Pictures")},
    "sweep": {
        "optuna": ("sweep", "Sweeps"),
        "matplotlib": ("demo", "Pictures"),
        "scipy": ("quality", "Intervals"),
    },
}


def check(arguments: argparse.Namespace, records: list[dict[str, Any]]) -> None:
    """Check the arguments of a command.

    Args:
        arguments: The parsed arguments.
        records: The recorded arguments of the command.

    Raises:
        InvalidArgumentError: An option has a wrong value.
        FileFormatError: A model or a run does not exist.
        DataError: The data does not exist.
        OutputError: The output folder exists or cannot be written.
        MissingPackageError: A package that the command needs is not installed.
    """
    for record in records:
        _check_value(getattr(arguments, dest_of(record), None), record)
    for package, (extra, feature) in _PACKAGES.get(arguments.command, {}).items():
        optional_imports.check_installed(package, extra, feature)
    _check_inputs(arguments)
    _check_output(arguments)


def _check_value(value: Any, record: dict[str, Any]) -> None:
    """Check the value of one option as its class of options will do."""
    name = record.get("name", "")
    if value is None or value == record.get("default"):
        return
    if "known" in record and value not in record["known"]:
        raise InvalidArgumentError(unknown_name(name, value, record["known"]))
    if "check" in record and math.isfinite(value):
        getattr(validation, record["check"])(value, name)


def _check_inputs(arguments: argparse.Namespace) -> None:
    if hasattr(arguments, "model"):
        _check_model(pathlib.Path(arguments.model))
    for path in map(pathlib.Path, getattr(arguments, "files", ())):
        given_paths.check_exists(path)
    for path in map(pathlib.Path, getattr(arguments, "runs", ())):
        (_check_model if path.suffix == ".keras" else given_paths.check_is_folder_of_run)(path)
    if getattr(arguments, "run", None) is not None:
        given_paths.check_run(arguments.run)
    images_only = arguments.command in ("demo", "sweep") and arguments.application is None
    for name in ("calibration", "quality", "data"):
        given = getattr(arguments, name, None)
        if isinstance(given, str):
            _check_data(given, images_only or arguments.command in ("compress", "export"))


def _check_model(path: pathlib.Path) -> None:
    if not path.is_dir():  # the folder of `model.save(path, zipped=False)`
        given_paths.check_model(path)


def _check_data(text: str, images: bool) -> None:
    path = pathlib.Path(text)
    if path.suffix in (".npy", ".npz"):
        given_paths.check_array_file(path)
    elif images:
        given_paths.check_data(text, recorded()["images"])


def _check_output(arguments: argparse.Namespace) -> None:
    if arguments.command not in ("demo", "sweep", "compress", "shrink"):
        return
    application = getattr(arguments, "application", None) or ""
    output = arguments.output or f"ganprune_{application.replace('-', '_')}"
    files.check_new_folder(output, arguments.overwrite)
    if arguments.command != "sweep":
        files.check_saved_model_path(output)
