"""The values that the initializer of a layer gives to a weight."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.computed_kernels import owner_of
from keras_ganprune.layers.tensors import to_numpy


def initial_values(layer: Any, name: str) -> np.ndarray | None:
    """Return the values that the initializer of a weight gives, or None if the layer has none for it.

    A random initializer gives other values than the weight began with, but no zeros either.

    Args:
        layer: Built Keras layer.
        name: Attribute path of the weight, such as 'kernel' or 'cell.recurrent_kernel'.
    """
    owner, attribute = owner_of(layer, name)
    variable = getattr(owner, f"_{attribute}", None)
    variable = getattr(owner, attribute, None) if variable is None else variable
    for prefix in (attribute, attribute.removesuffix("_kernel"), "kernel"):
        initializer = getattr(owner, f"{prefix}_initializer", None)
        if callable(initializer) and isinstance(variable, keras.Variable):
            with contextlib.suppress(Exception):  # An initializer of a user's own may need more.
                return to_numpy(initializer(tuple(variable.shape), dtype=variable.dtype))
    return None
