"""Sizes and times of files side by side: .keras files, SavedModels, ONNX, LiteRT and OpenVINO files."""

from __future__ import annotations

import gzip
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import keras
import numpy as np

from keras_ganprune.errors import FileFormatError, InvalidArgumentError
from keras_ganprune.exporters.contract import Arrays, InputForm
from keras_ganprune.exporters.formats import FORMATS
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.saving import load_model
from keras_ganprune.layers.stripping import strip_pruning
from keras_ganprune.metrics import measure_latency
from keras_ganprune.utils import annotated, files, given_paths, tables, terminal, validation
from keras_ganprune.utils.closing import folded
from keras_ganprune.utils.foreign_errors import sentence_of
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock
from keras_ganprune.utils.random_inputs import random_inputs

# Each timed sample repeats the call until it takes so long, as a clock cannot time a few microseconds.
_SAMPLE_SECONDS = 0.01
_FEWEST_ROUNDS, _ROUNDS = 7, 100


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
    opened = [_Opened.at(files.as_path(path), threads) for path in paths]
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


@attrs.frozen(eq=False)
class _Opened:
    """A file that can be called.

    Attributes:
        path: The file.
        format: Its format.
        files: All files that belong to it.
        inputs: Name -> input with a shape and a type.
        function: Function from arrays by name to its outputs.
    """

    path: pathlib.Path
    format: str
    files: list[pathlib.Path]
    inputs: Mapping[str, InputForm]
    function: Callable[[Arrays], Any]

    @classmethod
    def at(cls, path: pathlib.Path, threads: int) -> _Opened:
        given_paths.check_exists(path)
        if path.suffix == ".keras":
            return _keras(path)
        for exporter in FORMATS.values():
            folder = not exporter.suffix and (path / "saved_model.pb").is_file()
            if folder or (exporter.suffix and path.suffix == exporter.suffix):
                exporter.check_installed("float32")
                try:
                    inputs = exporter.inputs(path)
                    function = exporter.load(path, threads=threads)
                except Exception as error:
                    raise FileFormatError(
                        f"'{path}' cannot be read by {exporter.runtime}: {sentence_of(error)}"
                    ) from error
                return cls(path, exporter.name, exporter.files_of(path), inputs, function)
        endings = ", ".join(each.suffix for each in FORMATS.values() if each.suffix)
        raise FileFormatError(
            f"A file must be a SavedModel folder, or end in .keras, {endings}. Received: '{path}'."
        )

    def call(self, size: int, seed: int) -> Callable[[], None]:
        """Return a function without arguments that runs the file on a batch of random inputs."""
        sizes = [form.shape[0] for form in self.inputs.values() if form.shape]
        fixed = [size for size in sizes if size is not None]
        batch = min(fixed) if fixed else size
        arrays = dict(
            zip(self.inputs, random_inputs([*self.inputs.values()], batch, seed), strict=True)
        )
        # A file with a fixed batch size runs as often as the samples need.
        calls = -(-size // batch)

        def run() -> None:
            for _ in range(calls):
                self.function(arrays)

        try:
            run()
        except Exception as error:
            raise FileFormatError(
                f"'{self.path}' does not run on random inputs: {sentence_of(error)} Measure it with your own "
                "program."
            ) from error
        return run


def _keras(path: pathlib.Path) -> _Opened:
    """Return a .keras file as a compiled function of its network; of a GAN, of its generator."""
    model: Any = load_model(path)
    network = strip_pruning(model.sampler if isinstance(model, AdversarialModel) else model)
    specs = measure_latency.input_specs(network)
    flat = keras.tree.flatten(specs)
    compiled = measure_latency.compiled(network)
    inputs = {
        f"input_{n}": InputForm(tuple(spec.shape), keras.backend.standardize_dtype(spec.dtype))
        for n, spec in enumerate(flat)
    }

    def function(arrays: Arrays) -> Any:
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays.values()]
        return compiled(keras.tree.pack_sequence_as(specs, tensors))

    return _Opened(path, "keras", [path], inputs, function)


def _timed(functions: Sequence[Callable[[], None]], seed: int, seconds: float) -> list[Times]:
    """Return the times of functions that run in turns."""
    repeats = []
    for function in functions:
        function()
        begin = time.perf_counter()
        function()
        repeats.append(max(1, round(_SAMPLE_SECONDS / max(1e-9, time.perf_counter() - begin))))
    wall: list[list[float]] = [[] for _ in functions]
    cpu: list[list[float]] = [[] for _ in functions]
    rng, begin = np.random.default_rng(seed), time.perf_counter()
    while len(wall[0]) < _ROUNDS and (
        len(wall[0]) < _FEWEST_ROUNDS or time.perf_counter() - begin < seconds * len(functions)
    ):
        for place in rng.permutation(len(functions)):
            functions[place]()  # what the one before has left in the caches is not its fault
            started, used = time.perf_counter(), time.process_time()
            for _ in range(repeats[place]):
                functions[place]()
            wall[place].append((time.perf_counter() - started) / repeats[place])
            cpu[place].append((time.process_time() - used) / repeats[place])
    first = np.array(wall[0])
    found = []
    for walls, cpus in zip(wall, cpu, strict=True):
        ratios = np.array(walls) / first
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
