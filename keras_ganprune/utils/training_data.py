"""Checks of what is passed to `fit`, before Keras stops in the middle of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DataError
from keras_ganprune.utils import validation

_FORMS = "arrays, a `tf.data.Dataset`, a `PyDataset` or a generator of batches"


def check(model: keras.Model, data: Any, labels: Any) -> None:
    """Check inputs and labels. Of a stream only the type is checked: it may be read once only.

    Args:
        model: The model that is fitted.
        data: The argument `x` of `fit`.
        labels: The argument `y` of `fit`, or None.

    Raises:
        DataError: They are no data, empty, not numeric, not finite, of another length, or do not have the
            shape of the model's input; or `labels` are given although `data` is a stream.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> check(model, np.ones((8, 4)), np.ones((8, 1)))
    """
    if not _may_be_data(data):
        raise DataError(f"`data` must be {_FORMS}. Received: {_short(data)}.")
    arrays = _arrays(data, "data")
    targets = [] if labels is None else _arrays(labels, "labels")
    if labels is not None and not arrays and not hasattr(data, "shape"):
        raise DataError(
            "`labels` must be None if `data` is a stream: each batch of a stream is a pair (inputs, labels). "
            f"Received: {_short(labels)}, with `data` of type {type(data).__name__}. Put the labels into the "
            "batches, or pass `data` as an array."
        )
    if labels is not None and arrays and not targets:
        raise DataError(f"`labels` must be arrays, as `data` is. Received: {_short(labels)}.")
    if arrays and len({len(array) for array in (*arrays, *targets)}) > 1:
        lengths = [len(array) for array in (*arrays, *targets)]
        raise DataError(
            f"`data` and `labels` must have one entry per sample. Received: {lengths} entries."
        )
    if labels is None and arrays and needs_labels(model):
        raise DataError(
            f"`labels` are missing: '{model.name}' is compiled with a loss that compares them."
        )
    _check_shape(model, arrays)


def needs_labels(model: keras.Model) -> bool:
    """Return whether a model is trained by a compiled loss, which compares outputs with labels."""
    own = type(model).train_step is not keras.Model.train_step
    own = own or type(model).compute_loss is not keras.Model.compute_loss
    return not own and getattr(model, "loss", None) is not None


def _may_be_data(value: Any) -> bool:
    plain = (str, bytes, bool, int, float, complex, type, keras.layers.Layer, np.generic)
    plain = (*plain, set, frozenset, keras.KerasTensor)
    if value is None or isinstance(value, plain) or inspect.isroutine(value):
        return False
    return any(hasattr(value, name) for name in ("shape", "__iter__", "__getitem__"))


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _arrays(value: Any, name: str) -> list[Any]:
    """Return the arrays of a value, checked; an empty list for a stream."""
    if not (_is_array(value) or isinstance(value, (list, tuple, Mapping))):
        return []
    leaves: list[Any] = keras.tree.flatten(value)  # pyright: ignore[reportAssignmentType]
    if leaves and not any(_is_array(leaf) for leaf in leaves):
        try:
            leaves = [np.asarray(value)]
        except ValueError:
            leaves = [np.empty(0, object)]
    if not leaves or any(not _is_array(leaf) or 0 in tuple(leaf.shape) for leaf in leaves):
        raise DataError(f"`{name}` must hold at least one sample. Received: {_short(value)}.")
    for leaf in leaves:
        _check_numbers(leaf, name)
    return leaves


def _check_numbers(array: Any, name: str) -> None:
    kind = array.dtype.kind if isinstance(array, np.ndarray) else "f"
    if kind in "OcMm" or not tuple(array.shape) or isinstance(array, keras.KerasTensor):
        raise DataError(
            f"`{name}` must be arrays of numbers, one row per sample. Received: a "
            f"{type(array).__name__} of shape {tuple(array.shape)}, dtype {array.dtype}."
        )
    if isinstance(array, np.ndarray):
        validation.check_finite(array, name)


def _check_shape(model: keras.Model, arrays: list[Any]) -> None:
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) != len(arrays) or len(arrays) != 1:
        return
    expected, found = tuple(inputs[0].shape)[1:], tuple(arrays[0].shape)[1:]
    # Keras adds or takes away a last axis of size 1.
    if len(expected) != len(found) and {len(expected), len(found)} == {0, 1}:
        return
    if len(expected) != len(found) or any(
        a not in (None, b) for a, b in zip(expected, found, strict=True)
    ):
        raise DataError(
            f"`data` must have the shape of the model's input, (samples, {', '.join(map(str, expected))}). "
            f"Received: {tuple(arrays[0].shape)}."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:80] + '…'} (of type {type(value).__name__})"
