"""`AdaptiveSparsity`: when a log holds, and what is refused."""

import math

import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.schedules import AdaptiveSparsity


@pytest.mark.parametrize(
    ("direction", "relative", "baseline", "good", "bad"),
    [
        ("min", True, 2.0, [-50.0, 0.0, 2.0, 2.5], [2.51, 99.0]),
        ("min", True, -2.0, [-9.0, -2.0, -1.5], [-1.49, 0.0]),
        ("min", False, 2.0, [-50.0, 2.0, 2.25], [2.26, 2.5]),
        ("max", True, 2.0, [50.0, 2.0, 1.5], [1.49, 0.0]),
        ("max", True, -2.0, [0.0, -2.0, -2.5], [-2.51, -9.0]),
        ("max", False, 2.0, [50.0, 1.75], [1.74, 1.5]),
        ("target", True, 2.0, [1.5, 2.0, 2.5], [1.49, 2.51]),
        ("target", True, -2.0, [-1.5, -2.0, -2.5], [-1.49, -2.51]),
        ("target", False, 0.0, [-0.25, 0.0, 0.25], [-0.26, 0.26]),
        ("min", True, 0.0, [0.0, -1.0], [0.001]),
    ],
)
def test_values_within_the_tolerance_hold(direction, relative, baseline, good, bad):
    schedule = AdaptiveSparsity("loss", 0.25, direction=direction, relative=relative)
    assert all(schedule.holds(value, baseline) is True for value in good)
    assert not any(schedule.holds(value, baseline) for value in bad)
    assert schedule.holds(np.float32(good[0]), np.float32(baseline)) is True


@pytest.mark.parametrize("direction", ["min", "max", "target"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_never_hold(direction, value):
    schedule = AdaptiveSparsity("loss", 1e9, direction=direction)
    assert not schedule.holds(value, 1.0)
    assert not schedule.holds(1.0, value)


def test_adaptive_leaves_everything_to_the_controller():
    schedule = AdaptiveSparsity("loss", begin_step=10)
    assert {schedule(t) for t in (0, 10, 10**9)} == {0.0}
    assert not any(schedule.is_update_step(t, 1) for t in range(50))
    assert schedule.latest_update_step(-1, 10**9, 1) is None
    assert (schedule.begin_step, schedule.end_step) == (10, None)
    assert schedule.final == schedule.maximum == 0.95


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"monitor": ""}, r"`monitor` must be the name of a log.* Received: ''"),
        ({"monitor": None}, r"`monitor` must be the name of a log.* Received: None"),
        ({"tolerance": -0.1}, r"`tolerance` must be a finite, non-negative .* Received: -0\.1"),
        ({"tolerance": math.nan}, r"`tolerance` must be .* Received: nan"),
        ({"tolerance": "10%"}, r"`tolerance` must be .* Received: '10%'"),
        ({"increment": 0.0}, r"`increment` must be a sparsity in \(0, 1\)\. Received: 0\.0"),
        ({"increment": 1.0}, r"`increment` must be .* Received: 1\.0"),
        ({"increment": 10}, r"`increment` must be .* Received: 10\."),
        ({"begin_step": -1}, r"`begin_step` must be .* Received: -1"),
        ({"maximum": 95}, r"`maximum` must be a fraction .* For 95 %, pass 0\.95"),
        ({"maximum": 1.0}, r"`maximum` must be a fraction"),
        ({"maximum": 0.0}, r"`maximum` must be larger than 0"),
        ({"minimum_increment": 0.0}, r"`minimum_increment` must be a positive number"),
        (
            {"increment": 0.01},
            r"`minimum_increment` must not be larger .* minimum_increment=0\.02, increment=0\.01",
        ),
        ({"direction": "band"}, r"`direction` must be one of .* Received: 'band'"),
        ({"relative": 1}, r"`relative` must be True or False\. Received: 1"),
        ({"recovery_epochs": 0}, r"`recovery_epochs` must be a positive int, in epochs\. .* 0"),
        ({"recovery_epochs": 1.5}, r"`recovery_epochs` must be .* Received: 1\.5"),
        ({"baseline": math.inf}, r"`baseline` must be None or a finite number\. Received: inf"),
        ({"baseline": True}, r"`baseline` must be None or a finite number\. Received: True"),
        ({"baseline": 0}, r"relative to a `baseline` of 0 tolerates nothing.* `relative=False`"),
    ],
)
def test_bad_adaptive(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        AdaptiveSparsity(**{"monitor": "loss", **arguments})


def test_adaptive_with_an_absolute_tolerance_of_a_baseline_of_zero():
    assert AdaptiveSparsity("loss", relative=False, baseline=0).holds(0.1, 0.0)
