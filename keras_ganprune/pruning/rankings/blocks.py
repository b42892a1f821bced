"""The residual blocks of a network as one ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.scope import select
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight, prunable_candidates
from keras_ganprune.layers.upgrade import add_masks
from keras_ganprune.pruning.allocation import Allocation, Tensor
from keras_ganprune.pruning.criteria import Criterion, WeightContext
from keras_ganprune.pruning.granularity.layer import Layer
from keras_ganprune.pruning.mask_report import MaskRow
from keras_ganprune.pruning.rankings.base import RankedWeights
from keras_ganprune.pruning.rankings.channels import groups_in_scope
from keras_ganprune.pruning.rankings.weights import split_scope, unit_scores, value_of
from keras_ganprune.pruning.structured.residual_blocks import Block, residual_blocks


@dataclass(frozen=True)
class BlockRanking:
    """The residual blocks of one network, as a `Ranking`: one unit per block.

    Attributes:
        blocks: The blocks.
        members: For each block, the indices of its weights among those of the pruner.
        kernels: Index of a kernel -> the criterion, bound to it.
        weights: All weights of the pruner.
        granularity: The `Layer`.
        tensor: What an allocation knows of the blocks.
    """

    blocks: tuple[Block, ...]
    members: tuple[tuple[int, ...], ...]
    kernels: dict[int, Criterion]
    weights: tuple[MaskedWeight, ...]
    granularity: Layer
    tensor: Tensor

    @property
    def first(self) -> MaskedWeight:
        """The first weight of the first block."""
        return self.weights[self.members[0][0]]

    @property
    def remarks(self) -> list[str]:
        """Remarks on how the criterion scores each kernel."""
        notes = {self.weights[i].path: c.note() for i, c in self.kernels.items()}
        return [f"{path}: {note}" for path, note in notes.items() if note]

    @property
    def unit_sizes(self) -> np.ndarray:
        """One per block: blocks are counted."""
        return np.ones(len(self.blocks), dtype=np.int64)

    @property
    def rounding_slack(self) -> int:
        """Zero: the number of blocks is not rounded."""
        return 0

    def floor(self, allocation: Allocation) -> int:
        """Return the least number of blocks that an allocation keeps."""
        return allocation.floor(self.tensor.units)

    def _mean_over_kernels(self, total_of: Callable[[int], float]) -> np.ndarray:
        """Return, for each block, the mean over the weights in its kernels.

        Args:
            total_of: Function from the index of a kernel to the sum over its weights.
        """
        means = []
        for indices in self.members:
            kernels = [i for i in indices if i in self.kernels]
            count = sum(int(np.prod(self.weights[i].mask.shape)) for i in kernels)
            means.append(sum(total_of(i) for i in kernels) / count)
        return np.array(means)

    def scores(self, collected: bool, gradients: Sequence[Any]) -> np.ndarray:
        """Return the mean score of the weights in the kernels of each block."""

        def score(index: int) -> float:
            weight = self.weights[index]
            kernel = Tensor(weight.path, weight.layer_path, tuple(weight.mask.shape), 1, None)
            value = value_of(weight, collected)
            criterion = self.kernels[index]
            return float(
                unit_scores(criterion, value, gradients[index], self.granularity, kernel)[0]
            )

        return self._mean_over_kernels(score)

    def growth(self, gradients: Sequence[Any]) -> np.ndarray:
        """Return the mean magnitude of the gradient in the kernels of each block."""
        return self._mean_over_kernels(lambda index: float(np.sum(np.abs(gradients[index]))))

    def alive(self) -> np.ndarray:
        """Return which blocks have a weight that is kept now."""
        return self.alive_in([to_numpy(weight.mask) for weight in self.weights])

    def alive_in(self, masks_now: Sequence[np.ndarray]) -> np.ndarray:
        """Return which blocks have a weight that these masks keep."""
        return np.array([any(np.any(masks_now[i]) for i in indices) for indices in self.members])

    def rounded(
        self, keep: np.ndarray, scores: np.ndarray, floor: int, may_return: bool
    ) -> np.ndarray:
        """Return the blocks as they are: any number of them may be kept."""
        return keep

    def masks(self, keep: np.ndarray, whole: bool = True) -> dict[int, np.ndarray]:
        """Return the masks that keep these blocks, by the index of the weight."""
        return {
            index: np.full(tuple(self.weights[index].mask.shape), bool(is_kept))
            for indices, is_kept in zip(self.members, keep, strict=True)
            for index in indices
        }

    def settle(self, keep: np.ndarray) -> None:
        """Set the moving means of pruned blocks to zero."""
        for block, is_kept in zip(self.blocks, keep, strict=True):
            if not is_kept:
                for mean in block.means:
                    mean.assign(np.zeros(tuple(mean.shape)))

    def row(self, masks_now: Sequence[np.ndarray]) -> MaskRow:
        """Return a row that counts blocks."""
        kept, size = int(np.count_nonzero(self.alive_in(masks_now))), len(self.blocks)
        return MaskRow(self.tensor.path, (size,), kept, size, kept, size)


def rank_blocks(
    models: Sequence[keras.layers.Layer], criterion: Criterion, granularity: Layer, scope: Any
) -> RankedWeights:
    """Give the weights of all residual blocks their masks, and return one ranking per network.

    Args:
        models: Built models or layers.
        criterion: What scores the weights.
        granularity: The `Layer`.
        scope: Which layers may be pruned; a block is in scope if all its kernels are. None for all.

    Raises:
        InvalidArgumentError: A network has fewer than two blocks in scope.
        UnsupportedLayerError: Channels reach a layer that has no rule.
    """
    weights: dict[int, MaskedWeight] = {}
    groups_of_models, blocks_of_models, has_new_masks = [], [], False
    scope_of = split_scope(models, scope)
    for model in models:
        groups = groups_in_scope(model, None)
        paths = None if scope is None else _paths_in_scope(model, scope_of[id(model)])
        blocks = [
            block
            for block in residual_blocks(groups.graph)
            if paths is None or all(w.layer_path in paths for w in block.weights if w.kernel)
        ]
        if len(blocks) < 2:
            raise InvalidArgumentError(
                f"'{model.name}' has {len(blocks)} residual blocks that can be masked as a whole (in "
                "`scope`), and one always stays. A block is a branch of layers whose output an `Add` adds "
                "to a tensor of the same shape. To take out other layers that keep the shape, name them: "
                "`shrink(model, drop=['conv_3'])`."
            )
        for weight in (w for block in blocks for w in block.weights):
            has_new_masks = add_masks(weight.layer, [weight.name]) or has_new_masks
            mask = weight.variable.constraint.mask
            weights[id(weight.variable)] = MaskedWeight(
                weight.layer_path, weight.name, weight.layer, weight.variable, mask
            )
        groups_of_models.append(groups)
        blocks_of_models.append(tuple(blocks))
    ordered = tuple(weights.values())
    index_of = {key: index for index, key in enumerate(weights)}
    rankings = [
        _rank_network(model, blocks, index_of, ordered, criterion, granularity)
        for model, blocks in zip(models, blocks_of_models, strict=True)
    ]
    return RankedWeights(
        list(ordered), rankings, has_new_masks=has_new_masks, groups=groups_of_models
    )


def _rank_network(
    model: keras.layers.Layer,
    blocks: tuple[Block, ...],
    index_of: dict[int, int],
    weights: tuple[MaskedWeight, ...],
    criterion: Criterion,
    granularity: Layer,
) -> BlockRanking:
    kernels = {}
    for weight in (w for block in blocks for w in block.weights if w.kernel):
        index = index_of[id(weight.variable)]
        axes = kernel_axes(weight.layer, weight.name)
        context = WeightContext(index, weights[index].path, axes, weight.layer, model)
        kernels[index] = criterion.bind(context)
    members = tuple(
        tuple(dict.fromkeys(index_of[id(w.variable)] for w in block.weights)) for block in blocks
    )
    tensor = Tensor(f"{model.name}/blocks", model.name, (len(blocks),), len(blocks), 1)
    return BlockRanking(blocks, members, kernels, weights, granularity, tensor)


def _paths_in_scope(model: keras.layers.Layer, scope: Any) -> set[str]:
    return set() if scope == [] else {p for p, _ in select(prunable_candidates(model), scope)}
