"""A run on disk."""

from __future__ import annotations

import csv
import json
import math
import os
import pathlib
import zipfile
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from keras_ganprune.errors import FileFormatError, OutputError
from keras_ganprune.reports.run.run import LayerRow, MaskUpdate, PruneLog, Run
from keras_ganprune.utils import files

FORMAT = 1
_PLAIN = (
    *("name", "settings", "seed", "steps", "seconds", "steps_per_epoch", "data", "created"),
    *("versions", "hardware", "sizes", "latency", "extractor"),
)
_ROW = tuple(field.name for field in fields(LayerRow))
_AGAIN = "Write it again with `save_run`, or by `keras-ganprune demo`"


def write_run(run: Run, folder: str | os.PathLike) -> None:
    """Write the files of a run into a folder that exists, beside what is there; `run.json` comes last.

    Use `save_run` for a folder of its own.

    Raises:
        OutputError: the folder is not there, or cannot be written.
    """
    folder = pathlib.Path(folder)
    rows = [(network, row) for network, found in run.layers.items() for row in found]
    masks = [mask for found in run.masks.values() for mask in found]
    facts: dict[str, Any] = {"format": FORMAT} | {key: getattr(run, key) for key in _PLAIN}
    facts |= {
        "prunes": {name: asdict(log) for name, log in run.prunes.items()},
        "layers": [{"network": network, **asdict(row)} for network, row in rows],
        "channels": run.channels,
        "quality": run.quality,
        "samples": list(run.samples),
        "masks": len(masks),
    }
    try:
        (folder / "run.json").unlink(missing_ok=True)
        _write_history(folder / "history.csv", run.history)
        samples = {f"sample_{i}": images for i, images in enumerate(run.samples.values())}
        np.savez_compressed(folder / "samples.npz", **samples)
        if masks:
            packed = {f"mask_{i}": np.packbits(mask) for i, mask in enumerate(masks)}
            np.savez_compressed(folder / "masks.npz", **packed)
        text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False, default=list)
        with files.new_file(folder / "run.json") as work:
            work.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The run cannot be written to '{folder}': {error.strerror or error}. The folder must be "
            "there, with some free space; `save_run` makes one."
        ) from error


