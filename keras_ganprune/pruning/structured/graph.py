"""The calls of a network in order. Nested models and layers that consist of layers are unfolded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_ganprune.errors import UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.layers.argument_shapes import argument_symbols
from keras_ganprune.layers.inference import (
    arguments,
    inner_function,
    positional_names,
    symbolic_inputs,
)
from keras_ganprune.layers.traversal import walk
from keras_ganprune.pruning.structured.given_symbols import as_symbols, check_fit
from keras_ganprune.pruning.structured.symbolic_calls import (
    OPTIONAL,
    Tensor,
    is_optional,
    runs_with_weights,
    tensors_in,
    unfolded,
    untied_variables,
)
from keras_ganprune.pruning.structured.traces import (
    NotFollowedError,
    Spec,
    Step,
    Trace,
    leaves,
    steps_of,
)
from keras_ganprune.utils.foreign_errors import why_not_on_symbols

__all__ = ["Call", "Graph", "Inside", "Tensor", "leaves", "tensors_in", "trace", "untied_variables"]


@dataclass(eq=False)
class Call:
    """One call of a layer or of another operation.

    Attributes:
        operation: The layer or `keras.ops` operation.
        path: Path of the layer in the model, or the name of the operation.
        args: Positional arguments, with a `Tensor` in the place of each tensor.
        kwargs: Keyword arguments, likewise.
        result: Structure of `Tensor`s that it returns.
        opaque: Reason why a layer without a rule is not unfolded, or "".
        inside: The calls inside a layer without a rule that stays one layer: in inference, and in training
            if that differs. Empty for all others.
        arguments: Arguments of the constructor of such a layer that are a number of channels, each with
            the axes of weights that have this number. The rules fill it in.
        blocked: An operation inside such a layer that has no rule, or "". The rules fill it in.
    """

    operation: keras.Operation
    path: str
    args: tuple
    kwargs: dict[str, Any]
    result: Any
    opaque: str = ""
    inside: tuple[Inside, ...] = ()
    arguments: dict[Argument, list[tuple[keras.Variable, int]]] = field(default_factory=dict)
    blocked: str = ""

    @property
    def inputs(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return tensors_in((self.args, self.kwargs))

    @property
    def outputs(self) -> list[Tensor]:
        """All tensors that are returned."""
        return tensors_in(self.result)


# An argument of a constructor, and the place in it if it is a list.
Argument = tuple[str, "int | None"]


@dataclass(eq=False)
class Inside:
    """The calls inside a layer that stays one layer, on tensors of concrete sizes.

    Attributes:
        inputs: The tensors that the layer is called with.
        weights: Triples (attribute path, variable, tensor in its place).
        free: Random tensors.
        outputs: Structure of `Tensor`s that the layer returns.
        updates: Pairs (tensor in the place of a variable, tensor that is assigned to it).
        calls: The calls, in an order in which they can run.
    """

    inputs: list[Tensor]
    weights: list[tuple[str, keras.Variable, Tensor]]
    free: list[Tensor]
    outputs: Any
    updates: list[tuple[Tensor, Tensor]]
    calls: list[Call]


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

    def __init__(
        self, paths: dict[int, str], known: Callable[[keras.Operation], bool], follow: bool
    ):
        self.paths, self.known, self.follow = paths, known, follow
        self.calls: list[Call] = []

    def function(self, function: keras.Function, tensors: Sequence[Tensor]) -> Any:
        """Collect the calls of a function, and return the structure of its outputs.

        Private touch: a function keeps the structure of its outputs, and how to run it, to itself.
        """
        symbols, outputs = list(function.inputs), function._outputs_struct
        shapes = [(t.shape, tuple(k.shape)) for t, k in zip(tensors, symbols, strict=True)]
        if any(a != b and len(a) == len(b) for a, b in shapes):
            # A nested model that was built with other sizes than it is called with.
            with contextlib.suppress(Exception):
                new = [keras.Input(batch_shape=t.shape, dtype=t.dtype) for t in tensors]
                symbols, outputs = new, function._run_through_graph(new)
        return self.steps(symbols, steps_of(symbols, outputs), outputs, tensors)

    def steps(
        self, symbols: Sequence[Any], steps: Sequence[Step], outputs: Any, tensors: Sequence[Tensor]
    ) -> Any:
        """Collect calls on symbols, and return the structure of outputs with tensors in their place."""
        tensor_of = {id(k): tensor for k, tensor in zip(symbols, tensors, strict=True)}

        def fill(structure: Any) -> Any:
            return keras.tree.map_structure(lambda leaf: tensor_of.get(id(leaf), leaf), structure)

        for step in steps:
            specs = [(shape, k.dtype) for shape, k in zip(step.shapes, step.outputs, strict=True)]
            result = self.operation(step.operation, fill(step.args), fill(step.kwargs), specs)
            found = [t for t in leaves(result) if isinstance(t, Tensor)]
            pairs = zip(step.outputs, found, strict=True)
            tensor_of.update({id(k): tensor for k, tensor in pairs})
        return fill(outputs)

    def operation(
        self, operation: keras.Operation, args: tuple, kwargs: dict, specs: list[Spec]
    ) -> Any:
        """Collect one call, or those inside a layer without a rule; return its outputs."""
        path = self.paths.get(id(operation), operation.name)
        args, kwargs = _positional(operation, args, kwargs)
        opaque, inside = "", ()
        if isinstance(operation, keras.layers.Layer) and not self.known(operation):
            function = inner_function(operation)
            tensors = tensors_in((args, kwargs))
            if function is not None and len(tensors) == len(function.inputs):
                return self.function(function, tensors)
            optional = any(tensor.optional for tensor in tensors)
            found = OPTIONAL if optional else self.unfold(operation, args, kwargs)
            if not isinstance(found, str):
                return self.steps(found.symbols, found.steps, found.outputs, tensors)
            opaque = found
            if self.follow and not optional:
                followed = self.followed(operation, args, kwargs)
                if isinstance(followed, str):
                    opaque = followed
                else:
                    inside = followed
        tensors = [Tensor(tuple(shape), dtype) for shape, dtype in specs]
        # One tensor, or a flat list. Python code that unpacks a nested result leaves no trace here.
        result = tensors[0] if len(tensors) == 1 else tensors
        self.calls.append(Call(operation, path, args, kwargs, result, opaque, inside))
        return result

    def unfold(self, layer: keras.layers.Layer, args: tuple, kwargs: dict) -> Trace | str:
        """Return the calls of a layer that consists of layers, or why it has none."""
        weights = untied_variables(layer)
        if weights:
            return f"it has weights of its own ({', '.join(w.name for w in weights[:3])})"
        try:
            return unfolded(layer, args, kwargs)
        except NotFollowedError as error:
            return str(error)
        except Exception as error:
            return why_not_on_symbols(error)

    def followed(
        self, layer: keras.layers.Layer, args: tuple, kwargs: dict
    ) -> tuple[Inside, ...] | str:
        """Return the calls inside a layer that stays one layer, or why they are not known."""
        found = []
        try:
            for run in runs_with_weights(layer, args, kwargs):
                tracer = _Tracer(self.paths, self.known, True)
                tensors = [Tensor(tuple(k.shape), k.dtype) for k in run.symbols]
                ends = tracer.steps(run.symbols, run.steps, (run.outputs, run.updates), tensors)
                count, weights = len(run.symbols) - run.drawn, run.weights
                first = count - len(weights)
                places = zip(weights, tensors[first:count], strict=True)
                found.append(
                    Inside(
                        inputs=tensors[:first],
                        weights=[(*weight, tensor) for weight, tensor in places],
                        free=tensors[count:],
                        outputs=ends[0],
                        updates=[pair for pair in ends[1] if len(tensors_in(pair)) == 2],
                        calls=tracer.calls,
                    )
                )
        except NotFollowedError as error:
            return str(error)
        except Exception as error:
            return why_not_on_symbols(error)
        return tuple(found)


def _positional(operation: keras.Operation, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Return arguments with tensors by position where they have names, as in `Dense(8)(inputs=x)`."""
    if not isinstance(operation, keras.layers.Layer) or not tensors_in(kwargs):
        return args, kwargs
    kwargs = dict(kwargs)
    for name in positional_names(operation)[len(args) :]:
        if not tensors_in(kwargs.get(name)):
            break
        args = (*args, kwargs.pop(name))
    return args, kwargs


