"""A cut of one variable."""

import keras
import numpy as np
import pytest
from narrow_networks import by_hand

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.structured.cuts import Cut


def variable(*shape):
    return keras.Variable(np.zeros(shape, "float32"))


def test_a_cut_slices_every_axis():
    array = np.arange(24).reshape(2, 3, 4)
    index = (None, np.array([2, 0]), np.array([1]))
    found = Cut(variable(2, 3, 4), variable(2, 2, 1), index).slice(array)
    np.testing.assert_array_equal(found, by_hand(array, index))
    with pytest.raises(
        InvalidArgumentError, match=r"must have the shape.*\(2, 3, 4\).*\(2, 2, 1\)"
    ):
        Cut(variable(2, 3, 4), variable(2, 2, 1), index).slice(found)


@pytest.mark.parametrize(
    ("index", "match"),
    [
        ((None,), "an entry for each axis"),
        ((None, np.array([0, 3])), "ints from 0 to 2"),
        ((None, np.array([0, -1])), "ints from 0 to 2"),
        ((None, np.array([True, False, True])), "ints from 0 to 2"),
        ((None, np.array([[0, 1]])), "one row of ints"),
        ((None, np.array([0])), r"leaves the shape \(2, 1\).*Received: \(2, 2\)"),
    ],
)
def test_a_cut_that_does_not_fit(index, match):
    with pytest.raises(InvalidArgumentError, match=match):
        Cut(variable(2, 3), variable(2, 2), index)
