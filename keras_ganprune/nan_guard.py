"""A callback that stops a diverged run at its last good state."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune import discovery
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.layers import prunable_layers
from keras_ganprune.masking import MaskStore, to_numpy


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

    def _variables(self) -> list[keras.Variable]:
        found = list(self.model.variables)
        # With their wrappers: the scale of a loss-scaling optimizer is state too.
        for optimizer in discovery.optimizers(self.model, unwrap=False):
            found += optimizer.variables
        for store in self._mask_stores():
            found += store.masks.values()
        return list({id(v): v for v in found}.values())

    def _mask_stores(self) -> list[MaskStore]:
        return [layer.pruning_masks for _, layer in prunable_layers(self.model)]

    def _keep(self) -> None:
        self._state = [(v, np.array(to_numpy(v))) for v in self._variables()]
        # Which update made the masks goes back with them, or the next `fit` would not make it again.
        self._clocks = {id(store): (store.step, store.stamp) for store in self._mask_stores()}
        self._state_batch = self._batches

    def _bad_weights(self) -> dict[str, float]:
        """Return the sums of weights that are not finite; the step that ruins them has a finite loss."""
        sums = {
            f"sum of {w.path}": np.sum(to_numpy(w), dtype=np.float64) for w in self.model.weights
        }
        return {k: v for k, v in sums.items() if not np.isfinite(v)}

    def on_train_begin(self, logs=None):
        self._batches = 0
        self.stopped_batch = None
        self._state: list = []
        self._clocks: dict[int, tuple[int, int]] = {}
        # `Prune` reads it, and then leaves weights that are not finite to this callback.
        self.model._nan_guarded = True

    def on_train_end(self, logs=None):
        self.model._nan_guarded = False
        self._state = []

    def on_epoch_begin(self, epoch, logs=None):
        self._before_epoch = self._batches
        if self.stopped_batch is None:
            self._keep()

    def on_train_batch_end(self, batch, logs=None):
        self._batches = self._before_epoch + batch + 1
        losses = {k: v for k, v in (logs or {}).items() if "loss" in k}
        bad = {k: v for k, v in losses.items() if not np.all(np.isfinite(v))}
        due = self.frequency != "epoch" and self._batches - self._state_batch >= self.frequency
        # The first batch may have built networks that were not there to be kept.
        due = due or (self._batches == 1 and len(self._variables()) > len(self._state))
        if due and not bad:
            bad = self._bad_weights()
        if bad:
            self._stop(bad)
        elif due:
            self._keep()

    def on_epoch_end(self, epoch, logs=None):
        if self.stopped_batch is None:
            bad = self._bad_weights()
            if bad:
                self._stop(bad)

    def _stop(self, bad: dict[str, Any]) -> None:
        self.stopped_batch = self._batches
        self.model.stop_training = True
        kept = {id(v) for v, _ in self._state}
        for variable, value in self._state:
            variable.assign(value)
        for store in self._mask_stores():
            store.step, store.stamp = self._clocks.get(id(store), (0, 0))
        weights = {id(w) for w in self.model.variables}
        for variable in self._variables():
            if id(variable) not in kept and id(variable) not in weights:
                # Made since: optimizer slots begin at 0, masks at True.
                fresh = ops.ones_like if variable.dtype == "bool" else ops.zeros_like
                variable.assign(fresh(variable))
        what = ", ".join(f"{k} = {float(np.mean(v)):g}" for k, v in list(bad.items())[:4])
        warnings.warn(
            f"Training stopped after batch {self._batches}: {what}. The weights, masks and optimizers "
            f"of batch {self._state_batch} were put back. Lower the learning rate, clip gradients "
            "(`clipnorm`), or check the data.",
            PruningWarning,
            stacklevel=2,
        )
