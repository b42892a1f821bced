"""The folds of a cross-validation: training images and held-out images."""

from __future__ import annotations

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import optional_imports, validation


def make_folds(
    n: int, folds: int, labels: np.ndarray | None = None, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return k pairs of sorted index arrays: training images and held-out images.

    The seed permutes the images. They are split into k folds of equal size (within one image). With labels,
    each fold has the same fraction of every class. Each image is held out exactly once.

    Args:
        n: Positive int, number of images.
        folds: Int k, from 2 to n.
        labels: Array (n,) of class numbers or (n, classes) of one-hot rows, or None. Defaults to None.
        seed: Int in [0, 2**32). Defaults to 0.

    Raises:
        InvalidArgumentError: `folds` is not an int from 2 to `n`, or a class has fewer images than folds.
        DataError: `labels` are not class numbers or one-hot rows.
        MissingPackageError: scikit-learn is not installed.

    Example:
    >>> [held.tolist() for _, held in make_folds(6, 3, labels=np.array([0, 0, 0, 1, 1, 1]))]
    [[2, 4], [1, 5], [0, 3]]

    Reference: [scikit-learn](https://scikit-learn.org/stable/modules/cross_validation.html),
    `KFold` and `StratifiedKFold`.
    """
    validation.positive_int(n, "n")
    if not validation.is_int(seed) or not 0 <= seed < 2**32:
        raise InvalidArgumentError(f"`seed` must be an int in [0, 2**32). Received: {seed!r}.")
    if not validation.is_int(folds) or not 2 <= folds <= n:
        raise InvalidArgumentError(
            f"`folds` must be an int from 2 to the number of images, {n}. Received: {folds!r}. "
            "Without cross-validation pass None."
        )
    selection = optional_imports.require("sklearn.model_selection", "sweep", "Folds")
    if labels is None:
        parts = selection.KFold(folds, shuffle=True, random_state=seed).split(np.zeros(n))
        return list(parts)
    numbers = image_checks.class_numbers(labels, n=n)
    values, counts = np.unique(numbers, return_counts=True)
    if counts.min() < folds:
        rare = values[counts.argmin()]
        raise InvalidArgumentError(
            f"Every class needs an image in each of the {folds} folds. Class {rare} has {counts.min()} "
            "image(s). Use fewer folds, leave the class out, or pass no labels."
        )
    splitter = selection.StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(n), numbers))
