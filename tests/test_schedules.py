"""Schedules: exact values, update steps, and what is refused."""

import dataclasses
import math

import numpy as np
import pytest

from keras_ganprune import schedules
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.schedules import ConstantSparsity, PolynomialDecay, Schedule, Threshold


@pytest.mark.parametrize(
    ("step", "sparsity"),
    [(0, 0.0), (99, 0.0), (100, 0.2), (102, 0.4928), (105, 0.725), (110, 0.8), (10**9, 0.8)],
)
def test_polynomial_decay(step, sparsity):
    schedule = PolynomialDecay(0.8, begin_step=100, end_step=110, initial_sparsity=0.2)
    assert schedule(step) == pytest.approx(sparsity, abs=1e-12)


@pytest.mark.parametrize("power", [1, 2.0, 3.0, 0.5])
def test_polynomial_decay_formula(power):
    s_i, s_f, t_0, t_1 = 0.05, 0.95, 7, 61
    schedule = PolynomialDecay(s_f, t_0, t_1, initial_sparsity=s_i, power=power)
    steps = np.arange(t_0, t_1 + 1)
    wanted = s_f + (s_i - s_f) * (1 - (steps - t_0) / (t_1 - t_0)) ** power
    values = [schedule(int(t)) for t in steps]
    np.testing.assert_allclose(values, wanted, rtol=1e-12)
    assert values[0] == s_i  # exactly, not nearly
    assert values[-1] == s_f
    assert np.all(np.diff(values) > 0)


def test_polynomial_decay_may_rise_to_the_same_value():
    schedule = PolynomialDecay(0.5, 0, 10, initial_sparsity=0.5)
    assert {schedule(t) for t in range(20)} == {0.5}


def test_constant_sparsity():
    schedule = ConstantSparsity(0.6, begin_step=5, end_step=9)
    assert [schedule(t) for t in (0, 4, 5, 9, 10, 10_000)] == [0.0, 0.0, 0.6, 0.6, 0.6, 0.6]
    assert ConstantSparsity(np.float64(0.25)).sparsity == 0.25
    assert schedule.quantity == "sparsity"


def test_threshold():
    schedule = Threshold(0.01, begin_step=5)
    assert [schedule(t) for t in (0, 4, 5, 1000)] == [0.0, 0.0, 0.01, 0.01]
    assert schedule.quantity == "threshold"
    assert Threshold(1)(0) == 1.0
    assert Threshold(5.0).threshold == 5.0  # not a fraction


def test_update_steps_stay_in_range():
    schedule = ConstantSparsity(0.5, begin_step=100, end_step=200)
    fires = [schedule.is_update_step(t, 1) for t in (90, 99, 100, 110, 200, 201, 210)]
    assert fires == [False, False, True, True, True, False, False]


@pytest.mark.parametrize("frequency", [1, 2, 3, 7, 10, 99, 1000])
def test_update_steps_begin_and_always_end(frequency):
    schedule = PolynomialDecay(0.8, begin_step=10, end_step=55)
    fires = [t for t in range(100) if schedule.is_update_step(t, frequency)]
    assert fires == sorted({*range(10, 56, frequency), 55})


def test_no_end_step_means_for_ever():
    schedule = ConstantSparsity(0.5, begin_step=100)
    fires = [schedule.is_update_step(t, 10) for t in (109, 110, 111, 10**4, 10**8, 10**8 + 1)]
    assert fires == [False, True, False, True, True, False]


