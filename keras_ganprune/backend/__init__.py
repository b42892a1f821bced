"""Code that differs between the Keras backends: tracing, distribution, gradients."""

from keras_ganprune.backend.distribution import multi_worker_strategy

__all__ = ["multi_worker_strategy"]
