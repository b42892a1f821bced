"""Scopes: which layers of a model may be pruned, by class, name, regular expression or function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import keras
import numpy as np

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, unknown_name
from keras_ganprune.layers.name_patterns import matching
from keras_ganprune.layers.prunable import is_redefined, pruned_names_of
from keras_ganprune.utils import annotated, validation

# A class, a name or path, a regular expression, a layer, or a function that returns whether a layer is in
# scope.
ScopeEntry: TypeAlias = (
    type | str | re.Pattern[str] | keras.layers.Layer | Callable[[keras.layers.Layer], bool]
)
Scope: TypeAlias = ScopeEntry | Iterable[ScopeEntry]


AnyLayer = TypeVar("AnyLayer", bound=keras.layers.Layer)


def _matching(rule: ScopeEntry, layers: Sequence[tuple[str, Any]], name: str) -> list[int]:
    """Return the indices of the layers that one entry of a scope selects."""
    if isinstance(rule, str):
        return matching(rule, [(path, layer.name) for path, layer in layers])
    if isinstance(rule, type):
        found = [isinstance(layer, rule) for _, layer in layers]
    elif isinstance(rule, re.Pattern):
        found = [bool(rule.search(path)) for path, _ in layers]
    elif isinstance(rule, keras.layers.Layer):
        found = [layer is rule for _, layer in layers]
    elif callable(rule):
        found = [_answer(rule, layer, path, name) for path, layer in layers]
    else:
        raise ArgumentTypeError(_rule_of(name, rule))
    return [index for index, selected in enumerate(found) if selected]


def _rule_of(name: str, received: Any) -> str:
    return (
        f"`{name}` must be a layer class, a layer name or path (`*` matches anything), a compiled "
        "regular expression, a layer, a function of a layer, or a list of these. "
        f"Received: {received!r} (of type {type(received).__name__})."
    )


def _answer(rule: Callable[[Any], Any], layer: Any, path: str, name: str) -> bool:
    text = f"A function in `{name}` must return whether a layer is in it: True or False."
    try:
        answer = rule(layer)
    except Exception as error:
        raise InvalidArgumentError(
            f"{text} Received: {rule!r}, which raises {type(error).__name__} for '{path}': {error}"
        ) from error
    if isinstance(answer, (int, np.bool_, re.Match)) or answer is None:
        return bool(answer)
    # `lambda layer: layer.name` would select every layer.
    raise InvalidArgumentError(f"{text} Received: {rule!r}, which returns {answer!r} for '{path}'.")


def check(scope: Any, name: str) -> None:
    """Check the types of a scope before the layers are known.

    Raises:
        ArgumentTypeError: `scope` or an entry of it has another type.
    """
    if scope is None:
        return
    wrong = isinstance(scope, (Mapping, Iterator, bytes, bytearray))
    if wrong or (isinstance(scope, str) and not scope):
        raise ArgumentTypeError(_rule_of(name, scope))
    for rule in _rules(scope):
        _matching(rule, [], name)
        other = isinstance(rule, (type, str, re.Pattern, keras.layers.Layer))
        if not other and not annotated.takes(rule, 1):
            raise ArgumentTypeError(
                f"A function in `{name}` must take one argument, the layer. Received: {rule!r}, which does "
                "not."
            )


def check_not_empty(scope: Any, name: str) -> None:
    """Raise an error if a scope is an empty list."""
    if scope is not None and not _rules(scope):
        raise InvalidArgumentError(
            f"`{name}` must name at least one layer. Received: {scope!r}. For all layers pass None."
        )


def _rules(scope: Any) -> list[Any]:
    rules = validation.entries(scope)
    return [scope] if rules is None else rules


def _hint(rule: Any, layers: Sequence[tuple[str, Any]]) -> str:
    """Return why a layer, or a class, that is in the model may match no layer; '' if that is not known."""
    cls = rule if isinstance(rule, type) else type(rule)
    if not issubclass(cls, keras.layers.Layer):
        return ""
    place = (cls.__module__, cls.__qualname__)
    classes = [getattr(layer, "plain_class", type(layer)) for _, layer in layers]
    if any((c.__module__, c.__qualname__) == place and not issubclass(c, cls) for c in classes):
        return (
            f" {cls.__name__} was defined again after the model was made, so the model has layers of another "
            "class object of this name. Make the model again."
        )
    if pruned_names_of(cls):
        return ""
    if is_redefined(cls):
        return (
            f" {cls.__name__} is another class object than the one of this name that was registered: call "
            f"`register_prunable({cls.__name__}, [...])` again after the class is defined."
        )
    return f" {cls.__name__} is not registered: call `register_prunable({cls.__name__}, ['my_kernel'])`."


def select(
    layers: Sequence[tuple[str, AnyLayer]], scope: Scope | None, name: str = "scope"
) -> list[tuple[str, AnyLayer]]:
    """Return the (path, layer) pairs in scope.

    Args:
        layers: Pairs of path and layer, for all layers that can be pruned.
        scope: A layer class, a name or path (`*` matches anything, unless a layer has exactly this name), a
            compiled regular expression that is searched in the path, a layer, a function of a layer, or a
            list of these. A layer is in scope if any entry matches. None selects all layers.
        name: Name of the argument, for the error. Defaults to 'scope'.

    Returns:
        The pairs in scope, in their order.

    Raises:
        ArgumentTypeError: `scope` or an entry of it has another type.
        InvalidArgumentError: An entry of `scope` matches no layer, or `scope` is empty.

    Example:
    >>> layer = keras.layers.Dense(1, name="head")
    >>> select([("head", layer)], "he*")[0][0]
    'head'
    """
    if scope is None:
        return list(layers)
    check(scope, name)
    check_not_empty(scope, name)
    rules = _rules(scope)
    in_scope: set[int] = set()
    for rule in rules:
        hits = _matching(rule, layers, name)
        if not hits:
            paths = [path for path, _ in layers]
            shown = rule.pattern if isinstance(rule, re.Pattern) else rule
            if isinstance(rule, str):
                raise InvalidArgumentError(unknown_name(f"layer in `{name}`:", shown, paths))
            raise InvalidArgumentError(
                f"`{name}` must match at least one prunable layer. {shown!r} matches none of: "
                f"{', '.join(paths) or '(none)'}.{_hint(rule, layers)}"
            )
        in_scope.update(hits)
    return [pair for i, pair in enumerate(layers) if i in in_scope]
