"""The kernel distance between two sets of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ganprune.errors import DataError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import validation

_LARGEST_BLOCK = 1000


@dataclass(frozen=True)
class KernelDistance:
    """A kernel distance with its error.

    Attributes:
        value: Float, mean over blocks of the squared distance; may come out below 0 for equal
            distributions, since it is unbiased.
        error: Float, standard error of that mean.
        blocks: Int, how many parts of the images it is the mean of.
    """

    value: float
    error: float
    blocks: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.2g}"


def kernel_distance(
    real_features: Any, fake_features: Any, *, blocks: int = 10, seed: int = 0
) -> KernelDistance:
    """Return the squared maximum mean discrepancy of features with a cubic kernel: the KID.

        k(x, y) = (x·y / dimension + 1)^3
        d = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), with x ≠ x' and y ≠ y'

    Both sets are shuffled and cut into blocks that share no image, so the spread of the blocks gives an
    honest error. Unlike the Fréchet distance it has no bias, so numbers of images may differ.

    Args:
        real_features, fake_features: Arrays (n, dimension).
        blocks: Int, at least 2; more are made so that no block has over 1,000 images, fewer where a
            block would have less than two.
        seed: Int, of the shuffle.

    Returns: A `KernelDistance`.

    Raises: DataError (a ValueError): fewer than four images, or features that do not fit.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> real, fake = rng.normal(0, 1, (1000, 4)), rng.normal(0.5, 1, (1000, 4))
    >>> found = kernel_distance(real, fake)
    >>> found.value > 5 * found.error, found.blocks
    (True, 10)

    Reference: [Demystifying MMD GANs](https://arxiv.org/abs/1801.01401), §4.
    """
    real, fake = image_checks.two_features(real_features, fake_features)
    blocks = validation.int_at_least(blocks, "blocks", 2)
    fewest = min(len(real), len(fake))
    if fewest < 4:
        raise DataError(
            "The kernel distance needs four images at least, two for each of two blocks. Received: "
            f"{fewest}."
        )
    blocks = min(max(blocks, -(-max(len(real), len(fake)) // _LARGEST_BLOCK)), fewest // 2)
    rng = np.random.default_rng(seed)
    parts = [np.array_split(rng.permutation(x), blocks) for x in (real, fake)]
    found = [_discrepancy(x, y) for x, y in zip(*parts, strict=True)]
    error = np.std(found, ddof=1) / np.sqrt(blocks)
    return KernelDistance(float(np.mean(found)), float(error), blocks)


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1.0) ** 3

    def among(a: np.ndarray) -> float:
        own = kernel(a, a)
        return (own.sum() - np.trace(own)) / (len(a) * (len(a) - 1))

    return among(x) + among(y) - 2.0 * kernel(x, y).mean()
