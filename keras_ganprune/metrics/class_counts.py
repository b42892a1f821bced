"""How often a generator generates each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.errors import DataError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import validation

# A class is missing if its share is more than this many times smaller than among real images.
_MISSING_RATIO = 10
# With fewer expected images, a class may be absent by chance.
_MIN_EXPECTED = 10


@dataclass(frozen=True)
class ClassHistogram:
    """The shares of the classes among real and generated images.

    Attributes:
        real: float64 array (classes,), shares among real images. They sum to 1.
        fake: float64 array (classes,), shares among generated images. They sum to 1.
        kl: Float in nats, KL(fake || real). Lower is better; 0 for equal shares.
        missing: Tuple of class numbers whose share is less than a tenth of their share among real images.
            A class counts only if at least ten generated images of it are expected.

    Example:
    >>> class_histogram(np.arange(100) % 2, np.zeros(100, int)).missing
    (1,)
    """

    real: np.ndarray
    fake: np.ndarray
    kl: float
    missing: tuple[int, ...]


def class_histogram(
    real_labels: ArrayLike, fake_labels: ArrayLike, classes: int | None = None
) -> ClassHistogram:
    """Compare the class frequencies of real and generated images.

        KL(fake || real) = sum_c fake_c log(fake_c / real_c)

    The result is 0 or more, and lower is better. In this direction the divergence stays finite if the
    generator loses a class: if it loses one of ten equally frequent classes, the result is log(10/9) = 0.105.
    A class without real images counts as half a real image.

    Args:
        real_labels: Class numbers (n,) or one-hot rows (n, classes) of the real images.
        fake_labels: Class numbers (m,) or one-hot rows (m, classes) of the generated images.
        classes: Positive int, number of classes. Defaults to None: the highest class number plus 1.

    Returns:
        A `ClassHistogram`.

    Raises:
        DataError: Labels are not class numbers or one-hot rows, a label is not below `classes`, or all
            real images have the same class.
        InvalidArgumentError: `classes` is not a positive int.

    Example:
    >>> histogram = class_histogram(np.arange(100) % 10, np.arange(900) % 9)
    >>> round(histogram.kl, 3), histogram.missing
    (0.105, (9,))

    Reference: [PacGAN](https://arxiv.org/abs/1712.04086), §4.2 (direction of the divergence).
    """
    real = image_checks.class_numbers(real_labels, "real_labels")
    fake = image_checks.class_numbers(fake_labels, "fake_labels")
    highest = int(max(real.max(), fake.max()))
    if classes is None:
        classes = highest + 1
    elif validation.positive_int(classes, "classes") <= highest:
        raise DataError(
            f"All labels must be below `classes={classes}`. Received: label {highest}. Pass a larger "
            "`classes`."
        )
    real_counts = np.bincount(real, minlength=classes)
    fake_counts = np.bincount(fake, minlength=classes)
    if np.count_nonzero(real_counts) < 2:
        raise DataError(
            "A class histogram needs at least two classes. Received: real images of class "
            f"{real[0]} only. Pass images of all classes, or leave this metric out."
        )
    real_shares, fake_shares = real_counts / len(real), fake_counts / len(fake)
    generated = fake_shares > 0
    floor = np.maximum(real_shares, 0.5 / len(real))
    kl = float(np.sum(fake_shares[generated] * np.log(fake_shares[generated] / floor[generated])))
    # Compare ints, so that exactly a tenth is not counted as less because of rounding.
    rare = _MISSING_RATIO * fake_counts * len(real) < real_counts * len(fake)
    missing = np.flatnonzero(rare & (real_shares * len(fake) >= _MIN_EXPECTED))
    return ClassHistogram(real_shares, fake_shares, max(0.0, kl), tuple(int(c) for c in missing))
