"""What is pruned, where, when and how much: criteria, granularities, schedules, allocations, modes."""

from keras_ganprune.pruning.finetune import recover
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.pruning.recalibration import recalibrate_batch_norm
from keras_ganprune.pruning.scaled_kernels import scale_singular_values
from keras_ganprune.pruning.settings import PruningSettings
from keras_ganprune.pruning.shrink_model import shrink

__all__ = [
    "MaskReport",
    "Pruner",
    "PruningSettings",
    "recalibrate_batch_norm",
    "recover",
    "scale_singular_values",
    "shrink",
]
