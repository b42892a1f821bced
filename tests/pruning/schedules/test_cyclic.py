"""`Cyclic`: values, update steps, and what is refused."""

import math

import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.schedules import Cyclic


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
