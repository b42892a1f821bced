"""Gradients on TensorFlow; the place where the core asks for a tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def gradients(loss: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    """Return the gradient of `loss()` for each variable, None where it does not depend on it."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        # Keras wraps the variable; the tape must watch the one inside.
        tape.watch([variable.value for variable in variables])
        result = loss()
    return tape.gradient(result, [variable.value for variable in variables])


def dense(gradient: Any) -> tf.Tensor:
    """Return a gradient as a tensor, `tf.IndexedSlices` with the sum of their equal indices."""
    return tf.convert_to_tensor(gradient)


def sampling_step(model: Any, step: Callable, sample: Callable[[Any], None]) -> Callable:
    """Return a training step that first lets `sample(data)` assign variables."""

    def train_step(data):
        sample(data)
        return step(data)

    return train_step
