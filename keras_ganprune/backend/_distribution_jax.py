"""Workers of a JAX job: the processes of `jax.distributed.initialize`."""

from __future__ import annotations

from typing import Any

import jax  # pyright: ignore[reportMissingImports]
import numpy as np
from jax.experimental import multihost_utils  # pyright: ignore[reportMissingImports]

# A log is a mean over the global batch, so every process has the same value.
LOGS_DIFFER = False


def count(like: Any) -> int:
    """Return the number of processes."""
    return jax.process_count()


def rank(like: Any) -> int:
    """Return the index of this process, from 0."""
    return jax.process_index()


def total(sent: np.ndarray, like: Any, timeout: float) -> np.ndarray:
    """Return the sum of the int64 arrays of all processes. Per position, at most one value is not 0."""
    # The array is sent as bytes, because JAX would cast int64 to int32.
    rows = multihost_utils.process_allgather(sent.view(np.uint8))
    return np.asarray(rows).sum(axis=0, dtype=np.uint8).view(np.int64)
