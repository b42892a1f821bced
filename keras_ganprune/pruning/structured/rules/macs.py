"""The number of multiply-accumulates of each call of a network, as products of sizes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.errors import PruningError, UnsupportedLayerError
from keras_ganprune.layers.inference import inner_function
from keras_ganprune.layers.prunable import weight_variable
from keras_ganprune.pruning.structured.channels import Channels
from keras_ganprune.pruning.structured.graph import (
    Call,
    Graph,
    Tensor,
    leaves,
    trace,
)
from keras_ganprune.pruning.structured.rules.registry import check_layer_classes, check_rule
from keras_ganprune.pruning.structured.sized_operations import Sized

# One entry per axis: a number, None if it is not known, or the labels of the channels along the axis.
Size = list
# A sum of products: the entries of each inner list are multiplied. None if the number is not known.
Products = list[Size] | None


@dataclass(frozen=True)
class Seen:
    """A call as its rule sees it, with a batch of one.

    Attributes:
        outputs: For each output the list of its sizes.
        kernel: Function (layer, attribute path of a weight) -> list of the sizes of the weight.
        count: Function (layer, seen, args, kwargs) -> products of an inner layer.
    """

    outputs: list[Size]
    kernel: Callable[[keras.layers.Layer, str], Size]
    count: Callable[[Any, Seen, tuple, dict], Products]


MacsRule = Callable[..., Products]
_LAYERS: dict[type, MacsRule] = {}
_OPERATIONS: dict[str, MacsRule] = {}

# Layers and operations of Keras without a rule are elementwise or only move values: they count as 0.
# These are the exceptions.
_NOT_KNOWN = {
    "Lambda", "Pipeline", "MelSpectrogram", "STFTSpectrogram", "Map", "Scan", "AssociativeScan", "Switch",
    "WhileLoop", "ForiLoop", "Cond", "VectorizedMap", "CDist", "FFT", "FFT2", "IFFT2", "RFFT", "IRFFT",
    "STFT", "ISTFT", "Logdet", "Vdot",
}  # fmt: skip


def register_macs(*layer_classes: type[keras.layers.Layer]) -> Callable[[MacsRule], MacsRule]:
    """Register how many multiply-accumulates a layer of your own takes.

    Use it as a decorator of a function `rule(layer, seen, *inputs)`. Each input is the list of its sizes
    with a batch of one first, such as `[1, 28, 28, 3]`. The function returns a list of products: each
    product is a list of sizes, which are multiplied; the products are added.

    `seen.kernel(layer, "kernel")` gives the sizes of a weight, and `seen.outputs[0]` those of the first
    output. A size is an int, or the labels of channels that can be cut; put it into a product unchanged.

    Args:
        *layer_classes: Subclasses of `keras.layers.Layer`. A subclass of such a class follows the same
            rule, unless it defines `call`.

    Returns: The decorator. It returns the function unchanged.

    Raises:
        ArgumentTypeError: An argument is not a layer class, or there is none.

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
    check_layer_classes(layer_classes, "register_macs")

    def register(rule: MacsRule) -> MacsRule:
        check_rule(rule, "register_macs", "(layer, seen, x)")
        _LAYERS.update(dict.fromkeys(layer_classes, rule))
        return rule

    return register


def register_operation_macs(*names: str) -> Callable[[MacsRule], MacsRule]:
    """Register the rule of `keras.ops` operations, by the names of their classes.

    Args:
        *names: Names of operation classes, such as 'Matmul'.
    """

    def register(rule: MacsRule) -> MacsRule:
        _OPERATIONS.update(dict.fromkeys(names, rule))
        return rule

    return register


def _nothing(*_, **__) -> Products:
    return []


def _rule(operation: keras.Operation) -> MacsRule | None:
    """Return the rule of a layer or operation, or None. A subclass that defines `call` has none.

    Private touch: there are no public names for the classes of operations, nor for Keras's own modules.
    """
    cls = type(operation)
    if isinstance(operation, Sized):
        return _nothing
    if not isinstance(operation, keras.layers.Layer):
        modules = ("keras.src.ops", "keras.src.activations")
        is_keras = cls.__module__.startswith(modules) and "linalg" not in cls.__module__
        is_known = is_keras and cls.__name__ not in _NOT_KNOWN
        return _OPERATIONS.get(cls.__name__, _nothing) if is_known else None
    for parent in cls.__mro__:
        if parent in _LAYERS:
            return _LAYERS[parent]
        if "call" in vars(parent):
            is_keras = parent.__module__.startswith("keras.src.layers.")
            return _nothing if is_keras and parent.__name__ not in _NOT_KNOWN else None
    return None


def is_counted(operation: keras.Operation) -> bool:
    """Return whether an operation has a rule, so that its inside need not be seen."""
    return _rule(operation) is not None


# --- counting a network ------------------------------------------------------------------------------


def _known_batch(shape: tuple, batch: int) -> tuple:
    """Return a shape with a known batch size; a scalar has none."""
    return (shape[0] or batch, *shape[1:]) if shape else ()