def trace(
    model: keras.layers.Layer,
    known: Callable[[keras.Operation], bool],
    inputs: Any = None,
    follow: bool = False,
) -> Graph:
    """Return the calls of a built model.

    Args:
        model: Sequential, functional, or subclassed with a `call` that can run on symbols.
        known: Function that returns whether an operation is one call; all others are unfolded where
            possible.
        inputs: Structure of `keras.Input`s or arrays that the model can be called with; a tuple holds the
            positional arguments of `call`. Defaults to None: the shape that a subclassed model was built
            with, and its own dtype. Any other model has its own inputs.
        follow: Whether to look into layers that cannot be unfolded. Defaults to False.

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
        inputs = as_symbols(model, inputs)
        if function is not None:
            check_fit(model, function, inputs)
    elif function is None:
        inputs = _known_arguments(model)
    tracer = _Tracer({id(layer): path for path, layer in walk(model)}, known, follow)
    # A call on symbols may draw from a seed of the model, or change a state.
    with _untouched(model), keras.StatelessScope():
        if function is None:
            structure = symbolic_inputs(model, inputs)
            symbols = leaves(structure)
        else:
            structure, symbols = function._inputs_struct, function.inputs
        tensors = [Tensor(tuple(k.shape), k.dtype, is_optional(k)) for k in symbols]
        packed = keras.tree.pack_sequence_as(structure, tensors)
        names = [k.name for k in symbols]
        if function is None:
            # Keras names a symbol without a name so.
            names = [
                f"input_{i}" if n.startswith("keras_tensor") else n for i, n in enumerate(names)
            ]
            outputs = _unfolded_model(tracer, model, packed, tensors)
        else:
            outputs = tracer.function(function, tensors)
    return Graph(model, packed, outputs, names, tracer.calls)


def _known_arguments(model: keras.layers.Layer) -> Any:
    """Return symbols if `call` needs more arguments than the one whose shape Keras stores, else None.

    Raises:
        UnbuiltModelError: Several shapes fit the layers of the model, or none.
    """
    names = positional_names(model, required=True)
    if len(names) < 2 or "shapes_dict" in (model.get_build_config() or {}):
        return None
    found = argument_symbols(model)
    if len(found) == 1:
        return found[0]
    raise UnbuiltModelError(
        f"The inputs of `{type(model).__name__}` '{model.name}' are not known: its `call` takes "
        f"{' and '.join(f'`{name}`' for name in names)}, and Keras stores the shape of the first only. "
        f"Pass one batch or symbol for each, such as `inputs=({', '.join(names)})`."
    )


def _unfolded_model(
    tracer: _Tracer, model: keras.layers.Layer, packed: Any, tensors: list[Tensor]
) -> Any:
    """Collect the calls of a subclassed model, and return the structure of its outputs; or raise."""
    found = tracer.unfold(model, arguments(model, packed), {})
    if isinstance(found, str):
        raise UnsupportedLayerError(
            f"The channels of `{type(model).__name__}` '{model.name}' cannot be followed: {found}. "
            "Its `call` must run on `keras.Input`s: use Keras layers and `keras.ops` in it (no tf.* "
            "functions), and keep weights in layers."
        )
    return tracer.steps(found.symbols, found.steps, found.outputs, tensors)
