"""How many multiply-accumulates a call takes: products of sizes, one small function for each kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_ganprune.errors import PruningError, UnsupportedLayerError
from keras_ganprune.layers.prunable import weight_variable
from keras_ganprune.pruning.structured.channels import Channels
from keras_ganprune.pruning.structured.graph import Call, Graph, Tensor, inner_function, trace

# One size for each axis: a number, None where it is not known, or the labels of the channels there.
Size = list
# What a rule returns: sizes that are multiplied with one another, several times. None: not known.
Products = list[Size] | None


@dataclass(frozen=True)
class Seen:
    """One call, as a rule for its multiply-accumulates sees it; shapes are those of one sample.

    Attributes:
        outputs: The `Size` of each output.
        kernel: Function (layer, attribute path of a weight) -> its `Size`.
        count: Function (layer, seen, args, kwargs) -> the products of a layer inside.
    """

    outputs: list[Size]
    kernel: Callable[[keras.layers.Layer, str], Size]
    count: Callable[[Any, Seen, tuple, dict], Products]


MacsRule = Callable[..., Products]
_LAYERS: dict[type, MacsRule] = {}
_OPERATIONS: dict[str, MacsRule] = {}

# Keras's own layers and operations without a rule work entry by entry, or only move things: 0. Not these.
_NOT_KNOWN = {
    "Lambda", "Pipeline", "MelSpectrogram", "STFTSpectrogram", "Map", "Scan", "AssociativeScan", "Switch",
    "WhileLoop", "ForiLoop", "Cond", "VectorizedMap", "CDist", "FFT", "FFT2", "IFFT2", "RFFT", "IRFFT",
    "STFT", "ISTFT", "Logdet", "Vdot",
}  # fmt: skip


def register_macs(*layer_classes: type) -> Callable[[MacsRule], MacsRule]:
    """Say how many multiply-accumulates a layer of your own takes.

    The decorated function is called as `rule(layer, seen, *inputs)`, with the sizes of each input as a
    list (batch of one first), and returns products: lists of sizes to multiply, which are then added up.
    `seen.kernel(layer, "kernel")` gives the sizes of a weight, `seen.outputs` those of the outputs. Pass
    sizes on as they are; where channels can go they are not numbers.

    Args:
        *layer_classes: Subclasses of `keras.layers.Layer`.

    Returns: The decorator.

    Raises: UnsupportedLayerError (a TypeError): not a layer class.

    Example:
    >>> class Linear(keras.layers.Layer):
    ...     def build(self, shape):
    ...         self.w = self.add_weight(shape=(shape[-1], 3))
    ...     def call(self, x):
    ...         return x @ self.w
    >>> @register_macs(Linear)
    ... def linear(layer, seen, x):
    ...     return [seen.kernel(layer, "w") + x[:-1]]
    """
    for cls in layer_classes:
        if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
            raise UnsupportedLayerError(
                f"`register_macs` takes subclasses of `keras.layers.Layer`. Received: {cls!r}."
            )

    def register(rule: MacsRule) -> MacsRule:
        _LAYERS.update(dict.fromkeys(layer_classes, rule))
        return rule

    return register


def macs_of_operation(*names: str) -> Callable[[MacsRule], MacsRule]:
    """Register the rule of `keras.ops` operations, by the names of their classes."""

    def register(rule: MacsRule) -> MacsRule:
        _OPERATIONS.update(dict.fromkeys(names, rule))
        return rule

    return register


def _nothing(*_, **__) -> Products:
    return []


def _rule(operation: keras.Operation) -> MacsRule | None:
    """Return the rule of a layer or operation, or None; a subclass with a `call` of its own has none.

    Private touch: there is no public name for an operation, nor for where Keras's own layers are.
    """
    cls = type(operation)
    if not isinstance(operation, keras.layers.Layer):
        own = cls.__module__.startswith("keras.src.ops") and "linalg" not in cls.__module__
        free = own and cls.__name__ not in _NOT_KNOWN
        return _OPERATIONS.get(cls.__name__, _nothing) if free else None
    for parent in cls.__mro__:
        if parent in _LAYERS:
            return _LAYERS[parent]
        if "call" in vars(parent):
            own = parent.__module__.startswith("keras.src.layers.")
            return _nothing if own and parent.__name__ not in _NOT_KNOWN else None
    return None


def is_counted(operation: keras.Operation) -> bool:
    """Return whether the multiply-accumulates of an operation are known without looking inside."""
    return _rule(operation) is not None


# --- from calls to products --------------------------------------------------------------------------


def _sample_sizes(graph: Graph, shapes: Sequence[tuple] | None) -> tuple[dict[int, tuple], int]:
    """Return the shape of each tensor for one sample, by id, and the batch that a model insists on.

    The shapes are computed anew with a known batch: behind `reshape(x, (-1, ...))` the first axis may be
    more than the batch.
    """
    inputs = keras.tree.flatten(graph.inputs)
    batch = next((t.shape[0] for t in inputs if t.shape and t.shape[0] is not None), 1)
    shapes = shapes or [(t.shape[0] or batch, *t.shape[1:]) if t.shape else () for t in inputs]
    sizes = {id(t): shape for t, shape in zip(inputs, shapes, strict=True)}

    def symbol(leaf: Any) -> Any:
        known = isinstance(leaf, Tensor)
        return keras.KerasTensor(sizes[id(leaf)], leaf.dtype) if known else leaf

    for call in graph.calls:
        args, kwargs = keras.tree.map_structure(symbol, (call.args, call.kwargs))
        # As declared, where the layer cannot be asked again.
        found = [(t.shape[0] or batch, *t.shape[1:]) if t.shape else () for t in call.outputs]
        try:
            specs = keras.tree.flatten(call.operation.compute_output_spec(*args, **kwargs))
            if len(specs) == len(found):
                found = [tuple(spec.shape) for spec in specs]
        except Exception:
            pass
        sizes.update({id(t): shape for t, shape in zip(call.outputs, found, strict=True)})
    return sizes, batch


def counted(
    graph: Graph, channels: Channels, shapes: Sequence[tuple] | None = None
) -> tuple[list[tuple[Call, Products]], int]:
    """Return what the rule of each call says, and the batch that it is said of."""
    sizes, batch = _sample_sizes(graph, shapes)

    def size(tensor: Tensor) -> Size:
        axes, shape = channels.axes.get(id(tensor)), sizes[id(tensor)]
        labels = [None] * len(shape) if axes is None else axes.labels
        return [n if found is None else found for n, found in zip(shape, labels, strict=True)]

    def of_variable(variable: keras.Variable) -> Size:
        labels = [channels.labels_of(variable, axis) for axis in range(len(variable.shape))]
        return [n if own is None else own for n, own in zip(variable.shape, labels, strict=True)]

    def kernel(layer: keras.layers.Layer, name: str) -> Size:
        variable = weight_variable(layer, name)
        if variable is None:
            raise UnsupportedLayerError(
                f"`{type(layer).__name__}` '{layer.name}' must have a weight `{name}` to be counted."
            )
        return of_variable(variable)

    def look(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return size(leaf)
        if isinstance(leaf, keras.Variable):
            return of_variable(leaf)
        return list(leaf.shape) if hasattr(leaf, "shape") else leaf

    def count(operation: keras.Operation, seen: Seen, args: tuple, kwargs: dict) -> Products:
        rule = _rule(operation)
        if rule is None:
            return _inside(operation, channels, args)
        named = inspect.signature(rule).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in named.values()):
            kwargs = {name: value for name, value in kwargs.items() if name in named}
        return rule(operation, seen, *args, **kwargs)

    found = []
    for call in graph.calls:
        args, kwargs = keras.tree.map_structure(look, (call.args, call.kwargs))
        seen = Seen([size(t) for t in call.outputs], kernel, count)
        try:
            found.append((call, count(call.operation, seen, args, kwargs)))
        except UnsupportedLayerError:  # a weight is computed: it is quantized, for example
            found.append((call, None))
    return found, batch


def _inside(layer: keras.Operation, channels: Channels, args: tuple) -> Products:
    """Count a layer without a rule by what it is made of, where that can be seen."""
    if not isinstance(layer, keras.layers.Layer) or len(args) != 1 or not isinstance(args[0], list):
        return None
    given = args[0] if any(isinstance(part, list) for part in args[0]) else [args[0]]
    shapes = [tuple(len(n) if isinstance(n, np.ndarray) else n for n in part) for part in given]
    symbols = None
    if inner_function(layer) is None:
        symbols = [keras.KerasTensor(shape, layer.compute_dtype) for shape in shapes]
        symbols = symbols if given is args[0] else symbols[0]
    try:
        calls, _ = counted(trace(layer, is_counted, symbols), channels, shapes)
    except (PruningError, ValueError):
        return None
    if any(products is None for _, products in calls):
        return None
    return [product for _, products in calls for product in products]


# --- rules -------------------------------------------------------------------------------------------


def _places(layer: Any, size: Size) -> Size:
    """Return all sizes of an image-like tensor but that of its channels."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return size[:1] + size[2:] if first else size[:-1]


