"""Ramps and one shot: their formulas, and what is refused."""

import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.schedules import (
    Cosine,
    Cubic,
    Linear,
    OneShot,
    PolynomialDecay,
)


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
