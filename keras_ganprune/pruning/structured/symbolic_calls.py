"""The `call` of a layer, run on symbols: its operations, also those on its own weights."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.layers.copy_state import attributes as attributes_of
from keras_ganprune.layers.kernels import own_variables
from keras_ganprune.pruning.structured.concrete_calls import traced
from keras_ganprune.pruning.structured.hand_read_weights import read_by_hand
from keras_ganprune.pruning.structured.made_tensors import Recorder
from keras_ganprune.pruning.structured.traces import (
    NotFollowedError,
    Step,
    Trace,
    leaves,
    one_thread,
    sizes_to_try,
    steps_of,
    symbols_as_tensors,
)


@dataclass(eq=False)
class Tensor:
    """A tensor between two calls. Its shape has the batch first. An `optional` input may be None."""

    shape: tuple[int | None, ...]
    dtype: str
    optional: bool = False


OPTIONAL = "one of its inputs is optional, and it may do something else without it"


def is_optional(symbol: Any) -> bool:
    """Return whether a symbol is an input that may be None. Private touch: only its history knows it."""
    history = getattr(symbol, "_keras_history", None)
    return bool(history and getattr(history.operation, "optional", False))


def tensors_in(structure: Any) -> list[Tensor]:
    """Return the tensors in a nested structure."""
    return [leaf for leaf in leaves(structure) if isinstance(leaf, Tensor)]


def untied_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the weights of a layer that none of its sublayers has, too.

    `own_variables` also has those that an attribute shares with a sublayer, such as a tied kernel.
    """
    below = {id(w) for child in layer._flatten_layers(include_self=False) for w in child.weights}
    return [v for v in own_variables(layer) if id(v) not in below]


def _called(
    layer: keras.layers.Layer,
    args: tuple,
    kwargs: dict,
    symbols: Sequence[Any],
    training: bool | None,
    recorder: Recorder,
) -> Any:
    """Run `call` with symbols in the place of tensors, and return its outputs.

    With `training=None` the layers inside get the value of the later call.
    """
    rest = iter(symbols)

    def symbol(leaf: Any) -> Any:
        return next(rest) if isinstance(leaf, Tensor) else leaf

    args, kwargs = cast("Any", keras.tree.map_structure(symbol, (args, dict(kwargs))))
    kwargs.pop("training", None)
    if takes_training(layer):
        kwargs["training"] = training
    with (
        one_thread() as is_tracing,
        symbols_as_tensors(is_tracing),
        recorder.recording(is_tracing),
    ):
        return layer.call(*args, **kwargs)


def takes_training(layer: keras.layers.Layer) -> bool:
    """Return whether `call` has the argument `training`."""
    return "training" in inspect.signature(layer.call).parameters


# --- layers that consist of layers -------------------------------------------------------------------


def unfolded(layer: keras.layers.Layer, args: tuple, kwargs: dict) -> Trace:
    """Return the calls of a layer without weights of its own.

    It is called on symbols of unknown sizes first, and on concrete ones if that fails.

    Raises:
        NotFollowedError: It does something else in training, or its operations cannot be written down.
        Exception: `call` fails on symbols.
    """
    specs = [(t.shape, t.dtype) for t in tensors_in((args, kwargs))]

    def run(training: bool | None) -> Callable[[list[Any], Recorder], Any]:
        return lambda symbols, recorder: _called(layer, args, kwargs, symbols, training, recorder)

    def open_trace(training: bool | None) -> Trace:
        recorder = Recorder()
        symbols = [keras.Input(batch_shape=shape, dtype=dtype) for shape, dtype in specs]
        outputs = run(training)(symbols, recorder)
        return Trace(symbols, outputs, steps_of(symbols, outputs), recorder)

    has_unknown = any(None in shape for shape, _ in specs)
    traces: list[Trace] = []
    with contextlib.suppress(Exception) if has_unknown else contextlib.nullcontext():
        traces, again = [open_trace(None), open_trace(True)], lambda: open_trace(None)
    if has_unknown and (not traces or any(map(_lacks_a_size, traces[0].steps))):
        traces, again = [traced(specs, run(None))], lambda: traced(specs, run(None))
        if takes_training(layer):
            traces.append(traced(specs, run(True)))
    if traces[0].recorder.called_inside:
        name = traces[0].recorder.called_inside[0]
        raise NotFollowedError(f"'{name}' in it cannot be called on symbols by itself")
    weight = read_by_hand(layer, traces[0].steps, lambda: again().steps)
    if weight:
        raise NotFollowedError(
            f"it reads the weight {weight} of a layer inside by hand. Let a layer compute with that weight, "
            "such as `keras.layers.ReversibleEmbedding` for tied embeddings"
        )
    if traces[0].recorder.draws or not _alike(traces[0].steps, traces[-1].steps):
        raise NotFollowedError(
            "it does something else in training than in inference, or draws random numbers"
        )
    return traces[0]


def _lacks_a_size(step: Step) -> bool:
    """Return whether an operation of `keras.ops` got None in the place of a size."""
    operation = step.operation
    if isinstance(operation, keras.layers.Layer):
        return False
    numbers = [getattr(operation, name, None) for name in ("newshape", "shape", "repeats")]
    return any(isinstance(n, (tuple, list)) and None in n for n in numbers)


def _alike(one: Sequence[Step], other: Sequence[Step]) -> bool:
    """Return whether two runs have the same operations with the same arguments."""
    return len(one) == len(other) and all(map(_same_step, one, other))


