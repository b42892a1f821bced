"""Quantization of pruned layers. The zeros stay in the integers, which need no mask."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import PruningNotice, PruningWarning, UnsupportedLayerError
from keras_ganprune.layers.class_swap import hold_part, release_part, swap_class
from keras_ganprune.layers.computed_kernels import mask_of, owner_of
from keras_ganprune.layers.lora import end_lora, lora_kernel
from keras_ganprune.layers.mask_store import MaskStore
from keras_ganprune.layers.quantized_zeros import refuse_lora
from keras_ganprune.layers.tensors import to_numpy


def quantize_pruned(layer: Any, quantize: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Quantize a Prunable layer as Keras quantizes its plain class. See `PrunableLayer.quantize`.

    Args:
        layer: Prunable layer.
        quantize: The method of its plain class.
        *args: Arguments of `quantize`.
        **kwargs: The same, by name.
    """
    cls, store = type(layer), getattr(layer, "pruning_masks", None)
    if store is None:
        quantize(*args, **kwargs)
        return
    _check_mode(layer, cls.plain_class, args, kwargs)
    swap_class(layer, cls.plain_class)  # Keras quantizes no subclass.
    try:
        quantize(*args, **kwargs)
    finally:
        swap_class(layer, cls)
    _end_masks(layer, store)


def quantize_part(part: Any, quantize: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Quantize an inner part whose kernel an outer layer masks. The arguments are as above."""
    cls, outer = type(part), part.masked_in()
    _check_mode(part, cls.part_class, args, kwargs)
    _say_that_files_lose_it(part, outer, args, kwargs)
    release_part(part)
    try:
        quantize(*args, **kwargs)
    finally:
        hold_part(part, outer)
    store = getattr(outer, "pruning_masks", None)
    if store is not None:
        _end_masks(outer, store)


def _check_mode(layer: Any, plain: type, args: tuple, kwargs: dict[str, Any]) -> None:
    """Refuse what does not keep zeros, and merge LoRA, whose updates Keras would not quantize.

    Raises:
        UnsupportedLayerError: The mode moves pruned weights away from zero.
    """
    mode = kwargs.get("mode", args[0] if args else None)
    mode = mode or getattr(kwargs.get("config"), "mode", None)
    name = lora_kernel(layer)
    constraint = mask_of(layer, name or _kernel_name(layer))
    if constraint is None or to_numpy(constraint.mask).all():
        return
    if mode in ("gptq", "awq"):
        raise UnsupportedLayerError(
            f"'{layer.name}' ({plain.__name__}) is pruned. {str(mode).upper()} gives pruned weights values "
            'again, so the zeros would be lost. Use `model.quantize("int8")` or `"int4"`, which keep zeros, '
            "or quantize the plain copy `kgp.strip_pruning(model)` if they may be lost."
        )
    if name is not None and mode in ("int8", "int4"):
        end_lora(layer, name)
        warnings.warn(
            f"'{layer.name}' has LoRA enabled and is pruned. Its LoRA update was merged into the kernel, "
            "with its mask, before the kernel was quantized. Beside the integers it would fill the zeros.",
            PruningWarning,
            stacklevel=5,
        )


def _say_that_files_lose_it(part: Any, outer: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    """Say once per outer layer that Keras does not load the file of a model with quantized inner parts."""
    # Private touch: there is no public way to the sublayers of a layer that is not a model.
    parts = outer._flatten_layers(include_self=False)
    if any(getattr(other, "quantization_mode", None) for other in parts if other is not part):
        return
    mode = kwargs.get("mode", args[0] if args else None) or getattr(
        kwargs.get("config"), "mode", None
    )
    kind = getattr(type(outer), "plain_class", type(outer)).__name__
    warnings.warn(
        f"The layers inside '{outer.name}' ({kind}) are quantized. Keras does not write that to a file, so a "
        "file of this model cannot be loaded. To load it, make the model as now, call "
        f"`model.quantize({mode!r})`, then `model.load_weights(path)`.",
        PruningNotice,
        stacklevel=5,
    )


def _kernel_name(layer: Any) -> str:
    return "embeddings" if isinstance(layer, keras.layers.Embedding) else "kernel"


def _end_masks(layer: Any, store: MaskStore) -> None:
    """Drop the masks of kernels that are gone, and make a layer plain that has no other mask."""
    for name, weight in list(store.weights_by_name.items()):
        if store.find(name) is not weight:
            keep = to_numpy(store.masks[name])
            if not keep.all():
                zeros = int(keep.size - np.count_nonzero(keep))
                refuse_lora(owner_of(layer, name)[0], zeros, keep.size)
            for record in (store.weights_by_name, store.masks, store.hidden, store.chosen):
                record.pop(name, None)
    if not store.masks:
        object.__delattr__(layer, "pruning_masks")
        swap_class(layer, type(layer).plain_class)
