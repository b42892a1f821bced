"""Selection on the device: the largest weights of a large tensor, without sending it to the host."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.layers import mask_ops
from keras_ganprune.layers.mask_store import tensor, to_numpy

# Smaller tensors are on the host and back before the device has been asked 32 questions.
_LARGE = 1 << 20


def worth_it(variable: keras.Variable) -> bool:
    """Return whether a variable is large and on an accelerator."""
    # A string on TensorFlow, an object on JAX and PyTorch; all of them say what kind it is.
    device = str(getattr(tensor(variable), "device", "cpu")).lower()
    return int(np.prod(variable.shape)) >= _LARGE and any(k in device for k in ("gpu", "cuda"))


def largest(variable: keras.Variable, mask: keras.Variable, keep: int) -> np.ndarray:
    """Return a bool mask of the `keep` largest magnitudes among those that a mask keeps.

    Ties are kept by lower index, as by `masks.top_k_mask`. Linear: the bits of non-negative floats are
    in the order of the floats, so the smallest one kept is found bit by bit, by counting.

    Args:
        variable: Float variable of up to 32 bits.
        mask: Bool variable of its shape, True = may be kept.
        keep: Int; all that the mask keeps stay if they are not more.

    Raises:
        DivergedError: a weight is NaN or infinite.
    """
    weight = ops.cast(tensor(variable), "float32")
    bad = _count(ops.logical_not(ops.isfinite(weight)))
    if bad:
        raise mask_ops.diverged(f"Weight '{variable.path}'", bad)
    # What is pruned is below everything else.
    scores = ops.where(tensor(mask), ops.abs(weight), ops.full((), -1.0, dtype="float32"))
    keep = min(keep, _count(scores >= 0.0))
    bits = 0
    for place in reversed(range(31)):
        if _count(scores >= _as_float(bits | 1 << place)) >= keep:
            bits |= 1 << place
    smallest = _as_float(bits)
    found = scores > smallest
    ties = ops.equal(scores, smallest)
    missing = keep - _count(found)
    if missing < _count(ties):
        order = ops.cumsum(ops.cast(ops.reshape(ties, (-1,)), "int32"))
        ties = ops.logical_and(ties, ops.reshape(order <= missing, ops.shape(ties)))
    return to_numpy(ops.logical_or(found, ties))


def _as_float(bits: int) -> float:
    # All ones would be NaN, which nothing reaches.
    return float(np.array(bits, dtype=np.int32).view(np.float32))


def _count(flags: Any) -> int:
    return int(ops.convert_to_numpy(ops.sum(ops.cast(flags, "int32"))))
