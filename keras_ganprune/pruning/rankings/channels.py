"""Each group of coupled channels as one ranking, over all the weights that the channels are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight, prunable_candidates, walk
from keras_ganprune.layers.upgrade import add_masks
from keras_ganprune.pruning.allocation import Allocation, Tensor
from keras_ganprune.pruning.criteria import Criterion, WeightContext
from keras_ganprune.pruning.granularity.channel import AGGREGATES, Channel, ChannelUnits
from keras_ganprune.pruning.mask_report import MaskRow
from keras_ganprune.pruning.rankings import top_k
from keras_ganprune.pruning.rankings.base import RankedWeights
from keras_ganprune.pruning.rankings.weights import split_scope, unit_scores, value_of
from keras_ganprune.pruning.structured.channels import MEAN, OUT, WeightAxis
from keras_ganprune.pruning.structured.groups import Group, Groups, GroupSlice, channel_groups
from keras_ganprune.pruning.structured.rules.registry import entry_of


@dataclass(frozen=True)
class Maker:
    """A weight that makes the channels of a group, so that the channels are scored by it.

    Attributes:
        index: Index of the weight among those of the pruner.
        weight: The `MaskedWeight`.
        criterion: The criterion, bound to this weight.
        granularity: Which places of the weight belong to which channel.
    """

    index: int
    weight: MaskedWeight
    criterion: Criterion
    granularity: ChannelUnits


@dataclass(frozen=True)
class ChannelRanking:
    """The channels of one group, as a `Ranking`.

    Attributes:
        group: The `Group`.
        makers: The weights that make the channels.
        slices: For each slice of the group that is masked, the index of its weight and the slice.
        weights: All weights of the pruner.
        granularity: The `Channel`, for `aggregate` and `round_to`.
        tensor: What an allocation knows of the group.
    """

    group: Group
    makers: tuple[Maker, ...]
    slices: tuple[tuple[int, GroupSlice], ...]
    weights: tuple[MaskedWeight, ...]
    granularity: Channel
    tensor: Tensor

    @property
    def first(self) -> MaskedWeight:
        """The first weight that makes the channels."""
        return self.makers[0].weight

    @property
    def remarks(self) -> list[str]:
        """Remarks on how the criterion scores each maker."""
        notes = {m.weight.path: m.criterion.note() for m in self.makers}
        return [f"{path}: {note}" for path, note in notes.items() if note]

    @property
    def unit_sizes(self) -> np.ndarray:
        """One per channel: channels are counted."""
        return np.ones(self.group.size, dtype=np.int64)

    @property
    def rounding_slack(self) -> int:
        """By how many channels `round_to` may change the number of kept channels."""
        return self.granularity.round_to or 0

    def floor(self, allocation: Allocation) -> int:
        """Return the least number of channels that an allocation keeps."""
        return allocation.floor(self.tensor.units)

    def scores(self, collected: bool, gradients: Sequence[Any]) -> np.ndarray:
        """Return the score of each channel, aggregated over the weights that make it."""
        by_maker = [
            unit_scores(
                maker.criterion,
                value_of(maker.weight, collected),
                gradients[maker.index],
                maker.granularity,
                self.tensor,
            )
            for maker in self.makers
        ]
        return AGGREGATES[self.granularity.aggregate](np.stack(by_maker), axis=0)

    def growth(self, gradients: Sequence[Any]) -> np.ndarray:
        """Return the magnitude of the gradient of each channel, summed over its makers."""
        first, *others = (m.granularity.pool(np.abs(gradients[m.index])) for m in self.makers)
        return sum(others, first)

    def alive(self) -> np.ndarray:
        """Return which channels have a weight that is kept now."""
        # Not by `alive_in`, which would need the masks of all weights for each group.
        return np.any([m.granularity.alive(to_numpy(m.weight.mask)) for m in self.makers], axis=0)

    def alive_in(self, masks_now: Sequence[np.ndarray]) -> np.ndarray:
        """Return which channels have a weight that these masks keep."""
        return np.any([m.granularity.alive(masks_now[m.index]) for m in self.makers], axis=0)

    def rounded(
        self, keep: np.ndarray, scores: np.ndarray, floor: int, may_return: bool
    ) -> np.ndarray:
        """Return the kept channels, their number rounded to a multiple of `round_to`."""
        round_to = self.granularity.round_to
        if round_to is None:
            return keep
        possible = None if may_return else self.alive()
        return top_k.rounded(keep, scores, round_to, possible, floor)

    def masks(self, keep: np.ndarray, whole: bool = True) -> dict[int, np.ndarray]:
        """Return the masks that keep these channels, by the index of the weight.

        Args:
            keep: Bool array, one entry per channel.
            whole: Whether everything that depends on a channel is masked. If False, only the kernels that
                make it are masked: if no layer behind read it, no gradient would ever bring it back.
        """
        masks: dict[int, np.ndarray] = {}
        for index, piece in self.slices:
            shape = tuple(self.weights[index].mask.shape)
            mask = masks.setdefault(index, np.ones(shape, dtype=bool))
            if whole or piece.weight.role == OUT:
                mask &= piece.mask(keep)
        return masks

    def settle(self, keep: np.ndarray) -> None:
        """Set the moving means of pruned channels to zero, the value that they would approach anyway."""
        for piece in self.group.slices:
            if piece.weight.role == MEAN:
                variable = piece.weight.variable
                variable.assign(np.where(piece.kept(keep), to_numpy(variable), 0.0))

    def row(self, masks_now: Sequence[np.ndarray]) -> MaskRow:
        """Return a row that counts channels, since a sparsity is a share of channels here."""
        kept = int(np.count_nonzero(self.alive_in(masks_now)))
        size = self.group.size
        return MaskRow(self.tensor.path, (size,), kept, size, kept, size)


def rank_channels(
    models: Sequence[keras.layers.Layer], criterion: Criterion, granularity: Channel, scope: Any
) -> RankedWeights:
    """Give the weights of all groups of channels their masks, and return one ranking per group.

    Args:
        models: Built models or layers.
        criterion: What scores the weights.
        granularity: A coupled `Channel`.
        scope: Which layers may lose channels; None for all.

    Raises:
        InvalidArgumentError: There is nothing to prune, or networks share weights.
        UnsupportedLayerError: Channels reach a layer that has no rule.
    """
    _check_apart(models)
    scope_of = split_scope(models, scope)
    groups_of_models = [groups_in_scope(model, scope_of[id(model)]) for model in models]
    if not any(len(groups) for groups in groups_of_models):
        listing = "\n".join(repr(groups) for groups in groups_of_models)
        raise InvalidArgumentError(
            f"{granularity!r} has nothing to prune:\n{listing}\nUse another granularity, or another "
            "`scope`."
        )
    has_new_masks = False
    for group in (group for groups in groups_of_models for group in groups):
        for axis in _masked_axes(group):
            has_new_masks = add_masks(axis.layer, [axis.name]) or has_new_masks
    weights, rankings = channel_rankings(
        groups_of_models, criterion, granularity, lambda variable: variable.constraint.mask
    )
    remarks = [
        f"{path}: its channels all stay, because {reason}"
        for groups in groups_of_models
        for path, reason in groups.stay.items()
    ]
    return RankedWeights(weights, rankings, remarks, has_new_masks, groups_of_models)


def _masked_axes(group: Group) -> list[WeightAxis]:
    return [piece.weight for piece in group.slices if piece.masked]


def channel_rankings(
    groups_of_models: Sequence[Groups],
    criterion: Criterion,
    granularity: Channel,
    mask_of: Callable[[keras.Variable], Any],
) -> tuple[list[MaskedWeight], list[ChannelRanking]]:
    """Return the weights that lose entries with the channels, and the rankings of the channels.

    Args:
        groups_of_models: The groups of each model.
        criterion: What scores the weights.
        granularity: A coupled `Channel`.
        mask_of: Function that returns the mask of a variable, as a variable or an array.
    """
    weights: dict[int, MaskedWeight] = {}
    for groups in groups_of_models:
        for axis in (axis for group in groups for axis in _masked_axes(group)):
            if id(axis.variable) not in weights:
                weights[id(axis.variable)] = MaskedWeight(
                    axis.layer_path, axis.name, axis.layer, axis.variable, mask_of(axis.variable)
                )
    ordered = tuple(weights.values())
    index_of = {key: index for index, key in enumerate(weights)}
    rankings = [
        _rank_group(group, groups.graph.model, index_of, ordered, criterion, granularity)
        for groups in groups_of_models
        for group in groups
    ]
    return list(ordered), rankings


def groups_in_scope(model: keras.layers.Layer, scope: Any) -> Groups:
    """Return the groups of a model; the channels of layers outside the scope are all kept.

    Args:
        model: A built model.
        scope: Which layers may lose channels; None for all, [] for none.

    Raises:
        InvalidArgumentError: The scope matches no layer.
        UnsupportedLayerError: Channels reach a layer that has no rule.
    """
    if scope is None:
        return _groups_of(model, None)
    candidates = prunable_candidates(model)
    in_scope = [] if scope == [] else scopes.select(candidates, scope)
    selected = {id(layer) for _, layer in in_scope}
    # Kernels that are not selected, and layers without a rule unless they contain a selected layer.
    kernels = {id(layer) for _, layer in candidates}
    others = {
        id(layer)
        for _, layer in walk(model)[1:]
        if (id(layer) in kernels or entry_of(layer) is None)
        and not selected & {id(inner) for _, inner in walk(layer)}
    }
    return _groups_of(model, (lambda layer: id(layer) in others) if others else None)


def _groups_of(model: keras.layers.Layer, keep: Any) -> Groups:
    try:
        return channel_groups(model, keep=keep)
    except UnsupportedLayerError as error:
        between = "\n" if "\n" in str(error) else " "
        raise UnsupportedLayerError(
            f"{error}{between}Or prune the channels of each kernel by itself, with "
            "`granularity=Channel(coupled=False)`."
        ) from error


def _check_apart(models: Sequence[keras.layers.Layer]) -> None:
    seen: set[int] = set()
    for model in models:
        variables = {id(w) for w in model.weights}
        if variables & seen:
            raise InvalidArgumentError(
                f"'{model.name}' shares weights with another network that is pruned with it, so a channel "
                "would have to go in both. Prune one of them, or use `Channel(coupled=False)`."
            )
        seen |= variables


def _rank_group(
    group: Group,
    model: keras.layers.Layer,
    index_of: dict[int, int],
    weights: tuple[MaskedWeight, ...],
    criterion: Criterion,
    granularity: Channel,
) -> ChannelRanking:
    """Return the ranking of one group.

    Args:
        group: The group.
        model: The model that the group belongs to.
        index_of: Index of each weight, by the id of its variable.
        weights: All weights of the pruner.
        criterion: What scores the weights.
        granularity: A coupled `Channel`.
    """
    makers, slices = [], []
    for piece in (piece for piece in group.slices if piece.masked):
        axis = piece.weight
        index = index_of[id(axis.variable)]
        slices.append((index, piece))
        if axis.role == OUT:
            axes = kernel_axes(axis.layer, axis.name)
            context = WeightContext(index, axis.path, axes, axis.layer, model)
            units = ChannelUnits(axis.axis, piece.units)
            makers.append(Maker(index, weights[index], criterion.bind(context), units))
    first = makers[0]
    tensor = Tensor(
        path=first.weight.path,
        layer_path=first.weight.layer_path,
        shape=tuple(first.weight.mask.shape),
        units=group.size,
        unit_size=1,
        makers=tuple(group.makers),
        kind=group.kind,
    )
    return ChannelRanking(group, tuple(makers), tuple(slices), weights, granularity, tensor)
