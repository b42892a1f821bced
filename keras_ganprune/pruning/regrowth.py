"""What becomes of the values of weights that are pruned, and of those that return."""

from __future__ import annotations

import numpy as np

from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.modes import Mode


def exchange_values(
    weight: MaskedWeight, mode: Mode, pruned: np.ndarray, grown: np.ndarray
) -> None:
    """Put away the values of what is pruned, and give what returns the value that the mode says.

    Args:
        pruned, grown: Bool arrays of the shape of the weight: what an update removes, and brings back.
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
    put_away = np.array(to_numpy(hidden))
    put_away[pruned] = value[pruned]
    if mode.restore == "previous" and grown.any():
        value[grown] = put_away[grown].astype(value.dtype)
        weight.variable.assign(value)
    put_away[grown] = 0.0
    hidden.assign(put_away)


def _fresh_values(weight: MaskedWeight) -> np.ndarray:
    """Return new values from the initializer of a weight's layer, or zeros where it has none."""
    *parents, name = weight.name.split(".")
    holder = weight.layer
    for parent in parents:
        holder = getattr(holder, parent)
    # Keras: `kernel_initializer`, but `recurrent_initializer` for the `recurrent_kernel`, and
    # `depthwise_initializer` for a depthwise convolution's only `kernel`.
    names = (name, name.removesuffix("_kernel"), "depthwise")
    found = (getattr(holder, f"{each}_initializer", None) for each in names)
    initializer = next((each for each in found if each is not None), None)
    if initializer is None:
        return np.zeros(weight.mask.shape, dtype="float32")
    # A new seed each time: Keras's own initializers give the same values at every call.
    config = initializer.get_config()
    if "seed" in config:
        config["seed"] = None
    return to_numpy(type(initializer).from_config(config)(weight.mask.shape, dtype="float32"))
