"""Callbacks for `fit(callbacks=[...])`: pruning, shrinking, regularization, balance, quality and pictures."""

from keras_ganprune.callbacks.balance_controller import BalanceController
from keras_ganprune.callbacks.diversity_guard import DiversityGuard
from keras_ganprune.callbacks.group_lasso import GroupLasso
from keras_ganprune.callbacks.growing_l2 import GrowingL2
from keras_ganprune.callbacks.network_slimming import NetworkSlimming
from keras_ganprune.callbacks.progress import Progress
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.quality_monitor import QualityMonitor
from keras_ganprune.callbacks.sample_grid import SampleGrid
from keras_ganprune.callbacks.shrink import Shrink
from keras_ganprune.callbacks.tensorboard import PruningSummary

__all__ = [
    "BalanceController",
    "DiversityGuard",
    "GroupLasso",
    "GrowingL2",
    "NetworkSlimming",
    "Progress",
    "Prune",
    "PruningSummary",
    "QualityMonitor",
    "SampleGrid",
    "Shrink",
]
