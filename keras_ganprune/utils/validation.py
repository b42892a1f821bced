"""Checks of arguments. Each function returns the value in its plain Python type, or raises an error.

All error texts have the same form: the rule, the received value, and a fix if a fix is known.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    UnbuiltModelError,
    unknown_name,
)

# Keras takes seconds to import. The command line checks numbers without it.
if TYPE_CHECKING:
    import keras

# Counts and seeds are kept in 64 bits.
LARGEST_INT = 2**63 - 1


def is_int(value: Any) -> bool:
    """Return whether a value is an int of 64 bits, of Python or NumPy. A bool is not an int here."""
    return _is_any_int(value) and abs(int(value)) <= LARGEST_INT


def _is_any_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float, of Python or NumPy. A bool is not a number here."""
    return is_int(value) or isinstance(value, (float, np.floating))


def too_large(value: Any) -> str | None:
    """Return the words for an int of more than 64 bits, else None. Python refuses to write very long ones."""
    huge = _is_any_int(value) and not is_int(value)
    return f"an int of {int(value).bit_length()} bits" if huge else None


def shown(value: Any) -> str:
    """Return the repr of a value, also of an int that Python refuses to write."""
    return too_large(value) or repr(value)


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
    if words := too_large(value):
        raise InvalidArgumentError(f"`{name}` must be below 2**63. Received: {words}.")
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
        raise InvalidArgumentError(f"`{name}` must be {rule}. Received: {shown(value)}.{fix}")
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
            f"`{name}` must be a fraction in {rule}. Received: {shown(value)}.{fix}"
        )
    return float(value)


def validate_sparsity(value: float, name: str = "sparsity") -> float:
    """Return `value` as a float if it is a sparsity, a fraction in [0, 1).

    Args:
        value: Value to check.
        name: Name of the argument, for the error. Defaults to 'sparsity'.

    Raises:
        InvalidArgumentError: `value` is not a number in [0, 1).

    Example:
    >>> validate_sparsity(0.8)
    0.8
    """
    if not is_number(value):
        raise InvalidArgumentError(
            f"`{name}` must be a fraction in [0, 1). Received: {shown(value)} "
            f"(of type {type(value).__name__})."
        )
    if not 0.0 <= value < 1.0:
        fix = ""
        if value in (1.0, 100.0):
            fix = " At least one weight of a tensor is always kept. Pass for example 0.99."
        elif looks_like_percent(value):
            fix = f" For {value:g} %, pass {value / 100:g}."
        raise InvalidArgumentError(
            f"`{name}` must be a fraction in [0, 1). Received: {value!r}.{fix}"
        )
    return float(value)


def seed(value: Any, name: str = "seed") -> int:
    """Return a seed as an int.

    Raises:
        InvalidArgumentError: It is not an int in [0, 2**32).
    """
    if not is_int(value) or not 0 <= value < 2**32:
        raise InvalidArgumentError(f"`{name}` must be an int in [0, 2**32). Received: {value!r}.")
    return int(value)


def pruned_share(value: Any, name: str) -> float:
    """Return the sparsity of a network that is pruned, in (0, 1).

    Raises:
        InvalidArgumentError: It is not a sparsity, or it is 0.
    """
    if validate_sparsity(value, name) == 0.0:
        raise InvalidArgumentError(
            f"`{name}` must be above 0: the dense network is measured in any case. Received: {value!r}."
        )
    return float(value)


def remaining_share(value: Any, name: str) -> float:
    """Return the remaining share of the multiply-accumulates, in (0, 1).

    Raises:
        InvalidArgumentError: It is not in (0, 1).
    """
    if not is_number(value) or not 0.0 < value < 1.0:
        raise InvalidArgumentError(
            f"`{name}` must be the remaining share of the multiply-accumulates, in (0, 1). Received: "
            f"{value!r}. For a quarter, pass 0.25."
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


def entries(value: Any) -> list[Any] | None:
    """Return the entries of a list, a tuple, a set or an array as a list; None for anything else.

    Example:
    >>> entries((1, 2)), entries("ab"), entries(np.array(3.0))
    ([1, 2], None, None)
    """
    import keras

    if isinstance(value, (str, bytes, Mapping, keras.KerasTensor)):
        return None
    if not isinstance(value, Iterable) or isinstance(value, Iterator):
        return None
    try:
        return list(value)
    except (TypeError, ValueError, NotImplementedError):  # such as an array without axes
        return None


def array(value: Any, name: str) -> np.ndarray:
    """Return a value as an array, or raise `DataError`: lists of several lengths and symbols are none."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"`{name}` must be an array, or lists of equal lengths. Received: a {type(value).__name__} of "
            f"which no array can be made ({type(error).__name__})."
        ) from error


def samples(value: Any, name: str) -> np.ndarray:
    """Return a value as an array of real, finite numbers with an axis of samples.

    Raises:
        DataError: `value` is no array, has no axis, or holds something else.

    Example:
    >>> samples([1, 2], "labels").shape
    (2,)
    """
    made = array(value, name)
    if made.ndim == 0 or made.dtype.kind in "OSUcMm" or made.dtype.names:
        raise DataError(
            f"`{name}` must be an array of real numbers, one entry per sample. Received: shape "
            f"{made.shape}, dtype {made.dtype}."
        )
    check_finite(made, name)
    return made


def check_finite(values: np.ndarray, name: str) -> None:
    """Raise `DataError` if an array of floats holds NaN or an infinite value."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(
            f"`{name}` must be finite. Received: {bad} NaN or infinite value(s) of {values.size}. Remove or "
            "replace them (`np.nan_to_num`)."
        )


def check_ordered(value: Any, name: str) -> None:
    """Raise `InvalidArgumentError` for a set: its order may differ in the next process."""
    if isinstance(value, (set, frozenset)):
        raise InvalidArgumentError(
            f"`{name}` must have an order, and a set has none. Received: {value!r}. Pass a list."
        )


def check_keys(value: Mapping[Any, Any], name: str) -> None:
    """Raise `InvalidArgumentError` if a key of a dict is no text: two keys could get the same name."""
    other = [key for key in value if not isinstance(key, str)]
    if other:
        raise InvalidArgumentError(
            f"The keys of `{name}` must be texts. Received: {other[0]!r} (of type "
            f"{type(other[0]).__name__}). Write '{other[0]}' instead."
        )


def is_member(value: Any, choices: Iterable[Any]) -> bool:
    """Return whether a value is one of some choices. An array or a list is none."""
    plain = isinstance(value, (str, bool, int, float, np.generic, type(None)))
    return plain and value in tuple(choices)


def value_range(value: Any) -> tuple[float, float]:
    """Return the (low, high) of pixel values, or raise `InvalidArgumentError`."""
    pair = None if isinstance(value, (set, frozenset)) else entries(value)
    known = pair is not None and len(pair) == 2 and all(map(is_number, pair))
    low, high = map(float, pair) if pair is not None and known else (math.nan, math.nan)
    if not -math.inf < low < high < math.inf:
        raise InvalidArgumentError(
            f"`value_range` must be (low, high) with low < high. Received: {value!r}."
        )
    return low, high


def keras_model(value: Any, name: str = "model") -> keras.Model:
    """Return a Keras model, or raise `ArgumentTypeError`."""
    import keras

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
