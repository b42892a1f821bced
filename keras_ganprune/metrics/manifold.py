"""Quality and variety apart: precision, recall, density and coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ganprune.errors import DataError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import optional_imports, validation

# How far squared distances that were computed in two ways may lie apart, against the squared norms.
_ROUNDING = 1e-10
_MEMORY_MIB = 64


@dataclass(frozen=True)
class ManifoldMetrics:
    """Shares of images that lie near images of the other set; all of them higher is better.

    Attributes:
        precision: Float in [0, 1], share of generated images that look real.
        recall: Float in [0, 1], share of real images that the generator could make.
        density: Float, 0 or more, how deep generated images lie among real ones; 1 for equal sets.
        coverage: Float in [0, 1], share of real images that have a generated one near them.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_radii(features: np.ndarray, neighbours: int) -> np.ndarray:
    """Return the squared distance of each row to its k-th neighbour, itself not counted."""
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
    real_features: Any,
    fake_features: Any,
    neighbours: int = 5,
    *,
    real_radii: np.ndarray | None = None,
) -> ManifoldMetrics:
    """Return precision, recall, density and coverage of generated images.

    Around every image lies a ball that reaches to its k-th neighbour of its own kind; the closed ball,
    so that an image on its surface is in it.

        precision = share of fakes in the ball of any real       recall = share of reals in that of any fake
        density   = mean over fakes of (balls of reals it is in) / k
        coverage  = share of reals with any fake in their ball

    Coverage and density hold against outliers, which give recall and precision too much. All depend on
    the numbers of images, which should be equal: two equal distributions have density 1 and coverage
    about 1 - 2^-k.

    Args:
        real_features, fake_features: Arrays (n, dimension).
        neighbours: Positive int k.
        real_radii: What `neighbour_radii(real_features, neighbours)` gave, where it is known already.

    Returns: `ManifoldMetrics`.

    Raises:
        DataError: there are not more images than neighbours, or features do not fit.
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
    real, fake = image_checks.two_features(real_features, fake_features)
    neighbours = validation.positive_int(neighbours, "neighbours")
    # Distances stay, and lose fewer digits.
    centre = real.mean(axis=0)
    real, fake = real - centre, fake - centre
    if real_radii is None:
        real_radii = neighbour_radii(real, neighbours)
    fake_radii = neighbour_radii(fake, neighbours)
    slack = _ROUNDING * max(float((x * x).sum(axis=1).max()) for x in (real, fake))
    real_reach, fake_reach = real_radii + slack, fake_radii + slack
    in_any_real = np.zeros(len(fake), bool)
    holds_fake = np.zeros(len(real), bool)
    in_any_fake = np.zeros(len(real), bool)
    inside = 0

    def look(distances: np.ndarray, start: int) -> None:
        nonlocal inside
        rows = slice(start, start + len(distances))
        in_real = distances <= real_reach
        inside += int(np.count_nonzero(in_real))
        in_any_real[rows] = in_real.any(axis=1)
        np.logical_or(holds_fake, in_real.any(axis=0), out=holds_fake)
        in_fake = (distances <= fake_reach[rows, None]).any(axis=0)
        np.logical_or(in_any_fake, in_fake, out=in_any_fake)

    chunks = optional_imports.require(
        "sklearn.metrics", "quality", "Neighbours"
    ).pairwise_distances_chunked(fake, real, working_memory=_MEMORY_MIB, squared=True)
    start = 0
    for distances in chunks:
        look(distances, start)
        start += len(distances)
    return ManifoldMetrics(
        precision=float(in_any_real.mean()),
        recall=float(in_any_fake.mean()),
        density=inside / (neighbours * len(fake)),
        coverage=float(holds_fake.mean()),
    )
