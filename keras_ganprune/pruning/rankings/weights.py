"""The weights that a `Pruner` prunes, each ranked by itself, with the settings that are its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops as masks
from keras_ganprune.layers.connectivity import makes_output
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.scope import select
from keras_ganprune.layers.traversal import MaskedWeight, prunable_candidates
from keras_ganprune.pruning.allocation import Tensor
from keras_ganprune.pruning.criteria import Criterion, WeightContext
from keras_ganprune.pruning.granularity import Channel, Granularity
from keras_ganprune.pruning.mask_report import MaskRow

NetworkOf = Callable[[MaskedWeight], keras.layers.Layer]


@dataclass(frozen=True)
class Part:
    """One weight with the settings that are its own: resolved axes, bound criterion.

    Attributes:
        index: Its place among the pruner's weights.
        sizes: Weights in each of its units where these differ, else None.
    """

    index: int
    weight: MaskedWeight
    criterion: Criterion
    granularity: Granularity
    tensor: Tensor
    sizes: np.ndarray | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def largest_unit(self) -> int:
        """Weights in its largest unit."""
        return self.tensor.unit_size or int(np.max(self.sizes))

    @property
    def remarks(self) -> list[str]:
        notes = (self.granularity.note(self.shape), self.criterion.note())
        return [f"{self.tensor.path}: {note}" for note in notes if note]

    def scores(self, collected: bool, gradients: Sequence[Any]) -> np.ndarray:
        """Return a flat array with a score for each unit.

        Args:
            collected: Whether a pruned entry has the value that it collected unseen, instead of zero.
            gradients: One for each of the pruner's weights.
        """
        value = value_of(self.weight, collected)
        found = unit_scores(
            self.criterion, value, gradients[self.index], self.granularity, self.tensor
        )
        return found.copy() if np.may_share_memory(found, value) else found

    def growth(self, gradients: Sequence[Any]) -> np.ndarray:
        """Return a flat array with the size of the gradient of each unit."""
        return np.reshape(self.granularity.pool(np.abs(gradients[self.index])), -1)

    def alive(self) -> np.ndarray:
        """Return a flat bool array: which units are not all pruned."""
        return np.reshape(self.granularity.alive(to_numpy(self.weight.mask)), -1)

    def masks(self, units: np.ndarray, whole: bool = True) -> dict[int, np.ndarray]:
        """Return the masks that keep these units, by the index of the weight."""
        return {self.index: self.granularity.expand(units, self.shape)}

    def settle(self, units: np.ndarray) -> None:
        """Put right what depends on the masks beside the weights: nothing, for a single one."""

    def row(self, masks: Sequence[np.ndarray]) -> MaskRow:
        """Return the row of the report on these masks, one for each of the pruner's weights."""
        keep = masks[self.index]
        kept_units = int(np.count_nonzero(self.granularity.alive(keep)))
        kept = int(np.count_nonzero(keep))
        return MaskRow(self.tensor.path, self.shape, kept, keep.size, kept_units, self.tensor.units)


def value_of(weight: MaskedWeight, collected: bool = False) -> np.ndarray:
    """Return the values of a weight to score.

    Raises:
        DivergedError: a value is NaN or infinite.
    """
    value = to_numpy(weight.variable)
    if value.dtype.itemsize < 4:
        value = value.astype(np.float32)  # NumPy cannot select in half precision types
    masks.check_finite(value, f"Weight '{weight.path}'")
    if collected:
        hidden = to_numpy(weight.layer.pruning_masks.hidden[weight.name])
        value = np.where(to_numpy(weight.mask), value, hidden)
        masks.check_finite(value, f"What pruned entries of '{weight.path}' collected")
    return value


