"""Scores: higher = keep."""

import numpy as np
import pytest

from keras_ganprune import criteria
from keras_ganprune.criteria import Criterion, Magnitude
from keras_ganprune.errors import InvalidArgumentError


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_magnitude_of_one_weight_is_its_absolute_value(norm):
    weight = np.array([[-3.0, 0.5], [0.0, 2.0]], np.float32)
    criterion = Magnitude(norm)
    scores = criterion.unit(criterion.score(weight))
    np.testing.assert_allclose(scores, np.abs(weight), rtol=1e-7)
    assert scores.shape == weight.shape


def test_magnitude_of_a_unit():
    weight = np.array([[3.0, -4.0], [1.0, 1.0]])
    l1, l2 = Magnitude("l1"), Magnitude("l2")
    np.testing.assert_allclose(l1.unit(l1.score(weight).sum(axis=1)), [7.0, 2.0])
    np.testing.assert_allclose(l2.unit(l2.score(weight).sum(axis=1)), [5.0, np.sqrt(2.0)])


def test_l2_tells_tiny_weights_apart():
    weight = np.array([1e-30, 2e-30, 3e-30], np.float32)  # their float32 squares are all zero
    scores = Magnitude("l2").unit(Magnitude("l2").score(weight))
    assert scores[0] < scores[1] < scores[2]


def test_magnitude_leaves_the_weight_alone():
    weight = np.array([-1.0, 2.0])
    for norm in ("l1", "l2"):
        Magnitude(norm).score(weight)
    np.testing.assert_array_equal(weight, [-1.0, 2.0])


@pytest.mark.parametrize("norm", ["l3", None, 1])
def test_magnitude_rejects_other_norms(norm):
    with pytest.raises(InvalidArgumentError, match=rf"'l1' or 'l2'\. Received: {norm!r}"):
        Magnitude(norm)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("magnitude", "l1"),
        ("l1", "l1"),
        ("l2", "l2"),
        ("magnitude_l1", "l1"),
        ("magnitude_l2", "l2"),
    ],
)
def test_get_by_name(name, norm):
    assert criteria.get(name) == Magnitude(norm)


def test_base_class_is_abstract():
    with pytest.raises(NotImplementedError, match=r"^$"):
        Criterion().score(np.ones(2))
    np.testing.assert_array_equal(Criterion().unit(np.array([1.0, 4.0])), [1.0, 4.0])
