"""Intervals and relative increases against NumPy, and their errors."""

import math

import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError, MissingPackageError
from keras_ganprune.metrics import Interval, mean_interval, paired_increase, relative_increase
from keras_ganprune.metrics.confidence_intervals import bootstrap_increases

pytest.importorskip("scipy")

RNG = np.random.default_rng(1)
BEFORE = RNG.uniform(5, 50, 12)
AFTER = BEFORE * RNG.uniform(1.0, 1.3, 12)


def drawn_increases(before, after, n=20_000):
    """Return the increases of n resamples: whole pairs, drawn with replacement (Efron)."""
    drawn = np.random.default_rng(7).integers(len(before), size=(n, len(before)))
    return after[drawn].mean(axis=1) / before[drawn].mean(axis=1) - 1


def test_the_interval_of_a_mean():
    values = np.array([6.0, 6.5, 5.5, 7.0, 6.2])
    found = mean_interval(values)
    # The quantile of Student's distribution with four degrees of freedom, from a table.
    half = 2.776445 * values.std(ddof=1) / math.sqrt(5)
    wanted = [values.mean(), values.mean() - half, values.mean() + half]
    np.testing.assert_allclose(found[:3], wanted, rtol=1e-6)
    assert found.half == pytest.approx(half) and found.count == 5
    one = mean_interval([3.0])
    assert one.mean == 3.0 and math.isnan(one.low) and math.isnan(one.high)
    with pytest.raises(InvalidArgumentError, match="at least one float"):
        mean_interval([])


def test_an_increase_is_a_ratio_of_means():
    assert relative_increase([10, 30], [11, 33]) == pytest.approx(0.1)
    # The mean of the ratios would be 0.5: one good run before would dominate it.
    assert relative_increase([1.0, 9.0], [2.0, 9.0]) == pytest.approx(0.1)
    assert relative_increase([1.0, 1.0], [0.9, 0.7], "max") == pytest.approx(0.2)
    # A metric that may be negative: worse is still up.
    assert relative_increase([-2.0], [-1.0]) == pytest.approx(0.5)
    assert relative_increase([0.0], [0.0]) == 0.0
    assert relative_increase([0.0], [1.0]) == math.inf
    # 10 % is within 10 %, whatever the binary fractions.
    assert relative_increase([1.0], [1.1]) == 0.1
    rows = relative_increase([[1.0, 3.0], [2.0, 2.0]], [[2.0, 4.0], [1.0, 1.0]])
    np.testing.assert_allclose(rows, [0.5, -0.5])
    with pytest.raises(InvalidArgumentError, match="Unknown direction 'up'"):
        relative_increase([1.0], [1.0], "up")


def test_the_interval_of_an_increase():
    found = paired_increase(BEFORE, AFTER)
    assert found.mean == pytest.approx(AFTER.mean() / BEFORE.mean() - 1) and found.count == 12
    ends = np.percentile(drawn_increases(BEFORE, AFTER), [2.5, 97.5])
    np.testing.assert_allclose([found.low, found.high], ends, atol=0.004)
    assert paired_increase(BEFORE, AFTER) == found  # the same each time
    assert paired_increase(BEFORE, AFTER, seed=1) != found
    narrow = paired_increase(BEFORE, AFTER, level=0.5)
    assert found.low < narrow.low < narrow.high < found.high
    high = paired_increase(BEFORE, AFTER, "max")
    np.testing.assert_allclose(high[:3], [-found.mean, -found.high, -found.low], atol=0.004)


def test_what_a_pair_has_in_common_cancels_out():
    # The runs before differ by a factor of four, the ratio not at all.
    found = paired_increase([10.0, 20.0, 40.0], [10.5, 21.0, 42.0])
    assert found == pytest.approx((0.05, 0.05, 0.05, 3))


def test_several_increases_are_drawn_together():
    drawn = bootstrap_increases(BEFORE, [AFTER, 2 * AFTER], resamples=500).bootstrap_distribution
    assert drawn.shape == (2, 500)
    np.testing.assert_allclose(1 + drawn[1], 2 * (1 + drawn[0]))


def test_one_pair_has_no_interval():
    found = paired_increase([1.0], [2.0])
    assert (found.mean, found.count) == (1.0, 1) and np.isnan([found.low, found.high]).all()
    assert isinstance(found, Interval)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ([1.0, 2.0], [1.0], "pair by pair"),
        ([], [], "pair by pair"),
        (1.0, 2.0, "must be a list of numbers"),
        ([1.0, math.nan], [1.0, 1.0], "must be finite"),
        ([1.0, 1.0], [1.0, math.inf], "must be finite"),
    ],
)
def test_invalid_pairs_raise(before, after, text):
    with pytest.raises(InvalidArgumentError, match=text):
        paired_increase(before, after)


def test_scipy_is_named_where_it_is_missing(without):
    without("scipy")
    for call in (mean_interval, lambda values: paired_increase(values, values)):
        with pytest.raises(MissingPackageError, match=r"need scipy.*keras-ganprune\[quality\]"):
            call([1.0, 2.0])