def unit_scores(
    criterion: Criterion, value: np.ndarray, gradient: Any, granularity: Granularity, tensor: Tensor
) -> np.ndarray:
    """Return a flat float array with a score for each unit, or raise if the criterion gives no such."""
    scores = np.asarray(criterion.unit_scores(value, gradient, granularity))
    if scores.size != tensor.units:
        raise InvalidArgumentError(
            f"{criterion!r} must give one score for each unit of '{tensor.path}', "
            f"{tensor.units} in all. Received an array of shape {scores.shape}."
        )
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)  # -inf marks what is pruned already
    # The largest of some values is NaN if any of them is.
    if np.isnan(np.max(scores)):
        raise InvalidArgumentError(
            f"The scores of a criterion must not be NaN. {criterion!r} gave NaN for '{tensor.path}'."
        )
    return scores.reshape(-1)


def make_part(
    index: int,
    weight: MaskedWeight,
    criterion: Criterion,
    granularity: Granularity,
    network: keras.layers.Layer,
) -> Part:
    """Return the part of one weight, whose layer is in `network`.

    Raises:
        InvalidArgumentError: the granularity does not fit the shape.
    """
    shape = tuple(weight.mask.shape)
    axes = kernel_axes(weight.layer, weight.name)
    try:
        unit = granularity.resolve(axes)
        unit.check(shape)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"'{weight.path}': {error}") from error
    context = WeightContext(index, weight.path, axes, weight.layer, network)
    sizes = unit.unit_sizes(shape)
    if isinstance(sizes, np.ndarray):
        units, unit_size, sizes = sizes.size, None, sizes.reshape(-1)
    else:
        units, unit_size, sizes = int(np.prod(shape)) // sizes, sizes, None
    tensor = Tensor(weight.path, weight.layer_path, shape, units, unit_size)
    return Part(index, weight, criterion.bind(context), unit, tensor, sizes)


def split_scope(models: Sequence[keras.layers.Layer], scope: Any) -> dict[int, Any]:
    """Return, by the id of each model, the layers of it that are in scope; None for all of them."""
    if scope is None or len(models) == 1:
        return {id(model): scope for model in models}
    found = {id(model): prunable_candidates(model) for model in models}
    everything = [pair for pairs in found.values() for pair in pairs]
    chosen = {id(layer) for _, layer in select(everything, scope)}
    return {
        key: [layer for _, layer in pairs if id(layer) in chosen] for key, pairs in found.items()
    }


def without_outputs(
    weights: Sequence[MaskedWeight], granularity: Granularity, network_of: NetworkOf
) -> tuple[list[MaskedWeight], list[str]]:
    """Leave out layers whose output channels are those of the network: images keep their channels.

    Returns: The weights that are left, and remarks on the others.

    Raises:
        InvalidArgumentError: none is left.
    """
    if not isinstance(granularity, Channel) or granularity.axis == "in":
        return list(weights), []
    kept, remarks, unknown = [], [], False
    for weight in weights:
        output = makes_output(weight.layer, network_of(weight))
        unknown = unknown or output is None
        if output:
            remarks.append(
                f"{weight.path}: makes the output of the network, so its channels all stay"
            )
        else:
            kept.append(weight)
    if unknown:
        remarks.append(
            "the graph of a subclassed network is not known: leave the layer that makes its output "
            "out of `scope`, or channels of the output are pruned too"
        )
    if not kept:
        raise InvalidArgumentError(
            f"{granularity!r} has nothing to prune: "
            f"{', '.join(w.path for w in weights)} make the output, whose channels all stay. "
            "Use another granularity."
        )
    return kept, remarks


def frozen_remark(weights: Sequence[MaskedWeight]) -> str | None:
    """Return a remark on weights that are pruned though they are not trained, or None."""
    frozen = [w.path for w in weights if not w.variable.trainable]
    if not frozen:
        return None
    return (
        f"{', '.join(frozen[:3])}{' and others' if len(frozen) > 3 else ''}: frozen, so pruned without a "
        "chance to recover; leave frozen layers out of `scope` if that is not meant"
    )
