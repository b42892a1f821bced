"""A copy of the state of a training run in memory, from which the state can be restored."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from keras_ganprune.layers.mask_store import MaskStore
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import prunable_layers
from keras_ganprune.training import discovery


def mask_stores(model: keras.layers.Layer) -> list[MaskStore]:
    """Return the mask stores of a model's Prunable layers."""
    return [layer.pruning_masks for _, layer in prunable_layers(model)]


def variables(model: keras.Model) -> list[keras.Variable]:
    """Return the variables of a training run: masks, values of pruned entries, weights, optimizers.

    Masks come first: when the values are assigned again, a weight must meet the mask that it had.
    """
    state = [
        variable
        for store in mask_stores(model)
        for variable in (*store.masks.values(), *store.hidden.values())
    ]
    state += model.variables
    # Optimizers are not unwrapped, because the scale of a loss-scaling optimizer is a variable too.
    for optimizer in discovery.optimizers(model, unwrap=False):
        state += optimizer.variables
    return list({id(v): v for v in state}.values())


def sums_not_finite(model: keras.Model) -> dict[str, float]:
    """Return the sums of a model's weights that are NaN or infinite, by path.

    The logs show such weights too late: in the step that makes a weight NaN, the loss is still finite.
    """
    sums = {w.path: float(np.sum(to_numpy(w), dtype=np.float64)) for w in model.weights}
    return {path: total for path, total in sums.items() if not np.isfinite(total)}


class TrainingState:
    """A copy of all variables that training changes, masks included.

    Args:
        model: Model that is being trained.
        leave: Ids of variables that are not copied, such as the step counter. Defaults to () (none).
    """

    def __init__(self, model: keras.Model, leave: Iterable[int] = ()):
        self.model = model
        left = set(leave)
        self.values = [(v, np.array(to_numpy(v))) for v in variables(model) if id(v) not in left]
        self._left = left
        # The number of the last mask update is restored too. Otherwise the next `fit` would skip updates.
        self._clocks = {
            id(store): (store.step, store.stamp, dict(store.chosen)) for store in mask_stores(model)
        }

    def restore(self) -> None:
        """Restore all variables. Variables that were created later get their initial values."""
        for variable, value in self.values:
            variable.assign(value)
        for store in mask_stores(self.model):
            store.step, store.stamp, chosen = self._clocks.get(id(store), (0, 0, {}))
            store.chosen.clear()
            store.chosen.update(chosen)
            store.restored = True
        known = {id(v) for v, _ in self.values} | {id(w) for w in self.model.variables} | self._left
        for variable in variables(self.model):
            if id(variable) not in known:
                # Optimizer slots are 0 at the beginning, and masks are True.
                fresh = np.ones if variable.dtype == "bool" else np.zeros
                variable.assign(fresh(tuple(variable.shape)))
