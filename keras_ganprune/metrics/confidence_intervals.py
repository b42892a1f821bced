"""How sure a mean is, and by how much one thing is worse than another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import optional_imports, validation

_RESAMPLES = 9999


class Interval(NamedTuple):
    """A mean, or an increase of means, and the ends of its interval.

    Attributes:
        mean: Float.
        low, high: Floats, the ends; NaN where one value says nothing of the spread.
        count: Int, how many values, or pairs of values, it is of.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2.0


def _stats() -> Any:
    return optional_imports.require("scipy.stats", "quality", "Intervals")


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

    Reference: [The probable error of a mean](https://doi.org/10.1093/biomet/6.1.1).
    """
    found = np.asarray(values, dtype="float64")
    if found.ndim != 1 or not found.size:
        raise InvalidArgumentError(
            f"`values` must be a list of floats, with one at least. Received: {values!r}."
        )
    mean, count = float(found.mean()), len(found)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = _stats().t.ppf((1.0 + level) / 2.0, count - 1) * found.std(ddof=1) / math.sqrt(count)
    return Interval(mean, float(mean - half), float(mean + half), count)


def relative_increase(before: Any, after: Any, direction: str = "min", axis: int = -1) -> Any:
    """Return by how much a metric got worse, relative to what it was.

        (mean(after) - mean(before)) / |mean(before)|,    negated for a metric that should be high

    A ratio of means, not a mean of ratios, which one good run before would rule. Infinite if the mean
    before is 0 and the one after is worse.

    Args:
        before, after: Arrays of the metric, such as those of dense and of pruned runs.
        direction: 'min' if the metric should be low, 'max' if high.
        axis: Int, over which the means are.

    Returns: Float64 array without that axis; 0.1 is 10 % worse.

    Example:
    >>> float(relative_increase([10.0, 10.0], [11.0, 13.0]))
    0.2
    """
    sign = validation.sign_of(direction)
    base = np.mean(before, axis=axis)
    worse = sign * (np.mean(after, axis=axis) - base)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = worse / np.abs(base)
    # 10 % is within 10 %, whatever the binary fractions.
    return np.round(np.where(worse == 0, 0.0, found), 12)


def bootstrap_increases(
    before: Any,
    after: Sequence[Any],
    direction: str = "min",
    *,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Any:
    """Return the paired bootstrap of some relative increases over one and the same `before`.

    Whole tuples (before, after, after, ...) are drawn with replacement, so that what a seed or a fold does
    to all of its runs cancels out.

    Args:
        before: Array (pairs,), of two at least.
        after: A list of r such arrays; the i-th entries of all belong together.
        direction, level, resamples, seed: As for `paired_increase`.

    Returns: What `scipy.stats.bootstrap` does: `confidence_interval.low` and `.high` (r,), and
        `bootstrap_distribution` (r, resamples).

    Raises: MissingPackageError (an ImportError): scipy is not installed.

    Reference: see `paired_increase`.
    """

    def increases(*drawn, axis):
        first, *others = drawn
        return np.stack([relative_increase(first, each, direction, axis) for each in others])

    # An infinite increase has no distance to others.
    with np.errstate(invalid="ignore"):
        return _stats().bootstrap(
            (before, *after),
            increases,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            batch=1000,
            confidence_level=level,
            method="percentile",
            random_state=np.random.default_rng(seed),  # `rng` from scipy 1.15 on
        )


def paired_increase(
    before: Sequence[float],
    after: Sequence[float],
    direction: str = "min",
    *,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the relative increase over pairs, with the interval of its paired percentile bootstrap.

    See `relative_increase` for what is drawn again, pair by pair with replacement. The interval of fewer
    than about five pairs is too narrow as a rule.

    Args:
        before, after: Floats; the i-th of both are a pair, such as the dense and the pruned generator of
            one seed.
        direction: 'min' if the metric should be low, 'max' if high.
        level: Float in (0, 1).
        resamples: Int, how often the pairs are drawn.
        seed: Int, of the draws.

    Returns: An `Interval` of fractions: 0.1 is 10 % worse. Of a single pair its ends are NaN.

    Raises:
        InvalidArgumentError: the lists are not as long as each other, or a value is not finite.
        MissingPackageError: scipy is not installed.

    Example:
    >>> found = paired_increase([10.0, 12.0, 11.0], [11.0, 13.2, 12.1])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (0.1, 0.1, 0.1)

    Reference: [Bootstrap methods](https://doi.org/10.1214/aos/1176344552); the percentile interval, Efron
    & Tibshirani, An introduction to the bootstrap, §13.3.
    """
    first, second = (np.asarray(v, dtype="float64") for v in (before, after))
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise InvalidArgumentError(
            "`before` and `after` must be lists of as many floats, pair by pair. "
            f"Received: {before!r} and {after!r}."
        )
    if not np.all(np.isfinite([first, second])):
        raise InvalidArgumentError(
            f"`before` and `after` must be finite. Received: {before!r} and {after!r}."
        )
    increase, count = float(relative_increase(first, second, direction)), len(first)
    if count == 1:
        return Interval(increase, math.nan, math.nan, 1)
    ends = bootstrap_increases(
        first, [second], direction, level=level, resamples=resamples, seed=seed
    ).confidence_interval
    return Interval(increase, float(ends.low[0]), float(ends.high[0]), count)
