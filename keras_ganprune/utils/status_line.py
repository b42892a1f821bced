"""A line that says what goes on now: redrawn in place, or plain lines at rare moments."""

from __future__ import annotations

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from keras_ganprune.utils import terminal
from keras_ganprune.utils.closing import folded
from keras_ganprune.utils.terminal_line import TerminalLine

# Seconds between two drawings of a line, and between two plain lines.
_REDRAW, _NOTEBOOK, _PLAIN = 0.1, 0.5, 10.0
_SHARE = 0.1  # of the work between two plain lines
#: What goes on while `train_extractor` runs.
EXTRACTOR = "Training the feature extractor, unless it is in the cache"


@attrs.frozen
class Status:
    """What goes on now.

    Attributes:
        text: Function from a number of columns to a text that fits them; None asks for a full sentence.
        share: The share of the work that is done, in [0, 1]; None if that is not known.
    """

    text: Callable[[int | None], str]
    share: float | None = None


class StatusLine:
    """Shows what goes on now.

    In a terminal it is one line that never wraps, and that gives way to whatever else is printed. In a
    notebook it is an output that is updated. Elsewhere plain lines are printed: the first one, and later ones
    after 10 s and 10 % of the work, whichever is later.

    Args:
        enabled: Whether anything is shown. Defaults to True.
    """

    def __init__(self, enabled: bool = True):
        self.enabled = enabled
        self._display: _Terminal | _Notebook | _Plain | None = None

    @property
    def _shown(self) -> _Terminal | _Notebook | _Plain:
        if self._display is None:
            # Not before it is needed: the output may be redirected meanwhile.
            self._display = (
                _Notebook()
                if _in_notebook()
                else _Terminal()
                if terminal.is_terminal()
                else _Plain()
            )
        return self._display

    def show(self, status: Status, *, now: bool = False, begins: bool = False) -> None:
        """Show a status if it is time for that.

        Args:
            status: What goes on.
            now: Whether a line that is redrawn is redrawn in any case. Defaults to False.
            begins: Whether something else begins, so that plain lines name it too. Defaults to False.
        """
        if self.enabled:
            self._shown.show(status, now or begins, begins)

    def say(self, text: str) -> None:
        """Print lines that stay. In a terminal, long ones are folded between words."""
        if self.enabled:
            self._shown.say("\n".join(folded(line) for line in text.splitlines()))

    def close(self, status: Status | None = None) -> None:
        """End the line.

        Args:
            status: What stays of it. Defaults to None: nothing.
        """
        if self.enabled:
            self._shown.close(status)
            self._display = None

    @contextlib.contextmanager
    def doing(self, text: str) -> Iterator[None]:
        """Say what goes on within the context.

        Args:
            text: A text without a full stop, such as 'measuring quality'.
        """
        words = Status(lambda columns: f"{text}." if columns is None else f"{text} ...")
        self.show(words, begins=True)
        try:
            yield
        finally:
            self.close()


class _Terminal:
    """The line in a terminal."""

    def __init__(self) -> None:
        self._line = TerminalLine.shared()
        self._drawn_at = 0.0

    def show(self, status: Status, now: bool, begins: bool) -> None:
        if now or time.perf_counter() - self._drawn_at >= _REDRAW:
            self._line.draw(status.text)
            self._drawn_at = time.perf_counter()

    def say(self, text: str) -> None:
        self._line.clear()
        terminal.say(text)

    def close(self, status: Status | None) -> None:
        if status is None:
            self._line.clear()
        else:
            self._line.draw(status.text)
        self._line.end()


class _Notebook:
    """The line in a notebook: one output that is updated."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._drawn_at = 0.0

    def show(self, status: Status, now: bool, begins: bool) -> None:
        if not now and time.perf_counter() - self._drawn_at < _NOTEBOOK:
            return
        share = status.share
        bar = "" if share is None else f'<progress max="1" value="{share:.3f}"></progress> '
        self._put(f"<div>{bar}<code>{html.escape(status.text(160))}</code></div>")
        self._drawn_at = time.perf_counter()

    def say(self, text: str) -> None:
        terminal.say(text)

    def close(self, status: Status | None) -> None:
        if status is not None:
            self.show(status, True, False)
        elif self._handle is not None:
            self._put("")
        self._handle = None

    def _put(self, page: str) -> None:
        from IPython.display import HTML, display  # a notebook has it

        if self._handle is None:
            self._handle = display(HTML(page), display_id=True)
        else:
            self._handle.update(HTML(page))


class _Plain:
    """Plain lines, at rare moments."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._said_at: float | None = None
        self._share = 0.0
        self._last = ""

    def show(self, status: Status, now: bool, begins: bool) -> None:
        moment = time.perf_counter()
        if self._said_at is not None and not begins:
            # Without a share, lines get rarer and rarer.
            wait = 0.0 if status.share is not None else _SHARE * (moment - self._begun)
            if moment - self._said_at < max(_PLAIN, wait):
                return
            if status.share is not None and status.share - self._share < _SHARE - 1e-9:
                return
        self._said_at, self._share = moment, status.share or 0.0
        self.say(status.text(None))

    def say(self, text: str) -> None:
        if text != self._last:
            terminal.say(text)
        self._last = text

    def close(self, status: Status | None) -> None:
        if status is not None:
            self.say(status.text(None))


def _in_notebook() -> bool:
    """Return whether the code runs in the kernel of a notebook."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None
