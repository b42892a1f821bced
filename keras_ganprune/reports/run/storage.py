"""A run on disk: `write_run` and `load_run`."""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from keras_ganprune.errors import (
    DivergedError,
    FileFormatError,
    InvalidArgumentError,
    OutputError,
)
from keras_ganprune.reports.run._measurements import check_not_diverged
from keras_ganprune.reports.run._run_json import FORMAT, RunJson, by_network
from keras_ganprune.reports.run._run_json import read as read_run_json
from keras_ganprune.reports.run._typed_json import FieldError
from keras_ganprune.reports.run.exported_files import read_files
from keras_ganprune.reports.run.run import Run
from keras_ganprune.utils import annotated, checksums, files, given_paths

_WRITE_AGAIN = "Write it again with `save_run` or `keras-ganprune demo`"


def write_run(run: Run, folder: str | os.PathLike[str]) -> None:
    """Write the files of a run into an existing folder. Other files in the folder are kept.

    `run.json` is written last. Use `save_run` for a new folder.

    Args:
        run: The run.
        folder: An existing folder.

    Raises:
        OutputError: The folder does not exist or cannot be written.

    Example:
    >>> import tempfile
    >>> from keras_ganprune.reports.run import record_run
    >>> run = record_run(history={"loss": [0.7]}, samples={"pruned": np.zeros((2, 4, 4, 1))})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_run(run, folder)
    ...     sorted(os.listdir(folder))
    ['history.csv', 'run.json', 'samples.npz']
    """
    annotated.check(write_run, locals())
    folder = files.as_path(folder)
    try:
        if not folder.is_dir():
            raise FileNotFoundError("there is no such folder")
        (folder / "run.json").unlink(missing_ok=True)
        with files.new_file(folder / "history.csv") as work:
            _write_history(work, run.history)
            written = {"history.csv": checksums.of_file(work)}
        if run.samples:
            samples = {f"sample_{i}": images for i, images in enumerate(run.samples.values())}
            written["samples.npz"] = _write_arrays(folder / "samples.npz", samples)
        for i, picture in enumerate(run.pictures.values()):
            with files.new_file(folder / _picture(i)) as work:
                work.write_bytes(picture)
            written[_picture(i)] = checksums.of_bytes(picture)
        masks = [mask for arrays in run.masks.values() for mask in arrays]
        if masks:
            packed = {f"mask_{i}": np.packbits(mask) for i, mask in enumerate(masks)}
            written["masks.npz"] = _write_arrays(folder / "masks.npz", packed)
        with files.new_file(folder / "run.json") as work:
            work.write_text(RunJson.of(run, written).text() + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The run cannot be written to '{folder}': {files.reason(error)}. The folder must exist "
            "and have free space; `save_run` creates one."
        ) from error
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            "The names and texts of a run must be Unicode, since its files are UTF-8. Received: "
            f"{error.object!r}. Write it in other characters."
        ) from error


def _picture(number: int) -> str:
    return f"picture_{number}.png"


def _write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write a `.npz` file, and return its checksum."""
    with files.new_file(path) as work:
        np.savez_compressed(work, **arrays)  # pyright: ignore[reportArgumentType]
        return checksums.of_file(work)


def _write_history(path: pathlib.Path, history: Mapping[str, Sequence[float | None]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, values in enumerate(zip(*history.values(), strict=True), 1):
            writer.writerow([epoch, *("" if value is None else value for value in values)])


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read the folder of a run.

    Args:
        path: A folder that `save_run` or `keras-ganprune demo` wrote.

    Returns:
        A `Run`. A run without a name has the name of its folder.

    Raises:
        FileFormatError: The folder does not exist, is incomplete or damaged, or has another format; or a
            loss is NaN or infinite. The text names the file and the fix.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images = {"pruned": np.zeros((8, 4, 4, 1))}
    ...     _ = save_run(f"{folder}/run", history={"loss": [0.7, 0.4]}, samples=images)
    ...     run = load_run(f"{folder}/run")
    >>> run.name, run.epochs, run.samples["pruned"].shape
    ('run', 2, (8, 4, 4, 1))
    """
    annotated.check(load_run, locals())
    folder = files.as_path(path)
    try:
        return _read_folder(folder)
    except OSError as error:
        raise FileFormatError(
            f"The run folder '{folder}' cannot be read: {error.strerror or error}. Check its name and its "
            "permissions."
        ) from error


def _read_folder(folder: pathlib.Path) -> Run:
    run_json = _read_run_json(folder)
    fields = run_json.fields_of_run()
    fields["name"] = run_json.name or folder.resolve().name
    fields["history"] = _read_history(folder, run_json)
    # A run has samples, pictures or both.
    if run_json.samples or not run_json.pictures:
        fields["samples"] = _read_samples(folder, run_json)
    else:
        fields["samples"] = {}
    fields["pictures"] = {
        title: _read_bytes(folder, _picture(i), f"the picture '{title}'", run_json)
        for i, title in enumerate(run_json.pictures)
    }
    if run_json.masks:
        fields["masks"] = _read_masks(folder, run_json)
    return Run(**fields, files=read_files(folder))


