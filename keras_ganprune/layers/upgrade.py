"""Make plain layers Prunable in place."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TypeVar, cast

import keras

from keras_ganprune.errors import (
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.class_swap import swap_class
from keras_ganprune.layers.computed_kernels import has_lora, integer_mode, owner_of
from keras_ganprune.layers.covered_kernels import coverage
from keras_ganprune.layers.guard import MaskConstraint
from keras_ganprune.layers.prunable import (
    PRUNABLE_CLASSES,
    PrunableLayer,
    prunable_class,
    register_holder,
    weight_variable,
)
from keras_ganprune.layers.scope import Scope
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import (
    check_layer,
    masked_weights,
    never_called,
    prunable_candidates,
    walk,
)
from keras_ganprune.layers.unmasked_zeros import warn_of_unmasked_zeros
from keras_ganprune.utils import annotated

AnyLayer = TypeVar("AnyLayer", bound=keras.layers.Layer)


def _upgrade(layer: keras.layers.Layer, cls: type[PrunableLayer]) -> None:
    """Give a layer a Prunable class and masks, or leave it as it is if its masks cannot be made.

    A Prunable layer keeps its masks, and gets masks for the weights that only the new class names.
    """
    before = type(layer)
    store = getattr(layer, "pruning_masks", None)
    swap_class(layer, cls)
    prunable = cast(PrunableLayer, layer)  # It has the new class now.
    try:
        if store is None:
            prunable._attach_masks()
            return
        for name, weight in prunable._named_weights().items():
            if not isinstance(weight.constraint, MaskConstraint):
                store.add(name, weight)
    except Exception:
        swap_class(layer, before)
        raise


def _check_stored_kernels(
    path: str, layer: keras.layers.Layer, cls: type[PrunableLayer], lora: bool = False
) -> None:
    """Raise `UnsupportedLayerError` if a kernel is quantized to integers, or has LoRA and `lora` is False.

    With LoRA a kernel can hold a mask that exists already, but no new one can be chosen.
    """
    for owner in [owner_of(layer, name)[0] for name in cls.pruned_weight_names]:
        mode = integer_mode(owner)
        if mode is None and (lora or not has_lora(owner)):
            continue
        fix = (
            f"Quantization ({mode}) keeps the zeros of a pruned model."
            if mode is not None
            else "`kgp.merge_lora(model)` merges the LoRA updates into the kernels, which can be pruned then."
        )
        raise UnsupportedLayerError(
            f"'{path}' ({type(layer).__name__}) is quantized or has LoRA enabled, so its kernel is computed, "
            f"not stored, and cannot be masked. Prune first, or leave it out of `scope`. {fix}"
        )


def make_prunable(model: AnyLayer, scope: Scope | None = None) -> AnyLayer:
    """Add masks to the layers of a built model, in place. Objects, variables and outputs stay the same.

    It works on Sequential, functional, subclassed and nested models, on layers inside wrappers such as
    `SpectralNormalization`, and on shared layers. The masks that layers have already are not changed. A layer
    without weights in a model that was called is never used: it is left out, with a `PruningWarning`.

    Args:
        model: Built `keras.Model` or layer.
        scope: Which layers: a layer class, a name or path (`*` matches anything), a compiled regular
            expression, a layer, a function of a layer, or a list of these. Defaults to None (all layers).

    Returns:
        `model` itself.

    Raises:
        ArgumentTypeError: `model` is not a Keras 3 model or layer, or `scope` has another type.
        UnbuiltModelError: The model has no weights yet.
        UnsupportedLayerError: No layer of the model can be pruned, or a layer in scope is quantized or has
            LoRA.
        InvalidArgumentError: An entry of `scope` matches no layer.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> make_prunable(model).layers[0].pruning_masks.masks["kernel"].shape
    TensorShape([4, 2])
    """
    upgrade_layers(model, scope)
    warn_of_unmasked_zeros(masked_weights(model))
    return model


def upgrade_layers(
    model: keras.layers.Layer, scope: Scope | None = None, lora: bool = False
) -> None:
    """Do the work of `make_prunable`.

    Args:
        model: Built model or layer.
        scope: Which layers.
        lora: Whether layers with LoRA are upgraded too, because their masks exist already. Defaults to False.
    """
    for layer, cls in checked_upgrades(model, scope, lora):
        _upgrade(layer, cls)


def checked_upgrades(
    model: keras.layers.Layer, scope: Scope | None = None, lora: bool = False
) -> list[tuple[keras.layers.Layer, type[PrunableLayer]]]:
    """Return the layers that `make_prunable` gives another class, with that class. Nothing is changed.

    The arguments and errors are those of `upgrade_layers`.
    """
    check_layer(model)
    candidates = prunable_candidates(model)
    if not candidates:
        if not model.built:
            raise _unbuilt(model, [])
        raise _nothing_to_prune(model)
    selected = scopes.select(candidates, scope)
    skipped = never_called(model)
    unbuilt = [path for path, layer in selected if not layer.built and id(layer) not in skipped]
    unused = [path for path, layer in selected if id(layer) in skipped]
    if unbuilt or len(unused) == len(selected):
        raise _unbuilt(model, unbuilt or unused)
    if unused:
        warnings.warn(
            f"{_named(unused)} of '{model.name}' was never called and has no weights, so it gets no masks. "
            "If it is used in training, call the model once on a batch first, so that it is called too.",
            PruningWarning,
            stacklevel=3,
        )
    upgrades = [
        (path, layer, cls)
        for path, layer in selected
        if layer.built and (cls := prunable_class(layer)) is not None
    ]
    for path, layer, cls in upgrades:
        _check_stored_kernels(path, layer, cls, lora)
    return [(layer, cls) for _, layer, cls in upgrades]


def _named(paths: Sequence[str]) -> str:
    """Return the first paths as text."""
    named = ", ".join(f"'{path}'" for path in paths[:3])
    return f"{named} and {len(paths) - 3} others" if len(paths) > 3 else named


def _unbuilt(model: keras.layers.Layer, paths: Sequence[str]) -> UnbuiltModelError:
    return UnbuiltModelError(
        f"`{type(model).__name__}` '{model.name}' must be built before it is pruned; it has no "
        f"weights yet{': ' + ', '.join(paths[:5]) if paths else ''}. "
        "Call it once on a batch (`model(x)`), or `model.build(input_shape)`, first."
    )


def _nothing_to_prune(model: keras.layers.Layer) -> UnsupportedLayerError:
    """Return the error for a model without a registered layer class; it names the classes to register."""
    known = ", ".join(sorted(base.__name__ for base in PRUNABLE_CLASSES))
    missing = coverage([model]).not_covered
    if missing:
        hint = f"It has kernels in: {'; '.join(str(row) for row in missing[:3])}."
    else:
        hint = "For a layer of your own call `register_prunable(MyLayer, ['my_kernel'])`."
    return UnsupportedLayerError(
        f"`{type(model).__name__}` '{model.name}' has no layer that can be pruned. Known: {known}. {hint}"
    )


def add_masks(layer: keras.layers.Layer, names: Sequence[str]) -> bool:
    """Add masks to weights of a built layer, such as the bias and the scale of its channels.

    Args:
        layer: Plain or Prunable layer. If its class has no Prunable class, one is derived.
        names: Attribute paths of weights. Weights that have a mask are skipped.

    Returns:
        Whether a mask was newly added. If so, a training step that was traced before must be traced again.

    Raises:
        UnsupportedLayerError: The layer is quantized, has no weight with one of the names, or shares its
            masks with another layer.
    """
    store = getattr(layer, "pruning_masks", None)
    before = 0 if store is None else len(store.masks)
    if not isinstance(layer, PrunableLayer):
        cls = prunable_class(layer) or register_holder(type(layer))
        if cls.pruned_weight_names:
            _check_stored_kernels(layer.name, layer, cls, lora=True)
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
    annotated.check(copy_masks, locals())
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
