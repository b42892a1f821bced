"""Schedules: exact values, update steps, and what is refused."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest

from keras_ganprune.errors import ArgumentTypeError, DivergedError, InvalidArgumentError
from keras_ganprune.pruning import schedules
from keras_ganprune.pruning.schedules import (
    AdaptiveSparsity,
    ConstantSparsity,
    Cosine,
    Cubic,
    Cyclic,
    DynamicThreshold,
    IterativeRewind,
    LayerwiseOrder,
    Linear,
    OneShot,
    PolynomialDecay,
    Schedule,
    Threshold,
)

# One or more of every class, with other than default arguments.
ALL = [
    ConstantSparsity(0.5, 7),
    ConstantSparsity(0.5, 7, 33),
    OneShot(0.5, 20),
    PolynomialDecay(0.8, 10, 55, initial_sparsity=0.2, power=2),
    Linear(0.8, 10, 55),
    Cubic(0.8, 10, 55, 0.1),
    Cosine(0.8, 10, 55),
    Cyclic(0.2, 0.8, 12, 5, 47, rise=0.3),
    IterativeRewind(0.8, 4, 11, 9, rewind_step=3, rewind="target"),
    LayerwiseOrder(Cubic(0.8, 10, 55), "backward", 0.5),
    LayerwiseOrder([Cubic(0.8, 10, 30), OneShot(0.5, 41), Linear(0.3, 5, 20)]),
    Threshold(0.01, 5),
    DynamicThreshold(0.5, 10, 55, 0.1, 2.0, "std"),
    DynamicThreshold(0.5, 10),
    AdaptiveSparsity("loss", 0.2, 0.05, 10, 0.9, 0.01, "target", False, 2, 0.7),
]
each = pytest.mark.parametrize("schedule", ALL, ids=repr)


def tensors(count):
    return [np.ones((2, 3))] * count


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


@each
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
        (lambda: PolynomialDecay(0.8, 0, 10, power=True), r"`power` must be .* Received: True"),
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
    with pytest.raises(ArgumentTypeError, match=r"A schedule must be a name, a `Schedule`"):
        schedules.get(value)


def test_get_rejects_a_class():
    with pytest.raises(ArgumentTypeError, match=r"Write `PolynomialDecay\(\.\.\.\)`"):
        schedules.get(PolynomialDecay)


def test_user_schedule():
    class Staircase(Schedule):
        begin_step = 4

        def __call__(self, step):
            return 0.1 * (step // 10)

    schedule = Staircase()
    assert schedules.get(schedule) is schedule
    assert repr(schedule) == "Staircase()"
    assert schedule == Staircase()
    assert [t for t in range(20) if schedule.is_update_step(t, 5)] == [4, 9, 14, 19]
    assert schedule.latest_update_step(9, 18, 5) == 14


def test_a_users_own_rule_of_update_steps_is_asked():
    class Squares(Schedule):
        def __call__(self, step):
            return 0.5

        def is_update_step(self, step, frequency):
            return math.isqrt(step) ** 2 == step

    assert Squares().latest_update_step(4, 15, 7) == 9
    assert Squares().latest_update_step(9, 15, 7) is None
    assert Squares().final == 0.5


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
    with pytest.raises(ArgumentTypeError, match="A schedule must be a name"):
        schedules.get(_fake("PruningSchedule", begin_step=0, end_step=-1))


def test_get_accepts_real_tfmot_objects():
    tfmot = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    theirs = tfmot.PolynomialDecay(0.2, 0.8, begin_step=100, end_step=110, power=3, frequency=1)
    ours = schedules.get(theirs)
    for step in range(100, 111):
        assert ours(step) == pytest.approx(float(theirs(step)[1]), abs=1e-6)
        assert ours.is_update_step(step, 1) == bool(theirs(step)[0])
    assert schedules.get(tfmot.ConstantSparsity(0.5, 7)) == ConstantSparsity(0.5, 7)


# --- What all promise ----------------------------------------------------------------------------


@each
def test_configs_survive_json_and_keras(schedule):
    config = json.loads(json.dumps(schedule.get_config()))
    assert type(schedule)(**config) == schedule
    assert hash(type(schedule)(**config)) == hash(schedule)
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    assert serialized["registered_name"] == f"keras_ganprune>{type(schedule).__name__}"
    assert keras.saving.deserialize_keras_object(serialized) == schedule
    assert schedules.get(serialized) == schedule


@each
def test_repr_is_code(schedule):
    assert eval(repr(schedule), dict(vars(schedules))) == schedule


@each
def test_all_are_frozen(schedule):
    name = dataclasses.fields(schedule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        setattr(schedule, name, 0.1)


@each
def test_nothing_before_begin_and_final_from_the_end_on(schedule):
    assert [schedule(t) for t in (0, schedule.begin_step - 1)] == [0.0, 0.0]
    if schedule.adaptive:
        assert schedule.final == schedule.maximum  # of which it knows no step
    elif schedule.end_step is None:
        assert schedule(10**12) == schedule.final
    else:
        assert schedule(schedule.end_step) == schedule(10**12) == schedule.final


@each
@pytest.mark.parametrize("frequency", [1, 7, 1000])
def test_all_updates_are_in_range_and_the_end_is_one(schedule, frequency):
    fires = [t for t in range(100) if schedule.is_update_step(t, frequency)]
    if schedule.adaptive:
        assert fires == []
        return
    assert fires[0] == schedule.begin_step
    if schedule.end_step is not None:
        assert fires[-1] == schedule.end_step


@each
def test_the_latest_update_step_is_found_without_a_long_search(schedule):
    # Step by step this would take days.
    frequency, until = 10**9, 10**15
    last = until - (until - schedule.begin_step) % frequency
    wanted = None if schedule.adaptive else schedule.end_step or last
    assert schedule.latest_update_step(-1, until, frequency) == wanted
    assert schedule.latest_update_step(10**15, 10**16, 10**17) is None


@each
def test_only_these_have_special_demands(schedule):
    assert schedule.adaptive == isinstance(schedule, AdaptiveSparsity)
    assert schedule.rises_and_falls == isinstance(schedule, Cyclic)
    assert schedule.rewind_step == (3 if isinstance(schedule, IterativeRewind) else None)
    thresholds = (Threshold, DynamicThreshold)
    assert schedule.quantity == ("threshold" if isinstance(schedule, thresholds) else "sparsity")


@pytest.mark.parametrize(
    "schedule",
    [Linear(0.2, 0, 9, 0.8), PolynomialDecay(0.2, 0, 9, 0.8), DynamicThreshold(0.1, 0, 9, 0.2)],
    ids=repr,
)
def test_a_ramp_that_goes_down_says_so(schedule):
    assert schedule.rises_and_falls
    assert schedule(3) > schedule(6) > schedule.final


def test_a_layerwise_ramp_that_goes_down_says_so():
    assert LayerwiseOrder(Linear(0.2, 0, 9, 0.8)).rises_and_falls


@pytest.mark.parametrize(
    "schedule", [s for s in ALL if not isinstance(s, (LayerwiseOrder, DynamicThreshold))], ids=repr
)
def test_one_target_for_all_tensors(schedule):
    assert schedule.targets(20, tensors(3)) is None


def test_numpy_integers_and_floats_become_plain():
    schedule = PolynomialDecay(np.float32(0.5), np.int64(0), np.int32(9), power=np.float64(2.0))
    assert repr(schedule) == (
        "PolynomialDecay(final_sparsity=0.5, begin_step=0, end_step=9, initial_sparsity=0.0, power=2.0)"
    )
    assert json.dumps(OneShot(0.5, np.int64(3)).get_config()) == '{"sparsity": 0.5, "step": 3}'


def test_an_int_power_keeps_its_repr():
    assert repr(PolynomialDecay(0.5, 0, 9, power=2)).endswith("power=2)")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cubic", r"'cubic' cannot be .* needs `final_sparsity`\. Write `Cubic\(\.\.\.\)`"),
        ("one_shot", r"'one_shot' cannot be .* needs `sparsity`, `step`\. Write `OneShot\("),
        ("adaptive_sparsity", r"needs `monitor`\. Write `AdaptiveSparsity\("),
        ("cyclical", r"Unknown schedule 'cyclical'\. Did you mean 'cyclic'\?"),
    ],
)
def test_get_by_a_name_that_needs_arguments(name, text):
    with pytest.raises(InvalidArgumentError, match=text):
        schedules.get(name)


# --- The tables of the peers' tests (pruning_peers.md, 3) ----------------------------------------

FACTORIES = {
    "ConstantSparsity": lambda begin, end: ConstantSparsity(0.5, begin, end),
    "PolynomialDecay": lambda begin, end: PolynomialDecay(0.5, begin, end),
    "Linear": lambda begin, end: Linear(0.5, begin, end),
    "Cubic": lambda begin, end: Cubic(0.5, begin, end),
    "Cosine": lambda begin, end: Cosine(0.5, begin, end),
    "Cyclic": lambda begin, end: Cyclic(0.2, 0.5, 2, begin, end),
    "Threshold": lambda begin, end: Threshold(0.5, begin, end),
    "DynamicThreshold": lambda begin, end: DynamicThreshold(0.5, begin, end),
}
each_window = pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)


@each_window
@pytest.mark.parametrize("begin", [-1, -5])
def test_peers_begin_step(make, begin):
    with pytest.raises(InvalidArgumentError, match=f"`begin_step` must be .* Received: {begin}\\."):
        make(begin, 10)


@each_window
@pytest.mark.parametrize("end", [-1, -5])
def test_peers_end_step(make, end):
    # -1 is not "for ever" here: None is.
    with pytest.raises(InvalidArgumentError, match=f"`end_step` must be .* Received: {end}\\."):
        make(0, end)


@each_window
def test_peers_end_before_begin(make):
    with pytest.raises(InvalidArgumentError, match=r"not be larger .* begin_step=11, end_step=10"):
        make(11, 10)


@each_window
def test_peers_begin_end_range(make):
    schedule = make(100, 200)
    fires = [schedule.is_update_step(t, 1) for t in (90, 99, 100, 110, 200, 201, 210)]
    assert fires == [False, False, True, True, True, False, False]


@pytest.mark.parametrize("make", [f for n, f in FACTORIES.items() if n != "Cyclic"])
def test_peers_valid_frequency_steps(make):
    schedule = make(100, 200)
    fires = [schedule.is_update_step(t, 10) for t in (100, 109, 110, 111)]
    assert fires == [True, False, True, False]


@pytest.mark.parametrize("make", [FACTORIES["ConstantSparsity"], FACTORIES["Threshold"]])
def test_peers_for_ever(make):
    assert all(make(0, None).is_update_step(t, 10) for t in (10**4, 10**8))


def test_peers_equal_begin_and_end():
    for make in (ConstantSparsity, Threshold, DynamicThreshold):
        fires = [t for t in range(20) if make(0.5, 10, 10).is_update_step(t, 1)]
        assert fires == [10]


def test_peers_one_shot_only_at_20():
    schedule = OneShot(0.5, 20)
    for frequency in (1, 3, 20, 1000):
        assert [t for t in range(100) if schedule.is_update_step(t, frequency)] == [20]
    assert (schedule.begin_step, schedule.end_step, schedule.final) == (20, 20, 0.5)


def test_peers_periodic():
    fires = [ConstantSparsity(0.5).is_update_step(t, 10) for t in (9, 10)]
    assert fires == [False, True]


@pytest.mark.parametrize("make", [Cubic, PolynomialDecay])
def test_peers_jaxpruner_is_one_step_ahead(make):
    # Its p is (t + 1 - begin) / (end - begin): 0.4375 at step 9, where ours has it at step 10.
    schedule = make(0.5, 0, 20)
    assert schedule(10) == 0.4375
    assert schedule(9) == pytest.approx(0.5 * (1 - 0.55**3), abs=1e-15)


@pytest.mark.parametrize("make", [PolynomialDecay, Cubic])
def test_peers_tfmot_polynomial(make):
    schedule = make(0.8, 100, 110, initial_sparsity=0.2)
    values = [schedule(t) for t in (100, 102, 105, 110)]
    np.testing.assert_allclose(values, [0.2, 0.4928, 0.725, 0.8], atol=1e-12)


# --- Ramps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "share_done"),
    [
        (Linear, lambda p: p),
        (Cubic, lambda p: 1 - (1 - p) ** 3),
        (Cosine, lambda p: (1 - np.cos(np.pi * p)) / 2),
    ],
)
@pytest.mark.parametrize(("s_i", "s_f"), [(0.0, 0.9), (0.15, 0.6), (0.6, 0.15), (0.3, 0.3)])
def test_ramps_follow_their_formula(make, share_done, s_i, s_f):
    t_0, t_1 = 7, 61
    schedule = make(s_f, t_0, t_1, initial_sparsity=s_i)
    steps = np.arange(t_0, t_1 + 1)
    wanted = s_i + (s_f - s_i) * share_done((steps - t_0) / (t_1 - t_0))
    values = [schedule(int(t)) for t in steps]
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-15)
    assert values[0] == s_i  # exactly, not nearly
    assert values[-1] == schedule(t_1 + 1) == schedule.final == s_f
    assert schedule(t_0 - 1) == 0.0
    assert np.all(np.sign(np.diff(values)) == np.sign(s_f - s_i))


def test_cubic_is_the_polynomial_of_power_three():
    cubic, polynomial = Cubic(0.8, 3, 77, 0.1), PolynomialDecay(0.8, 3, 77, 0.1, power=3)
    assert [cubic(t) for t in range(90)] == [polynomial(t) for t in range(90)]
    assert cubic != polynomial


@pytest.mark.parametrize("make", [Linear, Cubic, Cosine])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((80, 0, 10), r"`final_sparsity` must be .* For 80 %, pass 0\.8"),
        ((0.8, 0, 10, 1.0), r"`initial_sparsity` must be"),
        ((0.8, 10, 10), r"smaller than `end_step`.*ConstantSparsity"),
        ((0.8, 0, None), r"smaller than `end_step`.* end_step=None"),
        ((0.8,), r"smaller than `end_step`.* end_step=None"),
        ((0.8, 0.5, 10), r"`begin_step` must be a non-negative int.* Received: 0\.5"),
        ((0.8, 0, "10"), r"`end_step` must be a non-negative int.* Received: '10'"),
    ],
)
def test_bad_ramps(make, arguments, text):
    with pytest.raises(InvalidArgumentError, match=f"(?s){text}"):
        make(*arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((80, 5), r"`sparsity` must be .* For 80 %, pass 0\.8"),
        ((0.5, -1), r"`step` must be a non-negative int, in optimizer steps\. Received: -1"),
        ((0.5, 1.5), r"`step` must be .* Received: 1\.5"),
        ((0.5, True), r"`step` must be .* Received: True"),
        ((0.5, None), r"`step` must be .* Received: None"),
    ],
)
def test_bad_one_shots(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        OneShot(*arguments)


# --- Cyclic --------------------------------------------------------------------------------------


def cyclic_oracle(low, high, period, begin, end, rise_steps):
    values = np.zeros(end + 50)
    values[begin:] = high
    q = np.minimum(np.arange(period) / rise_steps, 1.0)
    for start in range(begin, end - period + 1, period):
        values[start : start + period] = high + (low - high) * (1 - q) ** 3
    return values


@pytest.mark.parametrize(
    ("period", "begin", "end", "rise", "rise_steps"),
    [
        (10, 0, 30, 0.5, 5),
        (10, 7, 44, 0.5, 5),  # a last cycle of 7 steps is not begun
        (7, 3, 24, 0.5, 4),  # 3.5, half to even
        (5, 0, 20, 0.5, 2),  # 2.5, half to even
        (2, 1, 9, 0.5, 1),
        (10, 0, 20, 0.001, 1),
        (10, 0, 20, 0.999, 9),
        (30, 0, 30, 0.1, 3),
    ],
)
def test_cyclic_values_and_updates(period, begin, end, rise, rise_steps):
    schedule = Cyclic(0.2, 0.8, period, begin, end, rise=rise)
    assert schedule.rise_steps == rise_steps
    wanted = cyclic_oracle(0.2, 0.8, period, begin, end, rise_steps)
    values = [schedule(t) for t in range(len(wanted))]
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-15)
    starts = range(begin, end - period + 1, period)
    assert {values[t] for t in starts} == {0.2}  # exactly
    assert {values[t + rise_steps] for t in starts} == {0.8}
    assert schedule(end) == schedule.final == 0.8
    for frequency in (1, 3, 1000):
        turns = {t for s in starts for t in (s, s + rise_steps)}
        fires = {t for t in range(len(wanted)) if schedule.is_update_step(t, frequency)}
        assert fires == turns | set(range(begin, end + 1, frequency)) | {end}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.8, 0.2, 10, 0, 100), r"`low` must be smaller than `high`.* low=0\.8, high=0\.2"),
        ((0.5, 0.5, 10, 0, 100), r"`low` must be smaller .*ConstantSparsity"),
        ((20, 0.5, 10, 0, 100), r"`low` must be a fraction .* For 20 %, pass 0\.2"),
        ((0.2, 1.0, 10, 0, 100), r"`high` must be a fraction"),
        (
            (0.2, 0.8, 1, 0, 100),
            r"`period` must be an int of at least 2, in optimizer steps. Received: 1\.",
        ),
        ((0.2, 0.8, 0, 0, 100), r"`period` must be an int of at least 2.* Received: 0\."),
        ((0.2, 0.8, 2.5, 0, 100), r"`period` must be an int of at least 2.* Received: 2\.5"),
        ((0.2, 0.8, True, 0, 100), r"`period` must be an int of at least 2.* Received: True"),
        (
            (0.2, 0.8, 11, 10, 20),
            r"`period` must fit .* period=11, begin_step=10, end_step=20, which are 10 steps apart",
        ),
        ((0.2, 0.8, 10, 0, None), r"`end_step` must be an int.* Received: None"),
        ((0.2, 0.8, 10, 0, 100, 0.0), r"`rise` must be .* in \(0, 1\)\. Received: 0\.0"),
        ((0.2, 0.8, 10, 0, 100, 1.0), r"`rise` must be .* Received: 1\.0"),
        ((0.2, 0.8, 10, 0, 100, math.nan), r"`rise` must be .* Received: nan"),
    ],
)
def test_bad_cycles(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        Cyclic(*arguments)


# --- IterativeRewind -----------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("final", [0.0, 0.5, 0.9])
def test_every_round_removes_an_equal_share_of_what_is_left(rounds, final):
    schedule = IterativeRewind(final, rounds, begin_step=10, round_steps=7, rewind_step=4)
    steps = [10 + 7 * r for r in range(rounds)]
    density = 1.0
    for step in steps:
        density *= (1 - final) ** (1 / rounds)
        for later in range(step, step + 7):
            assert schedule(later) == pytest.approx(1 - density, abs=1e-12)
    assert schedule(9) == 0.0
    assert schedule.end_step == steps[-1]
    assert schedule(steps[-1]) == schedule(10**9) == schedule.final == final  # exactly
    for frequency in (1, 2, 1000):
        assert [t for t in range(100) if schedule.is_update_step(t, frequency)] == steps


def test_lottery_tickets_of_a_fifth_each():
    schedule = IterativeRewind(1 - 0.8**3, 3, begin_step=100, round_steps=50)
    np.testing.assert_allclose([schedule(t) for t in (100, 150, 200)], [0.2, 0.36, 0.488])
    assert (schedule.rewind_step, schedule.rewind) == (0, "model")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((80, 3, 10, 5), r"`final_sparsity` must be .* For 80 %, pass 0\.8"),
        ((0.8, 0, 10, 5), r"`rounds` must be a positive int\. Received: 0"),
        ((0.8, 2.0, 10, 5), r"`rounds` must be a positive int.* Received: 2\.0"),
        ((0.8, 3, -1, 5), r"`begin_step` must be .* Received: -1"),
        ((0.8, 3, 10, 0), r"`round_steps` must be a positive int, in optimizer .* Received: 0"),
        ((0.8, 3, 10, True), r"`round_steps` must be .* Received: True"),
        ((0.8, 3, 10, 5, -1), r"`rewind_step` must be .* Received: -1"),
        ((0.8, 3, 10, 5, None), r"`rewind_step` must be .* Received: None"),
        ((0.8, 3, 10, 5, 11), r"`rewind_step` must not be larger .* rewind_step=11, begin_step=10"),
        ((0.8, 3, 10, 5, 0, "generator"), r"`rewind` must be one of .* Received: 'generator'"),
    ],
)
def test_bad_rewinds(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        IterativeRewind(*arguments)


def test_rewinding_to_the_first_pruning_step_is_fine():
    assert IterativeRewind(0.8, 3, 10, 5, rewind_step=10).rewind_step == 10


# --- LayerwiseOrder ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["forward", "backward"])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.9])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_layers_come_one_after_the_other(order, overlap, count):
    begin, end, s_i, s_f = 20, 141, 0.1, 0.8
    schedule = LayerwiseOrder(Cubic(s_f, begin, end, s_i), order, overlap)
    length = (end - begin) / (1 + (count - 1) * (1 - overlap))
    starts = begin + np.arange(count) * length * (1 - overlap)
    if order == "backward":
        starts = starts[::-1]
    for step in range(160):
        p = np.clip((step - starts) / length, 0, 1)
        wanted = np.where(step < starts, 0.0, s_f + (s_i - s_f) * (1 - p) ** 3)
        values = schedule.targets(step, tensors(count))
        # At the very start of a slice the oracle's rounding may be on the other side of the jump.
        sharp = np.abs(step - starts) > 1e-9
        np.testing.assert_allclose(np.asarray(values)[sharp], wanted[sharp], atol=1e-12)
        assert all(isinstance(value, float) for value in values)
    assert schedule.targets(end, tensors(count)) == [s_f] * count  # exactly
    assert schedule.targets(10**9, tensors(count)) == [s_f] * count
    assert (schedule.begin_step, schedule.end_step, schedule.final) == (begin, end, s_f)


def test_layerwise_of_one_tensor_is_the_schedule_itself():
    inner = Cosine(0.8, 13, 77)
    for overlap in (0.0, 0.3):
        schedule = LayerwiseOrder(inner, overlap=overlap)
        for step in range(100):
            assert schedule.targets(step, tensors(1)) == [inner(step)]
            assert schedule(step) == inner(step)


def test_layerwise_slices_end_at_exact_steps():
    # Two tensors, overlap a tenth: slices of 10 of 19 steps, the second from step 9 on.
    schedule = LayerwiseOrder(Linear(0.5, 0, 19, 0.25), overlap=0.1)
    assert schedule.targets(8, tensors(2))[1] == 0.0
    assert schedule.targets(9, tensors(2)) == [pytest.approx(0.475), 0.25]
    assert schedule.targets(10, tensors(2))[0] == 0.5
    # Three slices of a third of 100 steps.
    schedule = LayerwiseOrder(ConstantSparsity(0.5, 0, 100))
    jumps = [[schedule.targets(t, tensors(3))[i] for t in range(101)].index(0.5) for i in range(3)]
    assert jumps == [0, 34, 67]


def test_layerwise_backward_is_forward_reversed():
    forward = LayerwiseOrder(Cubic(0.8, 0, 50), "forward", 0.5)
    backward = LayerwiseOrder(Cubic(0.8, 0, 50), "backward", 0.5)
    for step in range(60):
        assert backward.targets(step, tensors(4)) == forward.targets(step, tensors(4))[::-1]


@pytest.mark.parametrize("frequency", [1, 7, 1000])
def test_layerwise_updates_as_its_window_does(frequency):
    inner = Cubic(0.8, 10, 55)
    schedule = LayerwiseOrder(inner)
    for step in range(70):
        assert schedule.is_update_step(step, frequency) == inner.is_update_step(step, frequency)


def test_layerwise_with_a_schedule_for_each_tensor():
    parts = [Linear(0.4, 10, 30), OneShot(0.5, 41), Cubic(0.8, 5, 55)]
    schedule = LayerwiseOrder(parts)
    assert schedule == LayerwiseOrder(tuple(parts))
    for step in range(70):
        assert schedule.targets(step, tensors(3)) == [part(step) for part in parts]
        assert schedule(step) == pytest.approx(np.mean([part(step) for part in parts]))
    assert (schedule.begin_step, schedule.end_step) == (5, 55)
    fires = {t for t in range(70) if schedule.is_update_step(t, 20)}
    assert fires == {5, 25, 45} | {10, 30, 41, 5, 55}


def test_layerwise_mean_of_equal_values_is_exact():
    assert LayerwiseOrder([OneShot(0.8, 5)] * 3).final == 0.8


def test_layerwise_list_must_match_the_tensors():
    schedule = LayerwiseOrder([Linear(0.4, 10, 30), OneShot(0.5, 41)])
    with pytest.raises(
        InvalidArgumentError,
        match=r"one schedule per pruned tensor.* 2 schedule\(s\) for 3 tensor\(s\)",
    ):
        schedule.targets(0, tensors(3))


def test_layerwise_takes_a_users_schedule():
    class Steps(Schedule):
        begin_step, end_step = 0, 100

        def __call__(self, step):
            return 0.25 * (step // 25 % 5) if step < 100 else 0.9

    schedule = LayerwiseOrder(Steps())
    assert schedule.targets(25, tensors(2)) == [0.5, 0.0]
    assert schedule.targets(100, tensors(2)) == [0.9, 0.9]


class _OwnTargets(Schedule):
    end_step = 9

    def targets(self, step, weights):
        return [0.5 for _ in weights]


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (Threshold(0.1, 0, 10), "its quantity is a threshold"),
        (DynamicThreshold(0.1, 0, 10), "its quantity is a threshold"),
        (AdaptiveSparsity("loss"), "it adapts"),
        (IterativeRewind(0.8, 3, 10, 5), "it rewinds"),
        (Cyclic(0.2, 0.8, 10, 0, 100), "in cycles"),
        (LayerwiseOrder(Cubic(0.8, 0, 10)), "it sets the target of each tensor itself"),
        (_OwnTargets(), "it sets the target of each tensor itself"),
        (ConstantSparsity(0.8), "it has no `end_step`"),
        (0.8, "it has no `end_step`"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("as_list", [False, True])
def test_layerwise_refuses_what_it_cannot_run(inner, reason, as_list):
    text = rf"`LayerwiseOrder` needs schedules of one rise.* which cannot be used: .*{reason}"
    with pytest.raises(InvalidArgumentError, match=text):
        LayerwiseOrder([Cubic(0.8, 0, 10), inner] if as_list else inner)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([],), r"Received: an empty list"),
        ((OneShot(0.5, 5),), r"`schedule` must have `begin_step < end_step`.* OneShot\("),
        ((Cubic(0.8, 0, 10), "sideways"), r"`order` must be one of .* Received: 'sideways'"),
        ((Cubic(0.8, 0, 10), "forward", 1.0), r"`overlap` must be .* Received: 1\.0"),
        ((Cubic(0.8, 0, 10), "forward", -0.1), r"`overlap` must be .* Received: -0\.1"),
        ((Cubic(0.8, 0, 10), "forward", "0"), r"`overlap` must be .* Received: '0'"),
        (([Cubic(0.8, 0, 10)], "backward"), r"divide the time of a single .* order='backward'"),
        (([Cubic(0.8, 0, 10)], "forward", 0.5), r"divide the time of a single .* overlap=0\.5"),
        (("cubics",), r"Unknown schedule 'cubics'\. Did you mean 'cubic'"),
    ],
)
def test_bad_layerwise(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        LayerwiseOrder(*arguments)


# --- DynamicThreshold ----------------------------------------------------------------------------


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
    # Of the kept weights alone the threshold would go up, and pruning would never end.
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


# --- AdaptiveSparsity ----------------------------------------------------------------------------


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
def test_what_holds(direction, relative, baseline, good, bad):
    schedule = AdaptiveSparsity("loss", 0.25, direction=direction, relative=relative)
    assert all(schedule.holds(value, baseline) is True for value in good)
    assert not any(schedule.holds(value, baseline) for value in bad)
    assert schedule.holds(np.float32(good[0]), np.float32(baseline)) is True


@pytest.mark.parametrize("direction", ["min", "max", "target"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_holds(direction, value):
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
