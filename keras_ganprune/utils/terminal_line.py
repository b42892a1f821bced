"""The last line of a terminal, redrawn in place, which gives way to whatever else is printed."""

from __future__ import annotations

import atexit
import shutil
import sys
from collections.abc import Callable
from typing import Any

from rich.cells import cell_len, set_cell_size

from keras_ganprune.utils import terminal

# Columns that stay free: for the cursor, and for the '^C' that a terminal writes behind it.
_FREE = 3


class TerminalLine:
    """The last line of the terminal.

    It is drawn with spaces and carriage returns only, so nothing must be restored after an error: Keras tells
    no callback that `fit` has failed. While it is drawn, `sys.stdout` and `sys.stderr` are watched: whoever
    prints gets an empty line, and the next drawing comes below. (`rich.live` hides the cursor and keeps lines
    back until it is stopped, which nobody would do after an error.)
    """

    _shared: TerminalLine | None = None

    @classmethod
    def shared(cls) -> TerminalLine:
        """Return the line: there is one for all."""
        if cls._shared is None:
            cls._shared = cls()
            atexit.register(cls._shared.end)
        return cls._shared

    def __init__(self) -> None:
        self._stream: Any = None  # the real stdout, while it is watched
        self._drawn = 0  # columns that are drawn now
        self._open = False  # whether others have begun a line that has not ended

    def draw(self, text: Callable[[int], str]) -> None:
        """Draw a text in the place of the one before.

        Args:
            text: Function from a number of columns to a text.
        """
        if self._stream is None:
            self._watch()
        columns = max(1, shutil.get_terminal_size().columns - _FREE)
        line = terminal.encodable(" ".join(text(columns).split()), self._stream)
        if cell_len(line) > columns:
            line = set_cell_size(line, columns)
        new_line = "\n" if self._open else ""
        rest = " " * (self._drawn - cell_len(line))
        # The spaces come first, so that the cursor stands behind the text.
        self._write(f"{new_line}\r{' ' * self._drawn}\r{line}" if rest else f"{new_line}\r{line}")
        self._drawn, self._open = cell_len(line), False

    def clear(self) -> None:
        """Make the line empty."""
        if self._drawn:
            self._write(f"\r{' ' * (self._drawn + _FREE - 1)}\r")
            self._drawn = 0

    def end(self) -> None:
        """Leave what is drawn, and watch the output no longer."""
        if self._drawn:
            self._write("\n")
            self._drawn = 0
        for name in ("stdout", "stderr"):
            watched = getattr(sys, name)
            if isinstance(watched, _Watched):
                setattr(sys, name, watched.stream)
        self._stream, self._open = None, False

    def printed(self, text: str) -> None:
        """Note what others have printed."""
        if text:
            self._open = not text.endswith("\n")

    def _watch(self) -> None:
        self._stream = sys.stdout
        for name in ("stdout", "stderr"):
            stream: Any = getattr(sys, name)
            if stream is not None and getattr(stream, "isatty", bool)():
                setattr(sys, name, _Watched(stream, self))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except ValueError:  # a closed stream, when Python ends
            self._drawn = 0


class _Watched:
    """A stream of text that a line gives way to."""

    def __init__(self, stream: Any, line: TerminalLine):
        self.stream = stream
        self._line = line

    def write(self, text: str) -> int:
        self._line.clear()
        count = self.stream.write(text)
        self._line.printed(text)
        return count

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
