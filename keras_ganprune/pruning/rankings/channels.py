"""The groups of channels that a `Pruner` prunes: each is one ranking, over several weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight, prunable_candidates, walk
from keras_ganprune.layers.upgrade import add_masks
from keras_ganprune.pruning.allocation import Tensor
from keras_ganprune.pruning.criteria import Criterion, WeightContext
from keras_ganprune.pruning.granularity.channel import AGGREGATES, Channel, ChannelUnits
from keras_ganprune.pruning.mask_report import MaskRow
from keras_ganprune.pruning.rankings.weights import unit_scores, value_of
from keras_ganprune.pruning.structured.channels import MEAN, OUT, WeightAxis
from keras_ganprune.pruning.structured.groups import Group, Groups, GroupSlice, channel_groups
from keras_ganprune.pruning.structured.rules.registry import entry_of


@dataclass(frozen=True)
class Maker:
    """A weight whose channels a group's are: what they are scored by."""

    index: int
    weight: MaskedWeight
    criterion: Criterion
    granularity: ChannelUnits


@dataclass(frozen=True)
class GroupPart:
    """One group of channels, with what a `Pruner` asks of a `Part`."""

    group: Group
    makers: tuple[Maker, ...]
    # Index of the weight, its slice of the group.
    places: tuple[tuple[int, GroupSlice], ...]
    weights: tuple[MaskedWeight, ...]
    aggregate: str
    tensor: Tensor
    sizes: None = None
    largest_unit: int = 1

    @property
    def first(self) -> MaskedWeight:
        """The weight that stands for the group where one has to."""
        return self.makers[0].weight

    @property
    def remarks(self) -> list[str]:
        notes = {m.weight.path: m.criterion.note() for m in self.makers}
        return [f"{path}: {note}" for path, note in notes.items() if note]

    def scores(self, collected: bool, gradients: Sequence[Any]) -> np.ndarray:
        found = [
            unit_scores(
                maker.criterion,
                value_of(maker.weight, collected),
                gradients[maker.index],
                maker.granularity,
                self.tensor,
            )
            for maker in self.makers
        ]
        return AGGREGATES[self.aggregate](np.stack(found), axis=0)

    def growth(self, gradients: Sequence[Any]) -> np.ndarray:
        return sum(m.granularity.pool(np.abs(gradients[m.index])) for m in self.makers)

    def alive(self) -> np.ndarray:
        # Not by `alive_in`, which would want the masks of all weights for each group.
        found = [m.granularity.alive(to_numpy(m.weight.mask)) for m in self.makers]
        return np.any(found, axis=0)

    def alive_in(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Return which units some maker has an entry of, under masks of all the pruner's weights."""
        return np.any([m.granularity.alive(masks[m.index]) for m in self.makers], axis=0)

    def masks(self, units: np.ndarray, whole: bool = True) -> dict[int, np.ndarray]:
        """Return the masks that keep these units, by the index of the weight.

        Args:
            whole: Whether everything that goes with a channel is masked. If not, only the kernels that
                make it: with nothing behind it that reads it, no gradient would ever bring it back.
        """
        found: dict[int, np.ndarray] = {}
        for index, piece in self.places:
            shape = tuple(self.weights[index].mask.shape)
            keep = found.setdefault(index, np.ones(shape, dtype=bool))
            if whole or piece.weight.role == OUT:
                keep &= piece.mask(units)
        return found

    def settle(self, units: np.ndarray) -> None:
        """Set the moving means of channels that are zero now to zero, to which they would go anyway."""
        for piece in self.group.slices:
            if piece.weight.role == MEAN:
                variable = piece.weight.variable
                variable.assign(np.where(piece.kept(units), to_numpy(variable), 0.0))

    def row(self, masks: Sequence[np.ndarray]) -> MaskRow:
        """Return channels, not weights: these are what was asked for."""
        kept = int(np.count_nonzero(self.alive_in(masks)))
        size = self.group.size
        return MaskRow(self.tensor.path, (size,), kept, size, kept, size)


def make_group_parts(
    models: Sequence[keras.layers.Layer],
    criterion: Criterion,
    granularity: Channel,
    scope: Any,
) -> tuple[list[MaskedWeight], list[GroupPart], list[str], bool, list[Groups]]:
    """Give the weights of all groups of channels their masks.

    Args:
        models, criterion, granularity, scope: As for `Pruner`.

    Returns: The weights; the parts; remarks; whether there are new masks, which a step that was traced
        before does not know; the groups of each model.

    Raises:
        InvalidArgumentError: there is nothing to prune, or networks share weights.
        UnsupportedLayerError: a network cannot be followed.
    """
    _check_apart(models)
    everything = [groups_in_scope(model, scope, len(models) > 1) for model in models]
    found = [(groups, group) for groups in everything for group in groups]
    if not found:
        listed = "\n".join(repr(groups) for groups in everything)
        raise InvalidArgumentError(
            f"{granularity!r} has nothing to prune:\n{listed}\nUse another granularity, or another `scope`."
        )
    fresh = False
    for _, group in found:
        for axis in _masked_axes(group):
            fresh = add_masks(axis.layer, [axis.name]) or fresh
    weights, parts = parts_of(
        everything, criterion, granularity, lambda variable: variable.constraint.mask
    )
    remarks = [
        f"{path}: its channels all stay, because {why}"
        for groups in everything
        for path, why in groups.stay.items()
    ]
    return weights, parts, remarks, fresh, everything


def _masked_axes(group: Group) -> list[WeightAxis]:
    return [piece.weight for piece in group.slices if piece.masked]


def parts_of(
    everything: Sequence[Groups],
    criterion: Criterion,
    granularity: Channel,
    mask_of: Callable[[keras.Variable], Any],
) -> tuple[list[MaskedWeight], list[GroupPart]]:
    """Return the weights that lose something when channels go, and the parts that rank the channels.

    Args:
        mask_of: Returns the mask of a weight: its variable, or an array.
    """
    weights: dict[int, MaskedWeight] = {}
    for groups in everything:
        for axis in (a for group in groups for a in _masked_axes(group)):
            if id(axis.variable) not in weights:
                weights[id(axis.variable)] = MaskedWeight(
                    axis.layer_path, axis.name, axis.layer, axis.variable, mask_of(axis.variable)
                )
    listed = list(weights.values())
    numbers = {key: i for i, key in enumerate(weights)}
    parts = [
        _part(group, groups, numbers, listed, criterion, granularity)
        for groups in everything
        for group in groups
    ]
    return listed, parts


def groups_in_scope(model: keras.layers.Layer, scope: Any, several: bool = False) -> Groups:
    """Return the groups of a model, where the channels of layers that are not in scope stay."""
    if scope is None:
        return _followed(model, None)
    candidates = prunable_candidates(model)
    try:
        chosen = {id(layer) for _, layer in scopes.select(candidates, scope)}
    except InvalidArgumentError:
        if not several:
            raise
        chosen = set()  # it may match in one of several models only
    # Kernels that are not chosen, and what has no rule: what holds a chosen layer is looked into.
    kernels = {id(layer) for _, layer in candidates}
    others = {
        id(layer)
        for _, layer in walk(model)[1:]
        if (id(layer) in kernels or entry_of(layer) is None)
        and not chosen & {id(inner) for _, inner in walk(layer)}
    }
    return _followed(model, (lambda layer: id(layer) in others) if others else None)


def _followed(model: keras.layers.Layer, keep: Any) -> Groups:
    try:
        return channel_groups(model, keep=keep)
    except UnsupportedLayerError as error:
        raise UnsupportedLayerError(
            f"{error} Or prune the channels of each kernel by itself, with "
            "`granularity=Channel(coupled=False)`."
        ) from error


def _check_apart(models: Sequence[keras.layers.Layer]) -> None:
    seen: set[int] = set()
    for model in models:
        own = {id(w) for w in model.weights}
        if own & seen:
            raise InvalidArgumentError(
                f"'{model.name}' shares weights with another network that is pruned with it, so a channel "
                "would have to go in both. Prune one of them, or use `Channel(coupled=False)`."
            )
        seen |= own


def _part(
    group: Group,
    groups: Groups,
    numbers: dict[int, int],
    weights: list[MaskedWeight],
    criterion: Criterion,
    granularity: Channel,
) -> GroupPart:
    makers, places = [], []
    for piece in (piece for piece in group.slices if piece.masked):
        axis = piece.weight
        index = numbers[id(axis.variable)]
        places.append((index, piece))
        if axis.role == OUT:
            context = WeightContext(
                index,
                axis.path,
                kernel_axes(axis.layer, axis.name),
                axis.layer,
                groups.graph.model,
            )
            makers.append(
                Maker(
                    index,
                    weights[index],
                    criterion.bind(context),
                    ChannelUnits(axis.axis, piece.units),
                )
            )
    first = makers[0]
    tensor = Tensor(
        path=first.weight.path,
        layer_path=first.weight.layer_path,
        shape=tuple(first.weight.mask.shape),
        units=group.size,
        unit_size=1,
        makers=tuple(group.makers),
    )
    return GroupPart(
        group, tuple(makers), tuple(places), tuple(weights), granularity.aggregate, tensor
    )