def _sample_shapes(graph: Graph, shapes: Sequence[tuple] | None) -> tuple[dict[int, tuple], int]:
    """Return the shape of each tensor for one sample, by id, and the batch size of the model.

    The batch size is 1 unless the model has a fixed one. The shapes are computed again with a known
    batch size, since after `reshape(x, (-1, ...))` the first axis may be more than the batch.
    """
    inputs = leaves(graph.inputs)
    batch = next((t.shape[0] for t in inputs if t.shape and t.shape[0] is not None), 1)
    shapes = shapes or [_known_batch(t.shape, batch) for t in inputs]
    shape_of = {id(t): shape for t, shape in zip(inputs, shapes, strict=True)}

    def symbol(leaf: Any) -> Any:
        is_tensor = isinstance(leaf, Tensor)
        return keras.KerasTensor(shape_of[id(leaf)], leaf.dtype) if is_tensor else leaf

    for call in graph.calls:
        args, kwargs = cast("Any", keras.tree.map_structure(symbol, (call.args, call.kwargs)))
        # The recorded shapes, for a layer that cannot compute them again.
        outputs = [_known_batch(t.shape, batch) for t in call.outputs]
        try:
            specs = leaves(call.operation.compute_output_spec(*args, **kwargs))
            if len(specs) == len(outputs):
                outputs = [tuple(spec.shape) for spec in specs]
        except Exception:
            pass
        shape_of.update({id(t): shape for t, shape in zip(call.outputs, outputs, strict=True)})
    return shape_of, batch


class _Counter:
    """Runs the rules of the calls of one network.

    Args:
        channels: The channels of the network.
        shape_of: Shape of each tensor for one sample, by id.
    """

    def __init__(self, channels: Channels, shape_of: dict[int, tuple]):
        self.channels, self.shape_of = channels, shape_of

    def products(self, call: Call) -> Products:
        """Return the products of one call."""
        leaf = self._leaf
        args, kwargs = cast("Any", keras.tree.map_structure(leaf, (call.args, call.kwargs)))
        seen = Seen([self._size(t) for t in call.outputs], self._kernel, self._count)
        try:
            return self._count(call.operation, seen, args, kwargs)
        except UnsupportedLayerError:  # a weight is computed, for example because it is quantized
            return None

    def _count(self, operation: keras.Operation, seen: Seen, args: tuple, kwargs: dict) -> Products:
        rule = _rule(operation)
        if rule is None:
            return _inside(operation, self.channels, args)
        parameters = inspect.signature(rule).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            kwargs = {name: value for name, value in kwargs.items() if name in parameters}
        return rule(operation, seen, *args, **kwargs)

    def _size(self, tensor: Tensor) -> Size:
        axes, shape = self.channels.axes.get(id(tensor)), self.shape_of[id(tensor)]
        labels = [None] * len(shape) if axes is None else axes.labels
        return [n if row is None else row for n, row in zip(shape, labels, strict=True)]

    def _kernel(self, layer: keras.layers.Layer, name: str) -> Size:
        variable = weight_variable(layer, name)
        if variable is None:
            raise UnsupportedLayerError(
                f"`{type(layer).__name__}` '{layer.name}' must have a weight `{name}` to be counted."
            )
        return self.channels.sizes_of(variable)

    def _leaf(self, leaf: Any) -> Any:
        """Return an argument of a call as a rule gets it: sizes in the place of tensors."""
        if isinstance(leaf, Tensor):
            return self._size(leaf)
        if isinstance(leaf, keras.Variable):
            return self.channels.sizes_of(leaf)
        return list(leaf.shape) if hasattr(leaf, "shape") else leaf


def count_macs(
    graph: Graph, channels: Channels, shapes: Sequence[tuple] | None = None
) -> tuple[list[tuple[Call, Products]], int]:
    """Return the products of each call, and the batch size that they are for.

    Args:
        graph: The calls of a network.
        channels: Its channels.
        shapes: Shapes of the inputs for one sample. Defaults to None: those of the graph.
    """
    shape_of, batch = _sample_shapes(graph, shapes)
    counter = _Counter(channels, shape_of)
    return [(call, counter.products(call)) for call in graph.calls], batch


def _inside(layer: keras.Operation, channels: Channels, args: tuple) -> Products:
    """Count a layer without a rule by the calls inside it, if they can be seen."""
    if not isinstance(layer, keras.layers.Layer) or len(args) != 1 or not isinstance(args[0], list):
        return None
    is_nested = any(isinstance(part, list) for part in args[0])
    sizes = args[0] if is_nested else [args[0]]
    shapes = [tuple(len(n) if isinstance(n, np.ndarray) else n for n in part) for part in sizes]
    symbols: Any = None
    if inner_function(layer) is None:
        symbols = [keras.KerasTensor(shape, layer.compute_dtype) for shape in shapes]
        symbols = symbols if is_nested else symbols[0]
    try:
        calls, _ = count_macs(trace(layer, is_counted, symbols), channels, shapes)
    except (PruningError, ValueError):
        return None
    total: list[Size] = []
    for _, products in calls:
        if products is None:
            return None
        total += products
    return total
