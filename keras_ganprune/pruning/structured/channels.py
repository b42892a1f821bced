"""The channels of a network: the axes of weights that they run along, and which are tied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.prunable import weight_variable
from keras_ganprune.pruning.structured.graph import Call
from keras_ganprune.pruning.structured.union_find import FIXED, Units

OUT, IN, ALONG, STATE, MEAN = "out", "in", "along", "state", "mean"


@dataclass(frozen=True, eq=False)
class Axes:
    """The channel labels along each axis of a tensor.

    Two positions with the same label are one channel. `axes[-1]` are the labels of the last axis.

    Args:
        shape: Shape of the tensor, with the batch first; None for an unknown size.
        labels: For each axis an int array of labels, or None for an axis that is never cut.
        zero: Whether a masked channel is exactly zero in this tensor. It is not after an activation such
            as sigmoid, which maps 0 to 0.5. Defaults to True.
        nonzero: Whether a masked channel is never zero in this tensor, so that dividing by it is safe.
            Defaults to False.
        weight: Whether the tensor is a weight of the layer around the call. Defaults to False.

    Example:
    >>> x = Axes((None, 3), (None, np.array([4, 5, 6])))
    >>> x.rank, x[-1]
    (2, array([4, 5, 6]))
    """

    shape: tuple[int | None, ...]
    labels: tuple[np.ndarray | None, ...]
    zero: bool = True
    nonzero: bool = False
    weight: bool = False

    @classmethod
    def fixed(cls, shape: Sequence[int | None]) -> Axes:
        """Return the axes of a tensor that is never cut."""
        return cls(tuple(shape), (None,) * len(shape))

    @property
    def rank(self) -> int:
        """Number of axes, with the batch."""
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
        """Return axes of another shape, with labels on one axis only.

        Args:
            shape: The new shape.
            axis: The axis that has labels.
            labels: The labels along it, or None.
            zero: Value of `zero`. Defaults to None: the value of this object.
        """
        rows: list[np.ndarray | None] = [None] * len(shape)
        rows[axis] = labels
        return Axes(tuple(shape), tuple(rows), self.zero if zero is None else zero)


# A rule is called as rule(layer, channels, *args, **kwargs), with an `Axes` in the place of each tensor.
Rule = Callable[..., "Axes | Sequence[Axes]"]


def channel_axis(layer: Any, x: Axes) -> int:
    """Return the channel axis of an image-like tensor, by the `data_format` of a layer."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else x.rank - 1


