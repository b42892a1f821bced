"""Gradients on TensorFlow, by `tf.GradientTape`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def gradients(loss: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    """Return the gradient of `loss()` for each variable, None if the loss does not depend on it."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        # The tape must watch the TensorFlow variable inside the Keras variable.
        tape.watch([variable.value for variable in variables])
        result = loss()
    return tape.gradient(result, [variable.value for variable in variables])


def dense(gradient: Any) -> tf.Tensor:
    """Return a gradient as a tensor. In `tf.IndexedSlices`, rows with equal indices are added."""
    return tf.convert_to_tensor(gradient)


def sampling_step(model: Any, step: Callable, sample: Callable[[Any], None]) -> Callable:
    """Return a training step that first calls `sample(data)`, which may assign variables."""

    def train_step(data):
        sample(data)
        return step(data)

    return train_step
