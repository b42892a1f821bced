"""Layer names, paths and regular expressions that select tensors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.layers.name_patterns import matching
from keras_ganprune.pruning.allocation.base import Tensor

_FLAGS = {"a": re.ASCII, "i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_INLINE_FLAGS = re.compile(r"^\(\?[aimsux]+\)")


def pattern_text(pattern: Any) -> str:
    """Return a layer pattern as text, as it is stored in a config.

    Args:
        pattern: A layer name, a path with `*`, a text that begins with 're:', or a compiled regular
            expression.

    Raises:
        InvalidArgumentError: The regular expression is not valid.
        ArgumentTypeError: `pattern` has another type.

    Example:
    >>> import re
    >>> pattern_text(re.compile("up_[12]", re.IGNORECASE))
    're:(?i)up_[12]'
    """
    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
        # The config stores only the text, so the text has to contain the flags.
        flags = "".join(letter for letter, flag in _FLAGS.items() if pattern.flags & flag)
        expression = _INLINE_FLAGS.sub("", pattern.pattern)
        return f"re:(?{flags}){expression}" if flags else f"re:{expression}"
    if isinstance(pattern, str):
        if pattern.startswith("re:"):
            try:
                re.compile(pattern[3:])
            except re.error as error:
                raise InvalidArgumentError(
                    f"{pattern!r} is not a regular expression: {error}."
                ) from error
        return pattern
    raise ArgumentTypeError(
        "A layer must be a name, a path with `*` or a regular expression. "
        f"Received: {pattern!r} (of type {type(pattern).__name__})."
    )


def last_name(path: str) -> str:
    """Return the last name of a path."""
    return path.rsplit("/", 1)[-1]


def matching_tensors(pattern: str, tensors: Sequence[Tensor]) -> list[int]:
    """Return the indices of the tensors that a pattern, as `pattern_text` returns it, selects.

    Example:
    >>> matching_tensors("up_*", [Tensor("gen/up_1/kernel", "gen/up_1", (3, 3, 4, 5), 180, 1)])
    [0]
    """
    if pattern.startswith("re:"):
        return [i for i, t in enumerate(tensors) if re.search(pattern[3:], t.layer_path)]
    return matching(pattern, [_names(tensor) for tensor in tensors])


def _names(tensor: Tensor) -> list[str]:
    """Return the paths and names by which a tensor, or a maker of its channels, is known."""
    layers = [(tensor.layer_path, tensor.path)]
    layers += [(path.rpartition("/")[0], path) for path in tensor.makers]
    return [name for layer, path in layers for name in (layer, path, last_name(layer))]
