"""Layers that compute in half precision, for files that have a precision of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.traversal import walk

# Relative rounding steps.
STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def coarsest_step(model: keras.layers.Layer) -> float:
    """Return the largest relative rounding step of the half-precision layers, or 0 without such layers."""
    dtypes = {getattr(layer, "compute_dtype", None) for _, layer in walk(model)}
    return max((size for name, size in STEPS.items() if name in dtypes), default=0.0)


@contextlib.contextmanager
def in_float32(model: keras.layers.Layer) -> Iterator[None]:
    """Within the context, layers with float32 weights compute in float32, also under a mixed policy.

    Raises:
        UnsupportedLayerError: A layer has weights in half precision.
    """
    changed = []
    try:
        for path, layer in walk(model):
            policy = getattr(layer, "dtype_policy", None)
            if policy is None or policy.compute_dtype not in STEPS:
                continue
            if policy.variable_dtype != "float32":
                raise UnsupportedLayerError(
                    f"A file of another format is made of float32 weights. '{path}' has weights in "
                    f"{policy.variable_dtype}. Build the model with `dtype='float32'`, and give it these "
                    "weights by `set_weights`; then choose the precision of the file."
                )
            changed.append((layer, policy))
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy
