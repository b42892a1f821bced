"""The calls of a network in order. Nested models and layers that consist of layers are unfolded."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.layers.inference import (
    arguments,
    inner_function,
    positional_names,
    symbolic_inputs,
)
from keras_ganprune.layers.traversal import walk
from keras_ganprune.utils.foreign_errors import why_not_on_symbols


@dataclass(eq=False)
class Tensor:
    """A tensor between two calls. Its shape has the batch first."""

    shape: tuple[int | None, ...]
    dtype: str


def leaves(structure: Any) -> list[Any]:
    """Return the leaves of a nested structure of lists, tuples and dicts."""
    # Keras annotates that `flatten` may return None, which it never does.
    return cast("list[Any]", keras.tree.flatten(structure))


@dataclass(eq=False)
class Call:
    """One call of a layer or of another operation.

    Attributes:
        operation: The layer or `keras.ops` operation.
        path: Path of the layer in the model, or the name of the operation.
        args: Positional arguments, with a `Tensor` in the place of each tensor.
        kwargs: Keyword arguments, likewise.
        result: Structure of `Tensor`s that it returns.
        opaque: Reason why the inside of a layer without a rule is not known, or "".
    """

    operation: keras.Operation
    path: str
    args: tuple
    kwargs: dict[str, Any]
    result: Any
    opaque: str = ""

    @property
    def inputs(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]

    @property
    def outputs(self) -> list[Tensor]:
        """All tensors that are returned."""
        return leaves(self.result)


@dataclass(eq=False)
class Graph:
    """The calls of a model, from its inputs to its outputs.

    Attributes:
        model: The model.
        inputs: Structure of `Tensor`s that the model is called with.
        outputs: Structure of `Tensor`s that it returns.
        names: Names of the inputs.
        calls: The calls, in an order in which they can run.
    """

    model: keras.layers.Layer
    inputs: Any
    outputs: Any
    names: list[str]
    calls: list[Call] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Graph of {self.model.name}: {len(self.calls)} calls>"


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the weights of a layer that do not belong to its sublayers."""
    below = {id(w) for child in layer._flatten_layers(include_self=False) for w in child.weights}
    return [w for w in layer.weights if id(w) not in below]


@contextlib.contextmanager
def _untouched(model: keras.layers.Layer) -> Iterator[None]:
    """Remove the traces of symbolic calls inside the context when it ends; states and seeds do not move.

    Private touch: Keras records every symbolic call on the layer, and `layer.output` raises an error
    for a layer that was called twice.
    """
    layers = [layer for _, layer in walk(model)]
    nodes = [(list(layer._inbound_nodes), list(layer._outbound_nodes)) for layer in layers]
    try:
        # One scope for all calls: two calls that draw random numbers draw different ones.
        with keras.StatelessScope():
            yield
    finally:
        for layer, (inbound, outbound) in zip(layers, nodes, strict=True):
            layer._inbound_nodes[:] = inbound
            layer._outbound_nodes[:] = outbound


class _Tracer:
    """Collects the calls of a model."""

    def __init__(self, model: keras.layers.Layer, known: Callable[[keras.Operation], bool]):
        self.paths = {id(layer): path for path, layer in walk(model)}
        self.known = known
        self.calls: list[Call] = []

    def function(self, function: keras.Function, tensors: Sequence[Tensor]) -> Any:
        """Collect the calls of a function, and return the structure of its outputs.

        Private touch: the nodes of a function, by depth, are the only record of its calls.
        """
        tensor_of = {id(k): tensor for k, tensor in zip(function.inputs, tensors, strict=True)}

        def fill(structure: Any) -> Any:
            return keras.tree.map_structure(lambda leaf: tensor_of.get(id(leaf), leaf), structure)

        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                result = self.operation(
                    node.operation,
                    fill(node.arguments.args),
                    fill(node.arguments.kwargs),
                    node.outputs,
                )
                pairs = zip(node.outputs, leaves(result), strict=True)
                tensor_of.update({id(k): tensor for k, tensor in pairs})
        return fill(function._outputs_struct)

    def operation(
        self, operation: keras.Operation, args: tuple, kwargs: dict, outputs: list
    ) -> Any:
        """Collect one call, or those inside a layer without a rule; return its outputs."""
        path = self.paths.get(id(operation), operation.name)
        opaque = ""
        if isinstance(operation, keras.layers.Layer) and not self.known(operation):
            function = inner_function(operation)
            tensors = [t for t in leaves((args, kwargs)) if isinstance(t, Tensor)]
            if function is not None and len(tensors) == len(function.inputs):
                return self.function(function, tensors)
            inside = self.unfold(operation, args, kwargs)
            if isinstance(inside, str):
                opaque = inside
            else:
                return self.function(inside, tensors)
        tensors = [Tensor(tuple(k.shape), k.dtype) for k in outputs]
        # One tensor, or a flat list. Python code that unpacks a nested result leaves no trace here.
        result = tensors[0] if len(tensors) == 1 else tensors
        self.calls.append(Call(operation, path, args, kwargs, result, opaque))
        return result

    def unfold(self, layer: keras.layers.Layer, args: tuple, kwargs: dict) -> keras.Function | str:
        """Return the function of a layer that consists of layers, or why it has none.

        The layer is called on symbols.
        """
        weights = own_variables(layer)
        if weights:
            return f"it has weights of its own ({', '.join(w.name for w in weights[:3])})"
        try:
            function = _call_on_symbols(layer, args, kwargs, None)
            in_training = _call_on_symbols(layer, args, kwargs, True)
        except Exception as error:
            return why_not_on_symbols(error)
        if not _alike(function, in_training):
            return "it does something else in training than in inference, or draws random numbers"
        return function


