"""Find out how sparse a network may be: train, compare with dense, recommend."""

from keras_ganprune.search.folds import make_folds
from keras_ganprune.search.plan import SweepRun
from keras_ganprune.search.recommendation import Recommendation, Row, Trial
from keras_ganprune.search.result import SweepResult
from keras_ganprune.search.run_sweep import sweep

__all__ = [
    "Recommendation",
    "Row",
    "SweepResult",
    "SweepRun",
    "Trial",
    "make_folds",
    "sweep",
]
