"""Which classes a generator makes, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ganprune.errors import DataError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import validation

# A class is missing if its share is that many times smaller than among real images.
_MISSING_BELOW = 10
# Of a class with fewer expected images nothing can be said: it may lack by chance.
_EXPECTED_AT_LEAST = 10


@dataclass(frozen=True)
class ClassHistogram:
    """The shares of classes among real and among generated images.

    Attributes:
        real, fake: float64 (classes,), shares that sum to 1.
        kl: Float in nats, KL(fake || real); 0 for equal shares.
        missing: Tuple of class numbers that have less than a tenth of their real share, of those with
            ten or more generated images to be expected.
    """

    real: np.ndarray
    fake: np.ndarray
    kl: float
    missing: tuple[int, ...]


def class_histogram(
    real_labels: Any, fake_labels: Any, classes: int | None = None
) -> ClassHistogram:
    """Return how often each class comes among real and among generated images.

        KL(fake || real) = sum_c fake_c log(fake_c / real_c)

    In this direction a class that the generator has lost leaves the number finite: with one of ten equal
    classes lost it is log(10/9) = 0.105. A class that real images do not have counts as half an image.

    Args:
        real_labels, fake_labels: Class numbers (n,), or one-hot rows (n, classes).
        classes: Int, how many classes there are; None for the highest number met, and one.

    Returns: A `ClassHistogram`.

    Raises: DataError (a ValueError): there is one class only, or labels are none.

    Example:
    >>> found = class_histogram(np.arange(100) % 10, np.arange(900) % 9)
    >>> round(found.kl, 3), found.missing
    (0.105, (9,))

    Reference: [PacGAN](https://arxiv.org/abs/1712.04086), §4.2, for the direction.
    """
    real = image_checks.class_numbers(real_labels, "real_labels")
    fake = image_checks.class_numbers(fake_labels, "fake_labels")
    highest = int(max(real.max(), fake.max()))
    if classes is None:
        classes = highest + 1
    elif validation.positive_int(classes, "classes") <= highest:
        raise DataError(f"`classes={classes}` means labels below it. Received: label {highest}.")
    real_counts = np.bincount(real, minlength=classes)
    fake_counts = np.bincount(fake, minlength=classes)
    if np.count_nonzero(real_counts) < 2:
        raise DataError(
            "A histogram of classes needs two classes at least. Received: real images of class "
            f"{real[0]} only. Pass images of all classes, or leave this metric out."
        )
    p, q = real_counts / len(real), fake_counts / len(fake)
    made = q > 0
    floor = np.maximum(p, 0.5 / len(real))
    kl = float(np.sum(q[made] * np.log(q[made] / floor[made])))
    # In whole numbers, where a tenth is a tenth.
    lost = _MISSING_BELOW * fake_counts * len(real) < real_counts * len(fake)
    missing = np.flatnonzero(lost & (p * len(fake) >= _EXPECTED_AT_LEAST))
    return ClassHistogram(p, q, max(0.0, kl), tuple(int(c) for c in missing))
