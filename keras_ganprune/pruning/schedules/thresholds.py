"""Thresholds: prune what scores below a fixed value, or below one that moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.mask_ops import check_finite
from keras_ganprune.pruning.schedules.base import Schedule, _family, interpolate
from keras_ganprune.utils import validation

_STATISTICS: dict[str, Callable[[np.ndarray], Any]] = {
    "std": np.std,
    "mean_abs": lambda weight: np.mean(np.abs(weight)),
    "max_abs": lambda weight: np.max(np.abs(weight)),
}


def _threshold(value: Any, name: str) -> float:
    return validation.number(value, name, "a finite, non-negative number", lambda v: v >= 0)


@_family.register
@dataclass(frozen=True)
class Threshold(Schedule):
    """Prune every unit whose score is below a fixed threshold; one equal to it is kept.

    Args:
        threshold: Non-negative float, in units of the criterion's scores (|w| for `Magnitude`).
        begin_step: Int, optimizer steps.
        end_step: Int or None, the last step at which masks are updated.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> Threshold(0.01)(0)
    0.01
    """

    threshold: float
    begin_step: int = 0
    end_step: int | None = None

    quantity = "threshold"

    def __post_init__(self):
        object.__setattr__(self, "threshold", _threshold(self.threshold, "threshold"))
        self._validate_range()

    def __call__(self, step):
        return self.threshold if step >= self.begin_step else 0.0


@_family.register
@dataclass(frozen=True)
class DynamicThreshold(Schedule):
    """A threshold that moves with the step, with the weights of each tensor, or with both.

        v(t) = v_f + (v_i - v_f) * (1 - (t - t_0) / (t_1 - t_0)) ** power
        threshold of a tensor W: v(t), or v(t) * statistic(W)

    The statistic is of all stored entries, the zeros of pruned ones included. Of the kept ones
    alone it would grow with every update, as the small ones go, and the threshold with it, until
    hardly any weight is left.

    Args:
        final_threshold: Non-negative float, in units of the criterion's scores, or of `statistic`
            (unitless). Reached exactly at `end_step` and kept from then on.
        begin_step: Int, optimizer steps; no unit is below the threshold, 0, before it.
        end_step: Int or None, the last step at which masks are updated. None: `final_threshold`
            from `begin_step` on, updated for ever; equal to `begin_step`: once.
        initial_threshold: Non-negative float, the value at `begin_step`. Only where
            `begin_step < end_step`.
        power: Positive float, unitless; 1 is a straight line.
        statistic: None, 'std' (standard deviation), 'mean_abs' (mean |w|) or 'max_abs' (largest
            |w|). These are in units of the weights: for criteria whose scores are, such as
            `Magnitude`.

    Returns (from `__call__`): Float, v(t). With a `statistic`, `targets` gives the thresholds.

    Raises:
        InvalidArgumentError (a ValueError): a bad argument.
        DivergedError: `targets` received NaN or infinite weights.

    Example:
    >>> schedule = DynamicThreshold(0.5, begin_step=0, end_step=100, statistic="std")
    >>> schedule(50)
    0.25
    >>> schedule.targets(50, [np.array([-1.0, 1.0]), np.array([0.0, 0.0, 0.0])])
    [0.25, 0.0]

    Reference: [Learning both weights and connections](https://arxiv.org/abs/1506.02626), Section 4:
    "a quality parameter multiplied by the standard deviation of a layer's weights".
    """

    final_threshold: float
    begin_step: int = 0
    end_step: int | None = None
    initial_threshold: float = 0.0
    power: float = 1.0
    statistic: str | None = None

    quantity = "threshold"

    def __post_init__(self):
        for name in ("final_threshold", "initial_threshold"):
            object.__setattr__(self, name, _threshold(getattr(self, name), name))
        self._validate_range()
        self._set_power()
        validation.one_of(self.statistic, "statistic", (None, *_STATISTICS))
        if self.initial_threshold and self.end_step in (None, self.begin_step):
            raise InvalidArgumentError(
                "`initial_threshold` needs a ramp, from `begin_step` to a later `end_step`. Received: "
                f"initial_threshold={self.initial_threshold:g}, begin_step={self.begin_step}, "
                f"end_step={self.end_step}. Leave it out, or give a later `end_step`."
            )

    @property
    def rises_and_falls(self):
        return self.initial_threshold > self.final_threshold

    def __call__(self, step):
        if step < self.begin_step:
            return 0.0
        return interpolate(
            step,
            self.begin_step,
            self.begin_step if self.end_step is None else self.end_step,
            self.initial_threshold,
            self.final_threshold,
            lambda left: left**self.power,
        )

    def targets(self, step, weights):
        if self.statistic is None:
            return None
        thresholds = []
        for position, weight in enumerate(weights):
            check_finite(weight, f"Weight tensor {position} (of those pruned, from 0)")
            # Half precision overflows in a sum of squares.
            statistic = _STATISTICS[self.statistic](np.asarray(weight, dtype=np.float64))
            thresholds.append(self(step) * float(statistic))
        return thresholds
