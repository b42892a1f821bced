"""`BalanceController`: the density of the discriminator follows the balance of the two networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks._density_rule import density_rule, valid_density
from keras_ganprune.callbacks._log_window import LogWindow
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.layers.mask_store import memory
from keras_ganprune.pruning.allocation import PerLayer
from keras_ganprune.pruning.modes import Mode
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.pruning.schedules import ConstantSparsity

# The name under which a resumed run finds its numbers; see `MaskStore.arrays`.
_MEMORY = "balance"
# Densities are rounded, so that the errors of repeated additions do not add up.
_DIGITS = 12


@dataclass
class _BalanceState:
    """What a controller knows of the running `fit`.

    Attributes:
        window: The measurements since the last update.
        log_seen: Whether the monitored log was in the logs.
        begun: Whether the first update was made, in this run or in the one that it resumes.
        sparsity: The sparsity that the last update achieved.
    """

    window: LogWindow
    log_seen: bool = False
    begun: bool = False
    sparsity: float = 0.0


class BalanceController(Prune):
    """Moves the density of the discriminator so that the balance ratio of a GAN stays in a band.

        ratio > high: the generator closes the gap too easily, so the discriminator gets denser
        ratio < low:  the discriminator is too strong, so it gets sparser

    Use it beside the `Prune` of the generator. The ratio is the mean of the values measured since the
    last mask update. Inside the band, or without a measurement, the masks stay as they are.

    A move changes the density only. With 'rigl', weights return where the gradient is largest, and are
    pruned by score. `RigL(decay="constant")` and 'set' also exchange weights at each move.

    Args:
        low: Float, lower end of the band. Defaults to 0.45.
        high: Float above `low`, upper end of the band. Defaults to 0.55.
        density: Float in (0, 1], the initial density. Defaults to 0.5.
        increment: Float in (0, 1), the step of density per update. Defaults to 0.05.
        minimum: Float in (0, 1], the lowest density. Defaults to 0.05.
        maximum: Float in (0, 1], the highest density. Defaults to 1.
        monitor: Name of a log that is written in every batch and rises as the discriminator becomes too
            weak. `GANModel` logs 'balance_ratio'; in other models, use the loss of the discriminator.
            Defaults to 'balance_ratio'.
        begin_step: Non-negative int, optimizer step of the first update. The discriminator is dense
            before it. Defaults to 0.
        target: The network to prune, as for `Prune`. Defaults to 'discriminator'.
        frequency: Positive int, steps of the discriminator's optimizer between two updates. It should be
            at least the number of steps between two measurements
            (`GANModel(balance_frequency=...)`); otherwise some updates change nothing. Defaults to 100.
        mode: 'rigl', 'set' or 'splice', or a `Mode` that holds its masks and lets weights return.
            Defaults to 'rigl'.
        **kwargs: Further arguments of `Prune`.

    Attributes:
        density: Float, the density that is requested now.

    Raises:
        InvalidArgumentError: A number is out of its range, or `low` is not below `high`.
        InvalidArgumentError: `density` is not between `minimum` and `maximum`.
        InvalidArgumentError: `mode` does not let weights return, or `allocation` is per layer.
        InvalidArgumentError: The first batch has no log named `monitor`.
        InvalidArgumentError, UnsupportedLayerError, UnbuiltModelError: As for `Prune`.

    Example:
    >>> BalanceController(low=0.45, high=0.55, density=0.5)
    <BalanceController of 'discriminator' every 100 steps: density 0.5 in [0.05, 1],
    'balance_ratio' in [0.45, 0.55]>

    Reference: [Balanced training for sparse GANs](https://arxiv.org/abs/2302.14670), the relaxed `ADAPT`.
    """

    model: keras.Model  # set by Keras before any hook runs

    def __init__(
        self,
        low: float = 0.45,
        high: float = 0.55,
        density: float = 0.5,
        increment: float = 0.05,
        minimum: float = 0.05,
        maximum: float = 1.0,
        *,
        monitor: str = "balance_ratio",
        begin_step: int = 0,
        target: str | keras.layers.Layer | Sequence[Any] | None = "discriminator",
        frequency: int = 100,
        mode: Literal["rigl", "set", "splice"] | Mode = "rigl",
        **kwargs: Any,
    ):
        self.density = self._initial = valid_density(density, "density")
        self._rule = density_rule(low, high, self.density, increment, minimum, maximum)
        self.low, self.high = self._rule.low, self._rule.high
        self.minimum, self.maximum = self._rule.minimum, self._rule.maximum
        self.increment = self._rule.increment
        if not isinstance(monitor, str):
            raise InvalidArgumentError(
                f"`monitor` must be the name of a log. Received: {monitor!r}."
            )
        self.monitor = monitor
        super().__init__(
            ConstantSparsity(1.0 - self.density, begin_step=begin_step),
            target,
            frequency,
            mode=mode,
            **kwargs,
        )
        if not self._combination.mode.regrows or not self._combination.mode.enforced:
            raise InvalidArgumentError(
                "`mode` must hold its masks and let weights return: 'rigl', 'set' or 'splice'. "
                f"Received: {self._combination.mode!r}."
            )
        if isinstance(self._combination.allocation, PerLayer):
            # Per-layer sparsities are those at the end of a schedule; a moving density has no end.
            raise InvalidArgumentError(
                "`allocation` must not be per layer: those sparsities belong to one total, and the total "
                f"moves here. Received: {self._combination.allocation!r}. Use 'uniform', 'erk' or "
                "'global_ranking'."
            )
        self._balance: _BalanceState | None = None

    def __repr__(self):
        done = f", {self.pruner!r}" if self.pruner else ""
        return (
            f"<BalanceController of {self.target!r} every {self.frequency} steps: density "
            f"{self.density:g} in [{self.minimum:g}, {self.maximum:g}], {self.monitor!r} in "
            f"[{self.low:g}, {self.high:g}]{done}>"
        )

    # --- measurements ----------------------------------------------------------------------------

    @property
    def _running(self) -> _BalanceState:
        """The state of the running `fit`."""
        if self._balance is None:
            raise InvalidArgumentError(
                "`BalanceController` works inside `fit`: `on_train_begin` must be called before other "
                "hooks."
            )
        return self._balance

    def on_train_begin(self, logs=None):
        """Begin a new window of measurements."""
        super().on_train_begin(logs)
        self._balance = _BalanceState(LogWindow(self.model, self.monitor))

    def on_epoch_begin(self, epoch, logs=None):
        """Ignore what a metric still shows of the last epoch."""
        super().on_epoch_begin(epoch, logs)
        self._running.window.skip()

    def on_train_batch_end(self, batch, logs=None):
        """Take in the measurement of a batch, and update the masks if that is due."""
        state = self._running
        if logs and self.monitor in logs:
            state.log_seen = True
            state.window.add(logs[self.monitor])
        elif not state.log_seen:
            raise InvalidArgumentError(
                unknown_name("log in `monitor`:", self.monitor, logs or ())
                + " It must be a log of every batch; `GANModel` logs 'balance_ratio' unless "
                "balance_frequency=0."
            )
        super().on_train_batch_end(batch, logs)
        self._remember()

    # --- steps of `Prune` that differ here -------------------------------------------------------

    def _start(self):
        state = self._running
        pruner = cast(Pruner, self.pruner)  # made before the run starts
        saved = memory(self._targets[0][1]).arrays.get(_MEMORY)
        pruned = any(store.stamp for store in self._stores())
        self.density = self._initial
        # A controller with another initial density does not resume, but begins with its own.
        if saved is not None and pruned and saved[0] == self._initial:
            _, density, sparsity, state.window.total, state.window.weight = map(float, saved)
            if sparsity != pruner.sparsity:
                # The masks do not belong to that density: a guard has restored older ones.
                density = min(max(1.0 - pruner.sparsity, self.minimum), self.maximum)
            self.density, state.sparsity, state.begun = density, pruner.sparsity, True
        super()._start()

    def _remember(self) -> None:
        """Save the numbers that a resumed run needs with the masks."""
        state = self._running
        if state.begun:
            # The sparsity of the last update, not of now: a guard may have changed the masks since.
            numbers = [self._initial, self.density, state.sparsity]
            numbers += [state.window.total, state.window.weight]
            memory(self._targets[0][1]).arrays[_MEMORY] = np.array(numbers, dtype=np.float64)

    def _due(self, step):
        state = self._running
        postponed = self._postponed
        due = super()._due(step)
        if due is None or not state.begun:
            return due
        if postponed is not None:
            return due[0], postponed[1]  # decided before, but the gradients were missing
        # All workers take the decision of the first one.
        ratio = float(distribution.broadcast(np.array(state.window.mean), self.model))
        density = self._rule.next_density(self.density, ratio)
        if density != self.density:
            return due[0], 1.0 - density
        # An update without a change counts as made: the next `fit` must not repeat it, and the next
        # update needs gradients of its own.
        for store in self._stores():
            store.stamp = self._stamp(due[0])
        if self._sampler is not None:
            self._sampler.reset()
        state.window.clear()
        return None

    def _update(self, due, target, harden=False):
        done = super()._update(due, target, harden)
        if done:
            # Only now: an update may wait for its gradients, or find that training has diverged.
            state = self._running
            self.density = round(1.0 - target, _DIGITS)
            state.sparsity, state.begun = cast(Pruner, self.pruner).sparsity, True
            state.window.clear()
            self._remember()
        return done

    def _target(self, due):
        return 1.0 - self.density

    def _progress(self, due):
        # 1 is the end of the cosine. Modes whose exchange decays then exchange no weights, so that a
        # move changes the density only. 'splice' needs 0: the number of weights that may return stays.
        return 1.0 if self._combination.mode.needs_budget else 0.0
