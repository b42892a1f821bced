"""The Fréchet distance between two sets of features."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from keras_ganprune.errors import DataError, PruningWarning
from keras_ganprune.metrics import image_checks

# Below this many samples a dimension the distance says more about the number than about the images.
_FEW = 10


class FeatureStatistics:
    """Mean and covariance of features that come batch by batch, in memory of (dimension, dimension).

    In float64, by the update for two groups (Chan et al.), which does not lose digits where the mean is
    large against the spread.

    Args:
        features: First batch, (n, dimension); None to begin empty.

    Attributes:
        count: Int, rows seen.
        mean: float64 (dimension,).

    Example:
    >>> statistics = FeatureStatistics(np.array([[0.0, 1.0], [2.0, 1.0]]))
    >>> statistics.update(np.array([[4.0, 1.0]]))
    >>> statistics.count, statistics.mean, float(statistics.covariance[0, 0])
    (3, array([2., 1.]), 4.0)

    Reference: [Updating formulae](https://doi.org/10.1007/978-3-642-51461-6_3), Eq. 2.1.
    """

    def __init__(self, features: Any = None):
        self.count = 0
        self.mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))
        if features is not None:
            self.update(features)

    def update(self, features: Any) -> None:
        """Add a batch (n, dimension)."""
        batch = np.asarray(features)
        if batch.ndim == 2 and len(batch) == 1:
            batch = image_checks.features(np.repeat(batch, 2, axis=0), "features")[:1]
        else:
            batch = image_checks.features(batch, "features")
        if self.count and batch.shape[1] != len(self.mean):
            raise DataError(
                f"All batches must have the dimension {len(self.mean)} of the first. Received: "
                f"{batch.shape[1]}."
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
        """The unbiased covariance, float64 (dimension, dimension)."""
        if self.count < 2:
            raise DataError(f"A covariance needs two rows at least. Received: {self.count}.")
        return self._scatter / (self.count - 1)


def frechet_distance(real_features: Any, fake_features: Any) -> float:
    """Return the Fréchet distance between two normal distributions fitted to features.

        |m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2))

    With the features of InceptionV3 it is the FID. The trace of the root is the sum of the singular
    values of S_r^(1/2) S_f^(1/2), so covariances may be singular, and the distance is never negative.

    It is biased upwards, roughly as 1/n: compare only distances of the same numbers of images. 50 images
    a dimension are good practice; fewer than 10 give a warning.

    Args:
        real_features, fake_features: Arrays (n, dimension), or `FeatureStatistics`.

    Returns: Float, 0 or more, in the features' unit squared.

    Raises: DataError (a ValueError): features are not finite, fewer than two, or of two dimensions.

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
    if len(real.mean) != len(fake.mean):
        raise DataError(
            "Features must come from one extractor, and be of one dimension. Received: "
            f"{len(real.mean)} of real images, {len(fake.mean)} of generated ones."
        )
    warn_of_few(min(real.count, fake.count), len(real.mean), stacklevel=3)
    return distance_of(real, fake)


def distance_of(real: FeatureStatistics, fake: FeatureStatistics) -> float:
    """Return the Fréchet distance from statistics, without a look at their number of samples."""
    first, second = real.covariance, fake.covariance
    delta = real.mean - fake.mean
    cross = np.linalg.svd(_root(first).T @ _root(second), compute_uv=False).sum()
    found = delta @ delta + np.trace(first) + np.trace(second) - 2.0 * cross
    return max(0.0, float(found))


def warn_of_few(samples: int, dimension: int, stacklevel: int) -> bool:
    """Warn if a distance from so few samples cannot be trusted, and return whether."""
    if samples >= _FEW * dimension:
        return False
    singular = " (so few that the covariance is singular)" if samples <= dimension else ""
    warnings.warn(
        f"The Fréchet distance needs at least {_FEW} images a dimension of the features, better 50. "
        f"Received: {samples} images{singular} for {dimension} dimensions. It is biased upwards; take "
        "more images, or an extractor with fewer features, and compare only equal numbers of images.",
        PruningWarning,
        stacklevel=stacklevel + 1,
    )
    return True


def _statistics(features: Any, name: str) -> FeatureStatistics:
    if isinstance(features, FeatureStatistics):
        if features.count < 2:
            raise DataError(f"`{name}` must be of two images at least. Received: {features.count}.")
        return features
    return FeatureStatistics(image_checks.features(features, name))


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return A with A A^T = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    # What rounding makes of zero would come out of the root a hundred million times larger.
    smallest = len(values) * np.finfo("float64").eps * max(values[-1], 0.0)
    return vectors * np.sqrt(np.where(values > smallest, values, 0.0))
