"""What the quality metrics ask of images, features and labels, with the reason when they say no."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_ganprune.errors import DataError


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"`{name}` must be one array of numbers. Received: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"`{name}` must hold numbers. Received: dtype {array.dtype}.")
    return array


def _finite(array: np.ndarray, name: str, cause: str) -> None:
    # The sum is finite only if every entry is, or entries are so large that they are no images.
    if array.dtype.kind == "f" and not np.isfinite(np.sum(array, dtype="float64")):
        bad = np.argwhere(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[:, 0]
        raise DataError(
            f"`{name}` must be finite. Received: NaN or infinite values in {len(bad)} of {len(array)} "
            f"rows, the first of them row {bad[0] if len(bad) else '?'}. {cause}"
        )


def images(values: Any, name: str = "images") -> np.ndarray:
    """Return images as an array (n, height, width, channels), finite and not empty."""
    array = _numbers(values, name)
    if array.ndim != 4:
        hint = " Add the axis of channels: `images[..., None]`." if array.ndim == 3 else ""
        raise DataError(
            f"`{name}` must have the shape (n, height, width, channels). Received: {array.shape}.{hint}"
        )
    if array.size == 0:
        raise DataError(f"`{name}` is empty. Received: shape {array.shape}.")
    _finite(
        array, name, "A generator that diverged makes such images; go back to a good state of it."
    )
    return array


def features(values: Any, name: str) -> np.ndarray:
    """Return features as a float64 array (n, dimension), finite, of two rows at least."""
    array = _numbers(values, name)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"`{name}` must have the shape (n, dimension). Received: {array.shape}.")
    if len(array) < 2:
        raise DataError(
            f"`{name}` must hold the features of two images at least. Received: {len(array)}."
        )
    _finite(array, name, "Check the images and the extractor's weights.")
    return array.astype("float64", copy=False)


def two_features(real: Any, fake: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of real and of generated images, which must be of one extractor."""
    real, fake = features(real, "real_features"), features(fake, "fake_features")
    if real.shape[1] != fake.shape[1]:
        raise DataError(
            "Features must come from one extractor, and be of one dimension. Received: "
            f"{real.shape[1]} of real images, {fake.shape[1]} of generated ones."
        )
    return real, fake


def class_numbers(values: Any, name: str = "labels", n: int | None = None) -> np.ndarray:
    """Return labels as class numbers (n,), from class numbers or one-hot rows."""
    array = _numbers(values, name)
    if array.ndim == 2 and array.shape[1] > 1:
        if not np.all(np.isin(array, (0, 1))) or not np.all(array.sum(axis=1) == 1):
            raise DataError(
                f"`{name}` must be class numbers (n,) or one-hot rows (n, classes). Received: rows that "
                "are not one-hot."
            )
        array = array.argmax(axis=1)
    elif array.ndim == 2:
        array = array[:, 0]
    if array.ndim != 1 or array.size == 0:
        raise DataError(
            f"`{name}` must be class numbers (n,) or one-hot rows (n, classes). Received: shape "
            f"{array.shape}."
        )
    if n is not None and len(array) != n:
        raise DataError(
            f"`{name}` must hold one label for each of the {n} images. Received: {len(array)}."
        )
    numbers = array.astype("int64")
    if np.any(numbers != array) or numbers.min() < 0:
        raise DataError(
            f"`{name}` must be class numbers from 0 on. Received: values from {array.min()} to "
            f"{array.max()}."
        )
    return numbers
