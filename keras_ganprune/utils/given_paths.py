"""Checks of paths that a user gives. They need no Keras, so the command line makes them first."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

from keras_ganprune.errors import DataError, FileFormatError, unknown_name


def check_model(path: pathlib.Path) -> None:
    """Raise `FileFormatError` if there is no file to load a model from."""
    if not path.is_file():
        raise FileFormatError(f"`path` must be a `.keras` file. There is no file '{path}'.")


def check_exists(path: pathlib.Path) -> None:
    """Raise `FileFormatError` if there is neither a file nor a folder."""
    if not path.exists():
        raise FileFormatError(f"'{path}' does not exist. Check the path.")


def check_is_folder_of_run(folder: pathlib.Path) -> None:
    """Raise `FileFormatError` if there is no folder to read a run from."""
    if not folder.is_dir():
        raise FileFormatError(
            f"A run must be a folder. '{folder}' {'is a file' if folder.exists() else 'does not exist'}. "
            "`keras-ganprune demo` writes a run; `save_run` writes the run of your own training loop."
        )


def check_run(folder: str | os.PathLike[str]) -> None:
    """Raise `FileFormatError` unless a folder holds a run."""
    if not (pathlib.Path(folder) / "run.json").is_file():
        raise FileFormatError(
            f"'{folder}' is not a run folder: it has no run.json. `keras-ganprune demo` writes one."
        )


def check_array_file(path: pathlib.Path) -> None:
    """Raise `DataError` if there is no file to read arrays from."""
    if not path.is_file():
        raise DataError(
            f"The data must be a file of NumPy. There is no file '{path}'. Check the path."
        )


def check_data(name: str | os.PathLike[str], known: Iterable[str]) -> None:
    """Raise `DataError` if a text is neither the name of data nor the path of a folder.

    Args:
        name: The text.
        known: Names of the data sets.
    """
    if not (isinstance(name, str) and name in known) and not pathlib.Path(name).exists():
        raise DataError(
            unknown_name("data", name, known, "Or pass the path of a folder of images.")
        )
