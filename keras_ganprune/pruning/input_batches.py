"""The inputs of a model, batch by batch, from arrays, data sets or any iterable of batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.errors import DataError


def of(model: Any, data: Any, steps: int | None, batch_size: int) -> Iterator[Any]:
    """Yield the inputs of a model, batch by batch."""
    input_count = input_count_of(model)
    if isinstance(data, tuple) and not one_array_per_input(data, input_count):
        data = keras.utils.unpack_x_y_sample_weight(data)[0]
    if isinstance(data, np.ndarray) and data.dtype.kind not in "fiub":
        raise DataError(f"`data` must be arrays of numbers. Received: dtype {data.dtype}.")
    if is_array(data) or one_array_per_input(data, input_count):
        return slices(data, steps, batch_size)
    return (_only_x(batch, input_count) for batch in stream(data, steps))


def input_count_of(model: Any) -> int:
    """Return the number of inputs of a model; 0 if it is unknown, as for a subclassed model."""
    inputs = getattr(model, "inputs", None)
    return len(inputs) if isinstance(inputs, (list, tuple)) else 0


def is_array(x: Any) -> bool:
    """Return whether a value is an array or tensor with a first axis of samples."""
    symbol = isinstance(x, keras.KerasTensor)
    return hasattr(x, "shape") and hasattr(x, "dtype") and len(x.shape) > 0 and not symbol


def one_array_per_input(data: Any, input_count: int) -> bool:
    """Return whether a structure holds one array per input, rather than batches or (x, y).

    If the number of inputs is unknown, a list counts as one array per input, as it does in `fit`.
    """
    if isinstance(data, dict):
        return bool(data) and all(is_array(x) for x in data.values())
    if not isinstance(data, (list, tuple)) or not data or not all(is_array(x) for x in data):
        return False
    return len(data) == input_count > 1 or (input_count == 0 and isinstance(data, list))


def _only_x(batch: Any, input_count: int) -> Any:
    if isinstance(batch, dict) or one_array_per_input(batch, input_count):
        return list(batch) if isinstance(batch, tuple) else batch
    return keras.utils.unpack_x_y_sample_weight(batch)[0]


def slices(data: Any, steps: int | None, batch_size: int) -> Iterator[Any]:
    """Yield slices of one array, or of the arrays in a list, tuple or dict."""
    parts = data.values() if isinstance(data, dict) else [data] if is_array(data) else data
    sizes = {int(part.shape[0]) for part in parts}
    if len(sizes) != 1:
        raise DataError(
            f"All inputs must have the same number of samples. Received: {sorted(sizes)} samples."
        )
    size = sizes.pop()
    for start in range(0, size, batch_size)[:steps]:
        where = slice(start, start + batch_size)
        if is_array(data):
            yield ops.convert_to_tensor(data[where])
        elif isinstance(data, dict):
            yield {name: ops.convert_to_tensor(part[where]) for name, part in data.items()}
        else:
            yield [ops.convert_to_tensor(part[where]) for part in data]


# They can be iterated over, but their entries are no batches; an array without axes is here too.
_NO_BATCHES = (str, bytes, set, frozenset, np.ndarray, keras.KerasTensor)


def stream(data: Any, steps: int | None) -> Iterator[Any]:
    """Return the batches of a stream, `steps` at most."""
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        numbers = itertools.count() if count is None else range(count)
        batches, endless = (data[i] for i in numbers), count is None
    elif isinstance(data, Iterable) and not isinstance(data, _NO_BATCHES):
        # tf.data reports -1 for an infinite data set.
        cardinality = getattr(data, "cardinality", None)
        batches, endless = iter(data), cardinality is not None and cardinality() == -1
    else:
        raise DataError(
            "`data` must be arrays, a `PyDataset`, a `tf.data.Dataset` or an iterable of batches. "
            f"Received: {data!r} (of type {type(data).__name__})."
        )
    if endless and steps is None:
        raise DataError("The data has no end. Pass `steps`, the number of batches to use.")
    return itertools.islice(batches, steps)


def of_gan(data: Any, steps: int | None, batch_size: int) -> Iterator[Any]:
    """Yield batches of what `fit` of a GAN gets: (images,), (images, labels) or (inputs, targets)."""
    if is_array(data):
        return ((x,) for x in slices(data, steps, batch_size))
    parts = keras.tree.flatten(data) if isinstance(data, tuple) else []
    if parts and all(is_array(x) for x in parts):
        # (images, labels), or (inputs, targets) with several inputs.
        return (
            keras.tree.pack_sequence_as(data, batch) for batch in slices(parts, steps, batch_size)
        )
    return stream(data, steps)
