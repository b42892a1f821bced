"""GANs: `GANModel` and `ImageToImageGAN`, their losses, augmentation and distillation."""

from keras_ganprune.gan.augmentation import DiffAugment
from keras_ganprune.gan.distillation import Distillation
from keras_ganprune.gan.image_metrics import PSNR
from keras_ganprune.gan.image_to_image import ImageToImageGAN
from keras_ganprune.gan.known_pixels import keep_known_pixels
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
from keras_ganprune.gan.reconstruction import L1Loss, L2Loss, PerceptualLoss, ReconstructionLoss

__all__ = [
    "PSNR",
    "DiffAugment",
    "Distillation",
    "GANLoss",
    "GANModel",
    "Hinge",
    "ImageToImageGAN",
    "L1Loss",
    "L2Loss",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "PerceptualLoss",
    "ReconstructionLoss",
    "Relativistic",
    "Wasserstein",
    "keep_known_pixels",
]