@pytest.mark.parametrize("schedule", [PolynomialDecay(0.8, 10, 55), ConstantSparsity(0.5, 7)])
@pytest.mark.parametrize("frequency", [1, 4, 100])
def test_latest_update_step(schedule, frequency):
    fires = [t for t in range(80) if schedule.is_update_step(t, frequency)]
    for after in range(-1, 75, 3):
        for until in range(after, 80, 5):
            wanted = max((t for t in fires if after < t <= until), default=None)
            assert schedule.latest_update_step(after, until, frequency) == wanted


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ConstantSparsity(80), r"`sparsity` must be .* Received: 80\. For 80 %, pass 0\.8"),
        (lambda: ConstantSparsity(1.0), r"Received: 1\.0"),
        (lambda: ConstantSparsity(-0.001), r"Received: -0\.001"),
        (lambda: ConstantSparsity(math.nan), r"Received: nan"),
        (lambda: ConstantSparsity(0.5, begin_step=-1), r"`begin_step` .* Received: -1"),
        (lambda: ConstantSparsity(0.5, begin_step=1.5), r"`begin_step` .* Received: 1\.5"),
        (lambda: ConstantSparsity(0.5, begin_step=True), r"`begin_step` .* Received: True"),
        (lambda: ConstantSparsity(0.5, 0, -5), r"`end_step` .* Received: -5"),
        (lambda: ConstantSparsity(0.5, 10, 9), r"not be larger .* begin_step=10, end_step=9"),
        (lambda: PolynomialDecay(80, 0, 10), r"`final_sparsity` .* For 80 %, pass 0\.8"),
        (lambda: PolynomialDecay(0.8, 0, 10, initial_sparsity=1.0), r"`initial_sparsity` must be"),
        (lambda: PolynomialDecay(0.8, 10, 10), r"smaller than `end_step`.*ConstantSparsity"),
        (lambda: PolynomialDecay(0.8, 11, 10), r"not be larger .* begin_step=11, end_step=10"),
        (lambda: PolynomialDecay(0.8, 0, None), r"smaller than `end_step`.* end_step=None"),
        (lambda: PolynomialDecay(0.8, 0, 10, power=0), r"`power` must be .* Received: 0"),
        (lambda: PolynomialDecay(0.8, 0, 10, power=-1.0), r"`power` must be"),
        (lambda: PolynomialDecay(0.8, 0, 10, power=math.inf), r"`power` must be"),
        (lambda: PolynomialDecay(0.8, 0, 10, power=math.nan), r"`power` must be"),
        (lambda: PolynomialDecay(0.8, 0, 10, power="3"), r"`power` must be .* Received: '3'"),
        (lambda: Threshold(-0.1), r"finite, non-negative number\. Received: -0\.1"),
        (lambda: Threshold(math.nan), r"finite, non-negative number\. Received: nan"),
        (lambda: Threshold(math.inf), r"finite, non-negative number\. Received: inf"),
        (lambda: Threshold("0.1"), r"non-negative number\. Received: '0\.1'"),
        (lambda: Threshold(True), r"non-negative number\. Received: True"),
        (lambda: Threshold(0.1, 3, 2), r"begin_step=3, end_step=2"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(InvalidArgumentError, match=f"(?s){text}"):
        make()


@pytest.mark.parametrize("sparsity", [0, 0.99])
def test_extreme_sparsities_are_fine(sparsity):
    assert ConstantSparsity(sparsity, 5, 5)(5) == sparsity


def test_schedules_are_frozen():
    schedule = ConstantSparsity(0.5)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        schedule.sparsity = 0.9


def test_equal_schedules_are_equal():
    assert ConstantSparsity(0.5) == ConstantSparsity(0.5)
    assert ConstantSparsity(0.5) != ConstantSparsity(0.6)
    assert hash(ConstantSparsity(0.5)) == hash(ConstantSparsity(0.5))


@pytest.mark.parametrize("number", [0.5, 0, np.float32(0.5), np.float64(0.25)])
def test_get_number_is_a_constant_sparsity(number):
    assert schedules.get(number) == ConstantSparsity(float(number))


def test_get_number_out_of_range():
    with pytest.raises(InvalidArgumentError, match=r"For 80 %, pass 0\.8"):
        schedules.get(80)


@pytest.mark.parametrize("value", [True, None, [0.5], object()])
def test_get_rejects_other_things(value):
    with pytest.raises(UnsupportedLayerError, match=r"A schedule must be a name, a `Schedule`"):
        schedules.get(value)


def test_get_rejects_a_class():
    with pytest.raises(UnsupportedLayerError, match=r"Write `PolynomialDecay\(\.\.\.\)`"):
        schedules.get(PolynomialDecay)


def test_user_schedule():
    class Staircase(Schedule):
        begin_step = 4

        def __call__(self, step):
            return 0.1 * (step // 10)

    schedule = Staircase()
    assert schedules.get(schedule) is schedule
    assert [t for t in range(20) if schedule.is_update_step(t, 5)] == [4, 9, 14, 19]
    assert schedule.latest_update_step(9, 18, 5) == 14


class _FakeTfmot:
    """Has the attributes of TFMOT's objects, so that the core is tested without importing it."""

    def __init__(self, **attributes):
        vars(self).update(attributes)


def _fake(name, **attributes):
    module = "tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule"
    return type(name, (_FakeTfmot,), {"__module__": module})(**attributes)


def test_get_accepts_tfmot_objects():
    poly = _fake(
        "PolynomialDecay",
        initial_sparsity=0.2,
        final_sparsity=0.8,
        begin_step=100,
        end_step=110,
        power=3,
        frequency=5,
    )
    assert schedules.get(poly) == PolynomialDecay(0.8, 100, 110, initial_sparsity=0.2, power=3)
    constant = _fake("ConstantSparsity", target_sparsity=0.5, begin_step=7, end_step=-1)
    assert schedules.get(constant) == ConstantSparsity(0.5, 7, None)


def test_get_rejects_unknown_tfmot_objects():
    with pytest.raises(UnsupportedLayerError, match="A schedule must be a name"):
        schedules.get(_fake("PruningSchedule", begin_step=0, end_step=-1))


def test_get_accepts_real_tfmot_objects():
    tfmot = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    theirs = tfmot.PolynomialDecay(0.2, 0.8, begin_step=100, end_step=110, power=3, frequency=1)
    ours = schedules.get(theirs)
    for step in range(100, 111):
        assert ours(step) == pytest.approx(float(theirs(step)[1]), abs=1e-6)
        assert ours.is_update_step(step, 1) == bool(theirs(step)[0])
    assert schedules.get(tfmot.ConstantSparsity(0.5, 7)) == ConstantSparsity(0.5, 7)
