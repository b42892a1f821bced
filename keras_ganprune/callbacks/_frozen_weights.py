"""Which pruned weights are really frozen: known once a step was made, not from `trainable` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight

# Entries of each weight that are compared.
_SAMPLE = 4096


class FrozenWeights:
    """Finds the pruned weights that training does not change.

    A GAN may set `discriminator.trainable = False` for a part of each step, so `trainable` says little
    between steps. A weight is frozen if `trainable` is False and training leaves it as it is: for one batch
    if Keras's own `train_step` trains the model, and for one epoch if a `train_step` of the user does.

    Args:
        model: The model that is fitted.
        weights: The pruned weights. Their values are noted, those that are trainable now are left out.
    """

    def __init__(self, model: keras.Model, weights: Sequence[MaskedWeight]):
        # Private name of the modules of Keras: there is no public way to ask who has defined a method.
        module = model.train_step.__module__ or ""  # None for a function made by `exec`
        self.own_step = not module.startswith("keras.")
        self._before = {
            weight.path: (weight, *_sample(weight))
            for weight in weights
            if not weight.variable.trainable
        }

    def found(self) -> list[str]:
        """Return the paths of the weights that are frozen, and forget all weights."""
        before, self._before = self._before, {}
        return [
            path
            for path, (weight, values, mask) in before.items()
            if not weight.variable.trainable and _unchanged(weight, values, mask)
        ]

    def __bool__(self) -> bool:
        return bool(self._before)


def _sample(weight: MaskedWeight) -> tuple[np.ndarray, np.ndarray]:
    """Return some entries of a weight, spread over all of it, and their mask."""
    arrays: list[Any] = [to_numpy(v).reshape(-1) for v in (weight.variable, weight.mask)]
    stride = -(-arrays[0].size // _SAMPLE)
    # Copies, because the arrays may share the memory of the variables.
    return arrays[0][::stride].copy(), arrays[1][::stride].copy()


def _unchanged(weight: MaskedWeight, values: np.ndarray, mask: np.ndarray) -> bool:
    """Return whether the entries that are kept now as before have their old values."""
    values_now, mask_now = _sample(weight)
    kept = mask & mask_now
    return bool(np.array_equal(values[kept], values_now[kept]))
