"""Pruning for a moment: afterwards a network is what it was, bit for bit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.mask_store import MaskStore, masked, to_numpy
from keras_ganprune.layers.traversal import masked_weights, prunable_layers
from keras_ganprune.layers.upgrade import drop_empty_masks
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training import discovery


class Moment:
    """A context in which a network may be pruned, and after which it never was.

    Weights, masks, what masks have put away, constraints and classes of layers are as before, bit for bit.
    """

    def __init__(self, model: keras.Model, network: keras.layers.Layer):
        self.network = network
        self.copies = list(discovery.averages_of(model, network).values())

    def __enter__(self) -> Moment:
        self._stores = {id(layer): _StoreState(layer.pruning_masks) for _, layer in self._masked()}
        variables = [w for each in (self.network, *self.copies) for w in each.weights]
        self._values = [(v, np.array(to_numpy(v))) for v in variables]
        self._constraints = [(w, w.constraint) for w in self.network.weights]
        return self

    def _masked(self) -> list[tuple[str, Any]]:
        return prunable_layers(self.network)

    def restore(self) -> None:
        """Put weights and masks back as they were at the beginning."""
        for _, layer in self._masked():
            known = self._stores.get(id(layer))
            for name, mask in layer.pruning_masks.masks.items():
                fresh = np.ones(tuple(mask.shape), dtype=bool)
                mask.assign(fresh if known is None else known.masks.get(name, fresh))
        for variable, value in self._values:
            variable.assign(value)

    def prune_copies(self, pruner: Pruner) -> None:
        """Prune averages of the network alike."""
        keeps = {id(w.variable): w.mask for w in masked_weights(pruner.models[0])}
        for copy in self.copies:
            for own, weight in zip(self.network.weights, copy.weights, strict=True):
                if id(own) in keeps:
                    weight.assign(masked(weight, keeps[id(own)]))

    def __exit__(self, *error) -> None:
        self.restore()
        for _, layer in self._masked():
            known = self._stores.get(id(layer))
            store = layer.pruning_masks
            for name in list(store.masks):
                if known is None or name not in known.masks:
                    del store.masks[name], store.weights_by_name[name]
            if known is None:
                drop_empty_masks(layer)
            else:
                known.restore()
        for weight, constraint in self._constraints:
            weight.constraint = constraint


class _StoreState:
    """What the masks of one layer are, and what they have put away."""

    def __init__(self, store: MaskStore):
        self.store = store
        self.masks = {name: np.array(to_numpy(mask)) for name, mask in store.masks.items()}
        self.chosen = dict(store.chosen)
        self.hidden = {name: np.array(to_numpy(v)) for name, v in store.hidden.items()}
        self.collecting = {
            name: weight.constraint.hidden for name, weight in store.weights_by_name.items()
        }

    def restore(self) -> None:
        """Put back all but the masks themselves."""
        self.store.chosen.clear()
        self.store.chosen.update(self.chosen)
        for name, value in self.hidden.items():
            self.store.hidden[name].assign(value)
        for name, hidden in self.collecting.items():
            self.store.weights_by_name[name].constraint.hidden = hidden
