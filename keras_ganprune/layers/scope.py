"""Which layers are eligible: by class, name, regular expression or predicate."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError, unknown_name

Predicate = Callable[[keras.layers.Layer, str], bool]


def _single(rule: Any) -> Predicate:
    if isinstance(rule, type):
        return lambda layer, path: isinstance(layer, rule)
    if isinstance(rule, re.Pattern):
        return lambda layer, path: bool(rule.search(path))
    if isinstance(rule, str):
        return lambda layer, path: fnmatch.fnmatchcase(path, rule) or layer.name == rule
    if isinstance(rule, keras.layers.Layer):
        return lambda layer, path: layer is rule
    if callable(rule):
        return lambda layer, path: bool(rule(layer))
    raise UnsupportedLayerError(
        "`scope` must be a layer class, a layer name or path (`*` matches anything), a compiled "
        "regular expression, a layer, a function of a layer, or a list of these. "
        f"Received: {rule!r} (of type {type(rule).__name__})."
    )


def select(
    layers: Sequence[tuple[str, keras.layers.Layer]], scope: Any, name: str = "scope"
) -> list[tuple[str, keras.layers.Layer]]:
    """Return the (path, layer) pairs in scope.

    Args:
        layers: Pairs of path and layer, all that could be pruned.
        scope: None (everything), a layer class, a name or path with `*`, a compiled regular
            expression searched in the path, a layer, a function of a layer, or a list of these
            (a layer is in scope if any entry matches).
        name: What the argument is called in errors.

    Raises:
        InvalidArgumentError: an entry of `scope` matches no layer, or there is no entry.

    Example:
    >>> layer = keras.layers.Dense(1, name="head")
    >>> select([("head", layer)], "he*")[0][0]
    'head'
    """
    if scope is None:
        return list(layers)
    rules = list(scope) if isinstance(scope, Iterable) and not isinstance(scope, str) else [scope]
    if not rules:
        raise InvalidArgumentError(
            f"`{name}` must name at least one layer. Received: {scope!r}. For all layers pass None."
        )
    chosen: set[int] = set()
    for rule in rules:
        matches = _single(rule)
        hits = [i for i, (path, layer) in enumerate(layers) if matches(layer, path)]
        if not hits:
            paths = [path for path, _ in layers]
            shown = rule.pattern if isinstance(rule, re.Pattern) else rule
            if isinstance(rule, str):
                raise InvalidArgumentError(unknown_name(f"layer in `{name}`:", shown, paths))
            raise InvalidArgumentError(
                f"`{name}` must match at least one prunable layer. {shown!r} matches none of: "
                f"{', '.join(paths) or '(none)'}."
            )
        chosen.update(hits)
    return [pair for i, pair in enumerate(layers) if i in chosen]
