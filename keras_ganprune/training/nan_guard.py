"""A callback that stops a diverged training run and restores its last good state."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.training.snapshot import TrainingState, sums_not_finite, variables
from keras_ganprune.utils import annotated
from keras_ganprune.utils.validation import is_int


class NaNGuard(FreshCopies):
    """Callback that stops training when a loss is NaN or infinite, and restores the last good state.

    A good state is one in which all losses and weights are finite. A copy of the last good state (weights,
    masks, optimizers) is kept in memory. It is made at the beginning of every epoch or every `frequency`
    batches. `GANModel.fit` adds a `NaNGuard` itself.

    Args:
        frequency: 'epoch', or a positive int, the number of batches between two copies of the state. Defaults
            to 'epoch'.

    Attributes:
        stopped_batch: Int, number of finished batches when a loss or weight became NaN or infinite; None if
            this has not happened.

    Raises:
        InvalidArgumentError: `frequency` is neither 'epoch' nor a positive int.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> guard = NaNGuard(frequency=100)
    >>> history = model.fit(np.ones((8, 4)), np.ones((8, 1)), callbacks=[guard], verbose=0)
    >>> print(guard.stopped_batch)
    None
    """

    model: Any

    def __init__(self, frequency: int | Literal["epoch"] = "epoch"):
        annotated.check(NaNGuard.__init__, locals(), "frequency")
        super().__init__()
        if frequency != "epoch" and (not is_int(frequency) or frequency < 1):
            raise InvalidArgumentError(
                f"`frequency` must be 'epoch' or a positive int. Received: {frequency!r}."
            )
        self.frequency: int | Literal["epoch"] = "epoch" if frequency == "epoch" else int(frequency)
        self.stopped_batch: int | None = None
        self._state: TrainingState | None = None
        self._state_batch = 0
        self._batches = 0
        self._before_epoch = 0
        self._networks: list[int] = []
        self._fitted: Any = None

    def _copy_state(self) -> None:
        self._state = TrainingState(self.model)
        self._state_batch = self._batches
        self._networks = [id(layer) for layer in self.model.layers]

    def _bad_weights(self) -> dict[str, float]:
        return {f"sum of {path}": v for path, v in sums_not_finite(self.model).items()}

    def on_train_begin(self, logs: Any = None) -> None:
        """Mark the model, so that `Prune` leaves weights that are not finite to this callback."""
        self._batches = 0
        self.stopped_batch = None
        self._state = None
        # On JAX, `self.model` updates all variables at each access, which is too slow for every batch.
        self._fitted = self.model
        self.model._nan_guarded = True

    def on_train_end(self, logs: Any = None) -> None:
        """Free the copy of the state."""
        self.model._nan_guarded = False
        self._state = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Copy the state."""
        self._before_epoch = self._batches
        if self.stopped_batch is None:
            self._copy_state()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Copy the state if `Shrink` has replaced the networks, since the old copy does not fit them."""
        if self.stopped_batch is None and self._networks != [id(n) for n in self._fitted.layers]:
            self._copy_state()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop if a loss is not finite. Copy the state every `frequency` batches."""
        self._batches = self._before_epoch + batch + 1
        losses = {k: v for k, v in (logs or {}).items() if "loss" in k}
        bad = {k: v for k, v in losses.items() if not np.all(np.isfinite(v))}
        due = self.frequency != "epoch" and self._batches - self._state_batch >= self.frequency
        # The first batch may have built networks that the copy does not contain.
        if self._batches == 1 and self._state is not None:
            due = due or len(variables(self.model)) > len(self._state.values)
        if due and not bad:
            bad = self._bad_weights()
        # All workers must stop together: a worker that continued alone would wait for the others forever.
        if distribution.any_of(bool(bad), self._fitted):
            self._stop(bad)
        elif due:
            self._copy_state()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stop if a weight is not finite."""
        if self.stopped_batch is None:
            bad = self._bad_weights()
            if distribution.any_of(bool(bad), self.model):
                self._stop(bad)

    def _stop(self, bad: dict[str, Any]) -> None:
        self.stopped_batch = self._batches
        self.model.stop_training = True
        self.model._nan_guarded = "stopped"
        if self._state is not None:
            self._state.restore()
        bad = bad or {"a loss or weight of another worker": np.nan}
        values = ", ".join(f"{k} = {float(np.mean(v)):g}" for k, v in list(bad.items())[:4])
        warnings.warn(
            f"Training stopped after batch {self._batches}: {values}. The weights, masks and optimizers "
            f"of batch {self._state_batch} were restored. Lower the learning rate, clip gradients "
            "(`clipnorm`), or check the data.",
            PruningWarning,
            stacklevel=2,
        )
