"""Checks of images, features and labels for the quality metrics; each error says how to fix the data."""

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


def _check_finite(array: np.ndarray, name: str, cause: str) -> None:
    # Checking the sum first is fast: it is finite if every entry is, unless entries are absurdly large.
    if array.dtype.kind == "f" and not np.isfinite(np.sum(array, dtype="float64")):
        bad = np.argwhere(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[:, 0]
        raise DataError(
            f"`{name}` must be finite. Received: NaN or infinite values in {len(bad)} of {len(array)} "
            f"rows; the first of them is row {bad[0] if len(bad) else '?'}. {cause}"
        )


def images(values: Any, name: str = "images") -> np.ndarray:
    """Return images as an array (n, height, width, channels), finite and not empty.

    Raises:
        DataError: The values have another shape, are empty, or are not finite numbers.
    """
    array = _numbers(values, name)
    if array.ndim != 4:
        hint = " Add the channel axis: `images[..., None]`." if array.ndim == 3 else ""
        raise DataError(
            f"`{name}` must have the shape (n, height, width, channels). Received: {array.shape}.{hint}"
        )
    if array.size == 0:
        raise DataError(f"`{name}` is empty. Received: shape {array.shape}.")
    _check_finite(
        array, name, "A generator that diverged makes such images: restore an earlier checkpoint."
    )
    return array


def features(values: Any, name: str) -> np.ndarray:
    """Return features as a finite float64 array (n, dimension) with at least two rows.

    Raises:
        DataError: The values have another shape, or are not finite numbers.
    """
    array = _numbers(values, name)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"`{name}` must have the shape (n, dimension). Received: {array.shape}.")
    if len(array) < 2:
        raise DataError(
            f"`{name}` must hold the features of at least two images. Received: {len(array)}."
        )
    _check_finite(array, name, "Check the images and the extractor's weights.")
    return array.astype("float64", copy=False)


def same_dimension(real: int, fake: int) -> None:
    """Raise `DataError` unless real and generated features have the same dimension."""
    if real != fake:
        raise DataError(
            "Real and generated features must have the same dimension. Received: "
            f"{real} (real) and {fake} (generated). Use one extractor for both."
        )


def two_features(real: Any, fake: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of real and generated images, checked as `features` and `same_dimension` do."""
    real, fake = features(real, "real_features"), features(fake, "fake_features")
    same_dimension(real.shape[1], fake.shape[1])
    return real, fake


def class_numbers(values: Any, name: str = "labels", n: int | None = None) -> np.ndarray:
    """Return labels as int64 class numbers (n,).

    Args:
        values: Class numbers (n,) or (n, 1), or one-hot rows (n, classes).
        name: Name of the argument, for errors.
        n: Required number of labels. Defaults to None: any number.

    Raises:
        DataError: The values are neither class numbers nor one-hot rows, or their number is not `n`.
    """
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
            f"`{name}` must be non-negative whole class numbers. Received: values from {array.min()} to "
            f"{array.max()}."
        )
    return numbers
