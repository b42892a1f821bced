"""Latent vectors, and the images of a network for them, which do not depend on the batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_ganprune.errors import InvalidArgumentError


def draw(n: int, size: int | Sequence[int], seed: int | None = None) -> np.ndarray:
    """Return standard normal latent vectors.

    Args:
        n: Number of vectors.
        size: Length of a vector, or its shape.
        seed: Int for the same vectors at each call. Defaults to None, a random seed.

    Returns: float32 array (n, *size).

    Raises:
        InvalidArgumentError: They do not fit into memory.

    Example:
    >>> bool(np.all(draw(5, 3, seed=0)[:2] == draw(2, 3, seed=0))), draw(2, (1, 1, 3)).shape
    (True, (2, 1, 1, 3))
    """
    shape = (n, *size) if isinstance(size, Sequence) else (n, int(size))
    rng = np.random.default_rng(seed)
    try:
        return rng.standard_normal(shape, dtype="float32")
    except (MemoryError, ValueError) as error:  # NumPy raises either
        raise InvalidArgumentError(
            f"The latent vectors of all images must fit into memory. Received: n={n}, which needs "
            f"{4 * math.prod(shape) / 2**30:,.0f} GiB. Lower `n`."
        ) from error


def images_of(
    network: Callable[..., Any], inputs: Sequence[Any], batch_size: int
) -> Iterator[np.ndarray]:
    """Yield the float32 outputs of a network in inference mode, batch by batch.

    Args:
        network: A Keras model or layer.
        inputs: One array per input of the network, all with the same number of rows.
        batch_size: Positive int, rows per forward pass.
    """
    for start in range(0, len(inputs[0]), batch_size):
        parts = [x[start : start + batch_size] for x in inputs]
        images = network(parts if len(parts) > 1 else parts[0], training=False)
        yield np.asarray(ops.convert_to_numpy(images), dtype="float32")
