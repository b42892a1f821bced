"""Zeros among the integers of a quantized kernel: LoRA beside the integers would fill them."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.computed_kernels import effective_kernel, integer_mode
from keras_ganprune.layers.traversal import walk

# Rounding alone makes about 1 % of zeros in int8 and 20 % in int4.
_MIN_SHARE = 0.4
_KERNELS = ("kernel", "embeddings")


def refuse_lora(owner: Any, zeros: int, total: int) -> None:
    """Let a quantized layer refuse LoRA, because no mask can hold the zeros of its integers.

    Keras adds `x @ a @ b` to the outputs of such a layer. It never computes a kernel that could be masked.

    Args:
        owner: Quantized Keras layer with a method `enable_lora`.
        zeros: Int, pruned weights of its kernel.
        total: Int, weights of its kernel.
    """
    if hasattr(owner, "enable_lora"):
        where = f"'{owner.name}' ({type(owner).__name__}, {integer_mode(owner)})"
        call = functools.partial(_refused, where, zeros, total, type(owner).__name__)
        object.__setattr__(owner, "enable_lora", call)  # past Keras's attribute tracking


def _refused(where: str, zeros: int, total: int, cls: str, *args: Any, **kwargs: Any) -> None:
    raise UnsupportedLayerError(
        f"{where} was pruned before it was quantized: {zeros:,} of {total:,} weights are zero. LoRA beside "
        "integers would fill these zeros, and no mask can hold them. Call `enable_lora` on the pruned model "
        "before `quantize`, train it, then quantize: the update is merged under the mask. If the zeros may "
        f"be lost, call `keras.layers.{cls}.enable_lora(layer, rank)`."
    )


def refuse_lora_in(model: keras.layers.Layer) -> None:
    """Let the layers of a model that was loaded refuse LoRA where many of their integers are zero."""
    for _, layer in walk(model):
        if integer_mode(layer) not in ("int8", "int4"):
            continue
        for name in _KERNELS:
            if hasattr(layer, f"{name}_scale"):
                values = effective_kernel(layer, name)
                zeros = int(values.size - np.count_nonzero(values))
                if zeros >= _MIN_SHARE * values.size and not layer.lora_enabled:
                    refuse_lora(layer, zeros, values.size)
