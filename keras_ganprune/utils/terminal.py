"""Output to terminals and pipes: also to those that know ASCII only, and to readers that leave early."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

# What our texts write beyond ASCII, in ASCII.
_ASCII = {
    **{"─": "-", "–": "-", "−": "-", "±": "+-", "×": "x", "…": "...", "·": "*"},
    **{"→": "->", "↓": "v", "↑": "^", "≠": "!=", "≤": "<=", "≥": ">=", "§": "section "},
}
_HANDLER = "keras_ganprune_ascii"


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    known = "".join(_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text)
    return known, error.end


codecs.register_error(_HANDLER, _in_ascii)


def say(text: str) -> None:
    """Print a text and flush. Characters that the terminal does not know are written in ASCII."""
    print(encodable(text, sys.stdout), flush=True)


def is_terminal() -> bool:
    """Return whether the output is a terminal whose last line can be redrawn."""
    stream: Any = sys.stdout
    try:
        return bool(stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb")
    except (AttributeError, ValueError):  # no stream, or a closed one
        return False


def columns() -> int | None:
    """Return the width of the terminal, or None if the output is none."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def encodable(text: str, stream: Any) -> str:
    """Return a text in the characters that a stream knows; others are written in ASCII."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, _HANDLER).decode(encoding)


@contextlib.contextmanager
def any_terminal() -> Iterator[None]:
    """Within the context, everything that is printed can be written to the terminal, and is at the end.

    Raises:
        BrokenPipeError: The reader of the output, such as `head`, has ended. Later output is thrown away.
        OSError: The output cannot be written, for example into a file on a full disk.
    """
    stream: Any = sys.stdout
    if stream is None:  # a program without a terminal, such as `pythonw`
        yield
        return
    errors = getattr(stream, "errors", None)
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=_HANDLER)
    try:
        yield
    finally:
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                # Otherwise Python tries again, and complains, when it ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            raise
        finally:
            if hasattr(stream, "reconfigure") and not stream.closed:
                with contextlib.suppress(OSError):
                    stream.reconfigure(errors=errors)
