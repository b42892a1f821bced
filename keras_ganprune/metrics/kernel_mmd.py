"""The kernel distance between two sets of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.errors import DataError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import validation

_LARGEST_BLOCK = 1000


@dataclass(frozen=True)
class KernelDistance:
    """A kernel distance and its standard error.

    Attributes:
        value: Float, mean of the squared distance over blocks. Lower is better. It may be below 0 for equal
            distributions, since it is unbiased.
        error: Float, standard error of that mean.
        blocks: Int, number of blocks.

    Example:
    >>> print(KernelDistance(value=0.0123, error=0.0004, blocks=10))
    0.0123 ± 0.0004
    """

    value: float
    error: float
    blocks: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.2g}"


def kernel_distance(
    real_features: ArrayLike, fake_features: ArrayLike, *, blocks: int = 10, seed: int = 0
) -> KernelDistance:
    """Return the squared maximum mean discrepancy of features under a cubic kernel: the KID.

        k(x, y) = (x·y / dimension + 1)^3
        d = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), with x ≠ x' and y ≠ y'

    Lower is better; the expected value for equal distributions is 0. Both sets are shuffled and cut into
    disjoint blocks. The result is the mean over the blocks, with its standard error. Unlike the Fréchet
    distance the result has no bias, so the numbers of images may differ.

    Args:
        real_features: Array (n, dimension).
        fake_features: Array (m, dimension).
        blocks: Int of at least 2. Defaults to 10. The number is raised until no block has more than 1,000
            images, and lowered until each block has at least two images.
        seed: Int, seed of the shuffle. Defaults to 0.

    Returns:
        A `KernelDistance`.

    Raises:
        DataError: Features are not finite numbers of the shape (n, dimension), the dimensions differ, or
            there are fewer than four real or four generated images.
        InvalidArgumentError: `blocks` is not an int of at least 2.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> real, fake = rng.normal(0, 1, (1000, 4)), rng.normal(0.5, 1, (1000, 4))
    >>> distance = kernel_distance(real, fake)
    >>> distance.value > 5 * distance.error, distance.blocks
    (True, 10)

    Reference: [Demystifying MMD GANs](https://arxiv.org/abs/1801.01401), §4.
    """
    validation.non_negative_int(seed, "seed")
    real, fake = image_checks.two_features(real_features, fake_features)
    blocks = validation.int_at_least(blocks, "blocks", 2)
    fewest = min(len(real), len(fake))
    if fewest < 4:
        raise DataError(
            "The kernel distance needs at least four images: two in each of two blocks. Received: "
            f"{fewest}."
        )
    blocks = min(max(blocks, -(-max(len(real), len(fake)) // _LARGEST_BLOCK)), fewest // 2)
    rng = np.random.default_rng(seed)
    parts = [np.array_split(rng.permutation(x), blocks) for x in (real, fake)]
    distances = [_discrepancy(x, y) for x, y in zip(*parts, strict=True)]
    error = np.std(distances, ddof=1) / np.sqrt(blocks)
    return KernelDistance(float(np.mean(distances)), float(error), blocks)


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1.0) ** 3

    def mean_within(a: np.ndarray) -> float:
        values = kernel(a, a)
        return (values.sum() - np.trace(values)) / (len(a) * (len(a) - 1))

    return float(mean_within(x) + mean_within(y) - 2.0 * kernel(x, y).mean())
