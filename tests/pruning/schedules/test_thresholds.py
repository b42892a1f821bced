"""`DynamicThreshold`: values, statistics of tensors, and what is refused."""

import math

import numpy as np
import pytest

from keras_ganprune.errors import DivergedError, InvalidArgumentError
from keras_ganprune.pruning.schedules import DynamicThreshold


def tensors(count):
    return [np.ones((2, 3))] * count


@pytest.mark.parametrize("power", [1, 2.5, 0.5])
@pytest.mark.parametrize(("v_i", "v_f"), [(0.0, 2.0), (0.5, 0.02)])
def test_dynamic_threshold_formula(power, v_i, v_f):
    t_0, t_1 = 7, 61
    schedule = DynamicThreshold(v_f, t_0, t_1, v_i, power)
    steps = np.arange(t_0, t_1 + 1)
    wanted = v_f + (v_i - v_f) * (1 - (steps - t_0) / (t_1 - t_0)) ** power
    values = [schedule(int(t)) for t in steps]
    np.testing.assert_allclose(values, wanted, rtol=1e-12, atol=1e-15)
    assert (values[0], values[-1], schedule(10**9)) == (v_i, v_f, v_f)
    assert schedule(t_0 - 1) == 0.0
    assert schedule.targets(20, tensors(3)) is None


@pytest.mark.parametrize("end", [None, 5])
def test_dynamic_threshold_without_a_ramp(end):
    schedule = DynamicThreshold(0.5, 5, end, statistic="max_abs")
    assert [schedule(t) for t in (0, 4, 5, 6, 10**6)] == [0.0, 0.0, 0.5, 0.5, 0.5]
    assert schedule.targets(4, tensors(2)) == [0.0, 0.0]
    assert schedule.targets(5, tensors(2)) == [0.5, 0.5]
    assert DynamicThreshold(0.5) == DynamicThreshold(0.5, 0, None, 0.0, 1.0, None)


@pytest.mark.parametrize(
    ("statistic", "oracle"),
    [
        ("std", lambda w: math.sqrt(np.sum((w - w.sum() / w.size) ** 2) / w.size)),
        ("mean_abs", lambda w: np.sum(np.where(w < 0, -w, w)) / w.size),
        ("max_abs", lambda w: max(w.max(), -w.min())),
    ],
)
def test_a_multiple_of_each_tensors_statistic(statistic, oracle):
    rng = np.random.default_rng(0)
    weights = [rng.normal(0.3, scale, shape) for scale, shape in ((1, (3, 3, 4, 5)), (9, (7, 2)))]
    weights[0][rng.random(weights[0].shape) < 0.5] = 0.0  # pruned ones count too
    schedule = DynamicThreshold(2.0, 0, 100, statistic=statistic)
    for step, factor in ((0, 0.0), (25, 0.5), (100, 2.0), (10**6, 2.0)):
        wanted = [factor * oracle(w) for w in weights]
        np.testing.assert_allclose(schedule.targets(step, weights), wanted, rtol=1e-12)


def test_pruning_does_not_raise_its_own_threshold():
    weight = np.random.default_rng(1).normal(size=10_000)
    schedule = DynamicThreshold(1.0, statistic="std")
    thresholds = []
    for _ in range(50):
        thresholds += schedule.targets(0, [weight])
        weight = np.where(np.abs(weight) < thresholds[-1], 0.0, weight)
    # A statistic of the kept weights alone would rise at every update, and pruning would never end.
    assert np.all(np.diff(thresholds) <= 0)
    assert np.count_nonzero(weight) > 3_000


def test_statistics_of_half_precision_do_not_overflow():
    weight = np.full((100, 100), 300.0, np.float16)
    weight[::2] *= -1
    assert DynamicThreshold(0.5, statistic="std").targets(0, [weight]) == [150.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("statistic", ["std", "mean_abs", "max_abs"])
def test_statistics_of_diverged_weights_are_refused(bad, statistic):
    schedule = DynamicThreshold(0.5, statistic=statistic)
    with pytest.raises(
        DivergedError, match=r"Weight tensor 1 .* has 1 value\(s\) that are NaN or inf"
    ):
        schedule.targets(0, [np.ones(3), np.array([1.0, bad])])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-0.1,), r"`final_threshold` must be a finite, non-negative number\. Received: -0\.1"),
        ((math.inf,), r"`final_threshold` must be a finite, non-negative .* Received: inf"),
        (("0.1",), r"`final_threshold` must be .* Received: '0\.1'"),
        ((0.1, 0, 9, -1), r"`initial_threshold` must be a finite, non-negative .* Received: -1"),
        ((0.1, 0, 9, math.nan), r"`initial_threshold` must be .* Received: nan"),
        ((0.1, 0, 9, 0.0, 0), r"`power` must be a positive number\. Received: 0"),
        ((0.1, 0, 9, 0.0, math.inf), r"`power` must be a positive number\. Received: inf"),
        (
            (0.1, 0, None, 0.1),
            r"needs an `end_step` after .* initial_threshold=0\.1, begin_step=0, end_step=None",
        ),
        (
            (0.1, 5, 5, 0.2),
            r"`initial_threshold` needs an `end_step` .* begin_step=5, end_step=5",
        ),
        ((0.1, 0, 9, 0.0, 1.0, "var"), r"`statistic` must be one of .* Received: 'var'"),
        ((0.1, 9, 8), r"begin_step=9, end_step=8"),
    ],
)
def test_bad_dynamic_thresholds(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        DynamicThreshold(*arguments)
