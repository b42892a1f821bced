"""`LayerwiseOrder`: the sparsity of each tensor, and what is refused."""

import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError
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
    Schedule,
    Threshold,
)


def tensors(count):
    return [np.ones((2, 3))] * count


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
