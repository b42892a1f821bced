"""`IterativeRewind`: values, update steps, and what is refused."""

import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.schedules import IterativeRewind


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
