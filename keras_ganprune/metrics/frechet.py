"""The Fréchet distance between two sets of features."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.errors import DataError, PruningWarning
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import validation

# With fewer samples per dimension, the bias is larger than most differences between generators.
_MIN_SAMPLES_PER_DIMENSION = 10


class FeatureStatistics:
    """Mean and covariance of features that arrive in batches.

    The memory does not grow with the number of features: it holds one (dimension, dimension) matrix. The
    statistics are float64 and are updated with the formula for two groups (Chan et al.), which stays accurate
    if the mean is much larger than the standard deviation.

    Args:
        features: First batch, array (n, dimension). Defaults to None: start empty.

    Attributes:
        count: Int, number of rows so far.
        mean: float64 array (dimension,).

    Raises:
        DataError: Features are not finite numbers of the shape (n, dimension).

    Example:
    >>> statistics = FeatureStatistics(np.array([[0.0, 1.0], [2.0, 1.0]]))
    >>> statistics.update(np.array([[4.0, 1.0]]))
    >>> statistics.count, statistics.mean, float(statistics.covariance[0, 0])
    (3, array([2., 1.]), 4.0)

    Reference: [Updating formulae](https://doi.org/10.1007/978-3-642-51461-6_3), Eq. 2.1.
    """

    def __init__(self, features: ArrayLike | None = None):
        self.count = 0
        self.mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))
        if features is not None:
            self.update(features)

    def update(self, features: ArrayLike) -> None:
        """Add a batch of features.

        Args:
            features: Array (n, dimension).

        Raises:
            DataError: The features are not finite numbers of the shape (n, dimension), or the dimension
                differs from the dimension of the first batch.
        """
        batch = validation.array(features, "features")
        if batch.ndim == 2 and len(batch) == 1:
            # `image_checks.features` requires two rows, but a batch may have one.
            batch = image_checks.features(np.repeat(batch, 2, axis=0), "features")[:1]
        else:
            batch = image_checks.features(batch, "features")
        if self.count and batch.shape[1] != len(self.mean):
            raise DataError(
                f"All batches must have the dimension of the first, {len(self.mean)}. Received: "
                f"{batch.shape[1]}. Use one extractor for all batches."
            )
        mean = batch.mean(axis=0)
        centred = batch - mean
        scatter = centred.T @ centred
        if not self.count:
            self.count, self.mean, self._scatter = len(batch), mean, scatter
            return
        total = self.count + len(batch)
        delta = mean - self.mean
        self._scatter = (
            self._scatter + scatter + np.outer(delta, delta) * self.count * len(batch) / total
        )
        self.mean = self.mean + delta * len(batch) / total
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, float64 (dimension, dimension). Needs at least two rows."""
        if self.count < 2:
            raise DataError(f"A covariance needs at least two rows. Received: {self.count}.")
        return self._scatter / (self.count - 1)


def frechet_distance(
    real_features: ArrayLike | FeatureStatistics, fake_features: ArrayLike | FeatureStatistics
) -> float:
    """Return the Fréchet distance between two normal distributions that are fitted to features.

        |m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2))

    The result is 0 or more, and lower is better. With the features of InceptionV3 it is the FID. The trace
    of the root is computed as the sum of the singular values of S_r^(1/2) S_f^(1/2), so covariances may be
    singular, and the result is never negative.

    The distance is biased upwards, roughly in proportion to 1/n. So only compare distances of equal numbers
    of images. Use about 50 images per dimension; fewer than 10 give a warning.

    Args:
        real_features: Array (n, dimension), or `FeatureStatistics`.
        fake_features: Array (m, dimension), or `FeatureStatistics`.

    Returns:
        Float, in the squared unit of the features.

    Raises:
        DataError: Features are not finite numbers of the shape (n, dimension), there are fewer than two
            rows, or the dimensions differ.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> real, fake = rng.normal(0, 1, (4000, 2)), rng.normal(3, 2, (4000, 2))
    >>> round(frechet_distance(real, fake))  # 2 * (3^2 + (2 - 1)^2)
    20

    Reference: [Two time-scale update rule](https://arxiv.org/abs/1706.08500), Eq. 6.
    """
    real, fake = (
        _statistics(real_features, "real_features"),
        _statistics(fake_features, "fake_features"),
    )
    image_checks.same_dimension(len(real.mean), len(fake.mean))
    warn_of_few(min(real.count, fake.count), len(real.mean), stacklevel=3)
    return distance_of(real, fake)


def distance_of(real: FeatureStatistics, fake: FeatureStatistics) -> float:
    """Return the Fréchet distance between statistics, without a warning about few samples."""
    first, second = real.covariance, fake.covariance
    delta = real.mean - fake.mean
    cross = np.linalg.svd(_root(first).T @ _root(second), compute_uv=False).sum()
    distance = delta @ delta + np.trace(first) + np.trace(second) - 2.0 * cross
    return max(0.0, float(distance))


def warn_of_few(samples: int, dimension: int, stacklevel: int) -> bool:
    """Warn if there are too few samples for a reliable distance. Return True if there are too few."""
    if samples >= _MIN_SAMPLES_PER_DIMENSION * dimension:
        return False
    singular = " (so few that the covariance is singular)" if samples <= dimension else ""
    warnings.warn(
        f"The Fréchet distance needs at least {_MIN_SAMPLES_PER_DIMENSION} images per feature dimension; "
        f"50 are better. Received: {samples} images{singular} for {dimension} dimensions. The distance "
        "is biased upwards. Use more images, or an extractor with fewer features, and compare only equal "
        "numbers of images.",
        PruningWarning,
        stacklevel=stacklevel + 1,
    )
    return True


def _statistics(features: ArrayLike | FeatureStatistics, name: str) -> FeatureStatistics:
    if isinstance(features, FeatureStatistics):
        if features.count < 2:
            raise DataError(
                f"`{name}` must hold at least two images. Received: {features.count}. Call `update` "
                "with more features first."
            )
        return features
    return FeatureStatistics(image_checks.features(features, name))


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return A with A A^T = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    # Eigenvalues that are zero up to rounding are set to zero, because the square root turns a rounding error
    # of 1e-16 into an error of 1e-8.
    smallest = len(values) * np.finfo("float64").eps * max(values[-1], 0.0)
    return vectors * np.sqrt(np.where(values > smallest, values, 0.0))
