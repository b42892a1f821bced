"""The adversarial loop: `GANModel` and its losses."""

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
    "GANLoss",
    "GANModel",
    "Hinge",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "Relativistic",
    "Wasserstein",
]
