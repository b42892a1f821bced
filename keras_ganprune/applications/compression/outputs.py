"""What the outputs of a network are, so that it can be a teacher: probabilities or values."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DataError
from keras_ganprune.layers.tensors import to_numpy

_SAMPLES = 64


def kinds_of_outputs(network: keras.Model, x: Any) -> list[str]:
    """Return 'softmax', 'sigmoid' or 'values' for each output of a network, by its outputs for some data.

    Args:
        network: Built network.
        x: Inputs: arrays, or a stream of batches, of which the first is read.

    Raises:
        DataError: The network does not take them.

    Example:
    >>> from keras_ganprune.applications.compression.outputs import kinds_of_outputs
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> kinds_of_outputs(model, np.ones((8, 4)))
    ['softmax']
    """
    few = keras.tree.map_structure(keras.ops.convert_to_tensor, first_inputs(x))
    try:
        outputs = network(few, training=False)
    except Exception as error:
        inputs = [tuple(tensor.shape) for tensor in getattr(network, "inputs", None) or []]
        expected = f", inputs of the shapes {inputs}" if inputs else ""
        raise DataError(
            f"`data` must be what '{network.name}' takes{expected}. Received: {shapes(few)}. "
            f"{type(error).__name__}: {in_one_line(error)}"
        ) from error
    return [_kind(to_numpy(y)) for y in keras.tree.flatten(outputs)]


def first_inputs(x: Any) -> Any:
    """Return the first samples of arrays, or the inputs of the first batch of a stream."""
    leaves = keras.tree.flatten(x)
    if leaves and all(hasattr(leaf, "shape") for leaf in leaves):
        return keras.tree.map_structure(lambda array: array[:_SAMPLES], x)
    batch = x[0] if isinstance(x, keras.utils.PyDataset) else next(iter(x))
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def shapes(structure: Any) -> str:
    """Return the shapes of arrays in a structure as text."""
    return str(keras.tree.map_structure(lambda array: tuple(np.shape(array)), structure))


def in_one_line(error: BaseException) -> str:
    """Return the beginning of the text of an error that another library has raised."""
    plain = re.sub(r"\x1b\[\d*m", "", str(error))
    return " ".join(plain.split())[:200]


def _kind(values: np.ndarray) -> str:
    values = np.asarray(values, "float64")
    if values.ndim < 2 or values.min() < 0.0 or values.max() > 1.0:
        return "values"
    if values.shape[-1] > 1 and np.allclose(values.sum(axis=-1), 1.0, atol=1e-3):
        return "softmax"
    # Labels in [0, 1] next to an output that only a sigmoid keeps there.
    return "sigmoid" if values.shape[-1] == 1 or values.ndim == 2 else "values"
