"""Metrics that separate quality from variety: precision, recall, density and coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import annotated, optional_imports, validation

# Tolerance between squared distances that were computed in two ways, relative to the squared norms.
_ROUNDING = 1e-10
_MEMORY_MIB = 64


@dataclass(frozen=True)
class ManifoldMetrics:
    """How real and generated images overlap; for all four numbers higher is better.

    Attributes:
        precision: Float in [0, 1], share of generated images that look real.
        recall: Float in [0, 1], share of real images that the generator could make.
        density: Float of at least 0, how densely real images surround generated ones; 1 for equal
            distributions.
        coverage: Float in [0, 1], share of real images that have a generated image near them.

    Example:
    >>> x = np.random.default_rng(0).normal(size=(100, 4))
    >>> manifold_metrics(x, x).precision
    1.0
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_radii(features: np.ndarray, neighbours: int) -> np.ndarray:
    """Return the squared distance of each row to its k-th nearest other row, float64 (n,).

    Args:
        features: Array (n, dimension).
        neighbours: Positive int k.

    Raises:
        DataError: There are at most `neighbours` rows.
        MissingPackageError: scikit-learn is not installed.
    """
    if len(features) <= neighbours:
        raise DataError(
            f"`neighbours={neighbours}` needs more than {neighbours} images of each kind. Received: "
            f"{len(features)}."
        )
    search = optional_imports.require(
        "sklearn.neighbors", "quality", "Neighbours"
    ).NearestNeighbors(n_neighbors=neighbours, algorithm="brute")
    return search.fit(features).kneighbors()[0][:, -1] ** 2


def manifold_metrics(
    real_features: ArrayLike,
    fake_features: ArrayLike,
    neighbours: int = 5,
    *,
    real_radii: np.ndarray | None = None,
) -> ManifoldMetrics:
    """Return precision, recall, density and coverage of generated images.

    The ball of an image reaches to its k-th nearest neighbour of the same kind. It is closed: an image on
    its surface is inside.

        precision = share of generated images that are inside the ball of any real image
        recall    = share of real images that are inside the ball of any generated image
        density   = mean over generated images of (number of real balls around the image) / k
        coverage  = share of real images whose ball contains any generated image

    Higher is better for all four. Coverage and density are robust against outliers, which inflate recall
    and precision. All four depend on the numbers of images, which should be equal: for two equal
    distributions the density is 1 and the coverage about 1 - 2^-k.

    Args:
        real_features: Array (n, dimension).
        fake_features: Array (m, dimension).
        neighbours: Positive int k. Defaults to 5.
        real_radii: Result of `neighbour_radii(real_features, neighbours)`, to save time. Defaults to None:
            it is computed.

    Returns:
        `ManifoldMetrics`.

    Raises:
        DataError: Features are not finite numbers of the shape (n, dimension), the dimensions differ, or
            there are at most `neighbours` real or generated images.
        InvalidArgumentError: `neighbours` is not a positive int.
        MissingPackageError: scikit-learn is not installed.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> real = rng.normal(size=(1000, 4))
    >>> same, half = rng.normal(size=(1000, 4)), abs(rng.normal(size=(1000, 4)))
    >>> manifold_metrics(real, same).coverage > 0.9 > 0.3 > manifold_metrics(real, half).coverage
    True

    References: [Improved precision and recall](https://arxiv.org/abs/1904.06991), Eqs. 1 and 2;
    [Reliable fidelity and diversity](https://arxiv.org/abs/2002.09797), Eqs. 3 and 5.
    """
    annotated.check(manifold_metrics, locals(), "real_radii")
    real, fake = image_checks.two_features(real_features, fake_features)
    neighbours = validation.positive_int(neighbours, "neighbours")
    # Centring keeps all distances and loses fewer digits.
    centre = real.mean(axis=0)
    real, fake = real - centre, fake - centre
    if real_radii is not None and (
        real_radii.shape != (len(real),)
        or real_radii.dtype.kind != "f"
        or not np.isfinite(real_radii).all()
    ):
        raise InvalidArgumentError(
            f"`real_radii` must be the result of `neighbour_radii` for the {len(real)} real images. "
            f"Received: an array of shape {real_radii.shape}, dtype {real_radii.dtype}."
        )
    if real_radii is None:
        real_radii = neighbour_radii(real, neighbours)
    fake_radii = neighbour_radii(fake, neighbours)
    slack = _ROUNDING * max(float((x * x).sum(axis=1).max()) for x in (real, fake))
    real_reach, fake_reach = real_radii + slack, fake_radii + slack
    fake_is_inside = np.zeros(len(fake), bool)
    real_holds_fake = np.zeros(len(real), bool)
    real_is_inside = np.zeros(len(real), bool)
    memberships, start = 0, 0
    chunks = optional_imports.require(
        "sklearn.metrics", "quality", "Neighbours"
    ).pairwise_distances_chunked(fake, real, working_memory=_MEMORY_MIB, squared=True)
    for distances in chunks:
        rows = slice(start, start + len(distances))
        in_real_ball = distances <= real_reach
        in_fake_ball = distances <= fake_reach[rows, None]
        memberships += int(np.count_nonzero(in_real_ball))
        fake_is_inside[rows] = in_real_ball.any(axis=1)
        real_holds_fake |= in_real_ball.any(axis=0)
        real_is_inside |= in_fake_ball.any(axis=0)
        start += len(distances)
    return ManifoldMetrics(
        precision=float(fake_is_inside.mean()),
        recall=float(real_is_inside.mean()),
        density=memberships / (neighbours * len(fake)),
        coverage=float(real_holds_fake.mean()),
    )
