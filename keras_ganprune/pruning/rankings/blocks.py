"""The residual blocks of a network as one ranking of a `Pruner`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.scope import select
from keras_ganprune.layers.traversal import MaskedWeight, prunable_candidates
from keras_ganprune.layers.upgrade import add_masks
from keras_ganprune.pruning.allocation import Tensor
from keras_ganprune.pruning.criteria import Criterion, WeightContext
from keras_ganprune.pruning.granularity.layer import Layer
from keras_ganprune.pruning.mask_report import MaskRow
from keras_ganprune.pruning.rankings.channels import groups_in_scope
from keras_ganprune.pruning.rankings.weights import unit_scores, value_of
from keras_ganprune.pruning.structured.residual_blocks import Block, residual_blocks


@dataclass(frozen=True)
class BlockPart:
    """The blocks of one network, with what a `Pruner` asks of a `Part`: one unit for each.

    Attributes:
        members: For each block, the indices of its weights among those of the pruner.
        kernels: Index of a kernel -> its bound criterion.
    """

    blocks: tuple[Block, ...]
    members: tuple[tuple[int, ...], ...]
    kernels: dict[int, Criterion]
    weights: tuple[MaskedWeight, ...]
    granularity: Layer
    tensor: Tensor
    sizes: None = None
    largest_unit: int = 1

    @property
    def first(self) -> MaskedWeight:
        return self.weights[self.members[0][0]]

    @property
    def remarks(self) -> list[str]:
        notes = {self.weights[i].path: c.note() for i, c in self.kernels.items()}
        return [f"{path}: {note}" for path, note in notes.items() if note]

    def _mean(self, of: Any) -> np.ndarray:
        """Return for each block the sum over its kernels of what `of` gives, for each of their weights."""
        found = []
        for numbers in self.members:
            own = [i for i in numbers if i in self.kernels]
            count = sum(int(np.prod(self.weights[i].mask.shape)) for i in own)
            found.append(sum(of(i) for i in own) / count)
        return np.array(found)

    def scores(self, collected: bool, gradients: Sequence[Any]) -> np.ndarray:
        def score(index: int) -> float:
            weight = self.weights[index]
            one = Tensor(weight.path, weight.layer_path, tuple(weight.mask.shape), 1, None)
            value = value_of(weight, collected)
            return float(
                unit_scores(self.kernels[index], value, gradients[index], self.granularity, one)[0]
            )

        return self._mean(score)

    def growth(self, gradients: Sequence[Any]) -> np.ndarray:
        return self._mean(lambda index: float(np.sum(np.abs(gradients[index]))))

    def alive(self) -> np.ndarray:
        return self._alive([to_numpy(weight.mask) for weight in self.weights])

    def _alive(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([any(np.any(masks[i]) for i in numbers) for numbers in self.members])

    def masks(self, units: np.ndarray, whole: bool = True) -> dict[int, np.ndarray]:
        return {
            i: np.full(tuple(self.weights[i].mask.shape), bool(keep))
            for numbers, keep in zip(self.members, units, strict=True)
            for i in numbers
        }

    def settle(self, units: np.ndarray) -> None:
        for block, keep in zip(self.blocks, units, strict=True):
            if not keep:
                for mean in block.means:
                    mean.assign(np.zeros(tuple(mean.shape)))

    def row(self, masks: Sequence[np.ndarray]) -> MaskRow:
        kept, size = int(np.count_nonzero(self._alive(masks))), len(self.blocks)
        return MaskRow(self.tensor.path, (size,), kept, size, kept, size)


def make_block_parts(
    models: Sequence[keras.layers.Layer], criterion: Criterion, granularity: Layer, scope: Any
) -> tuple[list[MaskedWeight], list[BlockPart], list[str], bool, list[Any]]:
    """Give the weights of all residual blocks their masks; see `group_parts.make_group_parts`.

    Raises:
        InvalidArgumentError: a network has fewer than two blocks that could go.
    """
    weights: dict[int, MaskedWeight] = {}
    parts, groups, fresh, drafts = [], [], False, []
    for model in models:
        found = groups_in_scope(model, None)
        inside = None if scope is None else _kept_paths(model, scope)
        blocks = [
            block
            for block in residual_blocks(found.graph)
            if inside is None or all(w.layer_path in inside for w in block.weights if w.kernel)
        ]
        if len(blocks) < 2:
            raise InvalidArgumentError(
                f"'{model.name}' has {len(blocks)} residual blocks that can be masked as a whole (in "
                "`scope`), and one always stays. A block is a branch of layers whose output an `Add` adds "
                "to a tensor of the same shape. To take out other layers that keep the shape, name them: "
                "`shrink(model, drop=['conv_3'])`."
            )
        for weight in (w for block in blocks for w in block.weights):
            fresh = add_masks(weight.layer, [weight.name]) or fresh
            mask = weight.variable.constraint.mask
            weights[id(weight.variable)] = MaskedWeight(
                weight.layer_path, weight.name, weight.layer, weight.variable, mask
            )
        groups.append(found)
        drafts.append((model, blocks))
    listed = list(weights.values())
    numbers = {key: i for i, key in enumerate(weights)}
    for model, blocks in drafts:
        kernels = {}
        for weight in (w for block in blocks for w in block.weights if w.kernel):
            index = numbers[id(weight.variable)]
            context = WeightContext(
                index,
                listed[index].path,
                kernel_axes(weight.layer, weight.name),
                weight.layer,
                model,
            )
            kernels[index] = criterion.bind(context)
        members = tuple(
            tuple(dict.fromkeys(numbers[id(w.variable)] for w in block.weights)) for block in blocks
        )
        tensor = Tensor(f"{model.name}/blocks", model.name, (len(blocks),), len(blocks), 1)
        parts.append(BlockPart(tuple(blocks), members, kernels, tuple(listed), granularity, tensor))
    return listed, parts, [], fresh, groups


def _kept_paths(model: keras.layers.Layer, scope: Any) -> set[str]:
    return {path for path, _ in select(prunable_candidates(model), scope)}
