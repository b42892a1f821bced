"""The lines that a training prints, with the time left."""

from __future__ import annotations

import time

import keras

from keras_ganprune.utils import terminal

_SECONDS = 10.0  # between two lines of one training


class Progress:
    """Counts the steps of all trainings of one run.

    Args:
        enabled: Whether to print. Defaults to True.
        begin: Begin of each line. Defaults to "".

    Attributes:
        planned, done: Steps of all trainings so far.
        trained: Those of them that this process did.
    """

    def __init__(self, enabled: bool = True, begin: str = ""):
        self.enabled = enabled
        self.begin = begin
        self.planned = 0
        self.done = 0
        self.trained = 0
        self._seconds = 0.0

    def plan(self, steps: int) -> None:
        """Add steps that are going to be trained."""
        self.planned += steps

    def skipped(self, steps: int) -> None:
        """Count steps whose time says nothing of the others, such as those of an earlier process."""
        self.done += steps

    def stepped(self, seconds: float) -> None:
        """Count a step that was trained now."""
        self.done += 1
        self.trained += 1
        self._seconds += seconds

    @property
    def left(self) -> str:
        """The time left, as text; empty before it is known."""
        steps = self.planned - self.done
        if not self.trained or steps <= 0:
            return ""
        return f"; {duration(steps * self._seconds / self.trained)} left"

    def say(self, text: str) -> None:
        """Print a line."""
        if self.enabled:
            terminal.say(f"{self.begin}{text}.")


class StepLines(keras.callbacks.Callback):
    """Prints how far one training is, every ten seconds."""

    def __init__(self, progress: Progress, title: str):
        super().__init__()
        self.progress = progress
        self.title = title
        self._last: float | None = None
        self._line = 0.0

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self._last = None
        self._line = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Count the step; print a line if one is due."""
        now = time.perf_counter()
        if self._last is None:
            self.progress.skipped(1)  # the first step takes the time of compiling
        else:
            self.progress.stepped(now - self._last)
        self._last = now
        if now - self._line > _SECONDS:
            self._line = now
            self.progress.say(
                f"{self.title}: step {self.progress.done:,} of {self.progress.planned:,}"
                f"{self.progress.left}"
            )


def duration(seconds: float) -> str:
    """Return a duration in rounded units.

    Example:
    >>> from keras_ganprune.applications.compression.progress import duration
    >>> duration(42), duration(600), duration(9000)
    ('about 42 s', 'about 10 min', 'about 2.5 h')
    """
    if seconds < 120:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"