def _call_on_symbols(
    layer: keras.layers.Layer, args: tuple, kwargs: dict, training: bool | None
) -> keras.Function:
    """Return a layer as a function.

    With `training=None` the layers inside get the value of the later call.
    """
    symbols: list[Any] = []

    def symbol(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            symbols.append(keras.Input(batch_shape=leaf.shape, dtype=leaf.dtype))
            return symbols[-1]
        return leaf

    args, kwargs = cast("Any", keras.tree.map_structure(symbol, (args, dict(kwargs))))
    if "training" in inspect.signature(layer.call).parameters:
        kwargs["training"] = training
    with _no_comparisons():
        return keras.Function(symbols, layer.call(*args, **kwargs))


@contextlib.contextmanager
def _no_comparisons() -> Iterator[None]:
    """Within the context, `==` and `!=` of a symbol with a value raise a `TypeError`.

    A symbol has no such operators, so that Python compares identities and gives False or True. The graph
    would hold this constant in the place of the comparison.
    """

    def refuse(symbol: Any, other: Any) -> Any:
        if other is None or isinstance(other, (keras.KerasTensor, str, type)):
            return NotImplemented
        raise TypeError("it compares a tensor by `==` or `!=`; use `keras.ops.equal` instead")

    for name in ("__eq__", "__ne__"):
        setattr(keras.KerasTensor, name, refuse)
    try:
        yield
    finally:
        for name in ("__eq__", "__ne__"):
            delattr(keras.KerasTensor, name)


def _calls(function: keras.Function) -> list[tuple[keras.Operation, list[Any]]]:
    """Return the operations of a function and their arguments without `training`."""
    by_depth = function._nodes_by_depth
    calls = []
    for node in (node for depth in sorted(by_depth) for node in by_depth[depth]):
        if not node.is_input:
            kwargs = {k: v for k, v in node.arguments.kwargs.items() if k != "training"}
            calls.append((node.operation, leaves((node.arguments.args, kwargs))))
    return calls


def _alike(one: keras.Function, other: keras.Function) -> bool:
    """Return whether two functions run the same operations with the same arguments."""
    left, right = _calls(one), _calls(other)
    return len(left) == len(right) and all(
        _same_operation(a, b) and len(x) == len(y) and all(map(_same_leaf, x, y))
        for (a, x), (b, y) in zip(left, right, strict=True)
    )


def _same_operation(one: keras.Operation, other: keras.Operation) -> bool:
    if one is other:
        return True
    if type(one) is not type(other) or getattr(one, "weights", None):
        return False
    try:
        configs = [{k: v for k, v in o.get_config().items() if k != "name"} for o in (one, other)]
    except NotImplementedError:
        return True
    return repr(configs[0]) == repr(configs[1])


def _same_leaf(one: Any, other: Any) -> bool:
    if isinstance(one, keras.KerasTensor) or isinstance(other, keras.KerasTensor):
        return isinstance(one, keras.KerasTensor) and isinstance(other, keras.KerasTensor)
    if keras.ops.is_tensor(one) or isinstance(one, np.ndarray):
        a, b = (np.asarray(keras.ops.convert_to_numpy(leaf)) for leaf in (one, other))
        return np.array_equal(a, b)
    return one is other or one == other


def trace(
    model: keras.layers.Layer,
    known: Callable[[keras.Operation], bool],
    inputs: Any = None,
) -> Graph:
    """Return the calls of a built model.

    Args:
        model: Sequential, functional, or subclassed with a `call` that can run on symbols.
        known: Function that returns whether an operation is one call; all others are unfolded where
            possible.
        inputs: Structure of `keras.Input`s or arrays that the model can be called with; a tuple holds the
            positional arguments of `call`. Defaults to None: the shape that a subclassed model was built
            with, and its own dtype. Any other model has its own inputs.

    Raises:
        UnbuiltModelError: The model has no weights yet, or its inputs are not known.
        UnsupportedLayerError: A subclassed model cannot be called on symbols.
        InvalidArgumentError: `inputs` do not fit the inputs of a model that is not subclassed.
    """
    if not model.built:
        raise UnbuiltModelError(
            f"'{model.name}' must be built before its channels can be followed. Call it once on a batch "
            "first."
        )
    function = inner_function(model)
    if inputs is not None:
        inputs = _as_symbols(model, inputs)
        if function is not None:
            _check_fit(model, function, inputs)
    elif function is None:
        _check_known(model)
    tracer = _Tracer(model, known)
    # A call on symbols may draw from a seed of the model, or change a state.
    with _untouched(model), keras.StatelessScope():
        if function is None:
            structure = symbolic_inputs(model, inputs)
            symbols = leaves(structure)
        else:
            structure, symbols = function._inputs_struct, function.inputs
        tensors = [Tensor(tuple(k.shape), k.dtype) for k in symbols]
        packed = keras.tree.pack_sequence_as(structure, tensors)
        names = [k.name for k in symbols]
        if function is None:
            # Keras names a symbol without a name so.
            names = [
                f"input_{i}" if n.startswith("keras_tensor") else n for i, n in enumerate(names)
            ]
            function = _unfolded_model(tracer, model, packed)
        outputs = tracer.function(function, tensors)
    return Graph(model, packed, outputs, names, tracer.calls)


def _as_symbols(model: keras.layers.Layer, inputs: Any) -> Any:
    """Return inputs with a symbol in the place of each array. The batch size stays open."""

    def symbol(leaf: Any) -> Any:
        if isinstance(leaf, keras.KerasTensor):
            return leaf
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        dtype = str(getattr(array.dtype, "name", array.dtype))
        if dtype == "object" or dtype.startswith(("str", "bytes")):
            dtype = "string"
        elif "float" in dtype:
            dtype = model.input_dtype  # Keras converts an array of floats to it.
        return keras.KerasTensor((None, *tuple(array.shape)[1:]), dtype.removeprefix("torch."))

    numbers = isinstance(inputs, list) and all(
        not isinstance(leaf, keras.KerasTensor) and np.ndim(leaf) == 0 for leaf in leaves(inputs)
    )
    return symbol(np.asarray(inputs)) if numbers else keras.tree.map_structure(symbol, inputs)


def _check_fit(model: keras.layers.Layer, function: keras.Function, inputs: Any) -> None:
    """Raise unless inputs have the number and the shapes of the inputs of a functional model."""
    given = [tuple(symbol.shape) for symbol in leaves(inputs)]
    own = [tuple(symbol.shape) for symbol in function.inputs]
    fits = len(given) == len(own) and all(
        len(a) == len(b)
        and all(m is None or n is None or m == n for m, n in zip(a, b, strict=True))
        for a, b in zip(given, own, strict=True)
    )
    if not fits:
        raise InvalidArgumentError(
            f"`inputs` must fit the inputs of '{model.name}', which have the shapes {own}. Received: inputs "
            f"of the shapes {given}. Leave `inputs` out, or give a batch that `model(inputs)` takes."
        )


def _check_known(model: keras.layers.Layer) -> None:
    """Raise if `call` needs more arguments than the one whose shape Keras stores."""
    names = positional_names(model, required=True)
    if len(names) > 1 and "shapes_dict" not in (model.get_build_config() or {}):
        raise UnbuiltModelError(
            f"The inputs of `{type(model).__name__}` '{model.name}' are not known: its `call` takes "
            f"{' and '.join(f'`{name}`' for name in names)}, and Keras stores the shape of the first only. "
            f"Pass one batch or symbol for each, such as `inputs=({', '.join(names)})`."
        )


def _unfolded_model(tracer: _Tracer, model: keras.layers.Layer, packed: Any) -> keras.Function:
    """Return the function of a subclassed model, or raise."""
    function = tracer.unfold(model, arguments(model, packed), {})
    if isinstance(function, str):
        raise UnsupportedLayerError(
            f"The channels of `{type(model).__name__}` '{model.name}' cannot be followed: {function}. "
            "Its `call` must run on `keras.Input`s: use Keras layers and `keras.ops` in it (no tf.* "
            "functions), and keep weights in layers."
        )
    return function
