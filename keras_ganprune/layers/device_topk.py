"""Top-k selection on the accelerator, so that a large tensor isn't copied to the host."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.layers import mask_ops
from keras_ganprune.layers.tensors import tensor, to_numpy

# The selection takes about 32 reductions on the device. A smaller tensor is copied to the host faster.
_LARGE = 1 << 20


def worth_it(variable: keras.Variable) -> bool:
    """Return whether a variable is large and on an accelerator."""
    # The device is a string on TensorFlow, and an object on JAX and PyTorch. The text of each names its kind.
    device = str(getattr(tensor(variable), "device", "cpu")).lower()
    return int(np.prod(variable.shape)) >= _LARGE and any(k in device for k in ("gpu", "cuda"))


def largest(variable: keras.Variable, mask: keras.Variable, keep: int) -> np.ndarray:
    """Return a bool mask of the `keep` largest magnitudes among the entries that a mask keeps.

    Ties are kept by lower index, as in `mask_ops.top_k_mask`. The method takes linear time: the bit patterns
    of non-negative floats have the order of the floats, so the smallest kept magnitude is determined bit by
    bit, by counting the entries above it.

    Args:
        variable: Float variable of at most 32 bits.
        mask: Bool variable of the same shape, True = may be kept.
        keep: Int, number of entries to keep. If `mask` keeps fewer entries, they are all kept.

    Returns:
        Bool array of the shape of `variable`, True = keep.

    Raises:
        DivergedError: A weight is NaN or infinite.
    """
    weight: Any = ops.cast(tensor(variable), "float32")
    bad = _count(ops.logical_not(ops.isfinite(weight)))
    if bad:
        raise mask_ops.diverged(f"Weight '{variable.path}'", bad)
    # Pruned entries score below all others.
    scores: Any = ops.where(tensor(mask), ops.abs(weight), ops.full((), -1.0, dtype="float32"))
    keep = min(keep, _count(scores >= 0.0))
    bits = 0
    for place in reversed(range(31)):
        if _count(scores >= _as_float(bits | 1 << place)) >= keep:
            bits |= 1 << place
    smallest = _as_float(bits)
    kept = scores > smallest
    ties = ops.equal(scores, smallest)
    missing = keep - _count(kept)
    if missing < _count(ties):
        order: Any = ops.cumsum(ops.cast(ops.reshape(ties, (-1,)), "int32"))
        ties = ops.logical_and(ties, ops.reshape(order <= missing, ops.shape(ties)))
    return to_numpy(ops.logical_or(kept, ties))


def _as_float(bits: int) -> float:
    # If all bits are 1, the float is NaN, and no score is >= NaN.
    return float(np.array(bits, dtype=np.int32).view(np.float32))


def _count(flags: Any) -> int:
    total: Any = ops.convert_to_numpy(ops.sum(ops.cast(flags, "int32")))
    return int(total)
