"""The search of `AdaptiveSparsity`: which sparsity to try next, and which state to go back to."""

from __future__ import annotations

import math
import warnings
import zlib
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, PruningWarning, unknown_name
from keras_ganprune.layers.mask_store import MaskStore, write_with
from keras_ganprune.pruning.schedules import AdaptiveSparsity
from keras_ganprune.training import discovery
from keras_ganprune.training.snapshot import TrainingState

# The name under which a resumed run finds the state before its trial; see `MaskStore.arrays`.
_LAST_GOOD = "last_good "


class AdaptiveController:
    """Decides at the end of each epoch which sparsity to try, and keeps the last state that held.

    Args:
        schedule: The settings.
        model: The model that is fitted.
        memory: The store that keeps the numbers a resumed run needs.

    Attributes:
        baseline: Float, the monitored log before pruning; NaN until it is known.
        accepted: Float, the highest sparsity that has held.
        increment: Float, the increase to try next.
        trial: Float, the sparsity on trial; NaN without a trial.
        planned: Float, the sparsity to try from the next epoch on; NaN without a plan.
        goes_on: Whether the search was begun by an earlier run.
        waits: Whether training goes on before the trial that is planned, until its gradients are sampled.
    """

    def __init__(self, schedule: AdaptiveSparsity, model: keras.Model, memory: MaskStore):
        self.schedule = schedule
        self.model = model
        self.memory = memory
        # The network may have been pruned before with other settings.
        self._checksums = [zlib.crc32(text.encode()) for text in (schedule.monitor, repr(schedule))]
        saved = memory.arrays.get("adaptive")
        self.goes_on = saved is not None and int(saved[8]) == self._checksums[1]
        if saved is None:
            saved = [math.nan, 0.0, schedule.increment, math.nan, 0.0, 0.0, math.nan]
        elif int(saved[8]) != self._checksums[1]:
            # That search is over. Its sparsity stays; its baseline is kept only for the same log.
            accepted = saved[1] if math.isnan(saved[3]) else saved[3]
            baseline = saved[0] if int(saved[7]) == self._checksums[0] else math.nan
            saved = [baseline, accepted, schedule.increment, math.nan, 0.0, 0.0, math.nan]
        baseline, accepted, increment, trial, epochs_left, finished, planned = map(float, saved[:7])
        self.baseline = baseline if schedule.baseline is None else schedule.baseline
        self.accepted, self.increment = accepted, increment
        self.trial, self.planned = trial, planned
        self.epochs_left = int(epochs_left)
        self.finished = bool(finished)
        self._last_good = self._read_last_good()
        self.waits = self._last_good is not None and not self.trying
        write_with(memory, _LAST_GOOD, self)

    @property
    def trying(self) -> bool:
        """Whether a sparsity is on trial."""
        return not math.isnan(self.trial)

    def read(self, logs: dict[str, Any] | None) -> float:
        """Return the monitored log.

        Raises:
            InvalidArgumentError: No log has the name `monitor`.
        """
        name = self.schedule.monitor
        if not logs or name not in logs:
            raise InvalidArgumentError(
                unknown_name("log in `monitor`:", name, logs or ())
                + " Place the callback that writes it before `Prune`."
            )
        return float(np.mean(logs[name]))

    def after_epoch(self, value: float) -> str | None:
        """Evaluate the trial, if there is one, and plan the next one.

        Args:
            value: The monitored log of the epoch.

        Returns:
            A message for the user, or None.
        """
        message = None
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
                message = f"sparsity {self.accepted:.4f} held ({verdict})"
            else:
                message = f"sparsity {self.trial:.4f} did not hold ({verdict})"
                self.increment /= 2.0
                self.back_off()
        elif math.isnan(self.baseline):
            if not math.isfinite(value):
                return None
            self.baseline = value
        if self._last_good is None:
            self._keep()
        if not self.finished:
            target = min(self.accepted + self.increment, self.schedule.maximum)
            # With a tolerance of a millionth, since sums of increments are not exact.
            if (
                target - self.accepted
                < min(self.schedule.minimum_increment, self.schedule.maximum - self.accepted) - 1e-6
                or target <= self.accepted + 1e-6
            ):
                self.finished = True
                message = (f"{message}; " if message else "") + (
                    f"{self.accepted:.4f} is the highest sparsity that held"
                )
            else:
                self.planned = target
        self._save()
        return message

    def before_trial(self) -> None:
        """Keep the state before a trial if none is kept: it was planned by an earlier `fit` or a backup."""
        if self._last_good is None:
            self._keep()

    def begin_trial(self, sparsity: float) -> None:
        """Note that a sparsity is on trial from now on."""
        self.trial, self.planned, self.waits = sparsity, math.nan, False
        self.epochs_left = self.schedule.recovery_epochs
        self._save()

    def back_off(self) -> None:
        """Give up the trial: restore the last state that held."""
        if self._last_good is None:
            warnings.warn(
                f"Sparsity {self.trial:.4f} did not hold, but the state before it was lost in the restart of "
                "this run, so it stays. To go back, load a checkpoint from before.",
                PruningWarning,
                stacklevel=2,
            )
            self.accepted, self.finished = self.trial, True
        else:
            self._last_good.restore()
        self.trial = math.nan
        self._save()

    def arrays_to_save(self) -> dict[str, np.ndarray]:
        """Return the state before the trial, if training has left it: a resumed run may go back to it."""
        if self._last_good is None or not (self.trying or self.waits):
            return {}
        return {_LAST_GOOD + name: array for name, array in self._last_good.to_arrays().items()}

    def _read_last_good(self) -> TrainingState | None:
        """Return the state before the trial that was saved in it, or None."""
        names = [name for name in self.memory.arrays if name.startswith(_LAST_GOOD)]
        arrays = {name.removeprefix(_LAST_GOOD): self.memory.arrays.pop(name) for name in names}
        if not arrays or not (self.trying or not math.isnan(self.planned)):
            return None
        return TrainingState.from_arrays(self.model, arrays, self._not_restored())

    def _keep(self) -> None:
        self._last_good = TrainingState(self.model, self._not_restored())

    def _not_restored(self) -> list[int]:
        # Learning rate and other schedules do not go back with the weights.
        optimizers = discovery.optimizers(self.model, unwrap=False) + discovery.optimizers(
            self.model
        )
        not_restored = [id(o.iterations) for o in optimizers]
        # Private: the public property is the value. A callback may have lowered the rate meanwhile.
        not_restored += [id(getattr(o, "_learning_rate", None)) for o in optimizers]
        return not_restored

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
                *self._checksums,
            ],
            dtype=np.float64,
        )
