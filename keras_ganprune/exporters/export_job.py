"""One export: write a file into a temporary folder, prove it, time it, and give it its name."""

from __future__ import annotations

import functools
import gzip
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import attrs
import keras
import numpy as np

from keras_ganprune.errors import ExportError, PruningWarning, UnsupportedLayerError
from keras_ganprune.exporters import _comparison, file_quality, proof
from keras_ganprune.exporters.contract import Arrays, ConversionSource, Exporter, ExportOptions
from keras_ganprune.exporters.conversion_source import named_inputs, named_outputs, sized
from keras_ganprune.exporters.file_report import FileReport
from keras_ganprune.exporters.full_precision import coarsest_step
from keras_ganprune.layers.kernels import own_kernels
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import walk
from keras_ganprune.metrics import measure_latency
from keras_ganprune.utils import files

_PROVEN = (1, 3)  # batch sizes of the proof
_TIMED = (1, 16)  # batch sizes of the times
# A file that takes more than so many times as long as its float32 form gets a warning.
_SLOWER = 1.1
# Zeros of less than this share are not worth a sparse encoding, which stores the places of the others.
_LEAST_ZEROS = 0.5


def kernels_of(network: keras.Model) -> list[tuple[str, np.ndarray]]:
    """Return path and values of each kernel of a network."""
    kernels = {id(w): w for _, layer in walk(network) for w in own_kernels(layer)}
    return [(w.path, to_numpy(w)) for w in kernels.values()]


