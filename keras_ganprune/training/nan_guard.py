"""A callback that stops a diverged run at its last good state."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.training.snapshot import TrainingState, sums_not_finite, variables


class NaNGuard(keras.callbacks.Callback):
    """Stops training when a loss is NaN or infinite, and puts the last good state back.

    The good state (weights, masks, optimizers) is kept in memory: the one at the last epoch begin or
    every `frequency` batches at which all losses and weights were finite. `GANModel.fit` adds one by
    itself.

    Args:
        frequency: 'epoch', or a positive int: batches between two copies of the state.

    Attributes:
        stopped_batch: Int, batches done when a loss turned bad; None if none did.
    """

    def __init__(self, frequency: int | str = "epoch"):
        super().__init__()
        if frequency != "epoch" and (
            isinstance(frequency, bool) or not isinstance(frequency, int) or frequency < 1
        ):
            raise InvalidArgumentError(
                f"`frequency` must be 'epoch' or a positive int. Received: {frequency!r}."
            )
        self.frequency = frequency
        self.stopped_batch: int | None = None

    def _keep(self) -> None:
        self._state = TrainingState(self.model)
        self._state_batch = self._batches
        self._networks = [id(layer) for layer in self.model.layers]

    def _bad_weights(self) -> dict[str, float]:
        return {f"sum of {path}": v for path, v in sums_not_finite(self.model).items()}

    def on_train_begin(self, logs=None):
        self._batches = 0
        self.stopped_batch = None
        self._state: TrainingState | None = None
        # On JAX, `self.model` brings all variables up to date each time: too slow for every batch.
        self._fitted = self.model
        # `Prune` reads it, and then leaves weights that are not finite to this callback.
        self.model._nan_guarded = True

    def on_train_end(self, logs=None):
        self.model._nan_guarded = False
        self._state = None

    def on_epoch_begin(self, epoch, logs=None):
        self._before_epoch = self._batches
        if self.stopped_batch is None:
            self._keep()

    def on_train_batch_begin(self, batch, logs=None):
        # `Shrink` has put other networks there, for which the state is of no use.
        if self.stopped_batch is None and self._networks != [id(n) for n in self._fitted.layers]:
            self._keep()

    def on_train_batch_end(self, batch, logs=None):
        self._batches = self._before_epoch + batch + 1
        losses = {k: v for k, v in (logs or {}).items() if "loss" in k}
        bad = {k: v for k, v in losses.items() if not np.all(np.isfinite(v))}
        due = self.frequency != "epoch" and self._batches - self._state_batch >= self.frequency
        # The first batch may have built networks that were not there to be kept.
        if self._batches == 1 and len(variables(self.model)) > len(self._state.values):
            due = True
        if due and not bad:
            bad = self._bad_weights()
        # One that goes on alone would wait for the others for ever.
        if distribution.any_of(bool(bad), self._fitted):
            self._stop(bad)
        elif due:
            self._keep()

    def on_epoch_end(self, epoch, logs=None):
        if self.stopped_batch is None:
            bad = self._bad_weights()
            if distribution.any_of(bool(bad), self.model):
                self._stop(bad)

    def _stop(self, bad: dict[str, Any]) -> None:
        self.stopped_batch = self._batches
        self.model.stop_training = True
        self.model._nan_guarded = "stopped"
        self._state.restore()
        bad = bad or {"a loss or weight of another worker": np.nan}
        what = ", ".join(f"{k} = {float(np.mean(v)):g}" for k, v in list(bad.items())[:4])
        warnings.warn(
            f"Training stopped after batch {self._batches}: {what}. The weights, masks and optimizers "
            f"of batch {self._state_batch} were put back. Lower the learning rate, clip gradients "
            "(`clipnorm`), or check the data.",
            PruningWarning,
            stacklevel=2,
        )
