"""The channels of a network: which axis of which weight they run along, and which are tied."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.prunable import weight_variable
from keras_ganprune.pruning.structured.graph import Call, Graph, Tensor
from keras_ganprune.pruning.structured.union_find import FIXED, Units

OUT, IN, ALONG, STATE, MEAN = "out", "in", "along", "state", "mean"


@dataclass(frozen=True, eq=False)
class Axes:
    """The labels along each axis of a tensor; None for an axis of which nothing can go.

    Attributes:
        shape: With the batch first; None where it is not known.
        labels: An int array, or None, for each axis.
        zero: Whether channels that are masked in the weights are exactly zero here.
        nonzero: Whether they are surely not, so that something can be divided by them.
    """

    shape: tuple[int | None, ...]
    labels: tuple[np.ndarray | None, ...]
    zero: bool = True
    nonzero: bool = False

    @classmethod
    def fixed(cls, shape: Sequence[int | None]) -> Axes:
        """Return the axes of a tensor that nothing is taken from."""
        return cls(tuple(shape), (None,) * len(shape))

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __getitem__(self, axis: int) -> np.ndarray | None:
        return self.labels[axis]

    def along(
        self,
        shape: Sequence[int | None],
        axis: int,
        labels: np.ndarray | None,
        zero: bool | None = None,
    ) -> Axes:
        """Return axes of another shape, with labels on one axis alone."""
        found: list[np.ndarray | None] = [None] * len(shape)
        found[axis] = labels
        return Axes(tuple(shape), tuple(found), self.zero if zero is None else zero)


@dataclass(eq=False)
class WeightAxis:
    """The labels along one axis of one weight.

    Attributes:
        layer_path, name: Path of the layer, and attribute path of the weight in it.
        role: 'out': the layer makes these channels; 'in': it reads them; 'along': a bias, a scale or a
            filter for each; 'state': what is not trained, which is cut but never masked; 'mean': a state
            that is zero of a channel that is zero.
    """

    layer_path: str
    name: str
    layer: keras.layers.Layer
    variable: keras.Variable
    axis: int
    role: str
    labels: np.ndarray

    @property
    def path(self) -> str:
        return f"{self.layer_path}/{self.name}"


@dataclass(eq=False)
class Channels:
    """What the rules say of a network; they call its methods.

    Attributes:
        units: Classes of channels that go together.
        weights: A `WeightAxis` by the id of the variable and the axis.
        axes: The `Axes` of each tensor, by id.
        notes: Pairs of (labels, why they stay).
    """

    units: Units = field(default_factory=Units)
    weights: dict[tuple[int, int], WeightAxis] = field(default_factory=dict)
    axes: dict[int, Axes] = field(default_factory=dict)
    notes: list[tuple[np.ndarray, str]] = field(default_factory=list)
    call: Call | None = None
    _paths: dict[int, str] = field(default_factory=dict)

    # --- for rules -------------------------------------------------------------------------------

    @property
    def shapes(self) -> list[tuple[int | None, ...]]:
        """Shapes of the outputs of the call that a rule is asked about."""
        return [t.shape for t in self.call.outputs]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of its first output."""
        return self.shapes[0]

    def makes(self, layer: keras.layers.Layer, name: str, axis: int) -> np.ndarray:
        """Return the labels of the channels that a layer makes: an axis of its kernel.

        Args:
            layer: The layer that holds the weight, which may be a sublayer.
            name: Attribute path of the weight, such as 'kernel'.
            axis: Axis of the weight.
        """
        return self._labels(layer, name, axis, OUT, None)

    def reads(
        self, layer: keras.layers.Layer, name: str, axis: int, labels: np.ndarray | None
    ) -> None:
        """Say that an axis of a kernel runs over the channels of an input."""
        self._labels(layer, name, axis, IN, labels)

    def along(
        self, layer: keras.layers.Layer, name: str, axis: int, labels: np.ndarray | None
    ) -> None:
        """Say that a bias, a scale or the like has an entry for each channel, masked with it.

        A weight that the layer does not have (`use_bias=False`) is passed over.
        """
        if not _is_none(layer, name):
            self._labels(layer, name, axis, ALONG, labels)

    def state(
        self,
        layer: keras.layers.Layer,
        name: str,
        axis: int,
        labels: np.ndarray | None,
        mean: bool = False,
    ) -> None:
        """Say that a variable that is not trained has an entry for each channel.

        Args:
            mean: Whether it follows the mean of the channel, and so is zero once that is.
        """
        if not _is_none(layer, name):
            self._labels(layer, name, axis, MEAN if mean else STATE, labels)

    def tie(self, one: np.ndarray | None, other: np.ndarray | None, why: str = "") -> None:
        """Let the channels of two axes only go together; None stands for an axis that stays."""
        if one is None and other is None:
            return
        if one is None or other is None:
            self.fix(one if other is None else other, why or "they meet channels that stay")
            return
        if len(one) != len(other):
            raise InvalidArgumentError(
                f"Channels that go together must be of one number. Received: {len(one)} and {len(other)} "
                f"at '{self.call.path if self.call else ''}'."
            )
        self.units.tie(one, other)

    def fix(self, labels: np.ndarray | Axes | None, why: str) -> None:
        """Let channels stay.

        Args:
            labels: Labels of an axis, or the `Axes` of a tensor for all of them.
            why: What is said of it, after "because".
        """
        if isinstance(labels, Axes):
            for each in labels.labels:
                self.fix(each, why)
            return
        if labels is None:
            return
        if np.any(self.units.find(labels) != FIXED):
            self.notes.append((labels, why))
        self.units.fix(labels)

    def keeps_only(self, x: Axes, axis: int, why: str) -> np.ndarray | None:
        """Return the labels of one axis of a tensor, and let those of all others stay."""
        for other, labels in enumerate(x.labels):
            if other != axis % x.rank:
                self.fix(labels, why)
        return x[axis]

    def movable(self, labels: np.ndarray | None) -> bool:
        """Return whether any of these channels could go, as far as is known now."""
        return labels is not None and bool(np.any(self.units.find(labels) != FIXED))

    # --- inside ----------------------------------------------------------------------------------

    def path_of(self, layer: keras.layers.Layer) -> str:
        return self._paths.get(id(layer), layer.name)

    def labels_of(self, variable: keras.Variable, axis: int) -> np.ndarray | None:
        """Return the labels along an axis of a weight, or None if no rule has spoken of it."""
        found = self.weights.get((id(variable), axis % len(variable.shape)))
        return None if found is None else found.labels

    def _labels(self, layer, name, axis, role, labels) -> np.ndarray:
        variable = weight_variable(layer, name)
        if variable is None:
            raise UnsupportedLayerError(
                f"A rule speaks of the weight `{name}` of {type(layer).__name__} '{layer.name}', which has "
                "no such variable (or computes it: it is quantized, or has LoRA enabled). Name an "
                "attribute that holds a variable of the built layer."
            )
        rank = len(variable.shape)
        if not -rank <= axis < rank:
            raise InvalidArgumentError(
                f"A rule speaks of axis {axis} of `{name}` of '{layer.name}', which has the shape "
                f"{tuple(variable.shape)}. Name one of its axes."
            )
        axis %= rank
        known = self.weights.get((id(variable), axis))
        if known is None:
            fresh = self.units.new(variable.shape[axis])
            known = WeightAxis(self.path_of(layer), name, layer, variable, axis, role, fresh)
            self.weights[id(variable), axis] = known
        elif role == OUT:
            known.role = OUT  # what one layer reads and another makes (tied kernels) has a maker
        if role != OUT:
            if labels is not None and len(labels) != len(known.labels):
                raise InvalidArgumentError(
                    f"A rule says that axis {axis} of '{known.path}' (of length {len(known.labels)}) runs "
                    f"along {len(labels)} channels. The two must be equal."
                )
            self.tie(known.labels, labels)
        return known.labels


