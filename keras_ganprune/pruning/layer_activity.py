"""What the layers of a network receive and return on calibration inputs, in inference mode."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.utils import validation

# Samples of one forward pass.
_BATCH = 64

Visit = Callable[[keras.layers.Layer, Any, Any], None]


def observe(
    network: keras.layers.Layer,
    layers: Sequence[keras.layers.Layer],
    calibration: Any,
    visit: Visit,
) -> None:
    """Run a network on calibration inputs, and visit each call of some of its layers.

    Args:
        network: A built network.
        layers: Layers of it.
        calibration: Inputs of the network: an array, or a list or dict of arrays.
        visit: Function (layer, first input, output), which receives tensors or NumPy arrays.

    Raises:
        DataError: As for `batches`.
        InvalidArgumentError: The network cannot be called with the inputs.
    """
    with _visited(layers, visit):
        for batch in batches(calibration, network.name):
            try:
                network(batch, training=False)  # pyright: ignore[reportCallIssue]
            except Exception as error:
                shapes = keras.tree.map_structure(np.shape, batch)
                raise InvalidArgumentError(
                    f"Calibration inputs must be inputs of '{network.name}'. Received arrays of the shapes "
                    f"{shapes} per batch, which it cannot be called with: {type(error).__name__}: "
                    f"{' '.join(str(error).split())[:300]}"
                ) from error


def batches(calibration: Any, name: str, size: int = _BATCH) -> Iterator[Any]:
    """Yield the calibration inputs of a network in batches.

    Args:
        calibration: An array, or a structure of arrays.
        name: Name of the network, for errors.
        size: Largest number of samples per batch. Defaults to 64.

    Raises:
        DataError: There are no rows, different numbers of rows, or entries that are no finite numbers.
    """
    if isinstance(calibration, tuple):
        calibration = list(calibration)
    arrays = keras.tree.map_structure(
        lambda x: validation.samples(x, "calibration inputs"), calibration
    )
    flat = keras.tree.flatten(arrays)
    counts = {len(x) for x in flat}
    if len(counts) != 1 or 0 in counts:
        raise DataError(
            f"Calibration inputs must hold the same number of samples for each input of '{name}', at least "
            f"one. Received arrays of the shapes {[x.shape for x in flat]}."
        )
    for start in range(0, counts.pop(), size):
        yield keras.tree.map_structure(lambda x, at=start: x[at : at + size], arrays)


@contextlib.contextmanager
def _visited(layers: Sequence[keras.layers.Layer], visit: Visit) -> Iterator[None]:
    """Within the context, an attribute of each layer hides the `call` of its class, which Keras reads."""

    def visiting(layer: keras.layers.Layer) -> Callable[..., Any]:
        call = layer.call

        @functools.wraps(call)
        def call_and_visit(*args, **kwargs):
            outputs = call(*args, **kwargs)
            leaves = keras.tree.flatten((args, kwargs))
            visit(layer, next((x for x in leaves if keras.ops.is_tensor(x)), None), outputs)
            return outputs

        return call_and_visit

    hooked = list({id(layer): layer for layer in layers}.values())
    for layer in hooked:
        # Past Keras's attribute tracking, which must not track a function.
        object.__setattr__(layer, "call", visiting(layer))
    try:
        yield
    finally:
        for layer in hooked:
            object.__delattr__(layer, "call")


def values_of(tensor: Any) -> np.ndarray | None:
    """Return a tensor as an array; None if it has no values because the layer runs inside a traced loop."""
    try:
        array = to_numpy(tensor)
    except Exception:
        return None
    return (
        array.astype(np.float32) if array.dtype.itemsize < 4 and array.dtype.kind != "i" else array
    )


def channels_last(array: np.ndarray, layer: keras.layers.Layer) -> np.ndarray:
    """Return an input or output of a layer with the channels as its last axis."""
    if getattr(layer, "data_format", None) == "channels_first" and array.ndim > 2:
        return np.moveaxis(array, 1, -1)
    return array
