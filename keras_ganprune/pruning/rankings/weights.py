"""Each weight as one ranking: its units are single weights, blocks, or slices of this weight alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.layers.connectivity import makes_output
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.kernel_kind import kernel_kind
from keras_ganprune.layers.scope import select
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight, masked_weights, prunable_candidates
from keras_ganprune.layers.upgrade import upgrade_layers
from keras_ganprune.pruning.allocation import Allocation, Tensor
from keras_ganprune.pruning.criteria import Criterion, WeightContext
from keras_ganprune.pruning.granularity import Channel, Granularity
from keras_ganprune.pruning.mask_report import MaskRow
from keras_ganprune.pruning.rankings.base import RankedWeights

NetworkOf = Callable[[MaskedWeight], keras.layers.Layer]


@dataclass(frozen=True)
class WeightRanking:
    """The units of one weight, as a `Ranking`.

    Attributes:
        index: Index of the weight among those of the pruner.
        weight: The `MaskedWeight`.
        criterion: The criterion, bound to this weight.
        granularity: The granularity, with its axes resolved for this weight.
        tensor: What an allocation knows of the weight.
    """

    index: int
    weight: MaskedWeight
    criterion: Criterion
    granularity: Granularity
    tensor: Tensor

    @property
    def first(self) -> MaskedWeight:
        """The weight itself."""
        return self.weight

    @property
    def remarks(self) -> list[str]:
        """Remarks on ragged edges, and on how the criterion scores this weight."""
        notes = (self.granularity.note(self.tensor.shape), self.criterion.note())
        return [f"{self.tensor.path}: {note}" for note in notes if note]

    @cached_property
    def unit_sizes(self) -> np.ndarray:
        """Number of weights in each unit."""
        sizes = self.granularity.unit_sizes(self.tensor.shape)
        if isinstance(sizes, np.ndarray):
            return sizes.reshape(-1)
        return np.full(self.tensor.units, sizes)

    @property
    def rounding_slack(self) -> int:
        """Zero: the number of units is not rounded."""
        return 0

    def floor(self, allocation: Allocation) -> int:
        """Return the least number of units that an allocation keeps."""
        return allocation.floor(self.tensor.units)

    def scores(self, collected: bool, gradients: Sequence[Any]) -> np.ndarray:
        """Return the score of each unit."""
        value = value_of(self.weight, collected)
        scores = unit_scores(
            self.criterion, value, gradients[self.index], self.granularity, self.tensor
        )
        # A mode writes into the scores; the weight must not change with them.
        return scores.copy() if np.may_share_memory(scores, value) else scores

    def growth(self, gradients: Sequence[Any]) -> np.ndarray:
        """Return the magnitude of the gradient of each unit."""
        return np.reshape(self.granularity.pool(np.abs(gradients[self.index])), -1)

    def alive(self) -> np.ndarray:
        """Return which units have a weight that is kept now."""
        return self._alive(to_numpy(self.weight.mask))

    def alive_in(self, masks_now: Sequence[np.ndarray]) -> np.ndarray:
        """Return which units have a weight that these masks keep."""
        return self._alive(masks_now[self.index])

    def _alive(self, mask: np.ndarray) -> np.ndarray:
        return np.reshape(self.granularity.alive(mask), -1)

    def rounded(
        self, keep: np.ndarray, scores: np.ndarray, floor: int, may_return: bool
    ) -> np.ndarray:
        """Return the units as they are: any number of them may be kept."""
        return keep

    def pattern_mask(self, scores: np.ndarray, sparsity: float, may_return: bool) -> np.ndarray:
        """Return the mask of a pattern such as 2:4, which is chosen group by group.

        Args:
            scores: Flat array, the score of each weight.
            sparsity: Sparsity of the pattern.
            may_return: Whether a weight that is pruned now may be kept again.
        """
        scores = scores.reshape(self.tensor.shape)
        if may_return:
            return self.granularity.pattern_mask(scores, sparsity)
        mask = to_numpy(self.weight.mask)
        scores = np.where(mask, scores, -np.inf)
        return self.granularity.pattern_mask(scores, sparsity) & mask

    def masks(self, keep: np.ndarray, whole: bool = True) -> dict[int, np.ndarray]:
        """Return the mask that keeps these units; a pattern has chosen the mask itself."""
        if self.granularity.pattern:
            return {self.index: keep}
        return {self.index: self.granularity.expand(keep, self.tensor.shape)}

    def settle(self, keep: np.ndarray) -> None:
        """Do nothing: no state belongs to units of a single weight."""

    def row(self, masks_now: Sequence[np.ndarray]) -> MaskRow:
        """Return the row of the report on these masks."""
        mask = masks_now[self.index]
        kept_units = int(np.count_nonzero(self.granularity.alive(mask)))
        kept = int(np.count_nonzero(mask))
        tensor = self.tensor
        return MaskRow(tensor.path, tensor.shape, kept, mask.size, kept_units, tensor.units)


def value_of(weight: MaskedWeight, collected: bool = False) -> np.ndarray:
    """Return the values of a weight that a criterion scores.

    Args:
        weight: The weight.
        collected: Whether a pruned entry has the value that it collected, not zero. Defaults to False.

    Raises:
        DivergedError: A value is NaN or infinite.
    """
    value = to_numpy(weight.variable)
    if value.dtype.itemsize < 4:
        value = value.astype(np.float32)  # NumPy cannot select in half precision types
    mask_ops.check_finite(value, f"Weight '{weight.path}'")
    if collected:
        hidden = to_numpy(weight.layer.pruning_masks.hidden[weight.name])
        value = np.where(to_numpy(weight.mask), value, hidden)
        mask_ops.check_finite(value, f"The collected updates of '{weight.path}'")
    return value


def unit_scores(
    criterion: Criterion, value: np.ndarray, gradient: Any, granularity: Granularity, tensor: Tensor
) -> np.ndarray:
    """Return a flat float array with the score of each unit.

    Raises:
        InvalidArgumentError: The criterion returns NaN, or another number of scores than there are units.
    """
    scores = np.asarray(criterion.unit_scores(value, gradient, granularity))
    if scores.size != tensor.units:
        raise InvalidArgumentError(
            f"{criterion!r} must return one score for each of the {tensor.units} units of "
            f"'{tensor.path}'. Received an array of shape {scores.shape}."
        )
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)  # pruned units get the score -inf
    # The maximum is NaN if any score is NaN.
    if np.isnan(np.max(scores)):
        raise InvalidArgumentError(
            f"The scores of a criterion must not be NaN. {criterion!r} gave NaN for '{tensor.path}'."
        )
    return scores.reshape(-1)


def rank_weights(
    models: Sequence[keras.layers.Layer], criterion: Criterion, granularity: Granularity, scope: Any
) -> RankedWeights:
    """Make the layers in scope Prunable, and return one ranking per weight.

    Args:
        models: Built models or layers.
        criterion: What scores the weights.
        granularity: The units.
        scope: Which layers; None for all.

    Raises:
        InvalidArgumentError: There is nothing to prune, or the granularity does not fit a shape.
    """

    def network_of(weight: MaskedWeight) -> keras.layers.Layer:
        return next(m for m in models if any(weight.variable is w for w in m.weights))

    scope_of = split_scope(models, scope)
    for model in models:
        layers = scope_of[id(model)]
        # A scope may match in one of several models only.
        if layers is None or layers:
            upgrade_layers(model, layers)
    # Not the masks of scales and biases, which are pruned with whole channels only.
    kernels = [
        weight
        for weight in masked_weights(*models, scope=scope)
        if weight.name in weight.layer.pruned_weight_names
    ]
    for weight in kernels:
        if 0 in tuple(weight.mask.shape):
            raise InvalidArgumentError(
                f"'{weight.path}' must have entries to be pruned. Received: shape "
                f"{tuple(weight.mask.shape)}. Leave its layer out of the `scope`."
            )
    weights, remarks = without_outputs(kernels, granularity, network_of)
    rankings = [
        _rank_weight(index, weight, criterion, granularity, network_of(weight))
        for index, weight in enumerate(weights)
    ]
    return RankedWeights(weights, rankings, remarks)


def _rank_weight(
    index: int,
    weight: MaskedWeight,
    criterion: Criterion,
    granularity: Granularity,
    network: keras.layers.Layer,
) -> WeightRanking:
    """Return the ranking of one weight, whose layer is in `network`."""
    shape = tuple(weight.mask.shape)
    axes = kernel_axes(weight.layer, weight.name)
    try:
        resolved = granularity.resolve(axes)
        resolved.check(shape)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"'{weight.path}': {error}") from error
    sizes = resolved.unit_sizes(shape)
    if isinstance(sizes, np.ndarray):
        units, unit_size = sizes.size, None
    else:
        units, unit_size = int(np.prod(shape)) // sizes, sizes
    kind = kernel_kind(weight.layer, weight.name, shape)
    tensor = Tensor(weight.path, weight.layer_path, shape, units, unit_size, kind=kind)
    context = WeightContext(index, weight.path, axes, weight.layer, network)
    return WeightRanking(index, weight, criterion.bind(context), resolved, tensor)


def split_scope(models: Sequence[keras.layers.Layer], scope: Any) -> dict[int, Any]:
    """Return, by the id of each model, its layers that are in scope; None for all of them."""
    if scope is None or len(models) == 1:
        return {id(model): scope for model in models}
    candidates = {id(model): prunable_candidates(model) for model in models}
    every_layer = [pair for pairs in candidates.values() for pair in pairs]
    selected = {id(layer) for _, layer in select(every_layer, scope)}
    return {
        key: [layer for _, layer in pairs if id(layer) in selected]
        for key, pairs in candidates.items()
    }


def without_outputs(
    weights: Sequence[MaskedWeight], granularity: Granularity, network_of: NetworkOf
) -> tuple[list[MaskedWeight], list[str]]:
    """Leave out layers whose output channels are those of the network: images keep their channels.

    Returns:
        The weights that are left, and remarks on the others.

    Raises:
        InvalidArgumentError: No weight is left.
    """
    if not isinstance(granularity, Channel) or getattr(granularity, "axis", None) == "in":
        return list(weights), []
    kept, remarks, unknown = [], [], False
    for weight in weights:
        is_output = makes_output(weight.layer, network_of(weight))
        unknown = unknown or is_output is None
        if is_output:
            remarks.append(
                f"{weight.path}: makes the output of the network, so all its channels are kept"
            )
        else:
            kept.append(weight)
    if unknown:
        remarks.append(
            "the graph of a subclassed network is unknown: leave the layer that makes its output out of "
            "`scope`, otherwise channels of the output are pruned too"
        )
    if not kept:
        raise InvalidArgumentError(
            f"{granularity!r} has nothing to prune: "
            f"{', '.join(w.path for w in weights)} make the output, whose channels are all kept. "
            "Use another granularity."
        )
    return kept, remarks


def frozen_remark(weights: Sequence[MaskedWeight]) -> str | None:
    """Return a remark on weights that are pruned although they are not trainable now, or None."""
    frozen = [w.path for w in weights if not w.variable.trainable]
    if not frozen:
        return None
    return (
        f"{', '.join(frozen[:3])}{' and others' if len(frozen) > 3 else ''}: `trainable` is False now; a "
        "layer that stays frozen is pruned without a chance to recover, so leave it out of `scope`"
    )
