"""A discriminator whose density follows the balance of the game."""

from __future__ import annotations

import math
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.backend import distribution, tracing
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.pruning_run import PruningRun
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
        self.density = self._initial_density = _density(density, "density")
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
        if not self.settings.mode.regrows or not self.settings.mode.enforced:
            raise InvalidArgumentError(
                "`mode` must hold its masks and let weights return: 'rigl', 'set' or 'splice'. "
                f"Received: {self.settings.mode!r}."
            )
        if isinstance(self.settings.allocation, PerLayer):
            # They are those at the end of a schedule, and a density that moves has none.
            raise InvalidArgumentError(
                "Per-layer sparsities are for one total, which moves here. "
                f"Received: allocation={self.settings.allocation!r}. Use 'uniform', 'erk' or "
                "'global_ranking'."
            )
        self.low, self.high, self.increment, self.monitor = low, high, increment, monitor

    def __repr__(self):
        done = f", {self.pruner!r}" if self.pruner else ""
        return (
            f"<BalanceController of {self.target!r} every {self.frequency} steps: density "
            f"{self.density:g} in [{self.minimum:g}, {self.maximum:g}], {self.monitor!r} in "
            f"[{self.low:g}, {self.high:g}]{done}>"
        )

    def _make_run(self, targets):
        return _BalanceRun(self, targets, self._say)


class _BalanceRun(PruningRun):
    """Prunes the discriminator during one `fit`, at the density that the balance ratio asks for.

    Args:
        controller: The `BalanceController`; its `density` is moved.
        targets: The networks to prune.
        say: Function that prints a line for the user.
    """

    def __init__(self, controller: BalanceController, targets, say):
        super().__init__(controller, targets, say)
        self.balance = controller
        self._window = _Window(self.model, controller.monitor)
        self._seen_log = False
        # Whether the density has been applied, and the sparsity that it gave.
        self._begun = False
        self._sparsity = 0.0

    # --- what was measured -----------------------------------------------------------------------

    def begin_epoch(self):
        super().begin_epoch()
        self._window.look()  # metrics were reset just now, and may still show their last value

    def end_batch(self, batch, logs):
        monitor = self.balance.monitor
        if logs and monitor in logs:
            self._seen_log = True
            self._window.add(logs[monitor])
        elif not self._seen_log:
            raise InvalidArgumentError(
                unknown_name("log in `monitor`:", monitor, logs or ())
                + " It must be a log of every batch; `GANModel` logs 'balance_ratio' unless "
                "balance_frequency=0."
            )
        super().end_batch(batch, logs)
        self._remember()

    # --- what follows from it --------------------------------------------------------------------

    def start(self):
        balance = self.balance
        saved = memory(self.targets.first).arrays.get(_MEMORY)
        pruned = any(store.stamp for store in self.stores)
        balance.density = balance._initial_density
        # A controller with another initial density begins with that.
        if saved is not None and pruned and saved[0] == balance._initial_density:
            _, density, sparsity, self._window.total, self._window.weight = map(float, saved)
            if sparsity != self.pruner.sparsity:
                # The masks do not have that density: a guard has restored older ones.
                density = min(max(1.0 - self.pruner.sparsity, balance.minimum), balance.maximum)
            balance.density, self._sparsity, self._begun = density, self.pruner.sparsity, True
        super().start()

    def _remember(self) -> None:
        """Keep with the masks what a resumed run needs."""
        if self._begun:
            # Not the sparsity now: a guard may have changed the masks since.
            numbers = [self.balance._initial_density, self.balance.density, self._sparsity]
            numbers += [self._window.total, self._window.weight]
            memory(self.targets.first).arrays[_MEMORY] = np.array(numbers, dtype=np.float64)

    def due_update(self, step):
        postponed = self.postponed
        due = super().due_update(step)
        if due is None or not self._begun:
            return due
        if postponed is not None:
            return due[0], postponed[1]  # decided already, but the gradients were missing
        balance, density = self.balance, self._next_density()
        if density != balance.density:
            return due[0], 1.0 - density
        # An update that changes nothing counts as made: the next `fit` must not make it again, and the
        # next update needs gradients of its own.
        for store in self.stores:
            store.stamp = balance.settings.stamp(due[0])
        if self.targets.sampler is not None:
            self.targets.sampler.reset()
        self._window.clear()
        return None

    def update(self, due, target, harden=False):
        """Update the masks, and note the density that they have then."""
        updated = super().update(due, target, harden)
        if updated:
            # Not before: an update may wait for its gradients, or find that training has diverged.
            self.balance.density = round(1.0 - cast(float, target), _DIGITS)
            self._sparsity, self._begun = self.pruner.sparsity, True
            self._window.clear()
            self._remember()
        return updated

    def target_at(self, due):
        return 1.0 - self.balance.density

    def progress_at(self, due):
        # The end of the cosine: modes that exchange fewer weights over time exchange none, so that an update
        # changes the density and nothing else. The number that may return under 'splice' stays.
        return 1.0 if self.balance.settings.mode.needs_budget else 0.0

    def _next_density(self) -> float:
        """Return the density that the measured ratio asks for."""
        balance = self.balance
        ratio = float(distribution.broadcast(np.array(self._window.mean), self.model))
        if ratio > balance.high:
            return min(balance.density + balance.increment, balance.maximum)
        if ratio < balance.low:
            return max(balance.density - balance.increment, balance.minimum)
        return balance.density
