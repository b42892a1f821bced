"""Prune a network temporarily, and restore it bit for bit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.guard import unguard
from keras_ganprune.layers.mask_store import MaskStore
from keras_ganprune.layers.tensors import masked, to_numpy
from keras_ganprune.layers.traversal import masked_weights, prunable_layers
from keras_ganprune.layers.upgrade import drop_empty_masks
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training import discovery


class TemporaryPruning:
    """Context in which a network may be pruned. The network is restored at the end.

    Weights, masks, stored values of pruned weights, constraints and layer classes are restored bit for bit.

    Args:
        model: The model that the network belongs to.
        network: The network to be pruned.

    Attributes:
        copies: List of the averaged copies of the network in the model.
    """

    def __init__(self, model: keras.Model, network: keras.layers.Layer):
        self.network = network
        self.copies = list(discovery.averages_of(model, network).values())
        self._stores: dict[int, _SavedStore] = {}
        self._values: list[tuple[keras.Variable, np.ndarray]] = []
        self._constraints: list[tuple[keras.Variable, Any]] = []

    def __enter__(self) -> TemporaryPruning:
        self._stores = {id(layer): _SavedStore(layer.pruning_masks) for layer in self._masked()}
        variables = [w for network in (self.network, *self.copies) for w in network.weights]
        self._values = [(v, np.array(to_numpy(v))) for v in variables]
        self._constraints = [(w, w.constraint) for w in self.network.weights]
        return self

    def _masked(self) -> list[Any]:
        return [layer for _, layer in prunable_layers(self.network)]

    def restore(self) -> None:
        """Restore the weights and masks that the network had at the beginning."""
        for layer in self._masked():
            saved = self._stores.get(id(layer))
            for name, mask in layer.pruning_masks.masks.items():
                dense = np.ones(tuple(mask.shape), dtype=bool)
                mask.assign(dense if saved is None else saved.masks.get(name, dense))
        for variable, value in self._values:
            variable.assign(value)

    def prune_copies(self, pruner: Pruner) -> None:
        """Apply the masks of the network to its averaged copies."""
        masks = {id(w.variable): w.mask for w in masked_weights(pruner.models[0])}
        for copy in self.copies:
            for original, weight in zip(self.network.weights, copy.weights, strict=True):
                if id(original) in masks:
                    weight.assign(masked(weight, masks[id(original)]))

    def __exit__(self, *error: object) -> None:
        self.restore()
        for layer in self._masked():
            saved = self._stores.get(id(layer))
            store = layer.pruning_masks
            for name in list(store.masks):
                if saved is None or name not in saved.masks:
                    del store.masks[name]
                    unguard(store.weights_by_name.pop(name))
            if saved is None:
                drop_empty_masks(layer)
            else:
                saved.restore()
        for weight, constraint in self._constraints:
            weight.constraint = constraint


class _SavedStore:
    """The masks of one layer, and the values that its store keeps for pruned weights."""

    def __init__(self, store: MaskStore):
        self.store = store
        self.masks = {name: np.array(to_numpy(mask)) for name, mask in store.masks.items()}
        self.chosen = dict(store.chosen)
        self.hidden = {name: np.array(to_numpy(v)) for name, v in store.hidden.items()}
        self.collectors = {
            name: weight.constraint.hidden for name, weight in store.weights_by_name.items()
        }

    def restore(self) -> None:
        """Restore everything except the masks themselves."""
        self.store.chosen.clear()
        self.store.chosen.update(self.chosen)
        for name, value in self.hidden.items():
            self.store.hidden[name].assign(value)
        for name, hidden in self.collectors.items():
            self.store.weights_by_name[name].constraint.hidden = hidden
