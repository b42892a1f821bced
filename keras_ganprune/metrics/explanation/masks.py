"""How many weights masks would leave, computed without masks."""

from __future__ import annotations

import keras
import numpy as np

from keras_ganprune.layers.covered_kernels import maskable_kernels
from keras_ganprune.layers.mask_ops import kept_count
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import masked_weights


def zeros_by_masks(network: keras.layers.Layer, sparsity: float) -> int:
    """Return how many weights that are not zero now become zero at a sparsity.

    These are the masks of `Prune` with its default arguments: in each kernel the smallest weights go, zeros
    first, and what is pruned already stays pruned.

    Args:
        network: Built network.
        sparsity: Float in [0, 1), the same in every kernel.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> zeros_by_masks(model, 0.8)
    16
    """
    masks = {id(weight.variable): weight.mask for weight in masked_weights(network)}
    kernels = {id(variable): variable for *_, variable in maskable_kernels([network])}
    removed = 0
    for key, variable in kernels.items():
        value = to_numpy(variable)
        kept = value.size
        if key in masks:
            kept = int(np.count_nonzero(to_numpy(masks[key])))
        nonzero = int(np.count_nonzero(value))
        removed += nonzero - min(nonzero, kept, kept_count(value.size, sparsity))
    return removed
