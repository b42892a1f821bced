"""OpenVINO files (IR), for processors, graphics and NPUs of Intel."""

from __future__ import annotations

import contextlib
import importlib
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from keras_ganprune.exporters.contract import (
    Arrays,
    ConversionSource,
    Exporter,
    ExportOptions,
    InputForm,
)
from keras_ganprune.exporters.refusals import refused
from keras_ganprune.utils import optional_imports


class OpenVinoExporter(Exporter):
    """OpenVINO IR: a graph (.xml) and its weights (.bin); proven by OpenVINO on the CPU."""

    name: ClassVar[str] = "openvino"
    title: ClassVar[str] = "OpenVINO"
    runtime: ClassVar[str] = "OpenVINO"
    suffix: ClassVar[str] = ".xml"
    precisions: ClassVar[Mapping[str, str]] = {"float32": "", "float16": "", "int8": ""}

    has_other_precision: ClassVar[bool] = True

    def other_precision(self, default: float, exact: float) -> str | None:
        """See `Exporter`."""
        if default <= 2 * exact + 1e-6:
            return None
        return (
            f"On this processor, OpenVINO computes in bfloat16 by itself, and differs by {default:.2g} at "
            "most. For the precision of the file, compile it with {'INFERENCE_PRECISION_HINT': 'f32'}."
        )

    def check_installed(self, precision: str) -> None:
        """See `Exporter`."""
        optional_imports.require("openvino", "openvino", "OpenVINO files")
        if precision == "int8":
            optional_imports.require("nncf", "int8", "OpenVINO files of 8 bits")

    def write(self, source: ConversionSource, path: pathlib.Path, options: ExportOptions) -> None:
        """See `Exporter`."""
        openvino = optional_imports.require("openvino", "openvino", "OpenVINO files")
        with _without_telemetry():
            try:
                model = openvino.convert_model(str(source.folder))
            except Exception as error:
                raise refused("OpenVINO", error, "Write an ONNX file or a SavedModel.") from error
            if options.precision == "int8":
                nncf = optional_imports.require("nncf", "int8", "OpenVINO files of 8 bits")
                batches = list(map(dict, options.calibration))
                model = nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches))
            openvino.save_model(model, str(path), compress_to_fp16=options.precision == "float16")

    def load(
        self, path: pathlib.Path, *, exact: bool = False, threads: int | None = None
    ) -> Callable[[Arrays], Arrays]:
        """See `Exporter`."""
        openvino = optional_imports.require("openvino", "openvino", "OpenVINO files")
        # By itself, OpenVINO computes in bfloat16 on processors that have it.
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"} if exact else {}
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(str(path), "CPU", config)
        names = [output.get_any_name() for output in compiled.outputs]

        def outputs(arrays: Arrays) -> Arrays:
            found = compiled(dict(arrays))
            return {name: found[place] for place, name in enumerate(names)}

        return outputs

    def inputs(self, path: pathlib.Path) -> Mapping[str, InputForm]:
        """See `Exporter`."""
        openvino = optional_imports.require("openvino", "openvino", "OpenVINO files")
        return {
            each.get_any_name(): InputForm(
                tuple(size.get_length() if size.is_static else None for size in each.partial_shape),
                np.dtype(each.element_type.to_dtype()).name,
            )
            for each in openvino.Core().read_model(str(path)).inputs
        }

    def constants(self, path: pathlib.Path) -> Iterable[np.ndarray]:
        """See `Exporter`."""
        openvino = optional_imports.require("openvino", "openvino", "OpenVINO files")
        for node in openvino.Core().read_model(str(path)).get_ops():
            if node.get_type_name() == "Constant":
                yield np.asarray(node.data)

    def files_of(self, path: pathlib.Path) -> list[pathlib.Path]:
        """See `Exporter`."""
        return [path, path.with_suffix(".bin")]


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Within the context, OpenVINO and NNCF report nothing to their makers.

    Private method of `openvino_telemetry`: for each event it forks the process, which takes longer than the
    conversion, and nobody who exports a model has been asked.
    """
    try:
        sender = importlib.import_module("openvino_telemetry.utils.sender").TelemetrySender
        send = sender.send
    except (ImportError, AttributeError):
        yield
        return
    sender.send = lambda *args, **kwargs: None
    try:
        yield
    finally:
        sender.send = send
