"""One reader for JSON files that a dataclass describes. An error names the field and the type."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union

T = TypeVar("T")

_NAMES = {str: "a text", int: "an int", float: "a number", bool: "true or false"}


class FieldError(ValueError):
    """A field is missing or has the wrong type; the text names it."""


def read(cls: type[T], value: Any, path: str = "") -> T:
    """Return a JSON object as a dataclass. Fields that the dataclass does not have are ignored.

    Supported annotations: str, int, float, bool, None, Any, unions, `tuple[X, ...]`, `tuple[X, Y]`,
    `Mapping[str, X]`, named tuples (JSON lists) and dataclasses (JSON objects).

    Args:
        cls: A dataclass.
        value: Result of `json.loads`.
        path: Name of the value, for errors. Defaults to the top of the file.

    Raises:
        FieldError: A field without a default is missing, or a value has another type.

    Example:
    >>> Point = dataclasses.make_dataclass("Point", [("at", tuple[int, int]), ("name", str, "")])
    >>> read(Point, {"at": [1, 2]})
    Point(at=(1, 2), name='')
    >>> read(Point, {"at": [1, 0.5]})
    Traceback (most recent call last):
    keras_ganprune.reports.run._typed_json.FieldError: at[1] must be an int. Found: 0.5
    """
    if not isinstance(value, Mapping):
        raise _wrong(path, "an object", value)
    hints = typing.get_type_hints(cls)
    arguments = {}
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]  (T is a dataclass)
        name = f"{path}.{field.name}" if path else field.name
        if field.name in value:
            arguments[field.name] = _convert(hints[field.name], value[field.name], name)
        elif _required(field):
            raise FieldError(f"'{name}' is missing")
    return cls(**arguments)


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _wrong(path: str, expected: str, value: Any) -> FieldError:
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:60]}…"
    return FieldError(f"{path or 'the file'} must be {expected}. Found: {text}")


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Return a JSON value as the annotated type."""
    if hint is Any:
        return value
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _union(hint, value, path)
    if origin is tuple:
        return _tuple(typing.get_args(hint), value, path)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(path, "an object", value)
        _, inner = typing.get_args(hint)
        return {str(key): _convert(inner, item, f"{path}[{key!r}]") for key, item in value.items()}
    return _plain(hint, value, path)


def _plain(hint: type, value: Any, path: str) -> Any:
    """Return a JSON value as a class: a dataclass, a named tuple, or a plain type."""
    if dataclasses.is_dataclass(hint):
        return read(hint, value, path)
    if issubclass(hint, tuple):  # a named tuple
        return hint(*_tuple(tuple(typing.get_type_hints(hint).values()), value, path))
    # JSON writes 6.0 as a float and 6 as an int; both are numbers. True is neither.
    known = (int, float) if hint is float else (hint,)
    if not isinstance(value, known) or (isinstance(value, bool) and hint is not bool):
        raise _wrong(path, _NAMES.get(hint, hint.__name__), value)
    return value


def _union(hint: Any, value: Any, path: str) -> Any:
    choices = typing.get_args(hint)
    if value is None and types.NoneType in choices:
        return None
    others = [choice for choice in choices if choice is not types.NoneType]
    for choice in others[:-1]:
        try:
            return _convert(choice, value, path)
        except FieldError:
            continue
    return _convert(others[-1], value, path)


def _tuple(hints: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(path, "a list", value)
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = hints[:1] * len(value)
    if len(hints) != len(value):
        raise _wrong(path, f"a list of {len(hints)} values", value)
    pairs = zip(hints, value, strict=True)
    return tuple(_convert(hint, item, f"{path}[{i}]") for i, (hint, item) in enumerate(pairs))
