"""The handwritten digits of scikit-learn, from the UCI Optical Recognition of Handwritten Digits data set."""

from __future__ import annotations

from keras_ganprune.datasets import packages
from keras_ganprune.datasets.images import Images, scaled


def digits() -> Images:
    """Return scikit-learn's 1,797 handwritten digits of 8×8 pixels, in 10 classes.

    Returns:
        `Images` with labels.

    Raises:
        DataError: scikit-learn is not installed.

    Example:
    >>> kgp.datasets.digits().images.shape
    (1797, 8, 8, 1)
    """
    bunch = packages.require("sklearn.datasets").load_digits()
    return Images(
        scaled(bunch.images, 16.0),
        bunch.target.astype("int64"),
        f"digits, {len(bunch.images):,} 8×8 images from scikit-learn",
    )
