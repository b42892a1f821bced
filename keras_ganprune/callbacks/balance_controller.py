"""`BalanceController`: the density of the discriminator follows the balance of the two networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks._density_rule import density_rule, valid_density
from keras_ganprune.callbacks._log_window import LogWindow
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.pruning_run import PruningRun, Target
from keras_ganprune.callbacks.target_networks import TargetNetworks
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.layers.mask_store import memory
from keras_ganprune.pruning.allocation import PerLayer
from keras_ganprune.pruning.modes import Mode
from keras_ganprune.pruning.schedules import ConstantSparsity

# The name under which a resumed run finds its numbers; see `MaskStore.arrays`.
_MEMORY = "balance"
# Densities are rounded, so that the errors of repeated additions do not add up.
_DIGITS = 12


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
        self.density = self.initial_density = valid_density(density, "density")
        self.rule = density_rule(low, high, self.density, increment, minimum, maximum)
        self.low, self.high = self.rule.low, self.rule.high
        self.minimum, self.maximum = self.rule.minimum, self.rule.maximum
        self.increment = self.rule.increment
        if not isinstance(monitor, str) or not monitor:
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
        if not self.settings.mode.regrows or not self.settings.mode.enforced:
            raise InvalidArgumentError(
                "`mode` must hold its masks and let weights return: 'rigl', 'set' or 'splice'. "
                f"Received: {self.settings.mode!r}."
            )
        if isinstance(self.settings.allocation, PerLayer):
            # Per-layer sparsities are those at the end of a schedule; a moving density has no end.
            raise InvalidArgumentError(
                "`allocation` must not be per layer: those sparsities belong to one total, and the total "
                f"moves here. Received: {self.settings.allocation!r}. Use 'uniform', 'erk' or "
                "'global_ranking'."
            )

    def __repr__(self):
        done = f", {self.pruner!r}" if self.pruner else ""
        return (
            f"<BalanceController of {self.target!r} every {self.frequency} steps: density "
            f"{self.density:g} in [{self.minimum:g}, {self.maximum:g}], {self.monitor!r} in "
            f"[{self.low:g}, {self.high:g}]{done}>"
        )

    def _make_run(self, targets: TargetNetworks) -> PruningRun:
        return _BalanceRun(self, targets, self._say)


class _BalanceRun(PruningRun):
    """Prunes the discriminator during one `fit`, at the density that the rule gives.

    Args:
        controller: The `BalanceController`; its `density` is updated.
        targets: The networks to prune.
        say: Function that prints a line for the user.
    """

    def __init__(
        self, controller: BalanceController, targets: TargetNetworks, say: Callable[[str], None]
    ):
        super().__init__(controller, targets, say)
        self.controller = controller
        self._window = LogWindow(self.model, controller.monitor)
        self._log_seen = False
        # Whether the first update was made, in this run or in the one that it resumes.
        self._begun = False
        # The sparsity that the last update achieved.
        self._sparsity = 0.0

    # --- measurements ----------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Ignore what a metric still shows of the last epoch."""
        super().begin_epoch()
        self._window.skip()

    def end_batch(self, batch: int, logs: dict[str, Any] | None) -> None:
        """Take in the measurement of a batch, and update the masks if that is due."""
        monitor = self.controller.monitor
        if logs and monitor in logs:
            self._log_seen = True
            self._window.add(logs[monitor])
        elif not self._log_seen:
            raise InvalidArgumentError(
                unknown_name("log in `monitor`:", monitor, logs or ())
                + " It must be a log of every batch; `GANModel` logs 'balance_ratio' unless "
                "balance_frequency=0."
            )
        super().end_batch(batch, logs)
        self._remember()

    # --- steps of a run that differ here ---------------------------------------------------------

    def start(self) -> None:
        """Continue with the density of an earlier run, if the masks belong to one."""
        controller = self.controller
        saved = memory(self.targets.first).arrays.get(_MEMORY)
        pruned = any(store.stamp for store in self.stores)
        controller.density = controller.initial_density
        # A controller with another initial density does not resume, but begins with its own.
        if saved is not None and pruned and saved[0] == controller.initial_density:
            _, density, sparsity, self._window.total, self._window.weight = map(float, saved)
            if sparsity != self.pruner.sparsity:
                # The masks do not belong to that density: a guard has restored older ones.
                present = 1.0 - self.pruner.sparsity
                density = min(max(present, controller.minimum), controller.maximum)
            controller.density, self._sparsity, self._begun = density, self.pruner.sparsity, True
        super().start()

    def due_update(self, step: int) -> tuple[int, Target] | None:
        """Return the update that is due, unless the ratio asks for no change."""
        postponed = self.postponed
        due = super().due_update(step)
        if due is None or not self._begun:
            return due
        if postponed is not None:
            return due[0], postponed[1]  # decided before, but the gradients were missing
        # All workers take the decision of the first one.
        ratio = float(distribution.broadcast(np.array(self._window.mean), self.model))
        density = self.controller.rule.next_density(self.controller.density, ratio)
        if density != self.controller.density:
            return due[0], 1.0 - density
        # An update without a change counts as made: the next `fit` must not repeat it, and the next
        # update needs gradients of its own.
        for store in self.stores:
            store.stamp = self.controller.settings.stamp(due[0])
        if self.targets.sampler is not None:
            self.targets.sampler.reset()
        self._window.clear()
        return None

    def update(self, due: int, target: Any, harden: bool = False) -> bool:
        """Update the masks, and begin a new window."""
        updated = super().update(due, target, harden)
        if updated:
            # Only now: an update may wait for its gradients, or find that training has diverged.
            self.controller.density = round(1.0 - target, _DIGITS)
            self._sparsity, self._begun = self.pruner.sparsity, True
            self._window.clear()
            self._remember()
        return updated

    def target_at(self, due: int) -> Target:
        """Return the requested sparsity."""
        return 1.0 - self.controller.density

    def progress_at(self, due: int) -> float:
        """Return 1, the end of the cosine: modes whose exchange decays then exchange no weights.

        So a move changes the density only. 'splice' needs 0: the number of weights that may return stays.
        """
        return 1.0 if self.controller.settings.mode.needs_budget else 0.0

    def _remember(self) -> None:
        """Save the numbers that a resumed run needs with the masks."""
        if self._begun:
            # The sparsity of the last update, not of now: a guard may have changed the masks since.
            numbers = [self.controller.initial_density, self.controller.density, self._sparsity]
            numbers += [self._window.total, self._window.weight]
            memory(self.targets.first).arrays[_MEMORY] = np.array(numbers, dtype=np.float64)
