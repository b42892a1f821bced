"""Confidence intervals of means and of relative increases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import optional_imports, validation

_RESAMPLES = 9999


class Interval(NamedTuple):
    """A mean, or a relative increase of a mean, with its confidence interval.

    Attributes:
        mean: Float, the mean or the increase.
        low: Float, lower end; NaN for a single value.
        high: Float, upper end; NaN for a single value.
        count: Int, number of values or pairs.

    Example:
    >>> Interval(mean=7.0, low=4.5, high=9.5, count=3).half
    2.5
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2.0


def _stats() -> Any:
    """Return `scipy.stats`."""
    return optional_imports.require("scipy.stats", "quality", "Intervals")


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Return the mean of values with its Student confidence interval.

        mean ± t(level, n - 1) * s / sqrt(n)

    Args:
        values: Floats (n,), independent measurements.
        level: Float in (0, 1), the confidence level. Defaults to 0.95.

    Returns:
        An `Interval`. For a single value its ends are NaN.

    Raises:
        InvalidArgumentError: `values` is empty or is not one-dimensional.
        MissingPackageError: SciPy is not installed.

    Example:
    >>> interval = mean_interval([6.0, 7.0, 8.0])
    >>> round(interval.mean, 2), round(interval.half, 2)
    (7.0, 2.48)

    Reference: [The probable error of a mean](https://doi.org/10.1093/biomet/6.1.1).
    """
    sample = validation.numbers(values, "values")
    level = validation.fraction(level, "level", zero=False)
    if sample.ndim != 1 or not sample.size:
        raise InvalidArgumentError(
            f"`values` must be a list of at least one float. Received: {values!r}."
        )
    mean, count = float(sample.mean()), len(sample)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = _stats().t.ppf((1.0 + level) / 2.0, count - 1) * sample.std(ddof=1) / math.sqrt(count)
    return Interval(mean, float(mean - half), float(mean + half), count)


def relative_increase(
    before: ArrayLike,
    after: ArrayLike,
    direction: Literal["min", "max"] = "min",
    axis: int = -1,
) -> np.ndarray:
    """Return the relative degradation of a metric.

        (mean(after) - mean(before)) / |mean(before)|,    negated if a higher metric is better

    Lower is better: 0.1 means 10 % worse, a negative number means better. This is a ratio of means. One very
    good run in `before` would dominate a mean of ratios. The result is infinite if the mean before is 0 and
    the mean after is worse.

    Args:
        before: Array of the metric, such as the values of dense runs.
        after: Array of the metric, such as the values of pruned runs.
        direction: 'min' if a lower metric is better, 'max' if a higher one is. Defaults to 'min'.
        axis: Int, the axis over which the means are taken. Defaults to -1.

    Returns:
        float64 array with the shape of `before` without `axis`.

    Raises:
        InvalidArgumentError: `direction` is neither 'min' nor 'max', `axis` is none of the arrays, or they
            are empty, hold no numbers or hold infinite ones. NaN is valid, and gives NaN.

    Example:
    >>> float(relative_increase([10.0, 10.0], [11.0, 13.0]))
    0.2
    """
    sign = validation.sign_of(direction)
    first, second = validation.numbers(before, "before"), validation.numbers(after, "after")
    for array, name in ((first, "before"), (second, "after")):
        if not validation.is_int(axis) or not -array.ndim <= axis < array.ndim:
            raise InvalidArgumentError(
                f"`axis` must be an axis of `{name}`, of shape {array.shape}. Received: {axis!r}."
            )
        if not array.shape[axis]:
            raise InvalidArgumentError(
                f"`{name}` must not be empty. Received: shape {array.shape}."
            )
        if np.isinf(array).any():
            raise InvalidArgumentError(
                f"`{name}` must be finite: no ratio can be told of an infinite metric. Received: "
                f"{int(np.isinf(array).sum())} infinite value(s) of {array.size}. Leave these runs out, or "
                "write NaN for them: then the result is NaN."
            )
    base = np.mean(first, axis=axis)
    degradation = sign * (np.mean(second, axis=axis) - base)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = degradation / np.abs(base)
    # Rounded, so that an increase from 1.0 to 1.1 is exactly 0.1.
    return np.round(np.where(degradation == 0, 0.0, ratio), 12)


def bootstrap_increases(
    before: ArrayLike,
    after: Sequence[ArrayLike],
    direction: Literal["min", "max"] = "min",
    *,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Any:
    """Return the paired bootstrap of several relative increases that share one `before`.

    Each resample draws whole tuples (before, after, after, ...) with replacement. So the effect that a seed
    or a fold has on all its runs cancels out.

    Args:
        before: Array (pairs,) with at least two entries.
        after: List of r such arrays; the i-th entries of all arrays belong together.
        direction: 'min' if a lower metric is better, 'max' if a higher one is. Defaults to 'min'.
        level: Float in (0, 1), the confidence level. Defaults to 0.95.
        resamples: Positive int, number of draws. Defaults to 9,999.
        seed: Int, seed of the draws. Defaults to 0.

    Returns:
        The result of `scipy.stats.bootstrap`: `confidence_interval.low` and `.high` (r,), and
        `bootstrap_distribution` (r, resamples).

    Raises:
        InvalidArgumentError: `direction` is neither 'min' nor 'max'.
        MissingPackageError: SciPy is not installed.

    Reference: see `paired_increase`.
    """

    def increases(*drawn, axis):
        first, *others = drawn
        return np.stack([relative_increase(first, other, direction, axis) for other in others])

    # Differences of infinite increases are NaN, which is expected here.
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
            random_state=np.random.default_rng(seed),  # named `rng` from SciPy 1.15 on
        )


def paired_increase(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    direction: Literal["min", "max"] = "min",
    *,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the relative degradation over pairs of runs, with its paired bootstrap interval.

    `relative_increase` defines the quantity. Each resample draws whole pairs with replacement, and the ends
    are percentiles of the resampled increases. With fewer than about five pairs the interval is usually too
    narrow.

    Args:
        before: Floats (n,), such as the metric of the dense generators.
        after: Floats (n,), such as the metric of the pruned generators; the i-th entries of both are a
            pair, such as the two generators of one seed.
        direction: 'min' if a lower metric is better, 'max' if a higher one is. Defaults to 'min'.
        level: Float in (0, 1), the confidence level. Defaults to 0.95.
        resamples: Positive int, number of draws. Defaults to 9,999.
        seed: Int, seed of the draws. Defaults to 0.

    Returns:
        An `Interval` of fractions: 0.1 means 10 % worse. For a single pair its ends are NaN.

    Raises:
        InvalidArgumentError: The lists differ in length, are empty or have a value that is not finite, or
            `direction` is neither 'min' nor 'max'.
        InvalidArgumentError: `level` is not in (0, 1), or `resamples` or `seed` is no valid int.
        MissingPackageError: SciPy is not installed.

    Example:
    >>> interval = paired_increase([10.0, 12.0, 11.0], [11.0, 13.2, 12.1])
    >>> round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3)
    (0.1, 0.1, 0.1)

    Reference: [Bootstrap methods](https://doi.org/10.1214/aos/1176344552); the percentile interval, Efron
    & Tibshirani, An introduction to the bootstrap, §13.3.
    """
    first, second = validation.numbers(before, "before"), validation.numbers(after, "after")
    level = validation.fraction(level, "level", zero=False)
    resamples = validation.positive_int(resamples, "resamples")
    seed = validation.non_negative_int(seed, "seed")
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise InvalidArgumentError(
            "`before` and `after` must be lists of floats of equal length, pair by pair. "
            f"Received: {before!r} and {after!r}."
        )
    if not np.all(np.isfinite([first, second])):
        raise InvalidArgumentError(
            f"`before` and `after` must be finite. Received: {before!r} and {after!r}. Leave out the "
            "pairs of runs that diverged."
        )
    increase, count = float(relative_increase(first, second, direction)), len(first)
    if count == 1:
        return Interval(increase, math.nan, math.nan, 1)
    ends = bootstrap_increases(
        first, [second], direction, level=level, resamples=resamples, seed=seed
    ).confidence_interval
    return Interval(increase, float(ends.low[0]), float(ends.high[0]), count)
