"""Pruning in one shot: what pruning does to the outputs of each layer is repaired without training."""

from keras_ganprune.pruning.one_shot.repair_model import repair
from keras_ganprune.pruning.one_shot.report import RepairReport, RepairRow

__all__ = ["RepairReport", "RepairRow", "repair"]
