"""Stores the values of pruned weights, and initialises weights that return."""

from __future__ import annotations

import numpy as np

from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.modes import Mode


def exchange_values(
    weight: MaskedWeight, mode: Mode, pruned: np.ndarray, grown: np.ndarray
) -> None:
    """Store the values of newly pruned entries, and set returning entries to the value the mode defines.

    Args:
        weight: The weight, before its mask changes.
        mode: The mode, whose `restore` is 'zero', 'initializer' or 'previous'.
        pruned: Bool array of the shape of the weight, the entries that an update prunes.
        grown: Bool array of the shape of the weight, the entries that it brings back.
    """
    hidden = weight.layer.pruning_masks.hidden.get(weight.name)
    if hidden is None and not grown.any():
        return
    value = np.array(to_numpy(weight.variable))
    if mode.restore == "initializer" and grown.any() and mode.enforced:
        value[grown] = np.asarray(_fresh_values(weight), dtype=value.dtype)[grown]
        weight.variable.assign(value)
    if hidden is None:
        return
    stored = np.array(to_numpy(hidden))
    stored[pruned] = value[pruned]
    if mode.restore == "previous" and grown.any():
        value[grown] = stored[grown].astype(value.dtype)
        weight.variable.assign(value)
    stored[grown] = 0.0
    hidden.assign(stored)


def _fresh_values(weight: MaskedWeight) -> np.ndarray:
    """Return new values from the initializer of a weight, or zeros if it has none."""
    *parents, name = weight.name.split(".")
    holder = weight.layer
    for parent in parents:
        holder = getattr(holder, parent)
    # Keras: `kernel_initializer`, but `recurrent_initializer` for the `recurrent_kernel`, and
    # `depthwise_initializer` for a depthwise convolution's only `kernel`.
    names = (name, name.removesuffix("_kernel"), "depthwise")
    initializers = (getattr(holder, f"{prefix}_initializer", None) for prefix in names)
    initializer = next((i for i in initializers if i is not None), None)
    if initializer is None:
        return np.zeros(weight.mask.shape, dtype="float32")
    # A new seed each time: Keras's own initializers give the same values at every call.
    config = initializer.get_config()
    if "seed" in config:
        config["seed"] = None
    return to_numpy(type(initializer).from_config(config)(weight.mask.shape, dtype="float32"))
