"""The end of a run: what was made, what it is worth, and the next command."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from typing import Any

from keras_ganprune.utils import terminal


def command(*words: Any) -> str:
    """Return a command of this package as it is typed.

    Example:
    >>> command("report", "my runs/first")
    "keras-ganprune report 'my runs/first'"
    """
    return shlex.join(["keras-ganprune", *map(str, words)])


def closing(made: str, worth: str, then: Sequence[Any] | None) -> str:
    """Return the last lines of a run.

    Args:
        made: Sentence: what was made, and where. "" if nothing was written.
        worth: Sentence: quality, and size against dense. "" if the text above says it.
        then: Words of the next command, or None if there is none.

    Example:
    >>> print(closing("small/model.keras.", "0.25 of the bytes.", ["report", "small/model.keras"]))
    Made: small/model.keras.
    Worth: 0.25 of the bytes.
    Next: keras-ganprune report small/model.keras
    """
    lines = [folded(f"Made: {made}")] if made else []
    if worth:
        lines.append(folded(f"Worth: {worth}"))
    if then:
        lines.append(f"Next: {command(*then)}")  # not folded: it is copied
    return "\n".join(lines)


def folded(text: str) -> str:
    """Return a paragraph in lines that are not wider than the terminal, if there is one."""
    columns = terminal.columns()
    if columns is None:
        return text
    return textwrap.fill(text, columns, break_long_words=False, break_on_hyphens=False)
