"""The run-time side of `AdaptiveSparsity`: what to try next, and what to go back to."""

from __future__ import annotations

import math
import warnings
import zlib
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, PruningWarning, unknown_name
from keras_ganprune.layers.mask_store import MaskStore
from keras_ganprune.pruning.schedules import AdaptiveSparsity
from keras_ganprune.training import discovery
from keras_ganprune.training.snapshot import TrainingState


class AdaptiveController:
    """Decides at epoch ends which sparsity to try, and keeps the last state that held.

    Args:
        schedule: The settings.
        model: The model that is being fitted.
        memory: Where the numbers are kept that a resumed run needs.

    Attributes:
        baseline: Float, what the log was before pruning; NaN until it is known.
        accepted: Float, the highest sparsity that held so far.
        increment: Float, the rise to try next.
        trial: Float, the sparsity that is being tried; NaN if none is.
        planned: Float, the sparsity to try from the next epoch on; NaN if there is none.
    """

    def __init__(self, schedule: AdaptiveSparsity, model: keras.Model, memory: MaskStore):
        self.schedule = schedule
        self.model = model
        self.memory = memory
        # Told apart from other settings that the network may have been pruned with before.
        self._known_by = [zlib.crc32(text.encode()) for text in (schedule.monitor, repr(schedule))]
        saved = memory.arrays.get("adaptive")
        if saved is None:
            saved = [math.nan, 0.0, schedule.increment, math.nan, 0.0, 0.0, math.nan]
        elif int(saved[8]) != self._known_by[1]:
            # That search is over; its sparsity stays, and a baseline means something for its own log only.
            accepted = saved[1] if math.isnan(saved[3]) else saved[3]
            baseline = saved[0] if int(saved[7]) == self._known_by[0] else math.nan
            saved = [baseline, accepted, schedule.increment, math.nan, 0.0, 0.0, math.nan]
        baseline, accepted, increment, trial, left, done, planned = map(float, saved[:7])
        self.baseline = baseline if schedule.baseline is None else schedule.baseline
        self.accepted, self.increment = accepted, increment
        self.trial, self.planned = trial, planned
        self.epochs_left = int(left)
        self.finished = bool(done)
        self._good: TrainingState | None = None

    @property
    def trying(self) -> bool:
        return not math.isnan(self.trial)

    def read(self, logs: dict[str, Any] | None) -> float:
        """Return the monitored log.

        Raises:
            InvalidArgumentError: there is no such log.
        """
        name = self.schedule.monitor
        if not logs or name not in logs:
            raise InvalidArgumentError(
                unknown_name("log in `monitor`:", name, logs or ())
                + " A callback that writes it must stand before `Prune`."
            )
        return float(np.mean(logs[name]))

    def after_epoch(self, value: float) -> str | None:
        """Judge the trial that runs, if any, and plan the next one; return what happened."""
        said = None
        if self.trying:
            self.epochs_left -= 1
            if self.epochs_left > 0:
                self._save()
                return None
            held = self.schedule.holds(value, self.baseline)
            verdict = f"{self.schedule.monitor} {value:.4g} against {self.baseline:.4g}"
            if held:
                self.accepted, self.trial = self.trial, math.nan
                self._keep()
                said = f"sparsity {self.accepted:.4f} held ({verdict})"
            else:
                said = f"sparsity {self.trial:.4f} did not hold ({verdict})"
                self.increment /= 2.0
                self.back_off()
        elif math.isnan(self.baseline):
            if not math.isfinite(value):
                return None
            self.baseline = value
        if self._good is None:
            self._keep()
        if not self.finished:
            target = min(self.accepted + self.increment, self.schedule.maximum)
            # A share of a millionth, since sums of increments are not exact.
            if (
                target - self.accepted
                < min(self.schedule.minimum_increment, self.schedule.maximum - self.accepted) - 1e-6
                or target <= self.accepted + 1e-6
            ):
                self.finished = True
                said = (f"{said}; " if said else "") + (
                    f"{self.accepted:.4f} is the highest sparsity that held"
                )
            else:
                self.planned = target
        self._save()
        return said

    def before_trial(self) -> None:
        """Keep what a trial begins at, if nothing is kept: a plan of the `fit` before, or of a backup."""
        if self._good is None:
            self._keep()

    def begin_trial(self, sparsity: float) -> None:
        """Note that a sparsity is tried from now on."""
        self.trial, self.planned = sparsity, math.nan
        self.epochs_left = self.schedule.recovery_epochs
        self._save()

    def back_off(self) -> None:
        """Give up the trial: put the last state that held back."""
        if self._good is None:
            warnings.warn(
                f"Sparsity {self.trial:.4f} was not found to hold, but the state before it was not kept "
                "across the restart of this run, so it stays. To go back, load a checkpoint from before.",
                PruningWarning,
                stacklevel=2,
            )
            self.accepted, self.finished = self.trial, True
        else:
            self._good.restore()
        self.trial = math.nan
        self._save()

    def _keep(self) -> None:
        # Time goes on: learning rate and other schedules do not step back with the weights.
        found = discovery.optimizers(self.model, unwrap=False) + discovery.optimizers(self.model)
        leave = [id(o.iterations) for o in found]
        # Private touch: the public property is the value. A callback may have lowered the rate meanwhile.
        leave += [id(getattr(o, "_learning_rate", None)) for o in found]
        self._good = TrainingState(self.model, leave)

    def _save(self) -> None:
        self.memory.arrays["adaptive"] = np.array(
            [
                self.baseline,
                self.accepted,
                self.increment,
                self.trial,
                self.epochs_left,
                self.finished,
                self.planned,
                *self._known_by,
            ],
            dtype=np.float64,
        )
