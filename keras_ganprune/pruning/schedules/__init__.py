"""How the target moves with training: step -> sparsity, or step -> threshold."""

from keras_ganprune.pruning.schedules.adaptive import AdaptiveSparsity
from keras_ganprune.pruning.schedules.base import Schedule, _family
from keras_ganprune.pruning.schedules.composed import Cyclic, IterativeRewind, LayerwiseOrder
from keras_ganprune.pruning.schedules.lookup import ScheduleLike, get
from keras_ganprune.pruning.schedules.ramps import (
    ConstantSparsity,
    Cosine,
    Cubic,
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
    "IterativeRewind",
    "LayerwiseOrder",
    "Linear",
    "OneShot",
    "PolynomialDecay",
    "Schedule",
    "ScheduleLike",
    "Threshold",
    "_family",
    "get",
]
