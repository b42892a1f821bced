"""Masks of a converted model, from TFMOT's masks or from the zeros of a stripped model."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import PruningWarning, UnsupportedLayerError
from keras_ganprune.layers.traversal import masked_weights, prunable_candidates
from keras_ganprune.layers.upgrade import upgrade_layers
from keras_ganprune.layers.zeros_to_masks import masks_from_zeros as take_zeros


def copy_masks(model: keras.Model, wrappers: list[Any], variables: dict[int, Any]) -> None:
    """Give a converted model the masks of TFMOT's wrappers.

    Args:
        model: The converted model.
        wrappers: The wrappers of the old model.
        variables: The new variables, by the id of the old variable.

    Raises:
        UnsupportedLayerError: The Keras 3 class of a pruned layer is not prunable.
    """
    masks: dict[int, np.ndarray] = {}
    for wrapper in wrappers:
        for weight, mask, _ in wrapper.pruning_vars:
            key = id(variables[id(weight)])
            # A layer in two wrappers gets both masks, one after the other.
            masks[key] = masks.get(key, True) & (mask.numpy() != 0)
    _make_prunable_with(model, set(masks))
    for weight in masked_weights(model):
        if id(weight.variable) in masks:
            weight.mask.assign(masks.pop(id(weight.variable)))
            weight.apply()
    if masks:
        layer = next(
            wrapper.layer
            for wrapper in wrappers
            for weight, _, _ in wrapper.pruning_vars
            if id(variables[id(weight)]) in masks
        )
        name = type(layer).__name__
        raise UnsupportedLayerError(
            f"'{layer.name}' ({name}) has a mask in TFMOT, but its Keras 3 class is not prunable. Call "
            f"`keras_ganprune.register_prunable({name}, ['my_kernel'])` with that class first."
        )


def _make_prunable_with(model: keras.Model, variables: set[int]) -> None:
    """Make the layers Prunable that hold some variables, given by their ids."""
    layers = {
        id(layer)
        for _, layer in prunable_candidates(model)
        if any(id(weight) in variables for weight in layer.weights)
    }
    if layers:
        upgrade_layers(model, scope=lambda layer: id(layer) in layers)


def masks_from_zeros(model: keras.Model) -> None:
    """Make all layers Prunable that can be pruned. Each weight that is exactly zero counts as pruned."""
    for path in take_zeros(model).untouched:
        warnings.warn(
            f"All entries of '{path}' are zero. Pruning keeps at least one entry, so none of them counts as "
            "pruned.",
            PruningWarning,
            stacklevel=3,
        )