def _times(products: Products, *sizes: Any) -> Products:
    return None if products is None else [product + list(sizes) for product in products]


@register_macs(layers.Dense)
def _dense(layer, seen, x, *_, **__):
    return [seen.kernel(layer, "kernel") + x[:-1]]


@register_macs(
    layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D
)
def _conv(layer, seen, x, *_, **__):
    # The kernel of a grouped convolution has the inputs of one group only.
    return [seen.kernel(layer, "kernel") + _places(layer, seen.outputs[0])]


@register_macs(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def _transposed_conv(layer, seen, x, *_, **__):
    # Every place of the input is spread by the whole kernel; most places of the output get a part of it.
    return [seen.kernel(layer, "kernel") + _places(layer, x)]


@register_macs(layers.SeparableConv1D, layers.SeparableConv2D)
def _separable_conv(layer, seen, x, *_, **__):
    places = _places(layer, seen.outputs[0])
    names = ("depthwise_kernel", "pointwise_kernel")
    return [seen.kernel(layer, name) + places for name in names]


def _letters(terms: Sequence[str], sizes: Sequence[Size]) -> Size:
    """Return the size of every letter of an equation, once."""
    found: dict[str, Any] = {}
    for term, size in zip(terms, sizes, strict=True):
        before, dots, after = term.partition("...")
        hidden = len(size) - len(before) - len(after) if dots else 0
        # Axes behind the dots are aligned at the right.
        spread = [*before, *(f"-{i}" for i in range(hidden, 0, -1)), *after]
        for letter, n in zip(spread, size, strict=True):
            known = found.get(letter)
            if known is None or (
                isinstance(known, int) and known == 1
            ):  # or it is spread over others
                found[letter] = n
    return list(found.values())


@register_macs(layers.EinsumDense)
def _einsum_dense(layer, seen, x, *_, **__):
    terms = layer.equation.replace(" ", "").split("->")[0].split(",")
    return [_letters(terms, [x, seen.kernel(layer, "kernel")])]


@register_macs(layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
def _cell(layer, seen, x, *_, **__):
    return [seen.kernel(layer, name) + x[:1] for name in ("kernel", "recurrent_kernel")]


@register_macs(layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN)
def _recurrent(layer, seen, x, *_, **__):
    found = []
    for cell in getattr(layer.cell, "cells", [layer.cell]):
        if not isinstance(cell, (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)):
            return None
        found += _times(_cell(cell, seen, x), x[1])
    return found


@register_macs(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
def _conv_lstm(layer, seen, x, *_, **__):
    out = seen.outputs[0]
    places = _places(layer, out[:1] + out[2:] if layer.return_sequences else out)
    names = ("cell.kernel", "cell.recurrent_kernel")
    return _times([seen.kernel(layer, name) + places for name in names], x[1])


@register_macs(layers.Bidirectional)
def _bidirectional(layer, seen, *args, **kwargs):
    found = [
        seen.count(inner, seen, args, kwargs)
        for inner in (layer.forward_layer, layer.backward_layer)
    ]
    return None if None in found else found[0] + found[1]


@register_macs(layers.SpectralNormalization)
def _spectral_normalization(layer, seen, *args, **kwargs):
    return seen.count(layer.layer, seen, args, {})


@register_macs(layers.TimeDistributed)
def _time_distributed(layer, seen, x, *_, **__):
    step = replace(seen, outputs=[out[:1] + out[2:] for out in seen.outputs])
    return _times(seen.count(layer.layer, step, (x[:1] + x[2:],), {}), x[1])


@register_macs(layers.MultiHeadAttention, layers.GroupQueryAttention)
def _multi_head_attention(layer, seen, query, value, key=None, *_, **__):
    """The projections, and the two products of every place with every place."""
    key = value if key is None else key
    kernels = {part: seen.kernel(layer, f"_{part}_dense.kernel") for part in ("query", "value")}
    found = [kernels["query"] + query[:-1], kernels["value"] + value[:-1]]
    found.append(seen.kernel(layer, "_key_dense.kernel") + key[:-1])
    found.append(seen.kernel(layer, "_output_dense.kernel") + query[:-1])
    if getattr(layer, "_gate_dense", None) is not None:
        found.append(seen.kernel(layer, "_gate_dense.kernel") + query[:-1])
    # Private touch: which axes attend is not public in all versions; the others are like a batch.
    axes = getattr(layer, "_attention_axes", None) or range(1, len(query) - 1)
    axes = [axis % len(query) for axis in axes]
    pairs = query[:-1] + [key[axis] for axis in axes]
    heads, width = kernels["query"][-2:]
    return [*found, [*pairs, heads, width], [*pairs, heads, kernels["value"][-1]]]


@register_macs(layers.Attention, layers.AdditiveAttention)
def _attention(layer, seen, inputs, *_, **__):
    query, value = inputs[:2]
    pairs = [*query[:-1], value[-2]]
    return [[*pairs, query[-1]], [*pairs, value[-1]]]


@register_macs(layers.Dot)
def _dot(layer, seen, inputs, *_, **__):
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return [seen.outputs[0] + [inputs[0][axis]]]


@macs_of_operation("Matmul", "Dot", "Inner")
def _matmul(operation, seen, x1, x2, **_):
    both = isinstance(x1, list) and isinstance(x2, list) and x1 and x2
    return [seen.outputs[0] + x1[-1:]] if both else []


@macs_of_operation("Tensordot")
def _tensordot(operation, seen, x1, x2, **_):
    axes = operation.axes
    axes = range(len(x1) - axes, len(x1)) if isinstance(axes, int) else axes[0]
    axes = [axes] if isinstance(axes, int) else axes
    return [seen.outputs[0] + [x1[axis] for axis in axes]]


@macs_of_operation("Einsum")
def _einsum(operation, seen, *operands, **_):
    if len(operands) != 2:
        # What is done for three depends on the order in which they are taken.
        return [] if len(operands) == 1 else None
    return [_letters(operation.subscripts.replace(" ", "").split("->")[0].split(","), operands)]


@macs_of_operation("Conv", "DepthwiseConv", "SeparableConv")
def _conv_operation(operation, seen, x, *kernels, **named):
    return [kernel + _places(operation, seen.outputs[0]) for kernel in (*kernels, *named.values())]


@macs_of_operation("ConvTranspose")
def _transposed_conv_operation(operation, seen, x, kernel, **_):
    return [kernel + _places(operation, x)]


@macs_of_operation("DotProductAttention")
def _dot_product_attention(operation, seen, query, key, value, *_, **__):
    return [[*query, key[1]], [*query[:-1], value[-1], key[1]]]