def _same_step(one: Step, other: Step) -> bool:
    arguments = []
    for step in (one, other):
        kwargs = {k: v for k, v in step.kwargs.items() if k != "training"}
        arguments.append(leaves((step.args, kwargs)))
    return (
        _same_operation(one.operation, other.operation)
        and len(arguments[0]) == len(arguments[1])
        and all(map(_same_leaf, *arguments))
    )


def _same_operation(one: Any, other: Any) -> bool:
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


# --- layers that stay one layer ----------------------------------------------------------------------


class _WeightSymbol(keras.KerasTensor):
    """A symbol in the place of a variable. What a `call` assigns to it is noted."""

    def __init__(self, variable: keras.Variable, updates: list[tuple[Any, Any]]):
        super().__init__(tuple(variable.shape), variable.dtype)
        self.variable, self.updates = variable, updates

    def assign(self, value: Any) -> Any:
        """Note the new value."""
        if isinstance(value, keras.KerasTensor):
            self.updates.append((self, value))
        return self

    assign_add = assign_sub = assign

    @property
    def value(self) -> Any:
        """The symbol itself."""
        return self

    @property
    def path(self) -> str:
        """Path of the variable."""
        return self.variable.path

    @property
    def trainable(self) -> bool:
        """Whether the variable is trained."""
        return self.variable.trainable


@dataclass
class WeightRun:
    """One run of a `call` with symbols in the place of tensors and weights.

    Attributes:
        symbols: The symbols: of the tensors, of the weights, of random numbers.
        weights: Pairs (attribute path, variable).
        drawn: Number of random tensors.
        outputs: The structure that `call` returned.
        updates: Pairs (symbol of a variable, what was assigned to it).
        steps: The calls.
    """

    symbols: list[Any]
    weights: list[tuple[str, keras.Variable]]
    drawn: int
    outputs: Any
    updates: list[tuple[Any, Any]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


def runs_with_weights(layer: keras.layers.Layer, args: tuple, kwargs: dict) -> list[WeightRun]:
    """Return the runs of a `call` on symbols of concrete sizes: in inference, and in training.

    Raises:
        Exception: `call` fails on symbols of all sizes that were tried: its error for the first ones.
    """
    specs = [(t.shape, t.dtype) for t in tensors_in((args, kwargs))]
    failure: Exception | None = None
    for sizes in sizes_to_try([shape for shape, _ in specs]):
        shapes = sizes.concrete(None)
        modes = (False, True) if takes_training(layer) else (None,)
        try:
            return [
                _weight_run(layer, args, kwargs, shapes, [d for _, d in specs], training)
                for training in modes
            ]
        except Exception as error:
            failure = failure or error
    raise failure or NotFollowedError("it has no inputs")


def _weight_run(
    layer: keras.layers.Layer,
    args: tuple,
    kwargs: dict,
    shapes: list[tuple[int, ...]],
    dtypes: list[str],
    training: bool | None,
) -> WeightRun:
    tensors = [keras.Input(batch_shape=s, dtype=d) for s, d in zip(shapes, dtypes, strict=True)]
    drawn: list[Any] = []
    updates: list[tuple[Any, Any]] = []

    def draw(shape: tuple, dtype: str) -> Any:
        drawn.append(keras.Input(batch_shape=shape, dtype=dtype))
        return drawn[-1]

    with _weights_as_symbols(layer, updates) as weights:
        outputs = _called(layer, args, kwargs, tensors, training, Recorder(drawn=draw))
    symbols = [*tensors, *(symbol for _, symbol in weights), *drawn]
    steps = steps_of(symbols, (outputs, updates))
    named = [(name, symbol.variable) for name, symbol in weights]
    return WeightRun(symbols, named, len(drawn), outputs, updates, steps)


@contextlib.contextmanager
def _weights_as_symbols(
    layer: keras.layers.Layer, updates: list[tuple[Any, Any]]
) -> Iterator[list[tuple[str, _WeightSymbol]]]:
    """Within the context, the layer's own variables among its attributes are symbols.

    Yields: Pairs (attribute path, symbol). A number is a place in a list, as in 'scales.0'.
    """
    own = {id(v) for v in untied_variables(layer)}
    attributes = cast("dict[str, Any]", vars(layer))
    found: dict[int, tuple[str, _WeightSymbol]] = {}

    def symbol(value: Any, name: str) -> Any:
        if isinstance(value, keras.Variable):
            if id(value) not in own:
                return value
            if id(value) not in found:
                found[id(value)] = (name, _WeightSymbol(value, updates))
            return found[id(value)][1]
        if isinstance(value, dict):
            return {k: symbol(v, f"{name}.{k}") for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return (
                type(value)(symbol(v, f"{name}.{i}") for i, v in enumerate(value))
                if isinstance(value, tuple) and type(value) is tuple
                else [symbol(v, f"{name}.{i}") for i, v in enumerate(value)]
            )
        return value

    before = {}
    for name, value in attributes_of(layer):
        count = len(found)
        new = symbol(value, name)
        holds = any(isinstance(leaf, _WeightSymbol) for leaf in _all_leaves(new))
        if len(found) > count or holds:
            before[name] = value
            attributes[name] = new
    try:
        yield list(found.values())
    finally:
        attributes.update(before)


def _all_leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in _all_leaves(part)]
    return [value]
