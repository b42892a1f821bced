"""Sizes and times of files side by side: .keras files, SavedModels, ONNX, LiteRT and OpenVINO files."""

from __future__ import annotations

import gzip
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.exporters.opened_file import OpenedFile
from keras_ganprune.metrics import measure_latency
from keras_ganprune.utils import annotated, files, tables, terminal, turns, validation
from keras_ganprune.utils.closing import folded
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock

_ROUNDS = 100  # at most


@attrs.frozen
class Times:
    """Times of one file for one batch size, in milliseconds per call.

    Attributes:
        wall: Median time.
        quartiles: Lower and upper quartile of it.
        cpu: Median CPU time of all threads.
        ratio: Median of time / time of the first file, in turns.
        within_noise: Whether the quartiles of this ratio lie on both sides of 1.
    """

    wall: float
    quartiles: tuple[float, float]
    cpu: float
    ratio: float
    within_noise: bool


@attrs.frozen
class BenchmarkRow:
    """One file.

    Attributes:
        path: `pathlib.Path` of the file.
        format: Its format: 'keras', 'saved_model', 'onnx', 'litert' or 'openvino'.
        bytes: Int, size in bytes.
        gzip_bytes: Int, size in bytes, compressed by gzip.
        times: Dict, batch size -> `Times`.
    """

    path: pathlib.Path
    format: str
    bytes: int
    gzip_bytes: int
    times: Mapping[int, Times]


@attrs.frozen
class Benchmark(ShownInNotebooks):
    """The result of `benchmark_files`. It prints as a table.

    Attributes:
        rows: One `BenchmarkRow` per file.
    """

    rows: tuple[BenchmarkRow, ...]

    def _blocks(self) -> list[Block]:
        return [TableBlock(self._table(), left=2), _REMARK]

    def __str__(self) -> str:
        table = tables.fitted(self._table(), terminal.columns(), left=2)
        return f"{table}\n\n{folded(_REMARK)}"

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        return f"{tables.markdown(self._table())}\n\n{_REMARK}"

    def _table(self) -> list[tuple[str, ...]]:
        sizes = list(self.rows[0].times)
        header = ["file", "format", "kB", "kB gzipped"]
        for size in sizes:
            header += [f"ms for {size}", f"CPU ms for {size}", "of the first"]
        lines: list[tuple[str, ...]] = [tuple(header)]
        for row in self.rows:
            line = [str(row.path), row.format, f"{row.bytes / 1e3:,.0f}"]
            line.append(f"{row.gzip_bytes / 1e3:,.0f}")
            for size in sizes:
                times = row.times[size]
                low, high = times.quartiles
                line.append(f"{times.wall:.2f} ({low:.2f}–{high:.2f})")
                line.append(f"{times.cpu:.2f}")
                noise = " within noise" if times.within_noise and row is not self.rows[0] else ""
                line.append(f"{times.ratio:.2f}{noise}")
            lines.append(tuple(line))
        return lines


_REMARK = (
    "Median time of a call (quartiles), in turns with the other files. 'of the first' is the median ratio to "
    "the first file; it is within noise if its quartiles lie on both sides of 1."
)


def benchmark_files(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    batch_sizes: Sequence[int] = (1, 16),
    seed: int = 0,
    threads: int = 1,
    seconds: float = 5.0,
) -> Benchmark:
    """Measure files side by side: sizes, and times in their runtimes.

    The files run in turns, in an order that is drawn for each round, so that other load on the machine
    affects all of them alike.

    Args:
        paths: A file, or several: .keras files, folders of SavedModels, .onnx, .tflite and .xml files. The
            others are compared with the first one.
        batch_sizes: Positive ints. Defaults to (1, 16).
        seed: Int, seed of the inputs and of the order. Defaults to 0.
        threads: Positive int, threads of ONNX Runtime, LiteRT and OpenVINO. More than one disturb each other,
            as they wait busily. TensorFlow has those with which it was started. Defaults to 1.
        seconds: Positive float, time for each file and batch size. At least 7 rounds are measured. Defaults
            to 5.0.

    Returns:
        A `Benchmark`.

    Raises:
        InvalidArgumentError: There is no path, or a batch size or `threads` is not a positive int, or
            `seconds` is not positive.
        FileFormatError: A path does not exist, or is no file of these formats.
        MissingPackageError: The runtime of a file is not installed.
    """
    annotated.check(benchmark_files, locals())
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if not paths:
        raise InvalidArgumentError("`paths` must have at least one file. Received: [].")
    sizes = measure_latency.check_batch_sizes(batch_sizes)
    validation.non_negative_int(seed, "seed")
    validation.positive_int(threads, "threads")
    validation.positive(seconds, "seconds")
    opened = [OpenedFile.at(files.as_path(path), threads) for path in paths]
    times = {
        size: _timed([each.call(size, seed) for each in opened], seed, seconds) for size in sizes
    }
    return Benchmark(
        tuple(
            BenchmarkRow(
                each.path,
                each.format,
                sum(file.stat().st_size for file in each.files),
                sum(len(gzip.compress(file.read_bytes(), 6, mtime=0)) for file in each.files),
                {size: times[size][number] for size in sizes},
            )
            for number, each in enumerate(opened)
        )
    )


def _timed(functions: Sequence[Callable[[], None]], seed: int, seconds: float) -> list[Times]:
    """Return the times of functions that run in turns."""
    wall, cpu = turns.in_turns(functions, seed, seconds, _ROUNDS)
    first = wall[0]
    found = []
    for walls, cpus in zip(wall, cpu, strict=True):
        ratios = walls / first
        low, high = np.percentile(ratios, (25, 75))
        quartiles = np.percentile(walls, (25, 75)) * 1e3
        found.append(
            Times(
                float(np.median(walls) * 1e3),
                (float(quartiles[0]), float(quartiles[1])),
                float(np.median(cpus) * 1e3),
                float(np.median(ratios)),
                bool(low <= 1.0 <= high),
            )
        )
    return found
