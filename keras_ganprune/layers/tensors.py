"""Values of variables and gradients: as tensors, as arrays, and masked."""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np
from keras import ops


def tensor(value: Any) -> Any:
    """Return the value of a variable as a tensor, since not every operation of a backend takes variables."""
    return ops.convert_to_tensor(value)


def masked(value: Any, mask: Any) -> Any:
    """Return a tensor with the pruned entries of a variable or tensor set to zero."""
    value, mask = tensor(value), tensor(mask)
    if keras.backend.backend() == "torch":
        return importlib.import_module("keras_ganprune.backend._masking_torch").masked(value, mask)
    return ops.where(mask, value, ops.zeros((), keras.backend.standardize_dtype(value.dtype)))


def to_numpy(variable: Any) -> np.ndarray:
    """Return the value of a variable as an array, without a copy where that is safe."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        # `convert_to_tensor` would return the variable itself, which NumPy copies. An operation returns a
        # tensor, whose memory NumPy shares.
        return np.asarray(ops.stop_gradient(variable))
    if backend == "torch":
        return importlib.import_module("keras_ganprune.backend._masking_torch").to_numpy(
            tensor(variable)
        )
    return np.asarray(ops.convert_to_numpy(tensor(variable)))


def dense_array(gradient: Any) -> np.ndarray:
    """Return a gradient as an array. Equal rows of a sparse gradient (of an embedding) are added."""
    if not all(hasattr(gradient, name) for name in ("indices", "values", "dense_shape")):
        return np.asarray(gradient)
    values = np.asarray(gradient.values)
    dense = np.zeros(tuple(np.asarray(gradient.dense_shape)), values.dtype)
    np.add.at(dense, np.asarray(gradient.indices), values)
    return dense
