"""Find the highest useful sparsity: train at several sparsities, compare with dense runs, recommend."""

from keras_ganprune.search.folds import make_folds
from keras_ganprune.search.plan import SweepPlan
from keras_ganprune.search.recommendation import Recommendation, Row, Trial
from keras_ganprune.search.result import SweepResult
from keras_ganprune.search.run_sweep import sweep
from keras_ganprune.search.runs import SweepRun

__all__ = [
    "Recommendation",
    "Row",
    "SweepPlan",
    "SweepResult",
    "SweepRun",
    "Trial",
    "make_folds",
    "sweep",
]
