"""The schedules that the demo knows by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from keras_ganprune.pruning import schedules
from keras_ganprune.pruning.schedules import Schedule

# Schedules with a threshold instead of a sparsity, and their default threshold: a value of |w|, or a multiple
# of the standard deviation of a tensor.
THRESHOLDS = {"threshold": 0.03, "dynamic_threshold": 1.0}
# Schedules whose sparsity does not rise to a final value. Channels cannot be cut out at their end.
WITHOUT_RISING_END = (*THRESHOLDS, "adaptive", "cyclic", "iterative_rewind")


@dataclass(frozen=True)
class Settings:
    """The settings from which a schedule is made.

    Attributes:
        begin: Step at which pruning begins.
        end: Step at which pruning ends.
        sparsity: Final sparsity.
        threshold: Final threshold.
        order: Order of layers for 'layerwise'.
    """

    begin: int
    end: int
    sparsity: float
    threshold: float
    order: Literal["forward", "backward"]


def _polynomial(s: Settings) -> Schedule:
    return schedules.PolynomialDecay(s.sparsity, s.begin, s.end)


def _cyclic(s: Settings) -> Schedule:
    period = max(2, (s.end - s.begin) // 3)
    end = max(s.end, s.begin + period)
    return schedules.Cyclic(s.sparsity / 2, s.sparsity, period, s.begin, end)


def _rewind(s: Settings) -> Schedule:
    # Four rounds. The last round ends where other schedules end.
    length = max(1, (s.end - s.begin) // 3)
    return schedules.IterativeRewind(s.sparsity, 4, s.begin, length, s.begin // 5)


def _dynamic(s: Settings) -> Schedule:
    return schedules.DynamicThreshold(s.threshold, s.begin, s.end, statistic="std")


def _adaptive(s: Settings) -> Schedule:
    return schedules.AdaptiveSparsity("generator_loss", 0.3, begin_step=s.begin, maximum=s.sparsity)


SCHEDULES: dict[str, Callable[[Settings], Schedule]] = {
    "polynomial": _polynomial,
    "cubic": lambda s: schedules.Cubic(s.sparsity, s.begin, s.end),
    "linear": lambda s: schedules.Linear(s.sparsity, s.begin, s.end),
    "cosine": lambda s: schedules.Cosine(s.sparsity, s.begin, s.end),
    "one_shot": lambda s: schedules.OneShot(s.sparsity, s.begin),
    "cyclic": _cyclic,
    "iterative_rewind": _rewind,
    "layerwise": lambda s: schedules.LayerwiseOrder(_polynomial(s), s.order),
    "adaptive": _adaptive,
    "threshold": lambda s: schedules.Threshold(s.threshold, s.begin),
    "dynamic_threshold": _dynamic,
}
