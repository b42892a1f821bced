"""How far two tensors are apart, and how far rounding alone may put them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.tensors import to_numpy


@dataclass(frozen=True)
class Gap:
    """The difference of two tensors.

    Attributes:
        size: Largest absolute difference; infinite if the shapes or the places of NaN differ.
        scale: Largest absolute value of the expected tensor.
        allowed: Largest difference of two correct computations, relative to `scale`.
        shapes: The two shapes.
        has_nan: Whether the expected tensor has a NaN.
    """

    size: float
    scale: float
    allowed: float
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    has_nan: bool = False

    @property
    def is_large(self) -> bool:
        """Whether it is more than rounding."""
        return not self.size <= self.allowed * self.scale

    def __str__(self) -> str:
        if self.shapes[0] != self.shapes[1]:
            return f"shape {self.shapes[1]} instead of {self.shapes[0]}"
        return f"a difference of {self.size:.3g} where the largest value is {self.scale:.3g}"


def gap_of(expected: Any, actual: Any, same: bool = False) -> Gap:
    """Return how far two tensors are apart.

    Args:
        expected: Tensor or array.
        actual: Tensor or array that should be equal.
        same: Whether the same operations made them. Defaults to False.
    """
    dtype = keras.backend.standardize_dtype(expected.dtype)
    if dtype in ("string", "bool") or "int" in dtype:
        a, b = (np.asarray(keras.ops.convert_to_numpy(t)) for t in (expected, actual))
        same = a.shape == b.shape and np.array_equal(a, b)
        return Gap(0.0 if same else np.inf, 1.0, 0.0, (a.shape, b.shape))
    kind = "float32" if dtype in ("float16", "bfloat16") else dtype
    a, b = (np.asarray(to_numpy(keras.ops.cast(t, kind)), "float64") for t in (expected, actual))
    shapes = (a.shape, b.shape)
    finite = np.isfinite(a)
    scale = float(np.max(np.abs(a[finite]), initial=0.0))
    # NaN and infinities, such as those of a mask, must be the same at the same places.
    if a.shape != b.shape or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return Gap(np.inf, scale, 0.0, shapes, bool(np.isnan(a).any()))
    size = float(np.max(np.abs(a[finite] - b[finite]), initial=0.0))
    return Gap(size, max(scale, 1e-30), tolerance(dtype, same), shapes, bool(np.isnan(a).any()))


def tolerance(dtype: str, same: bool = False) -> float:
    """Return the largest difference of two correct computations, relative to the largest value.

    Args:
        dtype: Type of the tensor.
        same: Whether both do the same operations on tensors of the same shapes. Defaults to False.
    """
    if dtype in ("float16", "bfloat16"):
        return 5e-3 if same else 5e-2
    # GPUs multiply float32 with ten bits (TF32) by default: 1.3e-3 was measured for a DCGAN.
    if _on_gpu():
        return 1e-3 if same else 2e-2
    # A sum over fewer channels is added in another order.
    return 2e-6 if same else 5e-5


@functools.cache
def _on_gpu() -> bool:
    try:
        return bool(keras.distribution.list_devices("gpu"))
    except Exception:  # this backend cannot list devices
        return False
