"""Checks of the images and labels that a GAN is trained on, before the first step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DataError, PruningWarning
from keras_ganprune.gan.network_checks import output_shape, shapes_match

# Share of the value range by which images may lie outside without a warning.
_SLACK = 0.01


def labels_for(n: int, labels: Any, takes_labels: bool) -> np.ndarray | None:
    """Return the labels for `n` images as an array, or None for networks without labels.

    Raises:
        DataError: Labels are missing or not expected, or their number is not `n`.
    """
    if not takes_labels:
        if labels is not None:
            raise DataError("The networks take no labels. Call `generate(n)` without `labels`.")
        return None
    if labels is None:
        raise DataError(
            f"The networks are conditional: pass `labels`, one for each of the {n} images."
        )
    labels = np.asarray(labels)
    if labels.ndim == 0 or len(labels) != n:
        raise DataError(
            f"`labels` must hold one label for each of the {n} images. Received: shape {labels.shape}."
        )
    return labels


def data(gan: Any, x: Any, y: Any) -> None:
    """Check the training data of `fit`. Arrays are checked as a whole, streams by their first batch.

    Args:
        gan: The model that is fitted.
        x: The argument `x` of `fit`.
        y: The argument `y` of `fit`.

    Raises:
        DataError: The data is empty, not numeric, not finite or of the wrong shape, or the labels do not
            fit the images or the networks.
    """
    if x is None:
        raise DataError("`fit` needs images. Received: None.")
    if isinstance(x, (str, bytes, bool, int, float, complex, Mapping)):
        raise DataError(
            "`fit` takes images as one array (and labels as a second argument), a `tf.data.Dataset` or a "
            f"`PyDataset`. Received: {_short(x)}."
        )
    if isinstance(x, (list, tuple)) and not isinstance(x[0] if len(x) else None, (int, float)):
        raise DataError(
            "`fit` takes images as one array (and labels as a second argument), a `tf.data.Dataset` or a "
            f"`PyDataset`. Received: a {type(x).__name__} of {len(x)}."
        )
    if isinstance(x, np.ndarray) or is_tensor(x):
        _check_images(gan, np.asarray(x), whole=True)
        gan.unpack((x, y) if y is not None else (x,))
        if y is not None and len(y) != len(x):
            raise DataError(
                f"There must be one label per image. Received: {len(x)} images, {len(y)} labels."
            )
        return
    batch = first_batch(x)
    if batch is not None:
        images, _ = gan.unpack(batch)
        _check_images(gan, np.asarray(images), whole=False)


def _short(x: Any) -> str:
    return f"a dict with {list(x)}" if isinstance(x, Mapping) else repr(x)


def is_tensor(x: Any) -> bool:
    """Return whether an object looks like a tensor."""
    return hasattr(x, "shape") and hasattr(x, "dtype") and not callable(x)


def first_batch(stream: Any) -> Any:
    """Return the first batch of a stream that can be read twice, or None for another stream."""
    if isinstance(stream, keras.utils.PyDataset):
        if not len(stream):  # pyright: ignore[reportArgumentType]  (subclasses define it)
            raise DataError("The data is empty: the PyDataset has no batch.")
        return stream[0]
    if type(stream).__module__.startswith("tensorflow.") and hasattr(stream, "take"):
        for batch in stream.take(1):
            return batch
        raise DataError("The data is empty: the tf.data.Dataset has no batch.")
    return None


def check_numbers(array: np.ndarray, what: str, part: str) -> None:
    """Check that an array is not empty, and that its values are finite numbers.

    Args:
        array: The array.
        what: What it holds, at the begin of a sentence, such as "Images".
        part: Which part of the data it is, such as " (in the first batch)", or "".

    Raises:
        DataError: It is not so.
    """
    if array.size == 0:
        raise DataError(f"The data is empty. Received: shape {array.shape}.")
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{what} must be numbers in one array. Received: dtype {array.dtype}. Images of several sizes "
            "make no array: resize them to one size."
            if array.dtype.kind == "O"
            else f"{what} must be numbers. Received: dtype {array.dtype}."
        )
    if not math.isfinite(float(np.min(array))) or not math.isfinite(float(np.max(array))):
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise DataError(
            f"{what} must be finite. Received: {bad} NaN or infinite value(s) of {array.size}{part}. "
            "Remove or replace them (`np.nan_to_num`) before `fit`."
        )


def _check_images(gan: Any, images: np.ndarray, whole: bool) -> None:
    part = "" if whole else " (in the first batch)"
    check_numbers(images, "Images", part)
    expected = output_shape(gan.generator)
    if expected and not shapes_match(tuple(images.shape[1:]), expected[1:]):
        raise DataError(
            f"Images must have the shape that the generator makes, {expected[1:]}. "
            f"Received: {images.shape[1:]}{part}."
        )
    low, high = float(np.min(images)), float(np.max(images))
    if gan.value_range is not None:
        lowest, highest = gan.value_range
        slack = _SLACK * (highest - lowest)
        if low < lowest - slack or high > highest + slack:
            warnings.warn(
                f"Images lie in [{low:g}, {high:g}]{part}, outside the expected "
                f"[{lowest:g}, {highest:g}], which a generator that ends in tanh cannot reach. "
                "Scale them (for 8-bit images: x / 127.5 - 1), or pass `value_range=`.",
                PruningWarning,
                stacklevel=4,
            )
