"""A copy of the state of a training run in memory, from which the state can be restored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras
import numpy as np

from keras_ganprune.backend import tracing
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
    return list(_by_place(model).values())


def _by_place(model: keras.Model) -> dict[str, keras.Variable]:
    """Return the variables of a training run, each by its place in the model.

    A place is the same in another process that makes the same model, whether or not its layers have masks
    yet.
    """
    places: dict[str, keras.Variable] = {}
    for number, store in _stores_by_number(model).items():
        places |= {f"mask {number} {name}": v for name, v in store.masks.items()}
        places |= {f"hidden {number} {name}": v for name, v in store.hidden.items()}
    places |= {f"variable {i}": v for i, v in enumerate(model.variables)}
    # On JAX optimizers also have masks, which are above, and gradients that are sampled, which no other
    # backend keeps here.
    added = {id(v) for o in discovery.optimizers(model) for _, v in tracing.tracked(o)}
    # Optimizers are not unwrapped, because the scale of a loss-scaling optimizer is a variable too.
    for number, optimizer in enumerate(discovery.optimizers(model, unwrap=False)):
        own = [v for v in optimizer.variables if id(v) not in added]
        places |= {f"optimizer {number} {i}": v for i, v in enumerate(own)}
    first = {id(v): place for place, v in reversed(places.items())}
    return {place: v for place, v in places.items() if first[id(v)] == place}


def _stores_by_number(model: keras.layers.Layer) -> dict[int, MaskStore]:
    """Return the mask stores of a model by the number of their layer, which masks do not change."""
    stores = {id(layer): layer.pruning_masks for _, layer in prunable_layers(model)}
    return {
        number: stores[id(layer)]
        for number, layer in enumerate(model._flatten_layers())
        if id(layer) in stores
    }


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
        self._left = set(leave)
        places = _by_place(model)
        self._places = {id(v): place for place, v in places.items()}
        self.values = [
            (v, np.array(to_numpy(v))) for v in places.values() if id(v) not in self._left
        ]
        # Values of variables that the model did not have yet when the copy was read from a file.
        self._later: dict[str, np.ndarray] = {}
        # The number of the last mask update is restored too. Otherwise the next `fit` would skip updates.
        self._clocks = {
            id(store): (store.step, store.stamp, dict(store.chosen)) for store in mask_stores(model)
        }

    def restore(self) -> None:
        """Restore all variables. Variables that were created later get their initial values."""
        now = _by_place(self.model)
        later = [(now[place], value) for place, value in self._later.items() if place in now]
        known = {id(v) for v, _ in [*self.values, *later]} | self._left
        known |= {id(w) for w in self.model.variables}
        # Before the values: a weight that had no mask then must not meet the mask that it got since.
        for variable in now.values():
            if id(variable) not in known:
                # Optimizer slots are 0 at the beginning, and masks are True.
                fresh = np.ones if variable.dtype == "bool" else np.zeros
                variable.assign(fresh(tuple(variable.shape)))
        for variable, value in [*later, *self.values]:
            variable.assign(value)
        for store in mask_stores(self.model):
            store.step, store.stamp, chosen = self._clocks.get(id(store), (0, 0, {}))
            store.chosen.clear()
            store.chosen.update(chosen)
            store.restored = True

    # --- in a file -------------------------------------------------------------------------------

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the copy as arrays that can be saved."""
        arrays = {self._places[id(v)]: value for v, value in self.values} | self._later
        for number, store in _stores_by_number(self.model).items():
            step, stamp, chosen = self._clocks.get(id(store), (0, 0, {}))
            arrays[f"clock {number}"] = np.array([step, stamp], dtype=np.int64)
            arrays |= {f"chosen {number} {name}": keep for name, keep in chosen.items()}
        return arrays

    @classmethod
    def from_arrays(
        cls, model: keras.Model, arrays: Mapping[str, np.ndarray], leave: Iterable[int] = ()
    ) -> TrainingState | None:
        """Return a copy that another process has saved, or None if it does not fit the model.

        Args:
            model: The same model, made anew.
            arrays: The result of `to_arrays`.
            leave: Ids of variables that are not restored.
        """
        state = cls(model, leave)
        shapes = {place: tuple(v.shape) for place, v in _by_place(model).items()}
        values = {p: np.asarray(v) for p, v in arrays.items() if p.split()[0] in _KINDS}
        if any(shapes.get(place, value.shape) != value.shape for place, value in values.items()):
            return None
        needed = [(v, state._places[id(v)]) for v, _ in state.values]
        if any(place not in values for _, place in needed if place.split()[0] in _KINDS[2:]):
            return None
        state.values = [(v, values.pop(place)) for v, place in needed if place in values]
        state._later = values
        for number, store in _stores_by_number(model).items():
            step, stamp = map(int, arrays.get(f"clock {number}", (0, 0)))
            prefix = f"chosen {number} "
            chosen = {n[len(prefix) :]: v for n, v in arrays.items() if n.startswith(prefix)}
            state._clocks[id(store)] = (step, stamp, {n: np.asarray(v) for n, v in chosen.items()})
        return state


# Kinds of places: those that a model may get later, then those that it has from the beginning.
_KINDS = ("mask", "hidden", "variable", "optimizer")
