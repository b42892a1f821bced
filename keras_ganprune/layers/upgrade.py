"""Make plain layers Prunable in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

import keras

from keras_ganprune.errors import (
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.mask_store import MaskConstraint, to_numpy
from keras_ganprune.layers.prunable import (
    PRUNABLE_CLASSES,
    PrunableLayer,
    prunable_class,
    register_holder,
    swap_class,
    weight_variable,
)
from keras_ganprune.layers.scope import Scope
from keras_ganprune.layers.traversal import (
    check_layer,
    masked_weights,
    prunable_candidates,
    walk,
)

AnyLayer = TypeVar("AnyLayer", bound=keras.layers.Layer)


def _upgrade(layer: keras.layers.Layer, cls: type[PrunableLayer]) -> None:
    """Make a plain layer Prunable, or leave it plain if its masks cannot be made."""
    plain = type(layer)
    swap_class(layer, cls)
    try:
        cast(PrunableLayer, layer)._attach_masks()  # It has the new class now.
    except Exception:
        swap_class(layer, plain)
        raise


def _check_stored_kernels(path: str, layer: keras.layers.Layer, cls: type[PrunableLayer]) -> None:
    """Raise `UnsupportedLayerError` if a layer, or an inner part with a kernel, is quantized or has LoRA."""
    parts = [layer]
    for name in cls.pruned_weight_names:
        part = layer
        for attribute in name.split(".")[:-1]:
            part = getattr(part, attribute, None)
        parts.append(part)
    if any(
        getattr(part, "quantization_mode", None) or getattr(part, "lora_enabled", False)
        for part in parts
    ):
        raise UnsupportedLayerError(
            f"'{path}' ({type(layer).__name__}) is quantized or has LoRA enabled, so its kernel is "
            "computed, not stored, and cannot be masked. Prune first, or leave it out of `scope`."
        )


def make_prunable(model: AnyLayer, scope: Scope | None = None) -> AnyLayer:
    """Add masks to the layers of a built model, in place. Objects, variables and outputs stay the same.

    It works on Sequential, functional, subclassed and nested models, on layers inside wrappers such as
    `SpectralNormalization`, and on shared layers. Layers that are Prunable already are not changed.

    Args:
        model: Built `keras.Model` or layer.
        scope: Which layers: a layer class, a name or path (`*` matches anything), a compiled regular
            expression, a layer, a function of a layer, or a list of these. Defaults to None (all layers).

    Returns:
        `model` itself.

    Raises:
        ArgumentTypeError: `model` is not a Keras 3 model or layer, or `scope` has another type.
        UnbuiltModelError: The model, or a layer that could be pruned, has no weights yet.
        UnsupportedLayerError: No layer of the model can be pruned, or a layer in scope is quantized or has
            LoRA.
        InvalidArgumentError: An entry of `scope` matches no layer.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> make_prunable(model).layers[0].pruning_masks.masks["kernel"].shape
    TensorShape([4, 2])
    """
    check_layer(model)
    candidates = prunable_candidates(model)
    unbuilt = [path for path, layer in candidates if not layer.built]
    if unbuilt or (not model.built and not candidates):
        raise UnbuiltModelError(
            f"`{type(model).__name__}` '{model.name}' must be built before it is pruned; it has no "
            f"weights yet{': ' + ', '.join(unbuilt[:5]) if unbuilt else ''}. "
            "Call it once on a batch (`model(x)`), or `model.build(input_shape)`, first."
        )
    if not candidates:
        raise UnsupportedLayerError(
            f"`{type(model).__name__}` '{model.name}' has no layer that can be pruned. Known: "
            f"{', '.join(sorted(base.__name__ for base in PRUNABLE_CLASSES))}. For a layer of your own call "
            "`register_prunable(MyLayer, ['my_kernel'])`."
        )
    upgrades = [
        (path, layer, cls)
        for path, layer in scopes.select(candidates, scope)
        if not isinstance(layer, PrunableLayer) and (cls := prunable_class(layer)) is not None
    ]
    for path, layer, cls in upgrades:
        _check_stored_kernels(path, layer, cls)
    for _, layer, cls in upgrades:
        _upgrade(layer, cls)
    return model


def add_masks(layer: keras.layers.Layer, names: Sequence[str]) -> bool:
    """Add masks to weights of a built layer, such as the bias and the scale of its channels.

    Args:
        layer: Plain or Prunable layer. If its class has no Prunable class, one is derived.
        names: Attribute paths of weights. Weights that have a mask are skipped.

    Returns:
        Whether a mask was newly added. If so, a training step that was traced before must be traced again.

    Raises:
        UnsupportedLayerError: The layer is quantized, has LoRA, has no weight with one of the names, or
            shares its masks with another layer.
    """
    store = getattr(layer, "pruning_masks", None)
    before = 0 if store is None else len(store.masks)
    if not isinstance(layer, PrunableLayer):
        cls = prunable_class(layer) or register_holder(type(layer))
        if cls.pruned_weight_names:
            _check_stored_kernels(layer.name, layer, cls)
        _upgrade(layer, cls)
    store = cast(PrunableLayer, layer).pruning_masks
    for name in names:
        weight = weight_variable(layer, name)
        if weight is None:
            raise UnsupportedLayerError(
                f"'{layer.name}' ({type(layer).__name__}) has no weight `{name}`."
            )
        if isinstance(weight.constraint, MaskConstraint):
            continue
        if name in store.masks:
            raise UnsupportedLayerError(
                f"'{layer.name}' shares its masks with another layer (`tie_mirrored`), so its channels "
                "cannot be pruned together with their biases. Use `Channel(coupled=False)`, or leave the "
                "layer out of `scope`."
            )
        store.add(name, weight)
    return len(store.masks) > before


def drop_empty_masks(layer: keras.layers.Layer) -> None:
    """Make a Prunable layer plain again if it holds no mask."""
    if isinstance(layer, PrunableLayer) and not layer.pruning_masks.masks:
        object.__delattr__(layer, "pruning_masks")
        swap_class(layer, layer.plain_class)


def copy_masks(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Copy the masks of a pruned network to a copy of that network, and apply them.

    Layers of `target` become Prunable if the corresponding layers of `source` are. Afterwards each network
    has separate masks.

    Args:
        source: Pruned Keras model or layer.
        target: Model or layer with the same weight shapes, such as an averaged copy.

    Raises:
        InvalidArgumentError: The two networks do not have the same weight shapes, or `source` has no masks.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> average = keras.models.clone_model(model)
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> copy_masks(model, average)
    >>> int(np.count_nonzero(average.layers[0].kernel))
    4
    """
    if [tuple(w.shape) for w in source.weights] != [tuple(w.shape) for w in target.weights]:
        raise InvalidArgumentError(
            f"'{target.name}' must have the same weight shapes as '{source.name}' to get its masks."
        )
    sources = {id(weight.variable): weight for weight in masked_weights(source)}
    if not sources:
        raise InvalidArgumentError(
            f"'{source.name}' has no masks to copy. Prune it, or call `make_prunable` on it, first."
        )
    # Variable of the target -> masked weight of the source.
    partners = {
        id(copy): sources[id(original)]
        for original, copy in zip(source.weights, target.weights, strict=True)
        if id(original) in sources
    }
    masked = {id(weight.variable) for weight in masked_weights(target)}
    missing = {key: weight for key, weight in partners.items() if key not in masked}
    if missing:
        names = sorted({weight.name for weight in missing.values()})
        for _, layer in walk(target):
            new = []
            for name in names:
                partner = partners.get(id(weight_variable(layer, name)))
                # A recurrent cell has the kernel too, but under another name than the layer that owns its
                # mask. A wrapper may have it under the same name, but has another class.
                if (
                    partner is not None
                    and partner.name == name
                    and isinstance(layer, partner.layer.plain_class)
                ):
                    new.append(name)
            if new:
                add_masks(layer, new)
    for weight in masked_weights(target):
        partner = partners.get(id(weight.variable))
        if partner is not None:
            # An array, not the variable: on JAX both variables would hold the same array, and a step may
            # donate it.
            weight.mask.assign(to_numpy(partner.mask))
            weight.apply()
