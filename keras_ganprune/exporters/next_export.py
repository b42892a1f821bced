"""The command that writes a saved model for a runtime that is installed here."""

from __future__ import annotations

import pathlib
from typing import Any

from keras_ganprune.errors import MissingPackageError
from keras_ganprune.exporters.formats import FORMATS


def next_export(model: pathlib.Path, *more: Any) -> list[Any] | None:
    """Return the words of an `export` of a `.keras` file into a file beside it.

    Args:
        model: The file.
        *more: Further words of the command.

    Returns:
        The words, or None if no runtime of single files is installed.
    """
    for name, exporter in FORMATS.items():
        if not exporter.suffix:
            continue
        try:
            exporter.check_installed("float32")
        except MissingPackageError:
            continue
        return ["export", model, model.with_suffix(exporter.suffix), "--format", name, *more]
    return None
