"""Find out how sparse a network may be: train, compare with dense, recommend."""

from keras_ganprune.sweep.choice import Recommendation, Row, Trial
from keras_ganprune.sweep.folds import make_folds
from keras_ganprune.sweep.plan import SweepRun
from keras_ganprune.sweep.result import SweepResult
from keras_ganprune.sweep.sweeping import sweep

__all__ = [
    "Recommendation",
    "Row",
    "SweepResult",
    "SweepRun",
    "Trial",
    "make_folds",
    "sweep",
]
