"""Thresholds: prune units whose score is below a constant value, or below a changing one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.mask_ops import check_finite
from keras_ganprune.pruning.schedules.base import Schedule, family, interpolate
from keras_ganprune.utils import validation

_STATISTICS: dict[str, Callable[[np.ndarray], Any]] = {
    "std": np.std,
    "mean_abs": lambda weight: np.mean(np.abs(weight)),
    "max_abs": lambda weight: np.max(np.abs(weight)),
}


def _checked_threshold(value: Any, name: str) -> float:
    return validation.non_negative(value, name, "a finite, non-negative number")


@family.register
@dataclass(frozen=True)
class Threshold(Schedule):
    """Prune every unit whose score is below a constant threshold. A score equal to it is kept.

    Args:
        threshold: Non-negative float, in the unit of the criterion's scores (|w| for `Magnitude`).
        begin_step: Int, in optimizer steps. Defaults to 0.
        end_step: Int, in optimizer steps, the last update of the masks; None for no end. Defaults to None.

    Raises:
        InvalidArgumentError: `threshold` is not a finite, non-negative number.
        InvalidArgumentError: A step is not a non-negative int, or `begin_step` is above `end_step`.

    Example:
    >>> Threshold(0.01)(0)
    0.01

    Reference:
        [Learning both weights and connections](https://arxiv.org/abs/1506.02626), §3, where all
        connections with weights below a threshold are removed.
    """

    threshold: float
    begin_step: int = 0
    end_step: int | None = None

    quantity = "threshold"

    def __post_init__(self):
        self._set_field("threshold", _checked_threshold(self.threshold, "threshold"))
        self._check_steps()

    def __call__(self, step: int) -> float:
        """Return the threshold at a step."""
        return self.threshold if step >= self.begin_step else 0.0


@family.register
@dataclass(frozen=True)
class DynamicThreshold(Schedule):
    """A threshold that changes with the step, with the weights of each tensor, or with both.

        v(t) = v_f + (v_i - v_f) * (1 - (t - t_0) / (t_1 - t_0)) ** power
        threshold of a tensor W: v(t), or v(t) * statistic(W)

    Calling the schedule returns v(t). With a `statistic`, `targets` returns the thresholds. The
    statistic includes the zeros of pruned weights. Without them it would grow at every update, because
    the small weights are removed, and the threshold with it, until hardly any weight is kept.

    Args:
        final_threshold: Non-negative float, the value v at `end_step` (exactly) and after it. In the unit
            of the criterion's scores, or in multiples of `statistic`.
        begin_step: Int, in optimizer steps. Before it the threshold is 0, and nothing is pruned. Defaults
            to 0.
        end_step: Int, in optimizer steps, the last update of the masks. With None, the value is
            `final_threshold` from `begin_step` on, and updates do not end. With `begin_step`, there is
            one update. Defaults to None.
        initial_threshold: Non-negative float, the value v at `begin_step`. It needs an `end_step` after
            `begin_step`. Defaults to 0.0.
        power: Positive float; 1 gives a straight line. Defaults to 1.0.
        statistic: 'std' (standard deviation), 'mean_abs' (mean of |w|), 'max_abs' (largest |w|), or
            None. These have the unit of the weights, so they need the criterion `Magnitude`. Defaults to
            None.

    Raises:
        InvalidArgumentError: A threshold is not a finite, non-negative number, or `power` is not a
            positive number.
        InvalidArgumentError: A step is not a non-negative int, or `begin_step` is above `end_step`.
        InvalidArgumentError: `statistic` is not one of its choices, or `initial_threshold` is set without
            a later `end_step`.

    Example:
    >>> schedule = DynamicThreshold(0.5, begin_step=0, end_step=100, statistic="std")
    >>> schedule(50)
    0.25
    >>> schedule.targets(50, [np.array([-1.0, 1.0]), np.array([0.0, 0.0, 0.0])])
    [0.25, 0.0]

    Reference:
        [Learning both weights and connections](https://arxiv.org/abs/1506.02626), §4: "a quality
        parameter multiplied by the standard deviation of a layer's weights".
    """

    final_threshold: float
    begin_step: int = 0
    end_step: int | None = None
    initial_threshold: float = 0.0
    power: float = 1.0
    statistic: Literal["std", "mean_abs", "max_abs"] | None = None

    quantity = "threshold"

    def __post_init__(self):
        for name in ("final_threshold", "initial_threshold"):
            self._set_field(name, _checked_threshold(getattr(self, name), name))
        self._check_steps()
        self._check_power(self.power)
        validation.one_of(self.statistic, "statistic", (None, *_STATISTICS))
        if self.initial_threshold and self.end_step in (None, self.begin_step):
            raise InvalidArgumentError(
                "`initial_threshold` needs an `end_step` after `begin_step`. Received: "
                f"initial_threshold={self.initial_threshold:g}, begin_step={self.begin_step}, "
                f"end_step={self.end_step}. Leave it out, or pass a later `end_step`."
            )

    @property
    def rises_and_falls(self) -> bool:
        """Whether the threshold falls."""
        return self.initial_threshold > self.final_threshold

    def __call__(self, step: int) -> float:
        """Return the threshold at a step."""
        if step < self.begin_step:
            return 0.0
        return interpolate(
            step,
            self.begin_step,
            self.begin_step if self.end_step is None else self.end_step,
            self.initial_threshold,
            self.final_threshold,
            lambda remaining: remaining**self.power,
        )

    def targets(self, step: int, weights: Sequence[np.ndarray]) -> list[float] | None:
        """Return the threshold of each tensor, or None without a `statistic`.

        Args:
            step: Int, number of optimizer steps done.
            weights: Arrays, the masked values of the pruned weights.

        Raises:
            DivergedError: A weight is NaN or infinite.
        """
        if self.statistic is None:
            return None
        thresholds = []
        for position, weight in enumerate(weights):
            check_finite(weight, f"Weight tensor {position} (of those pruned, from 0)")
            # float64: a sum of squares overflows in half precision.
            statistic = _STATISTICS[self.statistic](np.asarray(weight, dtype=np.float64))
            thresholds.append(self(step) * float(statistic))
        return thresholds
