"""A discriminator whose density follows the balance of the game."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution, tracing
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.layers.mask_store import memory, to_numpy
from keras_ganprune.pruning.allocation import PerLayer
from keras_ganprune.pruning.schedules import ConstantSparsity

# Under which name a resumed run finds what it needs; see `MaskStore.arrays`.
_MEMORY = "balance"
# Sums of increments are not exact; their errors should not add up.
_DIGITS = 12


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float, np.integer, np.floating))


def _density(value: Any, name: str) -> float:
    if not _is_number(value) or not 0.0 < value <= 1.0:
        percent = _is_number(value) and 1 < value <= 100
        fix = f" For {value:g} %, pass {value / 100:g}." if percent else ""
        raise InvalidArgumentError(
            f"`{name}` must be a density, the share of weights that stay, in (0, 1]. "
            f"Received: {value!r}.{fix}"
        )
    return float(value)


class _Window:
    """The mean of what a log has shown since the window was cleared.

    A Keras log is the mean over the epoch so far. Where a `Mean` metric of the model is behind it, that
    is taken apart again: what was measured before counts no more, and a value that is only shown again
    does not count at all. Any other log counts as it is, in every batch.
    """

    def __init__(self, model: keras.Model, name: str):
        same = (m for m in model.metrics if m.name == name and isinstance(m, keras.metrics.Mean))
        self.metric = next(same, None)
        self.model = model
        self.clear()
        self.look()

    def clear(self) -> None:
        self.total = self.weight = 0.0

    @property
    def mean(self) -> float:
        """NaN if nothing was measured."""
        return self.total / self.weight if self.weight else math.nan

    def look(self) -> None:
        """Note what the metric holds, which is not to count."""
        self._seen = self._state()

    def _state(self) -> tuple[float, float]:
        if self.metric is None:
            return 0.0, 0.0
        tracing.sync(self.model)
        return float(to_numpy(self.metric.total)), float(to_numpy(self.metric.count))

    def add(self, shown: Any) -> None:
        """Take in the log of a batch."""
        value, weight = float(np.mean(shown)), 1.0
        before = self._seen
        self.look()
        total, count = self._seen
        # A metric of that name may be idle, and the log come from elsewhere.
        if self.metric is not None and math.isclose(
            value, total / count if count else 0.0, rel_tol=1e-4, abs_tol=1e-6
        ):
            value, weight = total, count
            if count >= before[1]:  # else it was reset in between
                value, weight = total - before[0], count - before[1]
        if weight > 0 and math.isfinite(value):
            self.total += value
            self.weight += weight


class BalanceController(Prune):
    """Moves the discriminator's density so that the balance ratio of a GAN stays in a band.

        ratio > high: the generator closes the gap too easily, so the discriminator gets denser
        ratio < low:  the discriminator is too strong, so it gets sparser

    Put it beside the `Prune` of the generator. What counts is the mean of what was measured since the
    last update; within the band, or where nothing was measured, the masks stay as they are. Weights
    come back by `mode`: 'rigl' grows where the gradient is largest and drops by score, and exchanges
    no weights besides (`RigL(decay="constant")` and 'set' do, at every move).

    Args:
        low, high: Floats, the band of the monitored log, `low < high`.
        density: Float in (0, 1], the density to begin with.
        increment: Float in (0, 1), the step of density.
        minimum, maximum: Floats in (0, 1], bounds of the density.
        monitor: Name of a log of every batch that rises as the discriminator grows too weak;
            'balance_ratio' is that of `GANModel`, the discriminator's loss may do in other models.
        begin_step: Int, optimizer steps; the discriminator stays dense before.
        target: As for `Prune`.
        frequency: As for `Prune`, in steps of the discriminator's optimizer. At least as many as lie
            between two measurements (`GANModel(balance_frequency=...)`), or some updates change nothing.
        mode: A mode that lets weights return, such as 'rigl' or 'set'.
        **kwargs: As for `Prune`.

    Attributes:
        density: Float, the density that is asked for now.

    Raises:
        InvalidArgumentError: the band is inverted, or another argument breaks its rule.

    Example:
    >>> BalanceController(low=0.45, high=0.55, density=0.5)
    <BalanceController of 'discriminator' every 100 steps: density 0.5 in [0.05, 1],
    'balance_ratio' in [0.45, 0.55]>

    Reference: [Balanced training for sparse GANs](https://arxiv.org/abs/2302.14670), `ADAPT`, relaxed.
    """

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
        target: Any = "discriminator",
        frequency: int = 100,
        mode: Any = "rigl",
        **kwargs: Any,
    ):
        for name, value in (("low", low), ("high", high)):
            if not _is_number(value):
                raise InvalidArgumentError(f"`{name}` must be a number. Received: {value!r}.")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InvalidArgumentError(
                f"`low` must be smaller than `high`. Received: low={low}, high={high}. "
                "The band that ADAPT uses is low=0.45, high=0.55."
            )
        self.minimum, self.maximum = _density(minimum, "minimum"), _density(maximum, "maximum")
        self.density = self._given = _density(density, "density")
        if not self.minimum <= self.density <= self.maximum:
            raise InvalidArgumentError(
                "`density` must be between `minimum` and `maximum`. Received: "
                f"minimum={minimum}, density={density}, maximum={maximum}."
            )
        if not _is_number(increment) or not 0.0 < increment < 1.0:
            raise InvalidArgumentError(
                f"`increment` must be a step of density, in (0, 1). Received: {increment!r}."
            )
        if not isinstance(monitor, str):
            raise InvalidArgumentError(
                f"`monitor` must be the name of a log. Received: {monitor!r}."
            )
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
            # They are those at the end of a schedule, and a density that moves has none.
            raise InvalidArgumentError(
                "Per-layer sparsities are for one total, which moves here. "
                f"Received: allocation={self._combination.allocation!r}. Use 'uniform', 'erk' or "
                "'global_ranking'."
            )
        self.low, self.high, self.increment, self.monitor = low, high, increment, monitor
        self._window: _Window | None = None
        self._seen_log = self._begun = False
        self._sparsity = 0.0

    def __repr__(self):
        done = f", {self.pruner!r}" if self.pruner else ""
        return (
            f"<BalanceController of {self.target!r} every {self.frequency} steps: density "
            f"{self.density:g} in [{self.minimum:g}, {self.maximum:g}], {self.monitor!r} in "
            f"[{self.low:g}, {self.high:g}]{done}>"
        )

    # --- what was measured -----------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._window = _Window(self.model, self.monitor)
        self._seen_log = self._begun = False

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._window.look()  # metrics were reset just now, and may hold on to what they showed

    def on_train_batch_end(self, batch, logs=None):
        if logs and self.monitor in logs:
            self._seen_log = True
            self._window.add(logs[self.monitor])
        elif not self._seen_log:
            raise InvalidArgumentError(
                unknown_name("log in `monitor`:", self.monitor, logs or ())
                + " It must be a log of every batch; `GANModel` logs 'balance_ratio' unless "
                "balance_frequency=0."
            )
        super().on_train_batch_end(batch, logs)
        self._remember()

    # --- what follows from it --------------------------------------------------------------------

    def _start(self):
        saved = memory(self._targets[0][1]).arrays.get(_MEMORY)
        pruned = any(store.stamp for store in self._stores())
        self.density = self._given
        # One that is told to begin with another density does.
        if saved is not None and pruned and saved[0] == self._given:
            _, density, sparsity, self._window.total, self._window.weight = map(float, saved)
            if sparsity != self.pruner.sparsity:
                # The masks are others than those of that density: a guard has put older ones back.
                density = min(max(1.0 - self.pruner.sparsity, self.minimum), self.maximum)
            self.density, self._sparsity, self._begun = density, self.pruner.sparsity, True
        super()._start()

    def _remember(self) -> None:
        """Keep with the masks what a resumed run needs."""
        if self._begun:
            # Not the sparsity now: a guard may have changed the masks since.
            numbers = [self._given, self.density, self._sparsity]
            numbers += [self._window.total, self._window.weight]
            memory(self._targets[0][1]).arrays[_MEMORY] = np.array(numbers, dtype=np.float64)

    def _due(self, step):
        waiting = self._postponed
        due = super()._due(step)
        if due is None or not self._begun:
            return due
        if waiting is not None:
            return due[0], waiting[1]  # decided already, but the gradients were not there
        density = self._next_density()
        if density != self.density:
            return due[0], 1.0 - density
        # Nothing to do is done, too: the next `fit` must not make this update again, and the next
        # update wants gradients of its own.
        for store in self._stores():
            store.stamp = self._stamp(due[0])
        if self._sampler is not None:
            self._sampler.reset()
        self._window.clear()
        return None

    def _update(self, due, target, harden=False):
        done = super()._update(due, target, harden)
        if done:
            # Not before: an update may wait for its gradients, or find that training has diverged.
            self.density = round(1.0 - target, _DIGITS)
            self._sparsity, self._begun = self.pruner.sparsity, True
            self._window.clear()
            self._remember()
        return done

    def _target(self, due):
        return 1.0 - self.density

    def _progress(self, due):
        # The end of the cosine: modes that exchange less and less weights exchange none, so that a move
        # changes the density and nothing else. The number that may return under 'splice' stays.
        return 1.0 if self._combination.mode.needs_budget else 0.0

    def _next_density(self) -> float:
        """Return the density that the measured ratio asks for."""
        ratio = float(distribution.broadcast(np.float64(self._window.mean), self.model))
        if ratio > self.high:
            return min(self.density + self.increment, self.maximum)
        if ratio < self.low:
            return max(self.density - self.increment, self.minimum)
        return self.density