@attrs.frozen(eq=False, slots=False)
class ExportJob:
    """One export.

    Attributes:
        exporter: The format.
        network: The network of the user, with plain classes.
        source: Its SavedModel.
        inputs: Structure of arrays to compare on.
        batch_size: Fixed batch size of the file, or None.
        tolerance: As for `export`.
        folder: Folder for files.
        outputs: Outputs of the network for the batches of the proof.
    """

    exporter: Exporter
    network: keras.Model
    source: ConversionSource
    inputs: Any
    batch_size: int | None
    tolerance: float | None
    folder: pathlib.Path
    outputs: list[Arrays] = attrs.field(init=False)

    @outputs.default  # pyright: ignore[reportAttributeAccessIssue]
    def _expected(self) -> list[Arrays]:
        function = measure_latency.compiled(self.network)
        found = [
            named_outputs(function(*_comparison.tensors(self.network, self._rows(size))))
            for size in self._sizes(_PROVEN)
        ]
        return [{name: np.asarray(value) for name, value in each.items()} for each in found]

    @functools.cached_property
    def fixed(self) -> int | None:
        """Batch size that the file or the network fixes, or None."""
        return self.batch_size or _comparison.fixed_batch(self.network, self.inputs)

    @functools.cached_property
    def kernels(self) -> list[tuple[str, np.ndarray]]:
        """Path and values of each kernel of the network."""
        return kernels_of(self.network)

    def _sizes(self, sizes: Sequence[int]) -> list[int]:
        return [*sizes] if self.fixed is None else [self.fixed]

    def _rows(self, size: int) -> Any:
        return sized(self.inputs, size)

    def is_sparse(self) -> bool:
        """Return whether a kernel has so many zeros that it is worth leaving them out."""
        return any((values == 0).mean() >= _LEAST_ZEROS for _, values in self.kernels)

    def written(self, options: ExportOptions, name: str = "") -> tuple[pathlib.Path, FileReport]:
        """Write and prove a file; return its path and a report.

        Raises:
            ExportError: The file is wrong.
            UnsupportedLayerError: The format has no form for a layer of the model.
        """
        exporter = self.exporter
        path = self.folder / f"{name or options.precision}{exporter.suffix}"
        exporter.write(self.source, path, options)
        title = f"{exporter.title} file of {options.precision}"
        batches = [named_inputs(self.network, self._rows(n)) for n in self._sizes(_PROVEN)]
        default = proof.agreement(self.outputs, proof.run_all(exporter, path, batches), title)
        notes: list[str] = []
        found = default
        if exporter.has_other_precision:
            exact = proof.run_all(exporter, path, batches, exact=True)
            found = proof.agreement(self.outputs, exact, title)
            note = exporter.other_precision(default.largest, found.largest)
            notes += [note] if note else []
        step = coarsest_step(self.network)
        proof.check_agreement(found, options.precision, self.tolerance, title, step)
        zeros = proof.zeros(self.kernels, exporter.constants(path))
        if zeros.missing:
            raise ExportError(
                f"The {title} must keep the zeros of the model. These kernels have fewer zeros there: "
                f"{', '.join(zeros.missing)}. Nothing was written."
            )
        if zeros.unseen:
            notes.append(
                "Zeros not looked for, as the file holds these kernels in another form: "
                f"{', '.join(zeros.unseen)}."
            )
        all_files = exporter.files_of(path)
        return path, FileReport(
            path=path,
            format=exporter.name,
            precision=options.precision,
            bytes=sum(file.stat().st_size for file in all_files),
            gzip_bytes=sum(len(gzip.compress(file.read_bytes(), 9, mtime=0)) for file in all_files),
            max_difference=found.largest,
            mean_difference=found.mean,
            psnr=found.psnr,
            zeros=zeros.model,
            zeros_in_file=zeros.file,
            weights=sum(values.size for _, values in self.kernels),
            notes=tuple(notes),
        )

    def dense_if_wrong(self, options: ExportOptions) -> tuple[pathlib.Path, FileReport]:
        """Write a file; if it is wrong with sparse encoding, write it without."""
        try:
            return self.written(options)
        except (ExportError, UnsupportedLayerError) as error:
            if not options.sparse:
                raise
            path, report = self.written(attrs.evolve(options, sparse=False), "dense")
            note = f"Zeros are stored: the file that leaves them out is not right. {error}"
            return path, attrs.evolve(report, notes=(*report.notes, note))

    def judged(
        self, path: pathlib.Path, report: FileReport, quality: Any, model: keras.Model
    ) -> FileReport:
        """Return the report with the quality of the outputs of the file, and of the network."""
        function, names = self.exporter.load(path), list(self.outputs[0])

        def of_file(rows: Any) -> Any:
            found = dict(function(named_inputs(self.network, rows)))
            return found[names[0]] if len(names) == 1 else found

        return file_quality.judged(report, quality, model, self.network, of_file, self.fixed)

    def advised(self, report: FileReport) -> FileReport:
        """Return the report with what makes the file faster; warn of it."""
        notes = self.exporter.advice(self.network)
        for note in notes:
            warnings.warn(note, PruningWarning, stacklevel=3)
        return attrs.evolve(report, notes=(*report.notes, *notes))

    def timed(self, path: pathlib.Path, report: FileReport) -> FileReport:
        """Return the report with times; warn if the file is slower than its float32 form."""
        candidates = {report.precision: path}
        if report.precision != "float32":
            plain = self.folder / f"plain{self.exporter.suffix}"
            self.exporter.write(self.source, plain, ExportOptions("float32"))
            candidates["float32"] = plain
        functions = {name: self.exporter.load(file) for name, file in candidates.items()}
        times: dict[int, float] = {}
        notes: list[str] = []
        for size in self._sizes(_TIMED):
            arrays = named_inputs(self.network, self._rows(size))
            found = measure_latency.timed(functions, arrays, None)
            times[size] = found[report.precision]
            ratio = found[report.precision] / found["float32"]
            if ratio > _SLOWER:
                notes.append(
                    f"In {self.exporter.runtime}, {report.precision} takes {ratio:.1f} times as long as "
                    f"float32 here, for a batch of {size}."
                )
        for note in notes:
            warnings.warn(note, PruningWarning, stacklevel=3)
        return attrs.evolve(report, milliseconds=times, notes=(*report.notes, *notes))

    def published(
        self, path: pathlib.Path, report: FileReport, target: pathlib.Path, overwrite: bool
    ) -> FileReport:
        """Give the files their names."""
        sources, targets = self.exporter.files_of(path), self.exporter.files_of(target)
        # The first file is the one that is named, so it comes last.
        pairs = list(zip(sources, targets, strict=True))[::-1]
        with files.new_outputs([new for _, new in pairs], overwrite) as works:
            for (old, _), work in zip(pairs, works, strict=True):
                work.write_bytes(old.read_bytes())
        return attrs.evolve(report, path=target)
