"""Random inputs of given shapes and types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def random_inputs(specs: Sequence[Any], batch: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Return a random array for each input of a model.

    Args:
        specs: Objects with a `shape` and a `dtype`, such as `keras.KerasTensor`. Unknown sizes become 8.
        batch: Size of the first axis. Defaults to 4.
        seed: Int, seed of the random numbers. Defaults to 0.

    Returns:
        List of arrays: standard normal floats, ints that are 0 or 1, or byte strings.

    Example:
    >>> [array.shape for array in random_inputs([keras.Input((3,)), keras.Input((None, 2))])]
    [(4, 3), (4, 8, 2)]
    """
    rng = np.random.default_rng(seed)
    inputs = []
    for spec in specs:
        shape = [batch if i == 0 else (n or 8) for i, n in enumerate(spec.shape)]
        name = str(getattr(spec.dtype, "name", spec.dtype))
        if name == "string":
            inputs.append(np.full(shape, b"word", dtype=object))
            continue
        dtype = np.dtype("float32" if name == "bfloat16" else name)
        if dtype.kind == "f":
            inputs.append(rng.standard_normal(shape).astype(dtype))
        else:
            # Class numbers and tokens: an embedding has at least two rows.
            inputs.append(rng.integers(0, 2, shape).astype(dtype))
    return inputs
