"""Names, paths and patterns that select layers."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterator, Sequence


def matching(rule: str, names: Sequence[Sequence[str]]) -> list[int]:
    """Return the indices of the layers that a name, a path or a pattern selects.

    The exact name comes first: a text that is the name or path of a layer means this layer, also if it has
    characters such as `*` in it. Then `*` matches anything, behind the exact path of a block if the text
    begins with one. `[12]` matches one of these characters, if no layer has the brackets in its name.

    Args:
        rule: The text.
        names: The names and paths of each layer.

    Example:
    >>> matching("up_*", [("up_1",), ("up_2",)]), matching("up_*", [("up_*",), ("up_2",)])
    ([0, 1], [0])
    """
    for pattern in _readings(rule, names):
        found = [
            index
            for index, known in enumerate(names)
            if any(fnmatch.fnmatchcase(name, pattern) for name in known)
        ]
        if found:
            return found
    return []


def _readings(rule: str, names: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield what a text may mean, the most exact meaning first, as patterns of `fnmatch`."""
    yield glob.escape(rule)
    parents = [rule[:place] for place, letter in enumerate(rule) if letter == "/"]
    for parent in reversed(parents):
        if any(name.startswith(f"{parent}/") for known in names for name in known):
            yield glob.escape(parent) + rule[len(parent) :].replace("[", "[[]")
    yield rule.replace("[", "[[]")
    yield rule