def _is_none(layer: keras.layers.Layer, name: str) -> bool:
    """Return whether a weight is one that this layer was made without; a misspelt one is not."""
    for part in name.split("."):
        layer = getattr(layer, part, False)
    return layer is None


Rule = Callable[..., object]


def follow(
    graph: Graph,
    rule_of: Callable[[keras.Operation], Rule | None],
    paths: dict[int, str],
    keep: Callable[[keras.Operation], bool],
) -> Channels:
    """Ask the rule of every call, and return what they say.

    Args:
        graph: Of a model.
        rule_of: Returns the rule of an operation, or None.
        paths: Path of each layer in the model, by id.
        keep: Whether the channels that a layer makes are to stay.

    Raises:
        UnsupportedLayerError: channels that could go reach something whose inside is not known.
    """
    channels = Channels(_paths=paths)
    axes = channels.axes
    for tensor in keras.tree.flatten(graph.inputs):
        axes[id(tensor)] = Axes.fixed(tensor.shape)
    opaque: list[tuple[Call, list[np.ndarray]]] = []
    for call in graph.calls:
        channels.call = call
        rule = rule_of(call.operation)
        if rule is None:
            results = [Axes.fixed(t.shape) for t in call.outputs]
            is_layer = isinstance(call.operation, keras.layers.Layer)
            if keep(call.operation) or not is_layer:
                why = "is left as it is" if is_layer else "is an operation without a rule"
                for tensor in call.inputs:
                    channels.fix(axes[id(tensor)], f"'{call.path}' {why}")
            else:
                reached = [a for t in call.inputs for a in axes[id(t)].labels if a is not None]
                opaque.append((call, reached))
        else:
            results = _apply(rule, call, channels)
            if keep(call.operation):
                for result in results:
                    channels.fix(result, f"'{call.path}' is left as it is")
        for tensor, result in zip(call.outputs, results, strict=True):
            axes[id(tensor)] = result
    for tensor in keras.tree.flatten(graph.outputs):
        channels.fix(axes[id(tensor)], "they are those of the network's output")
    for call, reached in opaque:
        if any(channels.movable(labels) for labels in reached):
            raise _not_followed(call)
    channels.call = None
    return channels


