"""Checks of arguments. Each function returns the value in its plain Python type, or raises an error.

All error texts have the same form: the rule, the received value, and a fix if a fix is known.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    UnbuiltModelError,
    unknown_name,
)


def is_int(value: Any) -> bool:
    """Return whether a value is an int, of Python or NumPy. A bool is not an int here."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float, of Python or NumPy. A bool is not a number here."""
    known = (int, float, np.integer, np.floating)
    return isinstance(value, known) and not isinstance(value, bool)


def looks_like_percent(value: Any) -> bool:
    """Return whether a number is above 1 and at most 100, so that a percentage may be meant."""
    return is_number(value) and 1 < value <= 100


def int_at_least(value: Any, name: str, least: int, unit: str = "") -> int:
    """Return an int that is at least `least`.

    Args:
        value: Value to check.
        name: Name of the argument, for the error.
        least: Lowest valid value.
        unit: Unit, for the error, such as 'in optimizer steps'.

    Raises:
        InvalidArgumentError: `value` is not an int, or is below `least`.

    Example:
    >>> int_at_least(np.int64(3), "blocks", 2)
    3
    """
    if not is_int(value) or value < least:
        rules = {0: "a non-negative int", 1: "a positive int"}
        rule = rules.get(least, f"an int of at least {least}")
        unit = f", {unit}" if unit else ""
        raise InvalidArgumentError(f"`{name}` must be {rule}{unit}. Received: {value!r}.")
    return int(value)


def positive_int(value: Any, name: str, unit: str = "") -> int:
    """Return an int of at least 1, as `int_at_least` does."""
    return int_at_least(value, name, 1, unit)


def non_negative_int(value: Any, name: str, unit: str = "") -> int:
    """Return an int of at least 0, as `int_at_least` does."""
    return int_at_least(value, name, 0, unit)


def number(
    value: Any, name: str, rule: str, holds: Callable[[float], bool] = lambda value: True
) -> float:
    """Return a finite number as a float.

    Args:
        value: Value to check.
        name: Name of the argument, for the error.
        rule: The rule, for the error, such as 'a positive number'.
        holds: Function that returns whether a finite number follows the rule.

    Raises:
        InvalidArgumentError: `value` is not a finite number, or `holds` returns False.

    Example:
    >>> number(3, "power", "a positive number", lambda value: value > 0)
    3.0
    """
    if not is_number(value) or not math.isfinite(value) or not holds(value):
        percent = looks_like_percent(value) and "1)" in rule
        fix = f" For {value:g} %, pass {value / 100:g}." if percent else ""
        raise InvalidArgumentError(f"`{name}` must be {rule}. Received: {value!r}.{fix}")
    return float(value)


def positive(value: Any, name: str, rule: str = "a positive number") -> float:
    """Return a finite number above 0, as `number` does."""
    return number(value, name, rule, lambda value: value > 0)


def non_negative(value: Any, name: str, rule: str = "a non-negative number") -> float:
    """Return a finite number of at least 0, as `number` does."""
    return number(value, name, rule, lambda value: value >= 0)


def fraction(value: Any, name: str, zero: bool = True, one: bool = False) -> float:
    """Return a number between 0 and 1.

    Args:
        value: Value to check.
        name: Name of the argument, for the error.
        zero: Whether 0 is valid. Defaults to True.
        one: Whether 1 is valid. Defaults to False.

    Raises:
        InvalidArgumentError: `value` is not a number in this range.

    Example:
    >>> fraction(0.2, "held_out", zero=False)
    0.2
    """
    inside = is_number(value) and 0 <= value <= 1
    if not inside or (value == 0 and not zero) or (value == 1 and not one):
        rule = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
        fix = f" For {value:g} %, pass {value / 100:g}." if looks_like_percent(value) else ""
        raise InvalidArgumentError(
            f"`{name}` must be a fraction in {rule}. Received: {value!r}.{fix}"
        )
    return float(value)


def boolean(value: Any, name: str) -> bool:
    """Return a bool, or raise `ArgumentTypeError`."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(f"`{name}` must be True or False. Received: {value!r}.")
    return bool(value)


def one_of(value: Any, name: str, choices: Iterable[Any]) -> Any:
    """Return one of some choices, or raise `InvalidArgumentError`."""
    choices = tuple(choices)
    if not is_member(value, choices):
        texts = [choice for choice in choices if isinstance(choice, str)]
        close = difflib.get_close_matches(str(value), texts, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        raise InvalidArgumentError(
            f"`{name}` must be one of {choices}. Received: {value!r}.{guess}"
        )
    return value


def numbers(value: Any, name: str) -> np.ndarray:
    """Return a list or array of real numbers as a float64 array; NaN is one of them.

    Raises:
        InvalidArgumentError: `value` holds something else, or is no list or array.
    """
    try:
        array = np.asarray(value)
    except Exception:
        array = np.empty(0, object)
    empty = array.size == 0 and array.dtype.kind != "O"
    if array.ndim == 0 or (array.dtype.kind not in "fiu" and not empty):
        raise InvalidArgumentError(f"`{name}` must be a list of numbers. Received: {value!r}.")
    return array.astype("float64")


def is_member(value: Any, choices: Iterable[Any]) -> bool:
    """Return whether a value is one of some choices. An array or a list is none."""
    plain = isinstance(value, (str, bool, int, float, np.generic, type(None)))
    return plain and value in tuple(choices)


def value_range(value: Any) -> tuple[float, float]:
    """Return the (low, high) of pixel values, or raise `InvalidArgumentError`."""
    try:
        low, high = (float(x) for x in value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not -math.inf < low < high < math.inf:
        raise InvalidArgumentError(
            f"`value_range` must be (low, high) with low < high. Received: {value!r}."
        )
    return low, high


def keras_model(value: Any, name: str = "model") -> keras.Model:
    """Return a Keras model, or raise `ArgumentTypeError`."""
    if not isinstance(value, keras.Model):
        raise ArgumentTypeError(
            f"`{name}` must be a Keras model. Received: {value!r} (of type {type(value).__name__})."
        )
    return value


def built_model(value: Any, purpose: str) -> keras.Model:
    """Return a Keras model that has weights.

    Args:
        value: Value to check.
        purpose: Verb of what the caller does with the model, for the error, such as 'is profiled'.

    Raises:
        ArgumentTypeError: `value` is not a Keras model.
        UnbuiltModelError: The model has no weights yet.
    """
    keras_model(value)
    if not value.built:
        raise UnbuiltModelError(
            f"'{value.name}' must be built before it {purpose}. Call it once on a batch first."
        )
    return value


def sign_of(direction: Any) -> float:
    """Return 1 for a metric that should be low ('min'), and -1 for one that should be high ('max')."""
    signs = {"min": 1.0, "max": -1.0}
    if not is_member(direction, signs):
        raise InvalidArgumentError(unknown_name("direction", direction, signs))
    return signs[direction]
