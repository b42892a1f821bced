"""Kernels that a layer computes from what it stores: LoRA, and quantization to int8, int4, GPTQ or AWQ."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.guard import MaskConstraint
from keras_ganprune.layers.kernels import member
from keras_ganprune.layers.tensors import tensor, to_numpy

# Modes in which the stored kernel holds integers, not the values that the layer computes with.
INTEGER_MODES = ("int8", "int4", "gptq", "awq")


def owner_of(layer: keras.layers.Layer, path: str) -> tuple[Any, str]:
    """Return the part of a layer that owns a weight, and the name of the weight in it.

    Args:
        layer: Keras layer.
        path: Attribute path of the weight, such as 'kernel' or '_query_dense.kernel'.

    Example:
    >>> from keras_ganprune.layers.computed_kernels import owner_of
    >>> layer = keras.layers.LSTM(3)
    >>> owner_of(layer, "cell.kernel") == (layer.cell, "kernel")
    True
    """
    *parents, name = path.split(".")
    owner: Any = layer
    for parent in parents:
        owner = member(owner, parent)
    return owner, name


def has_lora(owner: Any) -> bool:
    """Return whether LoRA is enabled on a layer."""
    return bool(getattr(owner, "lora_enabled", False))


def integer_mode(owner: Any) -> str | None:
    """Return the mode in which a layer keeps its kernel as integers, or None."""
    mode = getattr(owner, "quantization_mode", None)
    if mode in ("gptq", "awq") and not getattr(owner, f"is_{mode}_calibrated", False):
        return None  # Until it is calibrated, the layer computes with its own kernel.
    return mode if mode in INTEGER_MODES else None


def effective_kernel(layer: keras.layers.Layer, name: str = "kernel") -> np.ndarray:
    """Return the values that a layer really computes with, as a dense array.

    A LoRA update is added, a mask is applied, and the integers of a quantized layer are unpacked and
    scaled. For any other layer these are the stored values.

    Args:
        layer: Built Keras layer, plain or Prunable.
        name: Attribute path of the weight, such as 'embeddings' or '_query_dense.kernel'. Defaults to
            'kernel'.

    Returns:
        Float array of the shape of the kernel.

    Example:
    >>> from keras_ganprune.layers.computed_kernels import effective_kernel
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> plain = strip_pruning(model)
    >>> plain.quantize("int8")
    >>> int(np.count_nonzero(effective_kernel(plain.layers[0])))
    4
    """
    owner, attribute = owner_of(layer, name)
    mode = integer_mode(owner)
    if mode is None:
        value = member(owner, attribute)
    elif mode in ("gptq", "awq"):
        value = _calibrated(owner, mode)
    else:
        value = _scaled(owner, attribute, mode)
        if has_lora(owner):
            value = ops.add(value, lora_update(owner, attribute))
    return to_numpy(ops.cast(tensor(value), "float32"))


def lora_update(owner: Any, attribute: str = "kernel") -> Any:
    """Return what LoRA adds to a stored kernel: alpha / rank * a @ b."""
    a, b = (getattr(owner, f"lora_{attribute}_{part}") for part in "ab")
    return (owner.lora_alpha / owner.lora_rank) * ops.matmul(tensor(a), tensor(b))


def _stored(owner: Any, attribute: str) -> Any:
    """Return the variable with the integers. Keras keeps most of them under a private name."""
    value = getattr(owner, f"_{attribute}", None)
    return getattr(owner, attribute) if value is None else value


def _scaled(owner: Any, attribute: str, mode: str) -> Any:
    """Return the float values of an int8 or int4 weight.

    Private attributes of Keras: the block size and the shapes of packed weights have no public names.
    """
    values: Any = tensor(_stored(owner, attribute))
    scale: Any = tensor(getattr(owner, f"{attribute}_scale"))
    # The scale of a table belongs to rows, that of other weights to columns.
    is_table = attribute == "embeddings"
    is_reverse = attribute == "reverse_embeddings"
    if mode == "int8":
        values = ops.cast(values, "float32")
        if is_table:
            return values / ops.expand_dims(scale, -1)
        adjust = getattr(owner, "_adjust_scale_for_dequant", None)
        return values / (adjust(scale) if adjust is not None else scale)
    columns = getattr(owner, "_int4_unpacked_column_size", None)
    columns = getattr(owner, "_orig_output_dim", None) if columns is None else columns
    length = owner.output_dim if is_reverse else columns
    unpack: Any = keras.quantizers.unpack_int4
    values = ops.cast(unpack(values, length, axis=0 if is_reverse else -1), "float32")
    zero = getattr(owner, f"{attribute}_zero", None)
    if zero is None:
        values = values / (ops.expand_dims(scale, -1) if is_table else scale)
    else:
        values = _of_groups(values, scale, zero, owner.g_idx, -1 if is_table else 0)
    shape = getattr(owner, "original_kernel_shape", None)
    return values if shape is None else ops.reshape(values, shape)


def _of_groups(values: Any, scale: Any, zero: Any, groups: Any, axis: int) -> Any:
    """Return (values - zero) * scale, where each group of rows or columns has a scale and a zero."""
    index = ops.cast(tensor(groups), "int32")
    spread: list[Any] = [
        ops.take(ops.cast(tensor(v), "float32"), index, axis=axis) for v in (zero, scale)
    ]
    weights: Any = ops.cast(values, "float32")
    return (weights - spread[0]) * spread[1]


def _calibrated(owner: Any, mode: str) -> Any:
    """Return the float kernel of a layer after GPTQ or AWQ. Its integers are stored transposed."""
    packed = tensor(owner.quantized_kernel)
    shape = getattr(owner, "original_kernel_shape", None)
    columns = getattr(owner, f"{mode}_unpacked_column_size", None) or owner.units
    if packed.shape[0] != columns:
        unpack: Any = keras.quantizers.unpack_int4
        packed = unpack(packed, columns, axis=0, dtype="uint8")
    kernel: Any = ops.transpose(
        _of_groups(packed, owner.kernel_scale, owner.kernel_zero, owner.g_idx, -1)
    )
    if mode == "awq":
        kernel = kernel / ops.expand_dims(tensor(owner.awq_scales), -1)
    return kernel if shape is None else ops.reshape(kernel, shape)


# --- masks of computed kernels --------------------------------------------------------------------


def mask_of(owner: Any, attribute: str) -> MaskConstraint | None:
    """Return the constraint that masks the stored kernel of a layer, or None."""
    constraint = getattr(_stored(owner, attribute), "constraint", None)
    return constraint if isinstance(constraint, MaskConstraint) else None


def masked_properties(base: type, names: Iterable[str]) -> dict[str, property]:
    """Return properties that mask what LoRA adds to the kernels of a layer class.

    Keras computes the kernel of a layer with LoRA in a property, `kernel` or `embeddings`, which the layer
    uses when it is called and when it is saved.

    Args:
        base: Layer class.
        names: Names of its weights. Those that are not properties of the class are left out.
    """
    found = {}
    for name in names:
        original = inspect.getattr_static(base, name, None)
        if isinstance(original, property) and original.fget is not None:
            found[name] = _masked_property(original, name)
    return found


def _masked_property(original: property, name: str) -> property:
    read: Any = original.fget

    @functools.wraps(read)
    def masked_kernel(self: Any) -> Any:
        value = read(self)
        if not has_lora(self) or integer_mode(self) is not None:
            return value
        constraint = mask_of(self, name)
        if constraint is None:
            return value
        if tracing.is_constant(constraint.mask, value):
            constraint.compiled_in = True
            object.__setattr__(constraint, "compiled_into_lora", True)
        value = tensor(value)
        # Not `masked`, which has no gradient on PyTorch.
        zero = ops.zeros((), keras.backend.standardize_dtype(value.dtype))
        return ops.where(tensor(constraint.mask), value, zero)

    return property(masked_kernel, original.fset, original.fdel, original.__doc__)


def check_stored(weights: Iterable[Any], action: str) -> None:
    """Raise `UnsupportedLayerError` if a masked weight is not a kernel that its layer stores.

    Args:
        weights: `MaskedWeight`s.
        action: What was to be done, such as 'pruned again'.
    """
    for weight in weights:
        owner = owner_of(weight.layer, weight.name)[0]
        where = f"'{weight.path}' ({type(owner).__name__})"
        if has_lora(owner):
            raise UnsupportedLayerError(
                f"{where} has LoRA enabled, so its kernel is computed, not stored, and cannot be {action}. "
                "Its present mask holds without the callback. To change it, call `kgp.merge_lora(model)` "
                "first, which merges the LoRA updates into the kernels, and compile the model again."
            )
        store = getattr(weight.layer, "pruning_masks", None)
        stored = any(variable is weight.variable for variable in weight.layer.variables)
        if stored and not hasattr(weight.layer, "plain_class"):
            raise UnsupportedLayerError(
                f"{where} has no mask any more, because `strip_pruning(model, copy=False)` made the layer "
                f"plain after the `Pruner` was made. It cannot be {action}. Make a new `Pruner(model)`; its "
                "first update makes new masks."
            )
        if store is None or store.weights_by_name.get(weight.name) is not weight.variable:
            raise UnsupportedLayerError(
                f"{where} does not have the kernel any more that it had when the `Pruner` was made, for "
                f"example because it was quantized. It cannot be {action}. Prune first, then quantize."
            )
