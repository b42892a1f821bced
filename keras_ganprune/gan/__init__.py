"""GANs: `GANModel`, its losses, augmentation and distillation."""

from keras_ganprune.gan.augmentation import DiffAugment
from keras_ganprune.gan.distillation import Distillation
from keras_ganprune.gan.losses import (
    GANLoss,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    Wasserstein,
)
from keras_ganprune.gan.model import GANModel

__all__ = [
    "DiffAugment",
    "Distillation",
    "GANLoss",
    "GANModel",
    "Hinge",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "Relativistic",
    "Wasserstein",
]
