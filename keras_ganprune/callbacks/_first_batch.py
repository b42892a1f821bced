"""The first batch that a call of the train function will get, seen before the call gets it."""

from __future__ import annotations

import itertools
from typing import Any

import keras

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.utils import files


def first_batch(source: Any, steps: int = 1) -> tuple[Any, Any]:
    """Return (batch, source): the first batch of what `fit` passes, and a source that gives it again.

    Args:
        source: On PyTorch a list with one batch, on JAX an iterator, on TensorFlow an iterator of
            `tf.data`.
        steps: Number of batches that the call takes, `steps_per_execution`. Defaults to 1.

    Raises:
        UnsupportedLayerError: The batches are spread over the replicas of a `tf.distribute` strategy.
        StopIteration: There are no more batches.
    """
    if isinstance(source, (list, tuple)):
        return source[0], source
    if keras.backend.backend() != "tensorflow":
        batch = next(source)
        return batch, itertools.chain([batch], source)
    tf = files.tensorflow()
    if not isinstance(source, tf.data.Iterator):
        raise UnsupportedLayerError(
            "Activations cannot be recorded from batches that are spread over several replicas. Received: "
            f"{type(source).__name__}. Pass `calibration=`, an array of inputs of the network."
        )
    # Not one more than the call takes: the next call gets the old source, and would miss it.
    taken = list(itertools.islice(source, steps))
    if not taken:
        raise StopIteration
    # The same signature, so that the compiled step is not traced again.
    again = tf.data.Dataset.from_generator(lambda: taken, output_signature=source.element_spec)
    return taken[0], iter(again)
