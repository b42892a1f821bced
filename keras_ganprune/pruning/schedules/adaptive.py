"""Sparsity that rises while a monitored log stays good."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.schedules.base import Schedule, family
from keras_ganprune.utils import validation
from keras_ganprune.utils.validation import validate_sparsity


@family.register
@dataclass(frozen=True)
class AdaptiveSparsity(Schedule):
    """Raise the sparsity as long as a monitored log stays within a tolerance of its baseline.

    This object holds the settings. `Prune` reads the log at the end of epochs and decides. If the log is
    within the tolerance, the sparsity rises by `increment`. If not, the last good state is restored, and a
    smaller rise is tried, down to `minimum_increment`. Training ends with the highest good sparsity. The
    schedule itself has no update steps, and its value is always 0.

    Args:
        monitor: Name of a log, such as 'generator_loss'.
        tolerance: Non-negative float, largest distance of the log from the baseline: a share of
            |baseline|, or with `relative=False` in the unit of the log. Defaults to 0.1.
        increment: Float in (0, 1), the first rise of the sparsity. Defaults to 0.1.
        begin_step: Int, in optimizer steps. Before it nothing is pruned. Defaults to 0.
        maximum: Float in (0, 1), the highest sparsity that is tried. Defaults to 0.95.
        minimum_increment: Float in (0, increment], the smallest rise that is tried. Defaults to 0.02.
        direction: 'min' (low values are good), 'max' (high values are good) or 'target' (values near the
            baseline are good, such as the accuracy of a discriminator). Defaults to 'min'.
        relative: Bool, whether `tolerance` is a share of |baseline|. Defaults to True.
        recovery_epochs: Positive int, epochs of training between a rise and the decision. Defaults to 1.
        baseline: Float, in the unit of the log, or None for the value of the log when pruning begins.
            Defaults to None.

    Raises:
        InvalidArgumentError: `monitor` is not a text, or `direction` is not one of its choices.
        InvalidArgumentError: A number is not in its range, or `minimum_increment` is above `increment`.
        InvalidArgumentError: `baseline` is 0 and `relative` is True, so that nothing is tolerated.

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
    direction: Literal["min", "max", "target"] = "min"
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
            "tolerance": validation.non_negative(
                self.tolerance, "tolerance", "a finite, non-negative number"
            ),
            "increment": validation.number(
                self.increment, "increment", "a sparsity in (0, 1)", lambda v: 0 < v < 1
            ),
            "minimum_increment": validation.positive(self.minimum_increment, "minimum_increment"),
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
            self._set_field(name, value)
        self._check_steps()
        validation.one_of(self.direction, "direction", ("min", "max", "target"))
        validation.boolean(self.relative, "relative")
        if self.maximum == 0.0:
            raise InvalidArgumentError(
                "`maximum` must be larger than 0. Received: 0.0, with which nothing would be pruned."
            )
        if self.minimum_increment > self.increment:
            raise InvalidArgumentError(
                "`minimum_increment` must not be larger than `increment`. Received: "
                f"minimum_increment={self.minimum_increment:g}, increment={self.increment:g}. "
                "Pass a smaller `minimum_increment`."
            )
        if self.relative and self.baseline == 0.0:
            raise InvalidArgumentError(
                "A `tolerance` relative to a `baseline` of 0 tolerates nothing. "
                "Pass it in the unit of the log, with `relative=False`."
            )

    @property
    def final(self) -> float:
        """The highest sparsity that may be reached. The sparsities of a `PerLayer` refer to it."""
        return self.maximum

    def __call__(self, step: int) -> float:
        """Return 0."""
        return 0.0

    def is_update_step(self, step: int, frequency: int) -> bool:
        """Return False: `Prune` decides at the end of epochs."""
        return False

    def latest_update_step(self, after: int, until: int, frequency: int) -> int | None:
        """Return None: there are no update steps."""
        return None

    def holds(self, value: float, baseline: float) -> bool:
        """Return whether a value of the log is within the tolerance. NaN and infinity never are.

        Args:
            value: Float, value of the log.
            baseline: Float, the value to compare with.

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
