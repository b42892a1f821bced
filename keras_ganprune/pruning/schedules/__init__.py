"""Schedules: how the target changes during training. A schedule maps a step to a sparsity or a threshold."""

from keras_ganprune.pruning.schedules.adaptive import AdaptiveSparsity
from keras_ganprune.pruning.schedules.base import Schedule
from keras_ganprune.pruning.schedules.base import family as _family  # noqa: F401  (for tests)
from keras_ganprune.pruning.schedules.cyclic import Cyclic
from keras_ganprune.pruning.schedules.iterative_rewind import IterativeRewind
from keras_ganprune.pruning.schedules.layerwise_order import LayerwiseOrder
from keras_ganprune.pruning.schedules.lookup import ScheduleLike, get
from keras_ganprune.pruning.schedules.ramps import (
    ConstantSparsity,
    Cosine,
    Cubic,
    Exponential,
    Linear,
    OneShot,
    PolynomialDecay,
)
from keras_ganprune.pruning.schedules.thresholds import DynamicThreshold, Threshold

__all__ = [
    "AdaptiveSparsity",
    "ConstantSparsity",
    "Cosine",
    "Cubic",
    "Cyclic",
    "DynamicThreshold",
    "Exponential",
    "IterativeRewind",
    "LayerwiseOrder",
    "Linear",
    "OneShot",
    "PolynomialDecay",
    "Schedule",
    "ScheduleLike",
    "Threshold",
    "get",
]
