"""Callbacks for `fit(callbacks=[...])`: pruning, shrinking, balance, quality and pictures."""

from keras_ganprune.callbacks.balance_controller import BalanceController
from keras_ganprune.callbacks.diversity_guard import DiversityGuard
from keras_ganprune.callbacks.progress import Progress
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.quality_monitor import QualityMonitor
from keras_ganprune.callbacks.sample_grid import SampleGrid
from keras_ganprune.callbacks.shrink import Shrink
from keras_ganprune.callbacks.tensorboard import PruningSummary

__all__ = [
    "BalanceController",
    "DiversityGuard",
    "Progress",
    "Prune",
    "PruningSummary",
    "QualityMonitor",
    "SampleGrid",
    "Shrink",
]
