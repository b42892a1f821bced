"""Training state of a model: its networks, optimizers, steps and weight averages."""

from keras_ganprune.training.nan_guard import NaNGuard

__all__ = ["NaNGuard"]
