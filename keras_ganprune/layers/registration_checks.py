"""Checks of the arguments of `register_prunable`, before a class is registered."""

from __future__ import annotations

import difflib
import dis
import functools
import inspect
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Any

import keras

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError

# Functions by which a class can set attributes of any name.
_SETTERS = {"setattr", "vars", "__dict__", "__setattr__", "exec"}


def check_class(layer_class: Any) -> None:
    """Raise an error if an object is no layer class whose layers hold weights themselves."""
    if isinstance(layer_class, keras.layers.Layer):
        name = type(layer_class).__name__
        raise ArgumentTypeError(
            f"`layer_class` must be a class. Received: a layer, {layer_class!r}. Pass its class, {name}."
        )
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise ArgumentTypeError(
            f"`layer_class` must be a subclass of `keras.layers.Layer`. Received: {layer_class!r}."
        )
    plain = vars(layer_class).get("plain_class")
    if plain is not None:
        raise InvalidArgumentError(
            f"`layer_class` must be a plain layer class. Received: the Prunable class of {plain.__name__}. "
            f"Pass {plain.__name__} itself."
        )
    if layer_class is keras.layers.Layer or issubclass(layer_class, keras.Model):
        kind = "a model" if issubclass(layer_class, keras.Model) else "the base of all layers"
        raise InvalidArgumentError(
            "`layer_class` must be a class of layers that hold kernels themselves. Received: "
            f"{layer_class.__name__}, {kind}. Register the class of the layers that hold them. Put weights "
            "that a model holds itself into a layer of your own."
        )


def check_names(layer_class: type, weight_names: Any, built_in: Sequence[str]) -> tuple[str, ...]:
    """Return the names of weights as a tuple.

    Args:
        layer_class: Layer class.
        weight_names: The argument of `register_prunable`.
        built_in: The names that this package has registered for the class; empty for a class of a user.

    Raises:
        ArgumentTypeError: `weight_names` is no list of str.
        InvalidArgumentError: It is empty, has a name twice, or has a name that the class cannot have.
    """
    example = list(built_in) or ["my_kernel"]
    rule = f"`weight_names` must be a non-empty list of attribute names, such as {example!r}."
    if not isinstance(weight_names, (list, tuple)):
        error = InvalidArgumentError if isinstance(weight_names, str) else ArgumentTypeError
        raise error(f"{rule} Received: {weight_names!r}.")
    others = [name for name in weight_names if not isinstance(name, str)]
    if others:
        raise ArgumentTypeError(
            f"{rule} Received: {others[0]!r} (of type {type(others[0]).__name__}) in the list."
        )
    names = tuple(weight_names)
    malformed = [name for name in names if not all(name.split(".")) or name != name.strip()]
    if not names or malformed or len(set(names)) < len(names):
        raise InvalidArgumentError(
            f"{rule} Each name is given once; dots are for parts of parts, as in 'cell.kernel'. "
            f"Received: {weight_names!r}."
        )
    for name in names:
        _check_name(layer_class, name)
    missing = [name for name in built_in if name not in names]
    if missing:
        needed = ", ".join(map(repr, missing))
        raise InvalidArgumentError(
            f"`weight_names` of {layer_class.__name__} must include {needed}. Received: {weight_names!r}. "
            f"Write {[*built_in, *_new(names, built_in)]!r}. To prune some layers only, use a `scope`."
        )
    return names


def _new(names: Sequence[str], built_in: Sequence[str]) -> list[str]:
    return [name for name in names if name not in built_in]


def _check_name(layer_class: type, name: str) -> None:
    """Raise `InvalidArgumentError` if no layer of a class can have an attribute."""
    attribute = name.split(".")[0]
    possible = _attributes(layer_class)
    if possible is None or attribute in possible or f"_{attribute}" in possible:
        return
    known = sorted({other.removeprefix("_") for other in possible})
    close = difflib.get_close_matches(attribute, known, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    raise InvalidArgumentError(
        f"`weight_names` must be attributes that {layer_class.__name__} sets. Received: {name!r}.{guess} Its "
        f"methods set: {shown or '(none)'}. `kgp.mask_coverage(model)` names those that hold kernels."
    )


def _attributes(cls: type) -> set[str] | None:
    """Return the attributes that the methods of a class or its subclasses set; None if that is not known."""
    own = [base for base in cls.__mro__ if _is_own(base)]
    if inspect.isabstract(cls) or not any(
        {"build", "__init__"} & vars(base).keys() for base in own
    ):
        return None  # Its subclasses make the weights.
    names: set[str] = set()
    for base in [*own, *_subclasses(cls)]:
        for member, value in vars(base).items():
            if isinstance(value, (property, functools.cached_property)):
                names.add(member)
            for code in _codes(value):
                if _SETTERS & set(code.co_names):
                    return None
                names |= _stored(code)
    return names


def _is_own(base: type) -> bool:
    """Return whether a class adds something to the layers of Keras."""
    return issubclass(base, keras.layers.Layer) and base not in keras.layers.Layer.__mro__


def _subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _codes(member: Any) -> Iterator[CodeType]:
    """Yield the code of a method, also inside decorators, and of the functions inside it."""
    function = inspect.unwrap(getattr(member, "__func__", member)) if callable(member) else None
    code = getattr(function, "__code__", None)
    pending = [code] if code is not None else []
    while pending:
        code = pending.pop()
        yield code
        pending += [inner for inner in code.co_consts if isinstance(inner, CodeType)]


def _stored(code: CodeType) -> set[str]:
    return {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}
