"""`RunProgress`: how far a run of one or several trainings is, and how long it still takes."""

from __future__ import annotations

import contextlib

from keras_ganprune.utils.durations import duration
from keras_ganprune.utils.status_line import StatusLine


class RunProgress:
    """Counts the steps of all trainings of one run, and shows what goes on.

    Args:
        enabled: Whether to print. Defaults to True.
        begin: Begin of each line, such as 'compress: '. Defaults to "".

    Attributes:
        line: The `StatusLine`.
        planned: Steps of all trainings so far; 0 if that is not known.
        done: Those that are done.
        trained: Those of them whose time is known.
    """

    def __init__(self, enabled: bool = True, begin: str = ""):
        self.begin = begin
        self.line = StatusLine(enabled)
        self.planned = 0
        self.done = 0
        self.trained = 0
        self._timed = 0
        self._seconds = 0.0

    def plan(self, steps: int) -> None:
        """Add steps that are going to be trained."""
        self.planned += steps

    def skipped(self, steps: int) -> None:
        """Count steps whose time says nothing of the others, such as those of an earlier process."""
        self.done += steps

    def stepped(self, seconds: float, steps: int = 1) -> None:
        """Note the time of steps that were trained now; `done` is set by whoever counts them."""
        self.trained += steps
        self._timed += steps
        self._seconds += seconds

    def forget_times(self) -> None:
        """Begin anew to measure the time of a step: the network has become smaller."""
        self._timed, self._seconds = 0, 0.0

    @property
    def left(self) -> str:
        """The time left, as text; empty before it is known."""
        steps = self.planned - self.done
        if not self._timed or steps <= 0:
            return ""
        return f"{duration(steps * self._seconds / self._timed)} left"

    @property
    def share(self) -> float | None:
        """The share of the steps that are done, or None if the number of steps is not known."""
        return min(self.done / self.planned, 1.0) if self.planned else None

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.line.say(f"{self.begin}{text}.")

    def doing(self, text: str) -> contextlib.AbstractContextManager[None]:
        """Say what goes on within a context, such as 'measuring quality'."""
        return self.line.doing(f"{self.begin}{text}")
