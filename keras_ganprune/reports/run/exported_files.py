"""The exported files of a run: `files.json` in its folder."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from keras_ganprune.errors import FileFormatError, OutputError
from keras_ganprune.reports.run import _typed_json
from keras_ganprune.utils import files
from keras_ganprune.utils.given_paths import check_run

FILE = "files.json"


@dataclass(frozen=True)
class ExportedFile:
    """A file that was exported from a run, or measured beside such files.

    Attributes:
        name: Name of the file.
        format: 'keras', 'saved_model', 'onnx', 'litert' or 'openvino'.
        precision: 'float32', 'float16' or 'int8', or '' if it is not known.
        bytes: Int, size in bytes.
        gzip_bytes: Int, size in bytes, compressed by gzip.
        max_difference: Largest absolute difference from the outputs of the model, or None.
        milliseconds: Dict, batch size -> median time in its runtime.
        quartiles: Dict, batch size -> lower and upper quartile of this time.
        quality: Dict, metric -> value for the outputs of the file.
        notes: Tuple of sentences.

    Example:
    >>> from keras_ganprune.reports.run.exported_files import ExportedFile
    >>> ExportedFile("digits.onnx", "onnx", "float32", 4000, 900).bytes
    4000
    """

    name: str
    format: str
    precision: str
    bytes: int
    gzip_bytes: int
    max_difference: float | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    quartiles: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def updated(self, new: ExportedFile) -> ExportedFile:
        """Return this file with what a newer entry knows of it."""
        changes = {
            f.name: getattr(new, f.name)
            for f in dataclasses.fields(new)
            if getattr(new, f.name) not in (None, "", {}, ())
        }
        return dataclasses.replace(self, **changes)


def add_files(folder: str | os.PathLike[str], new: Iterable[ExportedFile]) -> None:
    """Add files to a run. An entry of the same name is updated.

    Args:
        folder: Folder of a run.
        new: The files.

    Raises:
        FileFormatError: The folder is no run, or its `files.json` is damaged.
        OutputError: It cannot be written.
    """
    place = pathlib.Path(folder)
    check_run(place)
    entries = {each.name: each for each in read_files(place)}
    for each in new:
        known = entries.get(each.name)
        same = known is not None and known.bytes == each.bytes
        entries[each.name] = known.updated(each) if known is not None and same else each
    content = json.dumps([dataclasses.asdict(each) for each in entries.values()], indent=1)
    try:
        with files.new_file(place / FILE) as work:
            work.write_text(content + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"'{place / FILE}' cannot be written: {files.reason(error)}. The run folder must have free space."
        ) from error


def read_files(folder: pathlib.Path) -> tuple[ExportedFile, ...]:
    """Return the exported files of a run folder; () if none were added.

    Raises:
        FileFormatError: `files.json` is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, list):
            raise _typed_json.FieldError("it is not a list of files")
        return tuple(_typed_json.read(ExportedFile, each) for each in content)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or a FieldError
        raise FileFormatError(
            f"'{path}' is damaged: {error}. Delete it, and add the files again: "
            "`keras-ganprune benchmark FILE... --run FOLDER`."
        ) from error
