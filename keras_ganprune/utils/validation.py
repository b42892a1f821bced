"""Rules that arguments of several modules share; each returns the value, or says what it must be."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import (
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
    unknown_name,
)


def int_at_least(value: Any, name: str, least: int) -> int:
    """Return an int that is not below `least`.

    Example:
    >>> int_at_least(np.int64(3), "blocks", 2)
    3
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        rules = {0: "a non-negative int", 1: "a positive int"}
        rule = rules.get(least, f"an int of at least {least}")
        raise InvalidArgumentError(f"`{name}` must be {rule}. Received: {value!r}.")
    return int(value)


def positive_int(value: Any, name: str) -> int:
    return int_at_least(value, name, 1)


def non_negative_int(value: Any, name: str) -> int:
    return int_at_least(value, name, 0)


def _is_number(value: Any) -> bool:
    known = (int, float, np.integer, np.floating)
    return isinstance(value, known) and not isinstance(value, bool)


def non_negative(value: Any, name: str, rule: str = "a non-negative number") -> float:
    """Return a finite number that is not below 0; `rule` says more exactly what it is."""
    if not _is_number(value) or not 0 <= value < math.inf:
        raise InvalidArgumentError(f"`{name}` must be {rule}. Received: {value!r}.")
    return float(value)


def share(value: Any, name: str, zero: bool = True, one: bool = False) -> float:
    """Return a number between 0 and 1; these two themselves only where `zero` and `one` say so.

    Example:
    >>> share(0.2, "held_out", zero=False)
    0.2
    """
    inside = _is_number(value) and 0 <= value <= 1
    if not inside or (value == 0 and not zero) or (value == 1 and not one):
        rule = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
        percent = _is_number(value) and 1 < value <= 100
        fix = f" For {value:g} %, pass {value / 100:g}." if percent else ""
        raise InvalidArgumentError(f"`{name}` must be a share in {rule}. Received: {value!r}.{fix}")
    return float(value)


def boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"`{name}` must be True or False. Received: {value!r}.")
    return value


def value_range(value: Any) -> tuple[float, float]:
    """Return the (low, high) of pixels."""
    try:
        low, high = (float(x) for x in value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not -math.inf < low < high < math.inf:
        raise InvalidArgumentError(
            f"`value_range` must be (low, high) with low < high. Received: {value!r}."
        )
    return low, high


def built_model(value: Any, what: str) -> keras.Model:
    """Return a Keras model that has weights; `what` says what is done with it, such as 'is profiled'."""
    if not isinstance(value, keras.Model):
        raise UnsupportedLayerError(
            f"`model` must be a Keras model. Received: {value!r} (of type {type(value).__name__})."
        )
    if not value.built:
        raise UnbuiltModelError(
            f"'{value.name}' must be built before it {what}. Call it once on a batch first."
        )
    return value


def sign_of(direction: Any) -> float:
    """Return 1 of a metric that should be low ('min'), -1 of one that should be high ('max')."""
    signs = {"min": 1.0, "max": -1.0}
    if direction not in signs:
        raise InvalidArgumentError(unknown_name("direction", direction, signs))
    return signs[direction]
