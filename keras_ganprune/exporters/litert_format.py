"""LiteRT files (TensorFlow Lite), for phones, browsers and small computers."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.exporters.contract import (
    Arrays,
    ConversionSource,
    Exporter,
    ExportOptions,
    InputForm,
)
from keras_ganprune.exporters.refusals import refused
from keras_ganprune.utils import files, native_messages, optional_imports

# Measured with LiteRT 2.3: with the sparse encoding, ...
_NO_ZEROS = {
    "float16": "a sparse float16 file gives NaN in LiteRT. Leave zeros out of float32 files only.",
    "int8": "LiteRT cannot run, or runs wrongly, sparse int8 files. Leave zeros out of float32 files only.",
}


class LiteRtExporter(Exporter):
    """LiteRT, by the converter of TensorFlow; proven by LiteRT with XNNPACK, as it runs by itself."""

    name: ClassVar[str] = "litert"
    title: ClassVar[str] = "LiteRT"
    runtime: ClassVar[str] = "LiteRT"
    suffix: ClassVar[str] = ".tflite"
    precisions: ClassVar[Mapping[str, str]] = {"float32": "", "float16": "", "int8": ""}

    def check_installed(self, precision: str) -> None:
        """See `Exporter`."""
        optional_imports.require("ai_edge_litert.interpreter", "litert", "LiteRT files")

    def write(self, source: ConversionSource, path: pathlib.Path, options: ExportOptions) -> None:
        """See `Exporter`."""
        tf = files.tensorflow()
        if options.precision == "int8" and _loops(source.function):
            raise UnsupportedLayerError(
                "LiteRT has no recurrent layers of 8 bits: the file would end the process that runs it. "
                "Choose float16, or the format ONNX."
            )
        lite: Any = getattr(tf, "lite")  # noqa: B009  (TensorFlow loads it lazily)
        converter = lite.TFLiteConverter.from_saved_model(str(source.folder))
        if options.precision == "float16":
            converter.optimizations = [lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        elif options.precision == "int8":
            converter.optimizations = [lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: map(dict, options.calibration)
            converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
        elif options.sparse:
            converter.optimizations = [lite.Optimize.EXPERIMENTAL_SPARSITY]
        try:
            # It prints pages before its error, and a warning of its own interpreter.
            with native_messages.hidden(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = converter.convert()
        except Exception as error:
            raise _refused(error) from error
        path.write_bytes(content)

    def can_leave_out(self, precision: str) -> str | None:
        """See `Exporter`."""
        if precision == "float32":
            return None
        return _NO_ZEROS[precision]

    def load(
        self, path: pathlib.Path, *, exact: bool = False, threads: int | None = None
    ) -> Callable[[Arrays], Arrays]:
        """See `Exporter`."""
        runner = _interpreter(path, threads or 1).get_signature_runner()
        return lambda arrays: runner(**dict(arrays))

    def inputs(self, path: pathlib.Path) -> Mapping[str, InputForm]:
        """See `Exporter`."""
        details = _interpreter(path).get_signature_runner().get_input_details()
        return {
            name: InputForm(
                tuple(int(size) if size >= 0 else None for size in detail["shape_signature"]),
                np.dtype(detail["dtype"]).name,
            )
            for name, detail in details.items()
        }

    def constants(self, path: pathlib.Path) -> Iterable[np.ndarray]:
        """See `Exporter`. Of a sparse tensor the stored numbers come first, and then its zeros."""
        schema = optional_imports.require(
            "ai_edge_litert.schema_py_generated", "litert", "LiteRT files"
        )
        model = schema.Model.GetRootAs(path.read_bytes(), 0)
        for tensor in _tensors(model):
            buffer = model.Buffers(tensor.Buffer())
            kind = _TYPES.get(tensor.Type())
            if kind is None or not buffer.DataLength():
                continue
            stored = buffer.DataAsNumpy().view(kind)
            if kind is np.int8:
                # A table that is looked up may have another number than 0 for the value 0.
                stored = stored.astype(np.int32) - _zero_point(tensor)
            if tensor.Sparsity() is None:
                yield stored
                continue
            full = np.zeros(int(np.prod(tensor.ShapeAsNumpy())), stored.dtype)
            full[: stored.size] = stored
            yield full


# Types of tensors that may hold weights, by their numbers in the format.
_TYPES = {0: np.float32, 1: np.float16, 2: np.int32, 9: np.int8}


def _tensors(model: Any) -> Iterator[Any]:
    for place in range(model.SubgraphsLength()):
        graph = model.Subgraphs(place)
        for number in range(graph.TensorsLength()):
            yield graph.Tensors(number)


def _zero_point(tensor: Any) -> int:
    """Return the number that stands for the value 0; with one per channel it is 0."""
    quantization = tensor.Quantization()
    if quantization is None or quantization.ZeroPointLength() != 1:
        return 0
    return int(quantization.ZeroPoint(0))


def _loops(function: Any) -> bool:
    """Return whether a function of TensorFlow has a loop, as a recurrent layer does."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    return any(node.op in ("While", "StatelessWhile") for node in nodes)


def _interpreter(path: pathlib.Path, threads: int = 1) -> Any:
    runtime = optional_imports.require("ai_edge_litert.interpreter", "litert", "LiteRT files")
    return runtime.Interpreter(model_path=str(path), num_threads=threads)


def _refused(error: Exception) -> UnsupportedLayerError:
    """Return why the converter fails, and what helps."""
    text = str(error)
    if "TensorList" in text or "tensor list" in text:
        return UnsupportedLayerError(
            "LiteRT needs a fixed batch size for a recurrent layer. Pass `batch_size=1` (on the command "
            "line: --batch-size 1), or unroll the layer: `GRU(..., unroll=True)`."
        )
    return refused("LiteRT", error, "Write an ONNX file or a SavedModel.")
