"""Checks of arguments by the annotations of the function that takes them.

The types of all arguments are checked in one line at the begin of a function. Ranges, and rules between
arguments, are the function's own: see `validation`.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

import keras
import numpy as np

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.utils import validation


def check(function: Callable[..., Any], values: Mapping[str, Any], *names: str) -> None:
    """Raise an error if an argument does not have the type of its annotation.

    Args:
        function: The function that is running, or `__init__` of a class.
        values: `locals()` of its first line.
        *names: Names of the arguments that are checked. Defaults to all.

    Raises:
        ArgumentTypeError: An argument has another type, or is not a finite number.

    Example:
    >>> def blur(width: float, mode: Literal["same", "valid"] = "same", fast: bool = True):
    ...     check(blur, locals())
    >>> blur(3, fast="yes")
    Traceback (most recent call last):
    keras_ganprune.errors.ArgumentTypeError: `fast` must be True or False. Received: 'yes'.
    """
    for name, (hint, default) in _annotations(function).items():
        value = values.get(name, default)
        same = value is default or (isinstance(value, str) and value == default)
        if (not names or name in names) and not same:
            _check_one(value, name, hint)


def check_field(cls: type, name: str, value: Any) -> None:
    """Raise an error if the value of a field does not have the type of its annotation in the class.

    Raises:
        ArgumentTypeError: `value` has another type, or is not a finite number.
    """
    hints = _fields(cls)
    if name in hints:
        _check_one(value, name, hints[name])


def check_value(value: Any, name: str, hint: Any) -> None:
    """Raise an error if a value does not have the type of an annotation.

    Raises:
        ArgumentTypeError: `value` has another type, or is not a finite number.
    """
    _check_one(value, name, hint)


def _check_one(value: Any, name: str, hint: Any) -> None:
    if _fits(value, hint):
        _check_home(value, name, hint)
        return
    arguments = _arguments(hint)
    if arguments is not None and callable(value) and not isinstance(value, keras.layers.Layer):
        raise ArgumentTypeError(
            f"`{name}` must be a function that takes {_counted(arguments)}. Received: {value!r}, which "
            "does not."
        )
    if words := validation.too_large(value):
        raise ArgumentTypeError(f"`{name}` must be {_words(hint)}, below 2**63. Received: {words}.")
    choices = [c for choice in _choices(hint) for c in typing.get_args(choice)]
    only_choices = len(_members(hint)) == len(_choices(hint)) + (type(None) in _members(hint))
    if choices and only_choices and isinstance(value, str):
        validation.one_of(value, name, choices)
    raise ArgumentTypeError(f"`{name}` must be {_words(hint)}. Received: {value!r}.")


def _check_home(value: Any, name: str, hint: Any) -> None:
    """Raise if a path begins with '~': Python would make a folder of this name."""
    is_path = any(_plain(member) is os.PathLike for member in _members(hint))
    if is_path and isinstance(value, (str, os.PathLike)) and os.fspath(value).startswith("~"):
        raise InvalidArgumentError(
            f"`{name}` must be a whole path, since only a shell replaces '~'. Received: '{value}'. Write "
            f"'{os.path.expanduser(value)}', or './{value}' for a file of this name."
        )


@functools.cache
def _fields(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _annotations(function: Any) -> dict[str, tuple[Any, Any]]:
    """Return (annotation, default) of each annotated argument, by name."""
    hints = _hints(function)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        p.name: (hints[p.name], p.default)
        for p in inspect.signature(function).parameters.values()
        if p.name in hints and p.kind in named
    }


def _hints(function: Any) -> dict[str, Any]:
    """Return the annotations. A name that is imported for type checkers only stands for anything."""
    unknown: dict[str, Any] = {}
    while True:
        try:
            return typing.get_type_hints(function, localns=unknown or None)
        except NameError as error:
            if error.name is None or error.name in unknown:
                raise
            unknown[error.name] = Any
        except TypeError:  # such a name has parameters
            return {}


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return tuple(m for member in typing.get_args(hint) for m in _members(member))
    return (hint,)


def _choices(hint: Any) -> list[Any]:
    return [member for member in _members(hint) if typing.get_origin(member) is Literal]


def _fits(value: Any, hint: Any) -> bool:
    return any(_fits_one(value, member) for member in _members(hint))


def _fits_one(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return any(type(value) is type(c) and value == c for c in typing.get_args(hint))
    if origin is os.PathLike:
        return (
            isinstance(value, origin)
            and isinstance(path := os.fspath(value), str)
            and "\0" not in path
        )
    if origin is type:
        return isinstance(value, type)
    if origin is collections.abc.Callable:
        arguments = _arguments(hint)
        return callable(value) and (arguments is None or takes(value, arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, (list, tuple, collections.abc.Sequence)):
        return _fits_sequence(value, typing.get_args(hint))
    if origin is not None or hint is Any or not isinstance(hint, type) or _is_protocol(hint):
        return True  # Any, an iterator, a type variable: nothing is known
    return _is_instance(value, hint)


def _arguments(hint: Any) -> int | None:
    """Return with how many arguments the function of an annotation is called; None if that is not known."""
    for member in _members(hint):
        parts = typing.get_args(member)
        function = typing.get_origin(member) is collections.abc.Callable
        if function and isinstance(parts[0] if parts else None, list):
            return len(parts[0])
    return None


def takes(function: Callable[..., Any], arguments: int) -> bool:
    """Return whether a function can be called with so many positional arguments. If unknown, it can.

    Example:
    >>> takes(lambda model, batch: 0.0, 2), takes(lambda model: 0.0, 2)
    (True, False)
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function that is written in C
        return True
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def _is_protocol(hint: Any) -> bool:
    return bool(getattr(hint, "_is_protocol", False)) and hint is not os.PathLike