@dataclass(eq=False)
class WeightAxis:
    """The labels along one axis of one weight.

    Attributes:
        layer_path: Path of the layer that holds the weight.
        name: Attribute path of the weight in that layer, such as 'kernel'.
        layer: The layer.
        variable: The weight.
        axis: The axis, not negative.
        role: 'out': the layer makes these channels; 'in': the layer reads them; 'along': the weight is a
            bias, scale or filter with an entry per channel; 'state': the variable is not trained, so it
            is cut but never masked; 'mean': as 'state', and zero wherever the channel is zero.
        labels: Int array, one label for each position.
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
        """Path of the weight in the model."""
        return f"{self.layer_path}/{self.name}"


@dataclass(eq=False)
class Channels:
    """The channels of a network. The rules of its layers fill it in by calling its methods.

    A rule calls `makes` and `reads` for the two channel axes of a kernel, `along` for a bias or a scale,
    `state` for a variable that is not trained, `tie` for channels that can only be removed together, and
    `fix` for channels that must stay. `shape` and `shapes` are the output shapes of the call.

    Attributes:
        units: Classes of channels that can only be removed together.
        weights: A `WeightAxis` by the id of the variable and the axis.
        axes: The `Axes` of each tensor, by id.
        notes: Pairs of (labels, reason why they stay).
        call: The call whose rule is running; None outside rules.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(5, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> channels = channel_groups(model).channels
    >>> [channels.movable(channels.labels_of(layer.kernel, 1)) for layer in model.layers]
    [True, False]
    """

    units: Units = field(default_factory=Units)
    weights: dict[tuple[int, int], WeightAxis] = field(default_factory=dict)
    axes: dict[int, Axes] = field(default_factory=dict)
    notes: list[tuple[np.ndarray, str]] = field(default_factory=list)
    call: Call | None = None
    _paths: dict[int, str] = field(default_factory=dict)
    _followed: dict[int, tuple[int, int]] = field(default_factory=dict)

    # --- for rules -------------------------------------------------------------------------------

    @property
    def shapes(self) -> list[tuple[int | None, ...]]:
        """Shapes of all outputs of the call whose rule is running."""
        return [] if self.call is None else [t.shape for t in self.call.outputs]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the first output of the call whose rule is running."""
        return self.shapes[0]

    def makes(self, layer: keras.layers.Layer, name: str, axis: int) -> np.ndarray:
        """Return the labels of the channels that a layer makes: one axis of its kernel.

        Args:
            layer: The layer that holds the weight; it may be a sublayer.
            name: Attribute path of the weight, such as 'kernel'.
            axis: Axis of the weight that runs over the output channels.
        """
        return self._labels(layer, name, axis, OUT, None)

    def reads(
        self, layer: keras.layers.Layer, name: str, axis: int, labels: np.ndarray | None
    ) -> None:
        """Record that one axis of a kernel runs over the channels of an input.

        Args:
            layer: The layer that holds the weight; it may be a sublayer.
            name: Attribute path of the weight, such as 'kernel'.
            axis: Axis of the weight that runs over the input channels.
            labels: Labels of these channels, such as `x[-1]`; None if they always stay.
        """
        self._labels(layer, name, axis, IN, labels)

    def along(
        self, layer: keras.layers.Layer, name: str, axis: int, labels: np.ndarray | None
    ) -> None:
        """Record that a bias, a scale or the like has an entry per channel and is masked with it.

        A weight that the layer was built without (`use_bias=False`) is skipped. The arguments are those
        of `reads`.
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
        """Record that a variable that is not trained has an entry per channel.

        It is cut with the channels, but not masked. The other arguments are those of `reads`.

        Args:
            mean: Whether the variable follows the mean of the channel, and so becomes zero when the
                channel does. Defaults to False.
        """
        if not _is_none(layer, name):
            self._labels(layer, name, axis, MEAN if mean else STATE, labels)

    def tie(self, one: np.ndarray | None, other: np.ndarray | None, why: str = "") -> None:
        """Record that the channels of two axes can only be removed together.

        Args:
            one: Labels of one axis, or None if its channels always stay.
            other: Labels of the other axis, of the same length, or None.
            why: Reason that is shown if one of the two always stays.

        Raises:
            InvalidArgumentError: The two axes differ in length.
        """
        if one is None or other is None:
            self.fix(one if other is None else other, why or "they meet channels that stay")
            return
        if len(one) != len(other):
            raise InvalidArgumentError(
                f"Two tied axes must have equally many channels. Received: {len(one)} and {len(other)} "
                f"at '{self.call.path if self.call else ''}'."
            )
        self.units.tie(one, other)

    def fix(self, labels: np.ndarray | Axes | None, why: str) -> None:
        """Record that channels must stay.

        Args:
            labels: Labels of one axis; or the `Axes` of a tensor, for all its axes.
            why: Reason, as the text that follows "because".
        """
        if isinstance(labels, Axes):
            for row in labels.labels:
                self.fix(row, why)
            return
        if labels is None:
            return
        if np.any(self.units.find(labels) != FIXED):
            self.notes.append((labels, why))
        self.units.fix(labels)

    def keeps_only(self, x: Axes, axis: int, why: str) -> np.ndarray | None:
        """Return the labels of one axis of a tensor, and let the channels of all other axes stay.

        Args:
            x: The `Axes` of a tensor.
            axis: The axis whose channels may be removed.
            why: Reason why the others stay, as the text that follows "because".
        """
        for other, labels in enumerate(x.labels):
            if other != axis % x.rank:
                self.fix(labels, why)
        return x[axis]

    def movable(self, labels: np.ndarray | None) -> bool:
        """Return whether any of these channels may be removed, as far as is known now."""
        return labels is not None and bool(np.any(self.units.find(labels) != FIXED))

    # --- for layers without a rule ---------------------------------------------------------------

    def follows(
        self, layer: keras.layers.Layer, name: str, variable: keras.Variable, axis: int
    ) -> np.ndarray:
        """Return the labels along an axis of a weight whose part in the layer is not known yet.

        Args:
            layer: The layer that holds the weight.
            name: Attribute path of the weight.
            variable: The weight.
            axis: Axis of the weight, not negative.
        """
        key = id(variable), axis
        if key not in self.weights:
            role = ALONG if variable.trainable else STATE
            new = self.units.new(variable.shape[axis])
            self.weights[key] = WeightAxis(
                self.path_of(layer), name, layer, variable, axis, role, new
            )
            self._followed.update(dict.fromkeys(new.tolist(), key))
        return self.weights[key].labels

    def followed_weight(self, labels: np.ndarray | None) -> WeightAxis | None:
        """Return the axis of a weight that `follows` gave labels to, or None for labels of other tensors."""
        if labels is None or not len(labels):
            return None
        keys = {self._followed.get(label) for label in labels.tolist()}
        key = keys.pop()
        return None if keys or key is None else self.weights[key]

    # --- for the readers of the result -----------------------------------------------------------

    def path_of(self, layer: keras.layers.Layer) -> str:
        """Return the path of a layer in the model."""
        return self._paths.get(id(layer)) or str(layer.name)

    def labels_of(self, variable: keras.Variable, axis: int) -> np.ndarray | None:
        """Return the labels along an axis of a weight, or None if no rule named that axis."""
        record = self.weights.get((id(variable), axis % len(variable.shape)))
        return None if record is None else record.labels

    def sizes_of(self, variable: keras.Variable) -> list[int | np.ndarray]:
        """Return, for each axis of a weight, its labels, or its length where it is never cut."""
        labels = [self.labels_of(variable, axis) for axis in range(len(variable.shape))]
        return [n if row is None else row for n, row in zip(variable.shape, labels, strict=True)]

    def _labels(
        self,
        layer: keras.layers.Layer,
        name: str,
        axis: int,
        role: str,
        labels: np.ndarray | None,
    ) -> np.ndarray:
        variable = _variable(layer, name)
        if variable is None:
            raise UnsupportedLayerError(
                f"A rule names the weight `{name}` of {type(layer).__name__} '{layer.name}', which has "
                "no such variable (or computes it, because it is quantized or has LoRA enabled). Name an "
                "attribute that holds a variable of the built layer."
            )
        rank = len(variable.shape)
        if not -rank <= axis < rank:
            raise InvalidArgumentError(
                f"A rule names axis {axis} of `{name}` of '{layer.name}', which has the shape "
                f"{tuple(variable.shape)}. Name one of its axes."
            )
        axis %= rank
        record = self.weights.get((id(variable), axis))
        if record is None:
            new = self.units.new(variable.shape[axis])
            record = WeightAxis(self.path_of(layer), name, layer, variable, axis, role, new)
            self.weights[id(variable), axis] = record
        elif role == OUT:
            record.role = OUT  # a kernel that one layer reads and another makes with (tied kernels)
        if role != OUT:
            if labels is not None and len(labels) != len(record.labels):
                raise InvalidArgumentError(
                    f"A rule gives axis {axis} of '{record.path}' (of length {len(record.labels)}) "
                    f"{len(labels)} labels. The two numbers must be equal."
                )
            self.tie(record.labels, labels)
        return record.labels


def _variable(layer: keras.layers.Layer, name: str) -> keras.Variable | None:
    """Return the variable behind an attribute path. A number is a place in a list, as in 'states.0'."""
    attribute, _, place = name.rpartition(".")
    if place.isdigit():
        values = getattr(layer, attribute, None) or ()
        return values[int(place)] if int(place) < len(values) else None
    return weight_variable(layer, name)


def _is_none(layer: keras.layers.Layer, name: str) -> bool:
    """Return whether a layer was built without this weight. A misspelt name gives False."""
    value: Any = layer
    for part in name.split("."):
        value = getattr(value, part, False)
    return value is None
