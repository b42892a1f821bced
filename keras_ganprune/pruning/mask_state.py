"""The masks of some weights as they are now, and how new ones take their place."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from keras_ganprune.layers.guard import unchecked
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight, masked_weights
from keras_ganprune.pruning.modes import Mode
from keras_ganprune.pruning.rankings.base import Ranking
from keras_ganprune.pruning.regrowth import exchange_values


class MaskState:
    """Reads and replaces the masks of a pruner's weights.

    Under a mode such as `soft` the last masks are chosen but not held: the weights keep training freely,
    and the masks wait in `MaskStore.chosen`.

    Under a mode that lets channels return, only the kernels that make a pruned channel are masked until the
    end: if no layer behind read it, no gradient would ever bring it back.

    Args:
        weights: The weights.
        rankings: The rankings that choose their masks.
        mode: The mode; it decides what happens to the values of pruned and returning weights.
        coupled: Whether a unit spans several layers.

    Attributes:
        whole: Whether everything that depends on a pruned unit is masked.
        regrown: Dict, id of a variable -> bool array of its weights that the last update brought back.
    """

    def __init__(
        self,
        weights: Sequence[MaskedWeight],
        rankings: Sequence[Ranking],
        mode: Mode,
        coupled: bool,
    ):
        self.weights = weights
        self.rankings = rankings
        self.mode = mode
        self.regrown: dict[int, np.ndarray] = {}
        if mode.enforced:
            for weight in weights:
                weight.layer.pruning_masks.chosen.clear()
        self._channels_return = coupled and mode.regrows
        # Masks may exist already, of a run that ended while channels could return.
        self.whole = not self._channels_return or self._is_whole()

    def prepare_hidden_values(self) -> bool:
        """Store the values of pruned weights if the mode needs them.

        Returns:
            Whether a step that was traced before must be traced again.
        """
        stores = {id(w.layer): w.layer.pruning_masks for w in self.weights}.values()
        if self.mode.collects or self.mode.restore == "previous":
            return any([store.keep_hidden(self.mode.collects) for store in stores])
        return any([store.stop_collecting() for store in stores])

    def masks(self) -> list[np.ndarray]:
        """Return the mask of each weight: the last one chosen, whether or not it is held."""
        return [current_mask(weight) for weight in self.weights]

    def sparsity_of_units(self, rankings: Sequence[Ranking]) -> float:
        """Return the pruned share of the units of some rankings."""
        masks_now = self.masks()
        rows = [ranking.row(masks_now) for ranking in rankings]
        total = sum(row.units for row in rows)
        return 1.0 - sum(row.kept_units for row in rows) / total if total else 0.0

    def masks_of_units(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the mask of each weight that keeps the units of each ranking.

        Args:
            units: One bool array per ranking, True = keep.
        """
        by_weight: dict[int, np.ndarray] = {}
        for ranking, keep in zip(self.rankings, units, strict=True):
            for index, mask in ranking.masks(keep, self.whole).items():
                by_weight[index] = by_weight[index] & mask if index in by_weight else mask
        masks = [by_weight[i] for i in range(len(self.weights))]
        if self.mode.regrows:
            return masks
        # A unit may have been pruned in part, under another granularity.
        return [mask & to_numpy(w.mask) for mask, w in zip(masks, self.weights, strict=True)]

    @property
    def held(self) -> bool:
        """Whether the masks hold between updates, and cover everything that depends on a pruned unit."""
        return self.whole and not any(w.layer.pruning_masks.chosen for w in self.weights)

    def begin_update(self, harden: bool) -> None:
        """Decide whether the masks of the next update cover everything that depends on a pruned unit."""
        self.whole = harden or not self._channels_return

    def _is_whole(self) -> bool:
        masks_now = self.masks()
        return not any(
            np.any(masks_now[index] & ~keep)
            for ranking in self.rankings
            for index, keep in ranking.masks(ranking.alive_in(masks_now)).items()
        )

    def _mask_whole(self) -> None:
        """Mask everything that depends on a pruned unit, not only the kernels that make it."""
        self.whole = True
        masks_now = self.masks()
        for ranking in self.rankings:
            units = ranking.alive_in(masks_now)
            for index, keep in ranking.masks(units).items():
                masks_now[index] = masks_now[index] & keep
            ranking.settle(units)
        self.replace(masks_now, hold=True)

    def hold(self) -> None:
        """Hold the masks that were chosen last, and mask all that depends on a pruned unit."""
        if not self.whole:
            self._mask_whole()
        for weight in self.weights:
            keep = weight.layer.pruning_masks.chosen.pop(weight.name, None)
            if keep is not None:
                weight.mask.assign(keep)
                weight.apply()

    def apply(self) -> None:
        """Set the pruned entries of all weights to zero."""
        for weight in self.weights:
            weight.apply()

    def replace(
        self, masks: Sequence[np.ndarray], hold: bool, remaining: float = 0.0
    ) -> tuple[int, int]:
        """Give every weight a new mask.

        Args:
            masks: One bool array per weight, True = keep.
            hold: Whether the masks hold from now on; if not, pruned weights are only multiplied once.
            remaining: What pruned weights are multiplied by if the masks do not hold. Defaults to 0.0.

        Returns:
            The number of weights that were pruned, and of those that returned.
        """
        newly_pruned = regrown = 0
        self.regrown = {}
        for weight, keep in zip(self.weights, masks, strict=True):
            old = current_mask(weight)
            pruned, returning = old & ~keep, keep & ~old
            newly_pruned += int(np.count_nonzero(pruned))
            regrown += int(np.count_nonzero(returning))
            if returning.any():
                self.regrown[id(weight.variable)] = returning
            with unchecked(weight.variable):  # Values return before their mask does.
                exchange_values(weight, self.mode, pruned, returning)
            if hold:
                _hold(weight, keep, bool(returning.any()))
            else:
                weight.layer.pruning_masks.chosen[weight.name] = keep
                weight.mask.assign(np.ones(keep.shape, dtype=bool))
                value = to_numpy(weight.variable)
                weight.variable.assign(np.where(keep, value, remaining * value))
        return newly_pruned, regrown


def _hold(weight: MaskedWeight, keep: np.ndarray, has_returned: bool) -> None:
    weight.layer.pruning_masks.chosen.pop(weight.name, None)
    weight.mask.assign(keep)
    weight.apply()
    if has_returned:
        # The user's own constraint must hold for returning weights, too.
        variable = weight.variable
        variable.assign(variable.constraint(variable))


def current_mask(weight: MaskedWeight) -> np.ndarray:
    """Return the mask of a weight: the last one chosen, whether or not it is held."""
    chosen = weight.layer.pruning_masks.chosen.get(weight.name)
    return to_numpy(weight.mask) if chosen is None else chosen


def sparsity_of(*networks: keras.layers.Layer) -> float:
    """Return the sparsity of the masks of some networks together; a shared mask counts once.

    Example:
    >>> from keras_ganprune.pruning.mask_state import sparsity_of
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> sparsity_of(model)
    0.5
    """
    return sparsity_of_weights(masked_weights(*networks))


def sparsity_of_weights(weights: Sequence[MaskedWeight]) -> float:
    """Return the sparsity of the masks of some weights together; 0 without any weight."""
    masks = [current_mask(weight) for weight in weights]
    total = sum(mask.size for mask in masks)
    kept = sum(int(np.count_nonzero(mask)) for mask in masks)
    return 1.0 - kept / total if total else 0.0
