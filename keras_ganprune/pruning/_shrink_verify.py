"""The proof that a smaller network has the outputs of the masked one."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from keras_ganprune.errors import ExportError
from keras_ganprune.layers.inference import arguments
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.pruning.structured.rebuild import Builder, assign
from keras_ganprune.utils.random_inputs import random_inputs

# A number that is unlikely as the size of another axis: broadcasting could hide an error.
_BATCH = 5


def masked_copy(groups: Groups, keeps: Sequence[np.ndarray]) -> keras.Model:
    """Return a plain copy of a network in which the weights of removed channels are zero."""
    everything = [np.ones(group.size, dtype=bool) for group in groups]
    copy, cuts = Builder(groups, everything).build()
    assign(cuts, {key: value for key, (_, value) in groups.masked_values(keeps).items()})
    return copy


def check_same_outputs(groups: Groups, masked: keras.Model, small: keras.Model) -> None:
    """Run both models on random inputs, and compare.

    Args:
        groups: Groups of channels of the original network.
        masked: The model with the removed channels at zero.
        small: The model without these channels.

    Raises:
        ExportError: The outputs differ in shape or in value.
    """
    specs = keras.tree.flatten(groups.graph.inputs)
    arrays = random_inputs(specs, batch=_BATCH)
    packed = keras.tree.pack_sequence_as(groups.graph.inputs, arrays)
    expected = keras.tree.flatten(masked(*arguments(masked, packed), training=False))
    actual = keras.tree.flatten(small(packed, training=False))
    for a, b in zip(expected, actual, strict=True):
        tolerance = _tolerance(keras.backend.standardize_dtype(a.dtype))
        a, b = (to_numpy(keras.ops.cast(t, "float32")).astype(np.float64) for t in (a, b))
        if a.shape != b.shape:
            raise ExportError(
                f"The smaller model gives outputs of shape {b.shape}, the masked one {a.shape}. A rule of "
                "`register_rule` is wrong."
            )
        scale = float(np.max(np.abs(a), initial=0.0))
        gap = float(np.max(np.abs(a - b), initial=0.0))
        if not gap <= tolerance * max(scale, 1e-30):
            raise ExportError(
                f"The smaller model must give the outputs of the masked one. Largest difference: {gap:g} "
                f"where the largest output is {scale:g}. A rule of `register_rule` leaves something out, "
                "or a weight is not finite."
            )


def _tolerance(dtype: str) -> float:
    """Return the largest difference of two correct computations, relative to the largest output."""
    if dtype in ("float16", "bfloat16"):
        return 5e-2
    try:
        on_gpu = bool(keras.distribution.list_devices("gpu"))
    except Exception:  # this backend cannot list devices
        on_gpu = False
    # GPUs multiply float32 with ten bits (TF32) by default: 1.3e-3 was measured for a DCGAN.
    return 2e-2 if on_gpu else 1e-3
