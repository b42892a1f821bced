"""Sparsity that follows what training measures."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.mask_ops import validate_sparsity
from keras_ganprune.pruning.schedules.base import Schedule, _family
from keras_ganprune.utils import validation


@_family.register
@dataclass(frozen=True)
class AdaptiveSparsity(Schedule):
    """Raise sparsity for as long as a monitored log stays within tolerance of its baseline.

    These are the settings; `Prune` reads the log at the end of epochs and decides. While it holds,
    sparsity rises by `increment`; when it does not, the last good state is restored and a smaller
    rise is tried, down to `minimum_increment`. The highest sparsity that held is what is left. So
    the schedule has no update steps of its own, and its value is always 0.

    Args:
        monitor: Name of a log, such as 'generator_loss'.
        tolerance: Non-negative float, how far the log may be from the baseline: a share of
            |baseline|, or with `relative=False` in units of the log.
        increment: Float in (0, 1), the first rise of sparsity.
        begin_step: Int, optimizer steps; nothing is pruned before.
        maximum: Float in (0, 1), the highest sparsity to try.
        minimum_increment: Float in (0, increment], the smallest rise that is tried.
        direction: 'min' (lower is better), 'max' (higher is better) or 'target' (too high is as bad
            as too low, such as the accuracy of a discriminator).
        relative: Bool, what `tolerance` is measured in.
        recovery_epochs: Positive int, epochs of training after a rise, before it is judged.
        baseline: Float, in units of the log, or None for its value when pruning begins.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> schedule = AdaptiveSparsity("generator_loss", tolerance=0.1)
    >>> schedule.holds(1.05, baseline=1.0), schedule.holds(1.2, baseline=1.0)
    (True, False)
    """

    monitor: str
    tolerance: float = 0.1
    increment: float = 0.1
    begin_step: int = 0
    maximum: float = 0.95
    minimum_increment: float = 0.02
    direction: str = "min"
    relative: bool = True
    recovery_epochs: int = 1
    baseline: float | None = None

    adaptive = True

    def __post_init__(self):
        if not isinstance(self.monitor, str) or not self.monitor:
            raise InvalidArgumentError(
                "`monitor` must be the name of a log, such as 'generator_loss'. "
                f"Received: {self.monitor!r}."
            )
        values = {
            "tolerance": validation.number(
                self.tolerance, "tolerance", "a finite, non-negative number", lambda v: v >= 0
            ),
            "increment": validation.number(
                self.increment, "increment", "a sparsity in (0, 1)", lambda v: 0 < v < 1
            ),
            "minimum_increment": validation.number(
                self.minimum_increment, "minimum_increment", "a positive number", lambda v: v > 0
            ),
            "maximum": validate_sparsity(self.maximum, "maximum"),
            "recovery_epochs": validation.positive_int(
                self.recovery_epochs, "recovery_epochs", "in epochs"
            ),
        }
        if self.baseline is not None:
            values["baseline"] = validation.number(
                self.baseline, "baseline", "None or a finite number"
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._validate_range()
        validation.one_of(self.direction, "direction", ("min", "max", "target"))
        if not isinstance(self.relative, bool):
            raise InvalidArgumentError(
                f"`relative` must be True or False. Received: {self.relative!r}."
            )
        if self.maximum == 0.0:
            raise InvalidArgumentError(
                "`maximum` must be larger than 0. Received: 0.0, with which nothing is ever pruned."
            )
        if self.minimum_increment > self.increment:
            raise InvalidArgumentError(
                "`minimum_increment` must not be larger than `increment`. Received: "
                f"minimum_increment={self.minimum_increment:g}, increment={self.increment:g}. "
                "Give a smaller `minimum_increment`."
            )
        if self.relative and self.baseline == 0.0:
            raise InvalidArgumentError(
                "A `tolerance` relative to a `baseline` of 0 allows nothing. "
                "Give it in units of the log, with `relative=False`."
            )

    @property
    def final(self):
        """The highest sparsity that it may end with; sparsities given layer by layer are those at it."""
        return self.maximum

    def __call__(self, step):
        return 0.0

    def is_update_step(self, step, frequency):
        return False

    def latest_update_step(self, after, until, frequency):
        return None

    def holds(self, value: float, baseline: float) -> bool:
        """Return whether a value of the log is good enough; NaN and infinity never are.

        Args:
            value: Float, what was logged.
            baseline: Float, what it is compared to.

        Example:
        >>> accuracy = AdaptiveSparsity("accuracy", 0.05, direction="target", relative=False)
        >>> [accuracy.holds(value, baseline=0.75) for value in (0.65, 0.72, 0.79, 0.9)]
        [False, True, True, False]
        """
        if not (math.isfinite(value) and math.isfinite(baseline)):
            return False
        margin = self.tolerance * abs(baseline) if self.relative else self.tolerance
        low = -math.inf if self.direction == "min" else baseline - margin
        high = math.inf if self.direction == "max" else baseline + margin
        return bool(low <= value <= high)
