"""Latent vectors, and what a network makes of them: the same everywhere, whatever the batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops


def draw(n: int, size: int | Sequence[int], seed: int | None = None) -> np.ndarray:
    """Return standard normal latent vectors, float32 (n, *size).

    Example:
    >>> bool(np.all(draw(5, 3, seed=0)[:2] == draw(2, 3, seed=0))), draw(2, (1, 1, 3)).shape
    (True, (2, 1, 1, 3))
    """
    shape = (n, size) if isinstance(size, (int, np.integer)) else (n, *size)
    return np.random.default_rng(seed).standard_normal(shape, dtype="float32")


def images_of(network: Any, inputs: Sequence[Any], batch_size: int) -> Iterator[np.ndarray]:
    """Yield what a network makes of its inputs in inference mode, float32, batch by batch.

    Args:
        network: A Keras model or layer.
        inputs: One array for each input, of as many rows.
        batch_size: Positive int, rows a forward pass.
    """
    for start in range(0, len(inputs[0]), batch_size):
        parts = [x[start : start + batch_size] for x in inputs]
        images = network(parts if len(parts) > 1 else parts[0], training=False)
        yield np.asarray(ops.convert_to_numpy(images), dtype="float32")
