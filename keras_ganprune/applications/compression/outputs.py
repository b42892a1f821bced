"""What the outputs of a network are, so that it can be a teacher: probabilities or values."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.tensors import to_numpy

_SAMPLES = 64


def kinds_of_outputs(network: keras.Model, x: Any) -> list[str]:
    """Return 'softmax', 'sigmoid' or 'values' for each output of a network, by its outputs for some data.

    Args:
        network: Built network.
        x: Inputs: arrays, or a stream, for which the answer is 'values'.

    Example:
    >>> from keras_ganprune.applications.compression.outputs import kinds_of_outputs
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> kinds_of_outputs(model, np.ones((8, 4)))
    ['softmax']
    """
    leaves = keras.tree.flatten(x)
    if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
        return ["values"]
    few = keras.tree.map_structure(lambda a: keras.ops.convert_to_tensor(a[:_SAMPLES]), x)
    return [_kind(to_numpy(y)) for y in keras.tree.flatten(network(few, training=False))]


def _kind(values: np.ndarray) -> str:
    values = np.asarray(values, "float64")
    if values.ndim < 2 or values.min() < 0.0 or values.max() > 1.0:
        return "values"
    if values.shape[-1] > 1 and np.allclose(values.sum(axis=-1), 1.0, atol=1e-3):
        return "softmax"
    # Labels in [0, 1] next to an output that only a sigmoid keeps there.
    return "sigmoid" if values.shape[-1] == 1 or values.ndim == 2 else "values"
