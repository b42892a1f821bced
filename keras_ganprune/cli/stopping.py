"""Ctrl-C: what is kept, and how to go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from keras_ganprune.utils.closing import command, folded


class StoppedError(KeyboardInterrupt):
    """Ctrl-C in a command that knows what is kept.

    Args:
        kept: Sentence: what is kept.
        more: Words to add to the command, which is then typed again; None for no next command.
    """

    def __init__(self, kept: str, more: Sequence[str] | None):
        super().__init__(kept)
        self.kept, self.more = kept, more


@contextlib.contextmanager
def stopping(kept: Callable[[], tuple[str, Sequence[str] | None]]) -> Iterator[None]:
    """Within the context, Ctrl-C says what is kept.

    Args:
        kept: Function that returns (sentence, words as of `StoppedError`). It is called after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(*kept()) from error


def text_of(stop: KeyboardInterrupt, argv: Sequence[str]) -> str:
    """Return what the command line says after Ctrl-C.

    Args:
        stop: The interruption.
        argv: The arguments of the process.

    Example:
    >>> print(text_of(StoppedError("Two runs are kept.", []), ["sweep", "--seeds", "2"]))
    keras-ganprune: stopped. Two runs are kept.
    Next: keras-ganprune sweep --seeds 2
    """
    text = "keras-ganprune: stopped."
    if not isinstance(stop, StoppedError):
        return text
    again = "" if stop.more is None else f"\nNext: {command(*argv, *stop.more)}"
    return f"{folded(f'{text} {stop.kept}')}{again}"
