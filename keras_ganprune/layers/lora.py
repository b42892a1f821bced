"""LoRA on pruned layers: its updates are masked, and can be merged into the stored kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.computed_kernels import has_lora, integer_mode, mask_of
from keras_ganprune.layers.tensors import tensor, to_numpy
from keras_ganprune.layers.traversal import check_layer, masked_weights, walk
from keras_ganprune.layers.weight_sharing import forget_compiled_functions

# Name of the kernel that LoRA updates: that of `Dense`, `EinsumDense` and convolutions, or of `Embedding`.
_KERNELS = ("kernel", "embeddings")


def lora_kernel(layer: Any) -> str | None:
    """Return the name of the kernel that LoRA updates in a layer, or None if LoRA is not enabled."""
    if not has_lora(layer):
        return None
    return next((name for name in _KERNELS if hasattr(layer, f"lora_{name}_a")), None)


def _layers_with_lora(model: keras.layers.Layer) -> list[tuple[Any, str]]:
    return [(layer, name) for _, layer in walk(model) if (name := lora_kernel(layer)) is not None]


def store_merged(model: keras.layers.Layer) -> None:
    """Write the kernels with their LoRA updates, masked, into the layers. LoRA goes on from zero.

    The outputs stay the same. Layers that keep integers are left as they are.

    Args:
        model: Keras model or layer, plain or pruned.
    """
    for layer, name in _layers_with_lora(model):
        if integer_mode(layer) is None:
            _merge(layer, name)


def _merge(layer: Any, name: str) -> None:
    merged = to_numpy(tensor(getattr(layer, name)))
    stored = getattr(layer, f"_{name}")
    stored.assign(merged)
    update = getattr(layer, f"lora_{name}_b")
    update.assign(0 * to_numpy(update))


@contextlib.contextmanager
def lora_merged(model: keras.layers.Layer) -> Iterator[None]:
    """Within the context, the layers store their merged kernels, so that copies of the weights are masked.

    Args:
        model: Keras model or layer.
    """
    before = [
        (variable, to_numpy(variable).copy())
        for layer, name in _layers_with_lora(model)
        if integer_mode(layer) is None and mask_of(layer, name) is not None
        for variable in (getattr(layer, f"_{name}"), getattr(layer, f"lora_{name}_b"))
    ]
    if before:
        store_merged(model)
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def end_lora(layer: Any, name: str) -> None:
    """Merge the LoRA update of a layer into its kernel, and remove the weights of LoRA.

    Private attribute of Keras: the tracker of a built layer is locked, and there is no method that undoes
    `enable_lora`.
    """
    _merge(layer, name)
    layer._tracker.unlock()
    for part in "ab":
        delattr(layer, f"lora_{name}_{part}")
    layer._tracker.lock()
    layer.lora_enabled = False
    layer.lora_rank = layer.lora_alpha = None
    getattr(layer, f"_{name}").trainable = layer.trainable
    constraint = mask_of(layer, name)
    if constraint is not None:
        # What was compiled with the mask is not used any more.
        constraint.compiled_in = False
        object.__setattr__(constraint, "compiled_into_lora", False)
    if keras.backend.backend() == "torch":
        layer._track_variables()


def check_no_computed_kernels(model: keras.layers.Layer, action: str) -> None:
    """Raise `UnsupportedLayerError` if a layer of a model has LoRA, or is quantized to integers.

    Args:
        model: Keras model or layer.
        action: What was to be done, such as 'cut'.
    """
    check_layer(model)
    for path, layer in walk(model):
        where = f"'{path}' ({type(layer).__name__})"
        if has_lora(layer):
            raise UnsupportedLayerError(
                f"{where} has LoRA enabled, so its kernel is computed, not stored, and cannot be {action}. "
                "Call `kgp.merge_lora(model)` first, which merges the LoRA updates into the kernels."
            )
        mode = integer_mode(layer)
        if mode is not None:
            raise UnsupportedLayerError(
                f"{where} is quantized ({mode}), so its kernel is computed, not stored, and cannot be "
                f"{action}. Use the model as it was before `quantize`, and quantize the result."
            )


def merge_lora(model: keras.layers.Layer) -> list[str]:
    """Merge the LoRA updates of a model into its kernels, in place, and end LoRA.

        kernel = mask * (kernel + alpha / rank * a @ b)

    The outputs stay the same. Afterwards the kernels are stored weights again: they are trained, and they can
    be pruned, tied and cut. Compile the model again before `fit`, as after `enable_lora`, because other
    weights are trainable now. Layers that are quantized keep their LoRA weights.

    Args:
        model: Keras model or layer, plain or pruned.

    Returns:
        Paths of the layers that had LoRA; [] if none had.

    Raises:
        ArgumentTypeError: `model` is not a Keras 3 model or layer.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="head")])
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> model.layers[0].enable_lora(rank=2)
    >>> merge_lora(model)
    ['head']
    >>> len(model.trainable_weights), int(np.count_nonzero(model.layers[0].kernel))
    (2, 6)
    """
    check_layer(model)
    merged = []
    for path, layer in walk(model):
        name = lora_kernel(layer)
        if name is not None and integer_mode(layer) is None:
            end_lora(layer, name)
            merged.append(path)
    if merged:
        forget_compiled_functions(model)
        for weight in masked_weights(model):
            # What was compiled with the masks on JAX is not used any more.
            object.__setattr__(weight.variable.constraint, "compiled_in", False)
    return merged
