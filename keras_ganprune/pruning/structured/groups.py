"""Groups of channels that go together, to be looked at before anything is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import walk
from keras_ganprune.layers.upgrade import plain_classes
from keras_ganprune.pruning.structured.channels import (
    MEAN,
    OUT,
    STATE,
    Channels,
    Rule,
    WeightAxis,
    follow,
)
from keras_ganprune.pruning.structured.graph import Graph, trace
from keras_ganprune.pruning.structured.rules import (
    attention,  # noqa: F401
)
from keras_ganprune.pruning.structured.rules.registry import entry_of
from keras_ganprune.pruning.structured.union_find import FIXED


@dataclass(frozen=True, eq=False)
class GroupSlice:
    """What a group has in one axis of one weight.

    Attributes:
        weight: The `WeightAxis`: path, variable, axis and role.
        units: Int array, for each place along the axis the unit of the group, or -1.
    """

    weight: WeightAxis
    units: np.ndarray

    def kept(self, keep: np.ndarray) -> np.ndarray:
        """Return which places stay if these units of the group do."""
        return np.where(self.units < 0, True, keep[self.units])

    @property
    def masked(self) -> bool:
        """Whether the weight is masked with its channels; a state such as a moving mean is only cut."""
        return self.weight.role not in (STATE, MEAN)

    def mask(self, keep: np.ndarray) -> np.ndarray:
        """Return the mask of the weight, to be broadcast, that keeps these units of the group."""
        form = [1] * len(self.weight.variable.shape)
        form[self.weight.axis] = -1
        return self.kept(keep).reshape(form)


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that can only go together: one unit is one channel everywhere that it is in.

    Attributes:
        name: Path of the first layer that makes them.
        size: Number of units.
        slices: What they have in each weight.
        classes: Int array, the class of each unit in `Groups.channels`.
    """

    name: str
    size: int
    slices: tuple[GroupSlice, ...]
    classes: np.ndarray

    @property
    def makers(self) -> list[str]:
        """Paths of the weights whose channels these are."""
        return [s.weight.path for s in self.slices if s.weight.role == OUT]

    def __repr__(self) -> str:
        lines = [f"{self.name}: {self.size} channels"]
        for piece in self.slices:
            entries = int(np.count_nonzero(piece.units >= 0)) // self.size
            times = f", {entries} for each" if entries > 1 else ""
            lines.append(
                f"  {piece.weight.role:<5} {piece.weight.path} axis {piece.weight.axis}{times}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Groups(Sequence):
    """All groups of a network, in the order of its layers, and what stays and why.

    Attributes:
        graph: The calls of the network.
        channels: What the rules have said of them.
        groups: List of `Group`.
        stay: Dict, path of a layer whose channels all stay -> the reason.
    """

    graph: Graph
    channels: Channels
    groups: tuple[Group, ...]
    stay: dict[str, str]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index):
        return self.groups[index]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    @property
    def size(self) -> int:
        """Number of channels, each counted once."""
        return sum(group.size for group in self.groups)

    def __repr__(self) -> str:
        lines = [repr(group) for group in self.groups]
        lines += [f"{path}: all channels stay, because {why}" for path, why in self.stay.items()]
        return "\n".join(lines) or "no channels"

    def gone(self, keeps: Sequence[np.ndarray]) -> np.ndarray:
        """Return a bool for each label: whether its class goes, where these units of each group stay."""
        found = np.zeros(len(self.channels.units), dtype=bool)
        for group, keep in zip(self.groups, keeps, strict=True):
            found[group.classes[~keep]] = True
        return found

    def never_empty(self, keeps: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return these units of each group, and one more wherever an axis would be left with none.

        A slice may have channels of several groups, or only some of one.
        """
        keeps = [keep.copy() for keep in keeps]
        where = {c: (g, u) for g, group in enumerate(self) for u, c in enumerate(group.classes)}
        axes = [a for x in self.channels.axes.values() for a in x.labels if a is not None]
        axes += [record.labels for record in self.channels.weights.values()]
        gone = self.gone(keeps)
        for labels in axes:
            classes = self.channels.units.find(labels)
            if len(classes) and gone[classes].all():
                group, unit = where[classes[0]]
                keeps[group][unit] = True
                gone = self.gone(keeps)
        return keeps

    def masked_values(
        self, keeps: Sequence[np.ndarray]
    ) -> dict[int, tuple[keras.Variable, np.ndarray]]:
        """Return what each weight is where these units of each group stay and the others are masked.

        Returns: By the id of a variable, the variable and its values.
        """
        found: dict[int, tuple[keras.Variable, np.ndarray]] = {}
        for group, keep in zip(self.groups, keeps, strict=True):
            for piece in group.slices:
                if piece.masked or piece.weight.role == MEAN:
                    variable = piece.weight.variable
                    _, value = found.get(id(variable), (variable, to_numpy(variable)))
                    found[id(variable)] = (variable, np.where(piece.mask(keep), value, 0))
        return found


def channel_groups(model: keras.layers.Layer, *, keep: Any = None, inputs: Any = None) -> Groups:
    """Return the groups of channels of a model that can only be removed together.

    Args:
        model: A built Keras model: Sequential, functional, or subclassed with a `call` that can run on
            symbols (`keras.Input`).
        keep: Layers that are left alone: all channels that they make stay. A name, a class, a list of
            them and so on, as for `keras_ganprune.scope.select`. A layer without a rule may stand here:
            then all channels that reach it stay, too.
        inputs: Structure of `keras.Input`s, for a subclassed model with several inputs.

    Returns: `Groups`, a sequence that can be printed.

    Raises:
        UnsupportedLayerError: channels reach a layer or operation that cannot be followed.
        UnbuiltModelError: the model has no weights yet.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(5, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> channel_groups(model)
    a: 5 channels
      out   a/kernel axis 1
      along a/bias axis 0
      in    b/kernel axis 0
    b: all channels stay, because they are those of the network's output
    """
    if not isinstance(model, keras.layers.Layer):
        raise UnsupportedLayerError(
            "`model` must be a Keras 3 model or layer. "
            f"Received: {model!r} (of type {type(model).__module__}.{type(model).__name__})."
        )
    layers = walk(model)
    kept: set[int] = set()
    if keep is not None and not (isinstance(keep, (list, tuple)) and not keep):
        for _, layer in scopes.select(layers[1:], keep, "keep"):
            kept |= {id(inner) for _, inner in walk(layer)}
    with plain_classes(model):
        graph = trace(model, lambda operation: entry_of(operation) is not None, inputs)
        channels = follow(
            graph,
            _rule,
            {id(layer): path for path, layer in layers},
            lambda operation: id(operation) in kept,
        )
    return _collect(graph, channels)


def _rule(operation: keras.Operation) -> Rule | None:
    entry = entry_of(operation)
    return None if entry is None else entry.rule


def _collect(graph: Graph, channels: Channels) -> Groups:
    """Sort the classes of channels into groups: those with the same places in the same weights."""
    records = list(channels.weights.values())
    classes = [channels.units.find(record.labels) for record in records]
    members: dict[int, list[int]] = {}
    for number, found in enumerate(classes):
        for label in np.unique(found).tolist():
            if label != FIXED:
                members.setdefault(label, []).append(number)
    sorted_in: dict[tuple[int, ...], list[int]] = {}
    for label in sorted(members):
        numbers = members[label]
        if any(records[n].role == OUT for n in numbers):
            sorted_in.setdefault(tuple(numbers), []).append(label)
    groups = []
    for numbers, labels in sorted_in.items():
        unit_of = np.full(len(channels.units), -1)
        unit_of[labels] = np.arange(len(labels))
        slices = tuple(GroupSlice(records[n], unit_of[classes[n]]) for n in numbers)
        first = next(s.weight for s in slices if s.weight.role == OUT)
        name = first.layer_path
        groups.append(Group(name, len(labels), slices, np.asarray(labels)))
    stay = {}
    for record, found in zip(records, classes, strict=True):
        if record.role == OUT and not found.any():
            stay[record.layer_path] = _reason(record, channels)
    return Groups(graph, channels, tuple(groups), stay)


def _reason(record: WeightAxis, channels: Channels) -> str:
    own = set(record.labels.tolist()) - {FIXED}
    for labels, why in channels.notes:
        if own & set(np.asarray(labels).tolist()):
            return why
    return "they go together with channels that stay"