def _write_history(path: pathlib.Path, history: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, values in enumerate(zip(*history.values(), strict=True), 1):
            writer.writerow([epoch, *("" if v is None else v for v in values)])


def load_run(path: str | os.PathLike) -> Run:
    """Read the folder of a run.

    Args:
        path: A folder that `save_run` or `keras-ganprune demo` has written.

    Returns: A `Run`; without a name of its own, it has that of the folder.

    Raises:
        FileFormatError: it is no such folder, something in it is missing, damaged or of another version, or
            a loss is NaN or infinite; the text says what, and how to get it.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images = {"pruned": np.zeros((8, 4, 4, 1))}
    ...     _ = save_run(f"{folder}/run", history={"loss": [0.7, 0.4]}, samples=images)
    ...     run = load_run(f"{folder}/run")
    >>> run.name, run.epochs, run.samples["pruned"].shape
    ('run', 2, (8, 4, 4, 1))
    """
    folder = pathlib.Path(path)
    facts = _facts(folder)
    try:
        rows = [
            (row["network"], LayerRow(**{k: row[k] for k in _ROW} | {"shape": tuple(row["shape"])}))
            for row in facts["layers"]
        ]
        names, number_of_masks = [str(name) for name in facts["samples"]], int(facts["masks"])
        found = {key: facts[key] for key in _PLAIN}
        found["name"] = str(found["name"] or folder.resolve().name)
        found["layers"] = _by_network(rows)
        found["prunes"] = {
            name: PruneLog(
                log["schedule"],
                log["quantity"],
                log["of"],
                tuple(MaskUpdate(*update) for update in log["updates"]),
            )
            for name, log in facts["prunes"].items()
        }
        found["channels"] = {
            name: tuple((str(p), int(b), int(a)) for p, b, a in each)
            for name, each in facts["channels"].items()
        }
        found["quality"] = {name: tuple(each) for name, each in facts["quality"].items()}
        _check_numbers(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise _damaged(folder / "run.json", what) from error
    found["history"] = _history(folder)
    found["samples"] = _samples(folder, names)
    if number_of_masks:
        found["masks"] = _masks(folder, rows, number_of_masks)
    return Run(**found)


def _damaged(path: pathlib.Path, what: Any) -> FileFormatError:
    return FileFormatError(f"'{path}' is damaged: {what}. {_AGAIN}.")


def _missing(folder: pathlib.Path, name: str, holds: str) -> FileFormatError:
    return FileFormatError(
        f"The run folder '{folder}' is incomplete: {name}, {holds}, is missing. {_AGAIN}."
    )


def _facts(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not folder.is_dir():
        raise FileFormatError(
            f"A run is a folder. '{folder}' {'is a file' if folder.exists() else 'does not exist'}. "
            "`keras-ganprune demo` writes one, and `save_run` one of your own loop."
        )
    if not path.is_file():
        hint = ""
        if (folder / "history.csv").exists():
            hint = " It was stopped while it was written, or is from an older version."
        raise FileFormatError(
            f"'{folder}' is not a complete run folder: run.json, its settings and measurements, is "
            f"missing.{hint} {_AGAIN}."
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also what is no UTF-8
        raise _damaged(path, error) from error
    if not isinstance(facts, dict) or "format" not in facts:
        raise _damaged(path, "it is not the description of a run")
    if facts["format"] != FORMAT:
        raise FileFormatError(
            f"'{path}' has format {facts['format']!r}; this version of keras-ganprune reads format "
            f"{FORMAT}. Install the version that wrote it (see 'versions' there), or write it again."
        )
    return facts


def _by_network(pairs: Any) -> dict[str, tuple]:
    found: dict[str, list] = {}
    for network, each in pairs:
        found.setdefault(network, []).append(each)
    return {network: tuple(each) for network, each in found.items()}


def _check_numbers(found: dict[str, Any]) -> None:
    """Raise a ValueError where a number of the description is none."""
    numbers = [
        *(v for sizes in found["sizes"].values() for v in sizes.values()),
        *(v for times in found["latency"].values() for v in times.values()),
        *(v for each in found["quality"].values() for one in each for v in one.values()),
        *(v for log in found["prunes"].values() for update in log.updates for v in update),
        *(found[key] for key in ("steps", "seconds", "steps_per_epoch") if found[key] is not None),
    ]
    for value in numbers:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{value!r} stands where a number should be")
    for rows in found["layers"].values():
        for row in rows:
            if not 0 <= row.kept <= row.total == math.prod(row.shape) or not row.total:
                raise ValueError(f"the row of '{row.layer}' in layers contradicts itself")
    for groups in found["channels"].values():
        for layer, before, after in groups:
            if not 0 <= after <= before or not before:
                raise ValueError(f"'{layer}' has {after} of {before} channels")
    for key in ("settings", "versions"):
        found[key].items()


def _history(folder: pathlib.Path) -> dict[str, list[float | None]]:
    path = folder / "history.csv"
    if not path.is_file():
        raise _missing(folder, "history.csv", "the losses by epoch")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
        keys = header[1:]
        columns = list(zip(*rows, strict=True))[1:]
        found = {
            key: [float(v) if v else None for v in column]
            for key, column in zip(keys, columns, strict=True)
        }
    except ValueError as error:
        raise _damaged(path, error) from error
    if not found:
        raise _damaged(path, "it has no logs")
    for key, values in found.items():
        bad = [i for i, v in enumerate(values, 1) if v is not None and not math.isfinite(v)]
        if bad and "loss" in key:
            raise FileFormatError(
                f"The run in '{folder}' diverged: {key} is {values[bad[0] - 1]} in epoch {bad[0]} of "
                f"{len(values)}, so there is nothing to judge. Train it again with a lower learning rate "
                "or `clipnorm`; see `NaNGuard`."
            )
    return found


def _arrays(path: pathlib.Path, names: list[str]) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except KeyError as error:
        raise _damaged(path, error.args[0] if error.args else error) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def _samples(folder: pathlib.Path, names: list[str]) -> dict[str, np.ndarray]:
    path = folder / "samples.npz"
    if not path.is_file():
        raise _missing(folder, "samples.npz", "the images")
    found = dict(zip(names, _arrays(path, [f"sample_{i}" for i in range(len(names))]), strict=True))
    for name, images in found.items():
        shaped = images.ndim == 4 and images.size and images.shape[-1] in (1, 3)
        if not shaped or images.dtype != np.uint8:
            raise _damaged(path, f"'{name}' is no array of images")
    if not set(found) - {"real"}:
        raise _damaged(path, "there are no generated images in it")
    return found


def _masks(
    folder: pathlib.Path, rows: list[tuple[str, LayerRow]], number: int
) -> dict[str, tuple[np.ndarray, ...]]:
    path = folder / "masks.npz"
    if not path.is_file():
        raise _missing(folder, "masks.npz", "the masks")
    if number != len(rows):
        raise _damaged(path, f"there are {number} masks for {len(rows)} weights")
    found = []
    packed = _arrays(path, [f"mask_{i}" for i in range(number)])
    for (network, row), bits in zip(rows, packed, strict=True):
        if bits.dtype != np.uint8 or bits.size != -(-row.total // 8):
            raise _damaged(path, f"the mask of '{row.layer}' has another size")
        mask = np.unpackbits(bits, count=row.total).astype(bool).reshape(row.shape)
        found.append((network, mask))
    return _by_network(found)
