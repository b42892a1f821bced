"""Groups of channels that can only be removed together. They can be printed before anything is cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import keras
import numpy as np

from keras_ganprune.errors import ArgumentTypeError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.kernel_kind import kernel_kind
from keras_ganprune.layers.kernels import own_kernels
from keras_ganprune.layers.stripping import plain_classes
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import walk
from keras_ganprune.pruning.structured.channels import (
    MEAN,
    OUT,
    STATE,
    Channels,
    Rule,
    WeightAxis,
)
from keras_ganprune.pruning.structured.graph import Graph, trace
from keras_ganprune.pruning.structured.rule_advice import rule_to_write
from keras_ganprune.pruning.structured.rule_runner import run_rules
from keras_ganprune.pruning.structured.rules import entry_of
from keras_ganprune.pruning.structured.union_find import FIXED
from keras_ganprune.utils.notebook import Block, CodeBlock, ShownInNotebooks, TableBlock

# See `keras_ganprune.layers.scope.select`.
LayerSelector = (
    str | re.Pattern[str] | type[keras.layers.Layer] | keras.layers.Layer | Callable[..., bool]
)


@dataclass(frozen=True, eq=False)
class GroupSlice:
    """The positions of a group along one axis of one weight.

    Attributes:
        weight: The `WeightAxis`: path, variable, axis and role.
        units: Int array: for each position along the axis the unit of the group, or -1 for none.
    """

    weight: WeightAxis
    units: np.ndarray

    def kept(self, keep: np.ndarray) -> np.ndarray:
        """Return a bool array of the positions that stay if these units of the group stay."""
        return np.where(self.units < 0, True, keep[self.units])

    @property
    def masked(self) -> bool:
        """Whether the weight is masked. A state, such as a moving variance, is only cut."""
        return self.weight.role not in (STATE, MEAN)

    def mask(self, keep: np.ndarray) -> np.ndarray:
        """Return the mask that keeps these units, in a shape that broadcasts over the weight."""
        shape = [1] * len(self.weight.variable.shape)
        shape[self.weight.axis] = -1
        return self.kept(keep).reshape(shape)


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that have the same positions in the same weights.

    A unit of a group is one channel together with all its positions; it is removed as a whole.

    Attributes:
        name: Path of the first layer that makes these channels.
        size: Int, number of units.
        slices: Tuple of `GroupSlice`: the positions in each weight.
        classes: Int array, the class of each unit in `Groups.channels`.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(5, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> group = channel_groups(model)[0]
    >>> group.name, group.size, group.makers
    ('a', 5, ['a/kernel'])
    """

    name: str
    size: int
    slices: tuple[GroupSlice, ...]
    classes: np.ndarray

    @property
    def makers(self) -> list[str]:
        """Paths of the weights that make these channels."""
        return [s.weight.path for s in self.slices if s.weight.role == OUT]

    @property
    def kind(self) -> str:
        """What a channel runs through: the kinds of its kernels, each with its role."""
        kinds = {
            f"{w.role} {kernel_kind(w.layer, w.name, tuple(w.variable.shape))}"
            for w in (piece.weight for piece in self.slices)
            if len(w.variable.shape) > 1
        }
        return ", ".join(sorted(kinds))

    def positions(self, piece: GroupSlice) -> int:
        """Return how many positions each unit has in a slice."""
        return int(np.count_nonzero(piece.units >= 0)) // self.size

    def __repr__(self) -> str:
        lines = [f"{self.name}: {self.size} channels"]
        for piece in self.slices:
            positions = self.positions(piece)
            times = f", {positions} for each" if positions > 1 else ""
            lines.append(
                f"  {piece.weight.role:<5} {piece.weight.path} axis {piece.weight.axis}{times}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Groups(ShownInNotebooks, Sequence[Group]):
    """A sequence of all groups of a network, in the order of its layers.

    `print(groups)` lists them, and the layers whose channels stay with the reason.

    Attributes:
        graph: The calls of the network.
        channels: The `Channels`: labels and ties, as the rules of the layers recorded them.
        groups: Tuple of `Group`.
        stay: Dict, path of a layer whose channels all stay -> the reason.
        without_rule: Dict, path of a layer with weights that no rule is registered for -> the layer.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(5, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> groups = channel_groups(model)
    >>> len(groups), groups.size, groups.stay
    (1, 5, {'b': "they are those of the network's output"})
    """

    graph: Graph
    channels: Channels
    groups: tuple[Group, ...]
    stay: dict[str, str]
    without_rule: dict[str, keras.layers.Layer] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.groups)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Group, ...]: ...
    def __getitem__(self, index):
        return self.groups[index]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    @property
    def size(self) -> int:
        """Number of units in all groups."""
        return sum(group.size for group in self.groups)

    def _blocks(self) -> list[Block]:
        head = ("group", "channels", "role", "weight", "axis", "positions of each")
        cells: list[tuple[str, ...]] = [head]
        for group in self.groups:
            for number, piece in enumerate(group.slices):
                begin = ("", "") if number else (group.name, f"{group.size:,}")
                weight = piece.weight
                count = str(group.positions(piece))
                cells.append((*begin, weight.role, weight.path, str(weight.axis), count))
        return [*([TableBlock(cells)] if self.groups else []), *self._reasons()]

    def _reasons(self) -> list[Block]:
        lines: list[Block] = [
            f"{path}: all channels stay, because {why}." for path, why in self.stay.items()
        ]
        for layer in {type(x): x for x in self.without_rule.values()}.values():
            lines.append(f"To cut {type(layer).__name__}, write its rule:")
            lines.append(CodeBlock(rule_to_write(layer) or ""))
        return lines if lines or self.groups else ["No layer of the network makes channels."]

    def __repr__(self) -> str:
        reasons = [r.text if isinstance(r, CodeBlock) else str(r) for r in self._reasons()]
        return "\n".join([*(repr(group) for group in self.groups), *reasons])

    def removed(self, keeps: Sequence[np.ndarray]) -> np.ndarray:
        """Return a bool for each label: whether its class is removed.

        Args:
            keeps: For each group a bool array, True = the unit stays.
        """
        removed = np.zeros(len(self.channels.units), dtype=bool)
        for group, keep in zip(self.groups, keeps, strict=True):
            removed[group.classes[~keep]] = True
        return removed

    def never_empty(self, keeps: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `keeps` with one more unit wherever an axis of the network would become empty.

        The channels of an axis may belong to several groups, or be a part of one (a slice `x[:, :3]`).

        Args:
            keeps: For each group a bool array, True = the unit stays.
        """
        keeps = [keep.copy() for keep in keeps]
        unit_of = {c: (g, u) for g, group in enumerate(self) for u, c in enumerate(group.classes)}
        rows = [row for x in self.channels.axes.values() for row in x.labels if row is not None]
        rows += [record.labels for record in self.channels.weights.values()]
        removed = self.removed(keeps)
        for labels in rows:
            classes = self.channels.units.find(labels)
            if len(classes) and removed[classes].all():
                group, unit = unit_of[classes[0]]
                keeps[group][unit] = True
                removed = self.removed(keeps)
        return keeps

    def masked_values(
        self, keeps: Sequence[np.ndarray]
    ) -> dict[int, tuple[keras.Variable, np.ndarray]]:
        """Return the values of the weights after all other units are masked.

        Args:
            keeps: For each group a bool array, True = the unit stays.

        Returns: Dict, id of a variable -> (variable, its values).
        """
        masked: dict[int, tuple[keras.Variable, np.ndarray]] = {}
        for group, keep in zip(self.groups, keeps, strict=True):
            for piece in group.slices:
                if piece.masked or piece.weight.role == MEAN:
                    variable = piece.weight.variable
                    _, value = masked.get(id(variable), (variable, to_numpy(variable)))
                    masked[id(variable)] = (variable, np.where(piece.mask(keep), value, 0))
        return masked


def channel_groups(
    model: keras.layers.Layer,
    *,
    keep: LayerSelector | Sequence[LayerSelector] | None = None,
    inputs: Any = None,
) -> Groups:
    """Return the groups of channels of a model that can only be removed together.

    Args:
        model: A built Keras model: Sequential, functional, or subclassed with a `call` that can run on
            symbols (`keras.Input`).
        keep: Layers that are left alone: all channels that they make stay. A name or pattern, a class, a
            layer, a function, or a list of them, as the `scope` of `Prune`. If a layer has no rule, all
            channels that reach it stay too. Defaults to None.
        inputs: Structure of `keras.Input`s or arrays that the model can be called with; needed for a
            subclassed model with several inputs. A tuple holds the positional arguments of `call`. Defaults
            to None: the model's own inputs.

    Returns: `Groups`, a sequence of `Group` that can be printed.

    Raises:
        ArgumentTypeError: `model` is not a Keras model or layer.
        InvalidArgumentError: `keep` names no layer, or `inputs` do not fit the model.
        UnbuiltModelError: The model has no weights yet.
        UnsupportedLayerError: Channels that could be removed reach a layer that cannot be followed.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(5, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> channel_groups(model)
    a: 5 channels
      out   a/kernel axis 1
      along a/bias axis 0
      in    b/kernel axis 0
    b: all channels stay, because they are those of the network's output.
    """
    if not isinstance(model, keras.layers.Layer):
        raise ArgumentTypeError(
            "`model` must be a Keras 3 model or layer. "
            f"Received: {model!r} (of type {type(model).__module__}.{type(model).__name__})."
        )
    layers = walk(model)
    kept: set[int] = set()
    if keep is not None and not (isinstance(keep, (list, tuple)) and not keep):
        for _, layer in scopes.select(layers[1:], keep, "keep"):
            kept |= {id(inner) for _, inner in walk(layer)}
    with plain_classes(model):
        graph = trace(model, lambda operation: entry_of(operation) is not None, inputs, True)
        channels = run_rules(
            graph,
            _rule,
            {id(layer): path for path, layer in layers},
            lambda operation: id(operation) in kept,
        )
        without_rule = {
            call.path: call.operation
            for call in graph.calls
            if isinstance(call.operation, keras.layers.Layer)
            and call.operation.weights
            and id(call.operation) not in kept
            and entry_of(call.operation) is None
            and (not call.inside or call.blocked)
        }
    return _collect(graph, channels, without_rule)


def _rule(operation: keras.Operation) -> Rule | None:
    entry = entry_of(operation)
    return None if entry is None else entry.rule


def _collect(
    graph: Graph, channels: Channels, without_rule: dict[str, keras.layers.Layer]
) -> Groups:
    """Sort the classes of channels into groups, by the weights that they have positions in."""
    records = list(channels.weights.values())
    classes = [channels.units.find(record.labels) for record in records]
    # For each class the records in which it occurs.
    occurrences: dict[int, list[int]] = {}
    for number, row in enumerate(classes):
        for label in np.unique(row).tolist():
            if label != FIXED:
                occurrences.setdefault(label, []).append(number)
    members: dict[tuple[int, ...], list[int]] = {}
    for label in sorted(occurrences):
        numbers = occurrences[label]
        if any(records[n].role == OUT for n in numbers):
            members.setdefault(tuple(numbers), []).append(label)
    groups = []
    for numbers, labels in members.items():
        unit_of = np.full(len(channels.units), -1)
        unit_of[labels] = np.arange(len(labels))
        slices = tuple(GroupSlice(records[n], unit_of[classes[n]]) for n in numbers)
        maker = next(s.weight for s in slices if s.weight.role == OUT)
        groups.append(Group(maker.layer_path, len(labels), slices, np.asarray(labels)))
    stay = {}
    for record, row in zip(records, classes, strict=True):
        if record.role == OUT and not row.any():
            stay[record.layer_path] = _reason(record, channels)
    for path, layer in without_rule.items():
        stay[path] = f"there is no rule for {type(layer).__name__}"
    followed = {id(call.operation) for call in graph.calls if call.inside}
    stay = {**_without_rule(graph.model, followed), **stay}
    return Groups(graph, channels, tuple(groups), stay, without_rule)


def _without_rule(model: keras.layers.Layer, followed: set[int]) -> dict[str, str]:
    """Return why the channels stay of layers that hold kernels and have no rule, by their paths.

    Args:
        model: The model.
        followed: Ids of layers whose inside is known.
    """
    found: dict[str, str] = {}
    inside: set[int] = set()  # parts of layers with a rule, which covers them too
    for path, layer in walk(model):
        if id(layer) in inside:
            continue
        if entry_of(layer) is not None:
            inside.update(id(part) for _, part in walk(layer))
        elif own_kernels(layer) and id(layer) not in followed:
            kind = getattr(layer, "plain_class", type(layer)).__name__
            found[path] = f"{kind} has no rule; register one with `register_rule({kind})`"
    return found


def _reason(record: WeightAxis, channels: Channels) -> str:
    """Return why the channels of a kernel stay."""
    labels_of_record = set(record.labels.tolist()) - {FIXED}
    for labels, why in channels.notes:
        if labels_of_record & set(np.asarray(labels).tolist()):
            return why
    return "they are tied to channels that stay"