def _damaged(path: pathlib.Path, reason: object) -> FileFormatError:
    return FileFormatError(f"'{path}' is damaged: {reason}. {_WRITE_AGAIN}.")


def _missing(folder: pathlib.Path, name: str, content: str) -> FileFormatError:
    return FileFormatError(
        f"The run folder '{folder}' is incomplete: {name}, {content}, is missing. {_WRITE_AGAIN}."
    )


def _read_run_json(folder: pathlib.Path) -> RunJson:
    path = folder / "run.json"
    given_paths.check_is_folder_of_run(folder)
    if not path.is_file():
        hint = ""
        if (folder / "history.csv").exists():
            hint = " Writing was interrupted, or an older version wrote the folder."
        raise FileFormatError(
            f"'{folder}' is not a complete run folder: run.json, its settings and measurements, is "
            f"missing.{hint} {_WRITE_AGAIN}."
        )
    data = path.read_bytes()
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise _damaged(path, error) from error
    if not isinstance(content, dict) or "format" not in content:
        raise _damaged(path, "it does not describe a run")
    if content["format"] != FORMAT:
        raise FileFormatError(
            f"'{path}' has format {content['format']!r}; this version of keras-ganprune reads format "
            f"{FORMAT}. Install the version that wrote it (see 'versions' there), or write it again."
        )
    try:
        return read_run_json(content)
    except (FieldError, ArithmeticError, RecursionError) as error:
        raise _damaged(path, error) from error


def _read_bytes(folder: pathlib.Path, name: str, content: str, run_json: RunJson) -> bytes:
    """Return the bytes of a file whose checksum is in run.json."""
    path = folder / name
    if not path.is_file():
        raise _missing(folder, name, content)
    data = path.read_bytes()
    if run_json.checksums.get(name, checksums.of_bytes(data)) != checksums.of_bytes(data):
        raise _damaged(
            path,
            "it differs from the checksum in run.json. If you changed it on purpose, delete the lines "
            "'checksum' and 'checksums' in run.json",
        )
    return data


def _read_history(folder: pathlib.Path, run_json: RunJson) -> dict[str, list[float | None]]:
    path = folder / "history.csv"
    data = _read_bytes(folder, "history.csv", "the losses by epoch", run_json)
    try:
        header, *rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
        columns = list(zip(*rows, strict=True))[1:]
        history = {
            key: [float(value) if value else None for value in column]
            for key, column in zip(header[1:], columns, strict=True)
        }
    except (ValueError, csv.Error) as error:
        raise _damaged(path, error) from error
    if not history:
        raise _damaged(path, "it has no logs")
    for key, values in history.items():
        try:
            check_not_diverged(values, key, f"The run in '{folder}'")
        except DivergedError as error:
            raise FileFormatError(str(error)) from error
    return history


def _read_arrays(path: pathlib.Path, data: bytes, names: Sequence[str]) -> list[np.ndarray]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except KeyError as error:
        raise _damaged(path, error.args[0] if error.args else error) from error
    except (
        Exception
    ) as error:  # NumPy, zipfile and zlib raise many kinds of errors for damaged files.
        raise _damaged(path, f"{error or type(error).__name__}") from error


def _read_samples(folder: pathlib.Path, run_json: RunJson) -> dict[str, np.ndarray]:
    path, names = folder / "samples.npz", run_json.samples
    data = _read_bytes(folder, "samples.npz", "the images", run_json)
    arrays = _read_arrays(path, data, [f"sample_{i}" for i in range(len(names))])
    samples = dict(zip(names, arrays, strict=True))
    for name, images in samples.items():
        is_shape = images.ndim == 4 and images.size and images.shape[-1] in (1, 3)
        if not is_shape or images.dtype != np.uint8:
            raise _damaged(path, f"'{name}' is not an array of uint8 images")
    if not set(samples) - {"real"}:
        raise _damaged(path, "it contains no generated images")
    return samples


def _read_masks(folder: pathlib.Path, run_json: RunJson) -> dict[str, tuple[np.ndarray, ...]]:
    path = folder / "masks.npz"
    rows = run_json.layers
    data = _read_bytes(folder, "masks.npz", "the masks", run_json)
    if run_json.masks != len(rows):
        raise _damaged(path, f"there are {run_json.masks} masks for {len(rows)} weights")
    masks = []
    packed = _read_arrays(path, data, [f"mask_{i}" for i in range(len(rows))])
    for row, bits in zip(rows, packed, strict=True):
        if bits.dtype != np.uint8 or bits.size != -(-row.total // 8):
            raise _damaged(path, f"the mask of '{row.layer}' has another size")
        mask = np.unpackbits(bits, count=row.total).astype(bool).reshape(row.shape)
        masks.append((row.network, mask))
    return by_network(masks)
