"""The change of the class of a layer, with the inner parts whose kernels it masks."""

from __future__ import annotations

import functools
import importlib
import weakref
from typing import Any

import keras

from keras_ganprune.layers.computed_kernels import masked_properties, owner_of

# Class of an inner part -> its subclass that knows the layer that masks its kernel.
_PART_CLASSES: dict[type, type] = {}


class MaskedPart:
    """Mixin of an inner part, such as a projection of attention, whose kernel an outer layer masks.

    Attributes:
        masked_in: Weak reference to the Prunable layer that holds the mask. (Keras would save a layer that is
            an attribute as a part of this one.)
        part_class: The class that the part has without the mask.
    """

    masked_in: Any
    part_class: type


def swap_class(layer: keras.layers.Layer, cls: type) -> None:
    """Change the class of an existing layer. It stays the same object, with the same variables.

    No other code of this package does that. The inner parts that the layer masks follow.
    """
    before = getattr(layer, "pruned_weight_names", ())
    layer.__class__ = cls
    if hasattr(layer, "plain_class"):
        _intercept(layer, "quantize_pruned")
        hold_parts(layer)
    else:
        _restore(layer)
        for name in before:
            part = owner_of(layer, name)[0]
            if isinstance(part, MaskedPart) and part.masked_in() is layer:
                release_part(part)


def hold_parts(layer: Any) -> None:
    """Let the inner parts with LoRA or `quantize` know the layer that masks their kernels."""
    for name in layer.pruned_weight_names:
        part = owner_of(layer, name)[0]
        if part is not layer and hasattr(part, "enable_lora") and not hasattr(part, "plain_class"):
            hold_part(part, layer)


def hold_part(part: Any, layer: keras.layers.Layer) -> None:
    """Let an inner part know the layer that masks its kernel."""
    object.__setattr__(part, "masked_in", weakref.ref(layer))
    if not isinstance(part, MaskedPart):
        part.__class__ = _part_class(type(part))
    _intercept(part, "quantize_part")


def release_part(part: Any) -> None:
    """Undo `hold_part`."""
    object.__delattr__(part, "masked_in")
    part.__class__ = part.part_class
    _restore(part)


def _intercept(layer: Any, function: str) -> None:
    """Let a function of `quantizing` call the method `quantize` of a layer.

    Keras binds the method to each layer when the layer is created, so a new class would not change it.
    """
    original = vars(layer).get("quantize")
    if original is not None and not isinstance(original, functools.partial):
        call = functools.partial(_call, function, layer, original)
        object.__setattr__(layer, "quantize", call)


def _restore(layer: Any) -> None:
    call = vars(layer).get("quantize")
    if isinstance(call, functools.partial) and call.func is _call:
        object.__setattr__(layer, "quantize", call.args[2])


def _call(function: str, layer: Any, original: Any, *args: Any, **kwargs: Any) -> None:
    # That module imports this one.
    quantizing = importlib.import_module("keras_ganprune.layers.quantizing")
    getattr(quantizing, function)(layer, original, *args, **kwargs)


def _part_class(base: type) -> type:
    if base not in _PART_CLASSES:
        members: dict[str, Any] = {
            "part_class": base,
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
            "__doc__": base.__doc__,
            **masked_properties(base, ("kernel", "embeddings")),
        }
        # Keras derives the paths in weights files from the name of the class.
        _PART_CLASSES[base] = type(base.__name__, (MaskedPart, base), members)
    return _PART_CLASSES[base]
