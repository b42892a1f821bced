"""The rules that arguments share, and packages that are not there."""

import math
import re

import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError, MissingPackageError
from keras_ganprune.utils import optional_imports, plotting, validation


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (validation.positive_int, (1, np.int64(7))),
        (validation.non_negative_int, (0, np.uint8(3))),
        (lambda value, name: validation.int_at_least(value, name, 2), (2, 5)),
    ],
)
def test_ints_come_back_as_ints(rule, values):
    for value in values:
        assert rule(value, "n") == value and type(rule(value, "n")) is int


@pytest.mark.parametrize(
    ("least", "value", "text"),
    [
        (1, 0, "`n` must be a positive int. Received: 0."),
        (1, True, "`n` must be a positive int. Received: True."),
        (1, 2.0, "`n` must be a positive int. Received: 2.0."),
        (0, -1, "`n` must be a non-negative int. Received: -1."),
        (2, 1, "`n` must be an int of at least 2. Received: 1."),
        (1, "3", "`n` must be a positive int. Received: '3'."),
    ],
)
def test_what_is_no_such_int(least, value, text):
    with pytest.raises(InvalidArgumentError, match=text):
        validation.int_at_least(value, "n", least)


@pytest.mark.parametrize("value", [0, 1.5, np.float32(0.5)])
def test_numbers_that_are_not_negative(value):
    assert validation.non_negative(value, "weight") == float(value)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan, True, "1", None])
def test_what_is_negative_or_no_number(value):
    with pytest.raises(InvalidArgumentError, match="`weight` must be a non-negative number"):
        validation.non_negative(value, "weight")


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("one", [True, False])
def test_fractions(zero, one):
    assert validation.fraction(0.5, "part", zero, one) == 0.5
    rule = re.escape(f"in {'[' if zero else '('}0, 1{']' if one else ')'}")
    for value, allowed in ((0, zero), (1, one), (-0.1, False), (1.1, False), (False, False)):
        if allowed:
            assert validation.fraction(value, "part", zero, one) == value
            continue
        with pytest.raises(InvalidArgumentError, match=f"`part` must be a fraction {rule}"):
            validation.fraction(value, "part", zero, one)
    with pytest.raises(InvalidArgumentError, match=r"Received: 80\. For 80 %, pass 0\.8\."):
        validation.fraction(80, "part", zero, one)


def test_the_range_of_pixels():
    assert validation.value_range([0, 255]) == (0.0, 255.0)
    for value in ((1, 0), (0, 0), (0, math.nan), (0, math.inf), 1, (0, 1, 2), "ab", None):
        with pytest.raises(InvalidArgumentError, match=r"must be \(low, high\) with low < high"):
            validation.value_range(value)


def test_directions_and_booleans():
    assert validation.sign_of("min") == 1.0 and validation.sign_of("max") == -1.0
    with pytest.raises(InvalidArgumentError, match="Did you mean 'max'"):
        validation.sign_of("maxi")
    assert validation.boolean(False, "gif") is False
    with pytest.raises(InvalidArgumentError, match=r"`gif` must be True or False\. Received: 1"):
        validation.boolean(1, "gif")


def test_a_package_that_is_missing_is_named_with_its_extra(without):
    assert optional_imports.require("math", "demo", "Sums") is math
    without("PIL", "matplotlib", "sklearn")
    for call, text in (
        (plotting.require_plotting, r"Pictures need matplotlib, .*'keras-ganprune\[demo\]'"),
        (plotting.require_pillow, r"Pictures need pillow, .*'keras-ganprune\[demo\]'"),
        (
            lambda: optional_imports.require("sklearn.neighbors", "quality", "Neighbours"),
            r"Neighbours need scikit-learn, .*'keras-ganprune\[quality\]'",
        ),
    ):
        with pytest.raises(MissingPackageError, match=text):
            call()
