"""The folds of a cross-validation: which images train, and which ones judge."""

from __future__ import annotations

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import optional_imports


def make_folds(
    n: int, folds: int, labels: np.ndarray | None = None, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return k pairs of sorted indices: the images to train on, and those held out to judge by.

    The images are permuted by the seed and cut into k parts of equal size (to one image); with labels,
    every part has every class in the same share. Each image is held out exactly once.

    Args:
        n: Positive int, number of images.
        folds: Int k, at least 2.
        labels: Array (n,) of class numbers or (n, classes) one-hot, or None.
        seed: Int in [0, 2**32).

    Raises:
        InvalidArgumentError: fewer images, or images of a class, than folds.
        DataError: labels that are no classes.
        MissingPackageError: scikit-learn is not installed.

    Example:
    >>> [held.tolist() for _, held in make_folds(6, 3, labels=np.array([0, 0, 0, 1, 1, 1]))]
    [[2, 4], [1, 5], [0, 3]]

    Reference: [scikit-learn](https://scikit-learn.org/stable/modules/cross_validation.html),
    `KFold` and `StratifiedKFold`.
    """
    if isinstance(folds, bool) or not isinstance(folds, (int, np.integer)) or not 2 <= folds <= n:
        raise InvalidArgumentError(
            f"`folds` must be an int from 2 to the number of images, {n}. Received: {folds!r}. "
            "Without cross-validation pass None."
        )
    found = optional_imports.require("sklearn.model_selection", "sweep", "Folds")
    if labels is None:
        parts = found.KFold(folds, shuffle=True, random_state=seed).split(np.zeros(n))
        return list(parts)
    numbers = image_checks.class_numbers(labels, n=n)
    values, counts = np.unique(numbers, return_counts=True)
    if counts.min() < folds:
        rare = values[counts.argmin()]
        raise InvalidArgumentError(
            f"Every class needs an image in each of the {folds} folds. Class {rare} has {counts.min()} "
            "image(s). Take fewer folds, leave the class out, or pass no labels."
        )
    splitter = found.StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(n), numbers))