def _apply(rule: Rule, call: Call, channels: Channels) -> list[Axes]:
    def look(leaf):
        return channels.axes[id(leaf)] if isinstance(leaf, Tensor) else leaf

    args, kwargs = keras.tree.map_structure(look, (call.args, call.kwargs))
    # No rule has to name what says nothing of channels.
    named = inspect.signature(rule).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in named.values()):
        kwargs = {k: v for k, v in kwargs.items() if k in named or k not in ("training", "mask")}
    found = rule(call.operation, channels, *args, **kwargs)
    results = list(found) if isinstance(found, (list, tuple)) else [found]
    for tensor, result in zip(call.outputs, results, strict=False):
        if not isinstance(result, Axes) or result.rank != len(tensor.shape):
            raise InvalidArgumentError(
                f"The rule of {type(call.operation).__name__} must return the `Axes` of its output, of the "
                f"shape {tensor.shape}. Received: {result!r}."
            )
        for labels, size in zip(result.labels, tensor.shape, strict=True):
            if labels is not None and len(labels) != size:
                raise InvalidArgumentError(
                    f"The rule of {type(call.operation).__name__} returned {len(labels)} labels for an "
                    f"axis of length {size} of its output {tensor.shape}."
                )
    if len(results) != len(call.outputs):
        raise InvalidArgumentError(
            f"The rule of {type(call.operation).__name__} must return one `Axes` for each of its "
            f"{len(call.outputs)} outputs. Received: {len(results)}."
        )
    return [
        dataclasses.replace(result, shape=tuple(tensor.shape))
        for tensor, result in zip(call.outputs, results, strict=True)
    ]


def _not_followed(call: Call) -> UnsupportedLayerError:
    kind = type(call.operation).__name__
    inside = f" Its inside is not known either: {call.opaque}." if call.opaque else ""
    return UnsupportedLayerError(
        f"Channels cannot be followed through {kind} '{call.path}': there is no rule for it.{inside} "
        f"Register one with `register_rule({kind})`, or leave it alone with `keep=['{call.path}']` (`scope` "
        "of `Prune`), so "
        "that all channels that reach it stay."
    )