def _fits_sequence(value: Any, members: tuple[Any, ...]) -> bool:
    if isinstance(value, np.ndarray):
        of_numbers = {*members} & {int, float, Any}
        return value.ndim > 0 and bool(of_numbers) and all(_fits(x, members[0]) for x in value)
    if isinstance(value, (str, bytes)) or not isinstance(value, collections.abc.Sequence):
        return False
    return not members or all(_fits(entry, members[0]) for entry in value)


def _is_instance(value: Any, hint: type) -> bool:
    plain: dict[type, Callable[[Any], bool]] = {
        bool: lambda x: isinstance(x, (bool, np.bool_)),
        int: validation.is_int,
        float: lambda x: validation.is_number(x) and bool(np.isfinite(x)),
        str: lambda x: isinstance(x, str) and x != "" and "\0" not in x,
    }
    return plain[hint](value) if hint in plain else isinstance(value, hint)


# --- in words ---------------------------------------------------------------------------------------

_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "an int",
    float: "a finite number",
    str: "a text that is not empty",
    os.PathLike: "a path",
    type(None): "None",
    np.ndarray: "an array",
}


def _words(hint: Any) -> str:
    """Return an annotation in words, such as 'an int or None'."""
    members = _members(hint)
    paths = str in members and any(_plain(member) is os.PathLike for member in members)
    known = [m for m in members if not (paths and m is str) and not (m is int and float in members)]
    words = list(dict.fromkeys(_words_of(member) for member in known))
    parts = [part for word in words for part in ([word] if "(" in word else word.split(" or "))]
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _counted(arguments: int) -> str:
    return "no argument" if not arguments else f"{arguments} argument{'s' * (arguments > 1)}"


def _plain(hint: Any) -> Any:
    return typing.get_origin(hint) or hint


def _words_of(hint: Any) -> str:
    plain = _plain(hint)
    if plain is Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(hint))
    if plain in _WORDS:
        return _WORDS[plain]
    if plain is type:
        return "a class"
    if plain is collections.abc.Callable:
        return "a function"
    if not isinstance(plain, type):
        return "a value that the documentation names"
    if issubclass(plain, Mapping):
        return "a dict"
    if issubclass(plain, (list, tuple, collections.abc.Sequence)):
        members = [m for m in typing.get_args(hint) if m is not Ellipsis]
        known = members and not isinstance(members[0], typing.TypeVar) and members[0] is not Any
        return f"a list ({_words(members[0])} in each place)" if known else "a list"
    if plain is keras.Model:
        return "a Keras model"
    return f"a `{plain.__name__}`"
