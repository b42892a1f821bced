"""`TrainingProgress`: one line that says how far a `fit` is."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks._phases import phase_of
from keras_ganprune.callbacks.callback_list import callbacks_beside, logs_read_by
from keras_ganprune.callbacks.quality_monitor import QualityMonitor
from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.errors import PruningWarning, unknown_name
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.utils.durations import duration
from keras_ganprune.utils.status_line import Status

_NUMBERS = 2  # that are shown
_ENDED = {"training": "trained", "pruning": "pruned", "recovering": "recovered"}
# Shorter words for lines that are too long.
_SHORT = {"generator_": "G ", "discriminator_": "D ", "_": " "}


class TrainingProgress(FreshCopies):
    """Shows how far one `fit` of a run is.

    Args:
        run: The `RunProgress`. It must know the steps of this `fit`, or no steps at all.
        title: What is trained. Defaults to "".
        first_epoch: Epoch at which this `fit` begins if nothing is resumed. Defaults to 0.
        epochs: Epochs of the training that this `fit` is a part of. Defaults to None: those of `fit`.
        metrics: Names of the logs that are shown. Defaults to None: two that others watch, or losses.
        keeps: Whether the last line stays. Defaults to True.
    """

    params: dict[str, Any]  # set by Keras before any hook runs

    def __init__(
        self,
        run: RunProgress,
        title: str = "",
        first_epoch: int = 0,
        epochs: int | None = None,
        metrics: Sequence[str] | None = None,
        keeps: bool = True,
    ):
        super().__init__()
        self.run = run
        self.title = title
        self.first_epoch = first_epoch
        self.epochs = epochs
        self.metrics = metrics
        self.keeps = keeps
        self._silent = False
        self._active = False  # inside `fit`; `evaluate` calls hooks too
        self._fitted: Any = None

    def set_model(self, model: keras.Model) -> None:
        """Note the model: on JAX, reading `self.model` copies all variables."""
        super().set_model(model)
        self._fitted = model

    # --- Keras's hooks ---------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        """Begin the line."""
        self._beside = callbacks_beside()
        # Of several lines, the first one is shown.
        lines = [each for each in self._beside if isinstance(each, TrainingProgress)]
        self._silent = bool(lines) and lines[0] is not self
        self._active = True
        self._begun = time.perf_counter()
        self._before = self.run.done
        self._counts_itself = not self.run.planned
        self._per_epoch: int | None = self.params.get("steps")
        self._epoch, self._batch = self.first_epoch, 0
        self._last: float | None = None
        self._unlike_others = 0.0
        self._validated = False
        self._batch_logs: Mapping[str, Any] = {}
        self._epoch_logs: Mapping[str, Any] = {}
        self._traced: set[int] = set()  # the training steps that have run
        self._phase = ""
        self._levels: dict[int, int] = {}  # columns -> how far the line is shortened
        self._count(self.first_epoch, 0)

    def on_epoch_begin(self, epoch, logs=None):
        """Count from the begin of an epoch, which need not be the first one."""
        begins = not self._phase
        self._count(epoch, 0)
        if begins:
            self._show("compiling", begins=True)

    def on_train_batch_begin(self, batch, logs=None):
        """Notice a step that is going to be traced, as after a cut."""
        function = id(getattr(self._fitted, "train_function", None))
        if self._traced and function not in self._traced:
            self._last = None  # the time of this step is not one of a step
            self.run.forget_times()
            self._show("compiling", now=True)
        self._traced.add(function)

    def on_train_batch_end(self, batch, logs=None):
        """Count the steps, and show how far it is."""
        now = time.perf_counter()
        steps = batch + 1 - self._batch
        self._count(self._epoch, batch + 1)
        if self._last is not None:  # the first step takes the time of compiling
            self.run.stepped(max(0.0, now - self._last - self._unlike_others), steps)
        self._last, self._unlike_others = now, 0.0
        self._batch_logs = logs or {}
        self._show(phase_of(self._beside))

    def on_test_begin(self, logs=None):
        """Say that the validation goes on."""
        if self._active:
            self._test_begun = time.perf_counter()
            self._show("validating")

    def on_test_end(self, logs=None):
        """Leave the first validation out of the times: it is compiled."""
        if self._active and not self._validated:
            self._unlike_others += time.perf_counter() - self._test_begun
            self._validated = True

    def on_epoch_end(self, epoch, logs=None):
        """Learn the number of steps of an epoch, and the logs of the epoch."""
        self._per_epoch = self._per_epoch or self._batch
        self._epoch_logs = logs or {}
        self._count(epoch + 1, 0)
        self._show(phase_of(self._beside))

    def on_train_end(self, logs=None):
        """End the line."""
        self._active = False
        self._phase = phase_of(self._beside)
        for going, gone in _ENDED.items():
            self._phase = self._phase.replace(going, gone)
        ended = Status(lambda columns: self._text(columns, ended=True), self.run.share)
        if not self._silent:
            self.run.line.close(ended if self.keeps else None)
        if not self._counts_itself and self._per_epoch:
            # What is left out when training stops early is not trained later.
            epochs = self.params["epochs"] - self.first_epoch
            self.run.done = self._before + epochs * self._per_epoch
        if self.metrics and not self._silent:
            self._warn_of_unknown()

    # --- counting --------------------------------------------------------------------------------

    def _count(self, epoch: int, batch: int) -> None:
        """Set the place of this `fit`: an epoch, and the batches of it that are done."""
        self._epoch, self._batch = epoch, batch
        per_epoch = self._per_epoch or 0
        self.run.done = self._before + (epoch - self.first_epoch) * per_epoch + batch
        if self._counts_itself:
            self.run.planned = self.params["epochs"] * per_epoch

    # --- the text --------------------------------------------------------------------------------

    def _show(self, phase: str, now: bool = False, begins: bool = False) -> None:
        self._phase = phase
        if not self._silent:
            status = Status(self._text, self.run.share)
            self.run.line.show(status, now=now, begins=begins)

    def _text(self, columns: int | None, ended: bool = False) -> str:
        """Return the line for a number of columns; None asks for a sentence."""
        run, epochs = self.run, self.epochs or self.params["epochs"]
        head = f"{run.begin}{self.title}"
        per_epoch = self._per_epoch or 0
        of = f" of {epochs * per_epoch:,}" if per_epoch else ""
        steps = f"step {self._epoch * per_epoch + self._batch:,}{of}"
        short_steps = steps.removeprefix("step ").replace(" of ", "/")
        epoch = ""
        if self._counts_itself and epochs > 1:
            epoch = f"epoch {min(self._epoch + 1, epochs)} of {epochs}"
        left = f"in {duration(time.perf_counter() - self._begun)}" if ended else run.left
        numbers = list(self._numbers())
        shown = [f"{name} {value:.4g}" for name, value in numbers]
        short = [f"{_short(name)} {value:.3g}" for name, value in numbers]
        if columns is None:
            about = f"about {left}" if left and not ended else left
            return _joined(", ", head, self._phase, steps, epoch, about, *shown) + "."
        candidates = [
            (head, self._phase, steps, epoch, left, *shown),
            (head, self._phase, steps, left, *shown),
            (head, self._phase, short_steps, left, *shown),
            (head, self._phase, short_steps, left, *short),
            (self.title, self._phase, short_steps, left, *short),
            (self.title, self._phase, short_steps, left, *short[:1]),
            (self._phase, short_steps, left, *short[:1]),
            (self._phase, short_steps, left),
        ]
        texts = [_joined(" | ", *parts) for parts in candidates]
        fits = [len(text) <= columns for text in texts]
        # A line that was shortened once stays short: it would flicker.
        level = max(fits.index(True) if any(fits) else len(texts) - 1, self._levels.get(columns, 0))
        self._levels[columns] = level
        text = texts[level]
        return text if len(text) <= columns else text[: max(0, columns - 3)] + "..."

    def _numbers(self) -> Iterator[tuple[str, float]]:
        """Yield the names and values of the logs that are shown."""
        logs = {**self._epoch_logs, **self._batch_logs}
        names = self.metrics
        if names is None:
            own = [name for name in logs if "sparsity" not in name and not name.startswith("val_")]
            losses = [name for name in own if "loss" in name]
            wanted = dict.fromkeys([*self._names_watched(), *losses, *own])
            names = [name for name in wanted if name in logs][:_NUMBERS]
        for name in names:
            value = np.asarray(keras.ops.convert_to_numpy(logs.get(name, np.nan)))
            if value.size == 1 and name in logs:
                yield name, float(value.reshape(()))

    def _names_watched(self) -> Iterator[str]:
        """Yield the names of the logs that other callbacks measure or read."""
        for callback in self._beside:
            if isinstance(callback, QualityMonitor):
                yield from _first_of(callback)
            yield from logs_read_by(callback)

    def _warn_of_unknown(self) -> None:
        logs = {**self._epoch_logs, **self._batch_logs}
        for name in self.metrics or ():
            if logs and name not in logs:
                warnings.warn(unknown_name("log", name, logs), PruningWarning, stacklevel=2)


def _first_of(monitor: QualityMonitor) -> list[str]:
    """Return the name of the first number that a monitor logs, or [] before it is measured."""
    names = ["fd", *monitor.values]
    if monitor.metrics not in (None, "all"):
        names = [monitor.metrics] if isinstance(monitor.metrics, str) else list(monitor.metrics)
    measured = [name for name in names if name in monitor.values]
    return [f"{monitor.prefix}{name}" for name in measured[:1]]


def _joined(separator: str, head: str, *parts: str) -> str:
    """Return the parts that are not empty, behind a head with a colon."""
    text = separator.join(part for part in parts if part)
    return f"{head}: {text}" if head else text


def _short(name: str) -> str:
    for long, short in _SHORT.items():
        name = name.replace(long, short)
    return name
