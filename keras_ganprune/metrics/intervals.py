"""How sure a mean is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_ganprune.errors import InvalidArgumentError, MissingPackageError


class Interval(NamedTuple):
    """A mean, and the ends of its 95 % interval; NaN where one value says nothing of the spread."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2.0


def stats() -> Any:
    """Return scipy.stats.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from scipy import stats as found
    except ImportError as error:
        raise MissingPackageError(
            "Intervals need scipy, which is not installed: pip install 'keras-ganprune[quality]'."
        ) from error
    return found


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean with its Student interval.

        mean ± t(level, n - 1) * s / sqrt(n)

    Args:
        values: Floats; measurements that are independent of each other.
        level: Float in (0, 1).

    Returns: An `Interval`; of a single value its ends are NaN.

    Raises:
        InvalidArgumentError: there is no value.
        MissingPackageError: scipy is not installed.

    Example:
    >>> found = mean_interval([6.0, 7.0, 8.0])
    >>> round(found.mean, 2), round(found.half, 2)
    (7.0, 2.48)
    """
    found = np.asarray(values, dtype="float64")
    if found.ndim != 1 or not found.size:
        raise InvalidArgumentError(
            f"`values` must be a list of floats, with one at least. Received: {values!r}."
        )
    mean, count = float(found.mean()), len(found)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = stats().t.ppf((1.0 + level) / 2.0, count - 1) * found.std(ddof=1) / math.sqrt(count)
    return Interval(mean, float(mean - half), float(mean + half), count)


def paired_increase(
    before: Sequence[float], after: Sequence[float], level: float = 0.95, resamples: int = 9999
) -> Interval:
    """Return the mean relative increase of pairs, with its percentile bootstrap interval.

        mean over i of after[i] / before[i] - 1, the pairs drawn again with replacement

    Args:
        before, after: Positive floats; the i-th of both are a pair, such as the dense and the pruned
            generator of one seed.
        level: Float in (0, 1).
        resamples: Int, how often the pairs are drawn.

    Returns: An `Interval` of fractions: 0.1 is 10 % more. Of a single pair its ends are NaN.

    Raises:
        InvalidArgumentError: the lists are not as long as each other, or a value is not positive.
        MissingPackageError: scipy is not installed.

    Example:
    >>> found = paired_increase([10.0, 12.0, 11.0], [11.0, 13.2, 12.1])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (0.1, 0.1, 0.1)

    Reference: Efron & Tibshirani, An introduction to the bootstrap, §13.3.
    """
    first, second = (np.asarray(v, dtype="float64") for v in (before, after))
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise InvalidArgumentError(
            "`before` and `after` must be lists of as many floats, pair by pair. "
            f"Received: {before!r} and {after!r}."
        )
    if not np.all(first > 0):
        raise InvalidArgumentError(
            f"`before` must be positive for a relative increase. Received: {before!r}."
        )
    ratios = second / first - 1.0
    mean, count = float(ratios.mean()), len(ratios)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    found = (
        stats()
        .bootstrap(
            (ratios,),
            np.mean,
            vectorized=True,
            n_resamples=resamples,
            confidence_level=level,
            method="percentile",
            random_state=np.random.default_rng(0),  # `rng` from scipy 1.15 on
        )
        .confidence_interval
    )
    return Interval(mean, float(found.low), float(found.high), count)
