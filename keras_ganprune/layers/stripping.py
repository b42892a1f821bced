"""Plain Keras models from pruned ones: in place, or as a copy that is compared with the model."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from keras_ganprune.backend import tracing
from keras_ganprune.errors import PruningWarning, UnbuiltModelError
from keras_ganprune.layers.class_swap import swap_class
from keras_ganprune.layers.cloning import clone
from keras_ganprune.layers.guard import pruned_but_not_zero
from keras_ganprune.layers.lora import lora_merged, store_merged
from keras_ganprune.layers.prunable import PrunableLayer
from keras_ganprune.layers.traversal import apply_masks, check_layer, masked_weights, walk
from keras_ganprune.utils import validation

_IN_PLACE = (
    "Call `strip_pruning(model, copy=False)`: it needs no copy, and turns the layers of the model itself "
    "back into plain Keras layers."
)


@contextlib.contextmanager
def plain_classes(model: keras.layers.Layer) -> Iterator[None]:
    """Within the context, the Prunable layers of a model have their plain Keras classes."""
    layers = [layer for _, layer in walk(model) if isinstance(layer, PrunableLayer)]
    classes = [type(layer) for layer in layers]
    with lora_merged(model):
        for layer in layers:
            swap_class(layer, type(layer).plain_class)
        try:
            yield
        finally:
            for layer, cls in zip(layers, classes, strict=True):
                swap_class(layer, cls)


def strip_pruning(model: keras.Model, *, copy: bool = True, inputs: Any = None) -> keras.Model:
    """Return a plain Keras model with zeros for the pruned weights: a copy, or the model itself.

    The result has no class of this package. A copy is not compiled. It is compared with `model` on a batch of
    the shapes, types and ranges of the model's inputs, and an error names the first layer that gives other
    outputs. `model` is not changed then, with one exception: pruned weights that are not zero, because other
    code has written weights into the model, are set to zero first, with a `PruningWarning`.

    With `copy=False` nothing is copied: the layers of `model` become plain Keras layers, their own
    constraints come back, and the masks are deleted. This works for every model, also if it
    cannot be rebuilt from its configuration. The zeros stay until the model is trained again.

    Args:
        model: Built `keras.Model`. For a copy, a subclassed model needs `get_config`, as for saving, or must
            keep its arguments as attributes of the same names.
        copy: Whether to return a copy. If False, `model` itself is changed. Defaults to True.
        inputs: A batch to compare the copy on: arrays, a list or dict of them, or a tuple of the positional
            arguments of `call`; or `keras.Input`s, which are filled. Defaults to None: random values in the
            range of the layers that take them.

    Returns:
        A new, uncompiled `keras.Model`, or `model` itself with `copy=False`.

    Raises:
        ArgumentTypeError: `model` is not a Keras 3 model or layer.
        InvalidArgumentError: The model cannot be called on `inputs`, or they are empty.
        UnbuiltModelError: No layer of the model has been built, for a copy.
        UnsupportedLayerError: A layer cannot be rebuilt from its configuration, or an attribute of it cannot
            be copied (a lock, a generator), for a copy.
        DifferentOutputsError: The copy has other outputs than the model, because a layer is not rebuilt
            completely.

    Example:
    >>> model = make_prunable(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    >>> type(strip_pruning(model).layers[0]) is keras.layers.Dense
    True
    >>> strip_pruning(model, copy=False) is model, type(model.layers[0]) is keras.layers.Dense
    (True, True)
    """
    check_layer(model)
    if validation.boolean(copy, "copy"):
        if not any(layer.built for _, layer in walk(model)):
            raise UnbuiltModelError(
                f"`model` must be built to be copied. Received: '{model.name}' ({type(model).__name__}), "
                "which has no weights yet. Call it once on a batch first, or use "
                "`strip_pruning(model, copy=False)`."
            )
        return plain_copy(model, what="stripped copy", fix=_IN_PLACE, inputs=inputs)
    mask_written_values(model)
    _strip_in_place(model)
    return model


def plain_copy(model: keras.Model, *, what: str, fix: str, inputs: Any = None) -> keras.Model:
    """Return a plain copy of a model; see `clone`. The model keeps its masks."""
    mask_written_values(model)
    with plain_classes(model):
        return clone(model, what=what, fix=fix, inputs=inputs)


def mask_written_values(model: keras.layers.Layer) -> None:
    """Set pruned weights to zero that are not, with a warning."""
    written = [
        weight.path
        for weight in masked_weights(model)
        if pruned_but_not_zero(weight.variable, weight.mask)
    ]
    if written:
        warnings.warn(
            f"{', '.join(written[:3])}{' and others' if len(written) > 3 else ''} had values under the "
            "mask, which are set to zero now, so the outputs of the model change. Other code wrote them past "
            "Keras, such as an operation of TensorFlow or PyTorch on the variable. Call "
            "`kgp.apply_masks(model)` after such code, and evaluate the model again.",
            PruningWarning,
            stacklevel=3,
        )
    apply_masks(model)


# --- in place -------------------------------------------------------------------------------------


def _strip_in_place(model: keras.layers.Layer) -> None:
    """Turn Prunable layers back into plain ones, and let compiled functions be traced again."""
    store_merged(model)  # Without their masks, LoRA updates would fill the zeros.
    layers = [layer for _, layer in walk(model)]
    for layer in layers:
        if isinstance(layer, PrunableLayer):
            store = vars(layer).get("pruning_masks")
            if store is not None:
                if not _is_shared(layer, store, layers):
                    store.release()
                object.__delattr__(layer, "pruning_masks")
            swap_class(layer, layer.plain_class)
    for layer in layers:
        for optimizer in _optimizers(layer):
            tracing.release(optimizer)
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None


def _is_shared(layer: Any, store: Any, layers: list[keras.layers.Layer]) -> bool:
    """Return whether a layer of another network holds the same masks (`tie_mirrored`), and keeps them."""
    attach = vars(layer).get("_attach_masks")
    partner = attach.args[1] if attach is not None else None
    return vars(partner or layer).get("pruning_masks") is store and not any(
        other is (partner or layer) for other in layers
    )


def _optimizers(layer: keras.layers.Layer) -> list[keras.optimizers.Optimizer]:
    return [v for v in vars(layer).values() if isinstance(v, keras.optimizers.Optimizer)]
