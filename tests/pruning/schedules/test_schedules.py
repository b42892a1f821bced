"""Schedules: exact values, update steps, and what is refused."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
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
    with pytest.raises(ArgumentTypeError, match=r"The schedule must be a name, a `Schedule`"):
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


def test_a_subclass_may_have_its_own_update_steps():
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
    with pytest.raises(ArgumentTypeError, match="The schedule must be a name"):
        schedules.get(_fake("PruningSchedule", begin_step=0, end_step=-1))


def test_get_accepts_real_tfmot_objects():
    tfmot = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    theirs = tfmot.PolynomialDecay(0.2, 0.8, begin_step=100, end_step=110, power=3, frequency=1)
    ours = schedules.get(theirs)
    for step in range(100, 111):
        assert ours(step) == pytest.approx(float(theirs(step)[1]), abs=1e-6)
        assert ours.is_update_step(step, 1) == bool(theirs(step)[0])
    assert schedules.get(tfmot.ConstantSparsity(0.5, 7)) == ConstantSparsity(0.5, 7)


# --- the contract --------------------------------------------------------------------------------


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
        assert schedule.final == schedule.maximum  # which has no step
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
def test_which_schedules_have_special_needs(schedule):
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
def test_a_falling_ramp_has_rises_and_falls(schedule):
    assert schedule.rises_and_falls
    assert schedule(3) > schedule(6) > schedule.final


def test_a_falling_layerwise_ramp_has_rises_and_falls():
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
