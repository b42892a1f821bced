"""ONNX files, for ONNX Runtime."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import keras
import numpy as np

from keras_ganprune.exporters.contract import (
    Arrays,
    ConversionSource,
    Exporter,
    ExportOptions,
    InputForm,
)
from keras_ganprune.exporters.refusals import refused
from keras_ganprune.layers.traversal import walk
from keras_ganprune.utils import files, optional_imports

_FIX = "Write a SavedModel, which holds every model."
# The highest set of operators that tf2onnx 1.17 writes without errors.
_OPSET = 18
# Channels that ONNX Runtime computes together on a CPU.
_BLOCK = 8
# Types of inputs in ONNX -> in NumPy.
_NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class OnnxExporter(Exporter):
    """ONNX, by tf2onnx; proven by ONNX Runtime."""

    name: ClassVar[str] = "onnx"
    title: ClassVar[str] = "ONNX"
    runtime: ClassVar[str] = "ONNX Runtime"
    suffix: ClassVar[str] = ".onnx"
    precisions: ClassVar[Mapping[str, str]] = {"float32": "", "float16": "", "int8": ""}

    def check_installed(self, precision: str) -> None:
        """See `Exporter`."""
        for module in ("tf2onnx", "onnx", "onnxruntime"):
            optional_imports.require(module, "onnx", "ONNX files")

    def write(self, source: ConversionSource, path: pathlib.Path, options: ExportOptions) -> None:
        """See `Exporter`."""
        onnx = optional_imports.require("onnx", "onnx", "ONNX files")
        model = _converted(source)
        if options.precision == "float16":
            half = optional_imports.require(
                "onnxruntime.transformers.float16", "onnx", "ONNX files"
            )
            # Inputs and outputs stay float32, so the same program runs both files.
            model = half.convert_float_to_float16(model, keep_io_types=True)
        if options.precision == "int8":
            _write_int8(model, path, options)
        else:
            onnx.save(model, str(path))

    def advice(self, network: keras.Model) -> list[str]:
        """See `Exporter`."""
        widths = sorted(
            {
                layer.filters
                for _, layer in walk(network)
                if isinstance(layer, (keras.layers.Conv2D, keras.layers.SeparableConv2D))
                and layer.filters > _BLOCK
                and layer.filters % _BLOCK
            }
        )
        if not widths:
            return []
        return [
            f"ONNX Runtime computes convolutions in blocks of {_BLOCK} channels. Widths that are no multiple "
            f"of {_BLOCK} can make it several times slower. Widths here: {', '.join(map(str, widths))}. "
            "Shrink or compress with `granularity=Channel(round_to=8)` (on the command line: --round-to 8)."
        ]

    def load(
        self, path: pathlib.Path, *, exact: bool = False, threads: int | None = None
    ) -> Callable[[Arrays], Arrays]:
        """See `Exporter`."""
        runtime = optional_imports.require("onnxruntime", "onnx", "ONNX files")
        options = runtime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda arrays: dict(zip(names, session.run(names, dict(arrays)), strict=True))

    def inputs(self, path: pathlib.Path) -> Mapping[str, InputForm]:
        """See `Exporter`."""
        runtime = optional_imports.require("onnxruntime", "onnx", "ONNX files")
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return {
            each.name: InputForm(
                tuple(size if isinstance(size, int) else None for size in each.shape),
                _NUMPY_TYPES.get(each.type, "float32"),
            )
            for each in session.get_inputs()
        }

    def constants(self, path: pathlib.Path) -> Iterable[np.ndarray]:
        """See `Exporter`."""
        onnx = optional_imports.require("onnx", "onnx", "ONNX files")
        graph = onnx.load(str(path)).graph
        arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        # Weights of 8 bits: the number that stands for the value 0 is subtracted.
        for node in graph.node:
            if node.op_type == "DequantizeLinear" and len(node.input) > 2:
                weights, zero = arrays.get(node.input[0]), arrays.get(node.input[2])
                if weights is not None and zero is not None and zero.size == 1:
                    arrays[node.input[0]] = weights.astype(np.int32) - zero.astype(np.int32)
        yield from arrays.values()


def _converted(source: ConversionSource) -> Any:
    """Return the ONNX model of a SavedModel, with the names of its inputs and outputs."""
    convert = optional_imports.require("tf2onnx.convert", "onnx", "ONNX files")
    loader = optional_imports.require("tf2onnx.tf_loader", "onnx", "ONNX files")
    function = source.function
    # The captured tensors, such as variables, come last.
    count = len(function.inputs) - len(function.captured_inputs)
    inputs = [t.name for t in function.inputs[:count]]
    outputs = [t.name for t in function.outputs]
    with _quiet():
        try:
            # Not `convert.from_function`, which takes no function of a SavedModel that calls others.
            graph = loader.from_function(function, inputs, outputs)
            _write_with_known_operators(graph)
            _write_constants(
                graph, zip(function.inputs[count:], function.captured_inputs, strict=True)
            )
            model, _ = convert.from_graph_def(
                graph, input_names=inputs, output_names=outputs, opset=_OPSET
            )
        except Exception as error:
            raise refused("ONNX", error, _FIX) from error
    _check_operators(model.graph)
    _rename(model.graph, source)
    return model


def _write_with_known_operators(graph: Any) -> None:
    """Write operators that tf2onnx does not know by others, as in GELU and CELU.

        erfc(x) = 1 - erf(x),  expm1(x) = exp(x) - 1

    Args:
        graph: Graph of TensorFlow. It is changed.
    """
    tf = files.tensorflow()
    for node in [node for node in graph.node if node.op in ("Erfc", "Expm1")]:
        kind = node.attr["T"].type
        one = graph.node.add(name=f"{node.name}/one", op="Const")
        one.attr["dtype"].type = kind
        one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0, tf.dtypes.as_dtype(kind)))
        known = "Erf" if node.op == "Erfc" else "Exp"
        inner = graph.node.add(name=f"{node.name}/inner", op=known, input=list(node.input))
        inner.attr["T"].type = kind
        terms = [one.name, inner.name] if node.op == "Erfc" else [inner.name, one.name]
        node.op = "Sub"
        node.input[:] = terms


def _check_operators(graph: Any) -> None:
    """Raise `UnsupportedLayerError` for operators that ONNX has not: tf2onnx writes them all the same."""
    onnx = optional_imports.require("onnx", "onnx", "ONNX files")
    unknown = sorted(
        {
            node.op_type
            for node in graph.node
            if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type)
        }
    )
    if unknown:
        raise refused("ONNX", f"{', '.join(unknown)}.", _FIX)


def _write_constants(graph: Any, captured: Iterable[tuple[Any, Any]]) -> None:
    """Put the values of captured tensors into a graph, such as the statistics of a `Normalization`.

    tf2onnx puts in those of variables only.

    Args:
        graph: Graph of TensorFlow with constants in the place of variables.
        captured: Pairs of placeholder and tensor.
    """
    tf = files.tensorflow()
    values = {
        place.name.split(":")[0]: tensor for place, tensor in captured if place.dtype != "resource"
    }
    for node in graph.node:
        if node.op == "Placeholder" and node.name in values:
            node.op = "Const"
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.asarray(values[node.name])))
            node.attr.pop("shape", None)


def _rename(graph: Any, source: ConversionSource) -> None:
    """Give inputs and outputs the names of the SavedModel; tf2onnx adds ':0' and calls outputs 'Identity'."""
    new = {value.name: value.name.split(":")[0] for value in graph.input}
    # TensorFlow sorts the outputs of a signature by name, as `source.outputs` is.
    new |= dict(zip([value.name for value in graph.output], source.outputs, strict=True))
    for value in (*graph.input, *graph.output):
        value.name = new[value.name]
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]


def _write_int8(model: Any, path: pathlib.Path, options: ExportOptions) -> None:
    """Write a model with weights and activations of 8 bits: each is quantized and dequantized (QDQ)."""
    onnx = optional_imports.require("onnx", "onnx", "ONNX files")
    quantization = optional_imports.require("onnxruntime.quantization", "onnx", "ONNX files")

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(options.calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else dict(batch)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        full = pathlib.Path(folder) / "float32.onnx"
        onnx.save(model, str(full))
        quantization.quantize_static(
            str(full),
            str(path),
            Reader(),
            per_channel=True,
            # Weights are symmetric, so a zero stays a zero.
            extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within the context, the converters print warnings only if they are errors."""
    loggers = [logging.getLogger(), logging.getLogger("tf2onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
