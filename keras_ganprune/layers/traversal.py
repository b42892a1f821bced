"""The layers of a model, and the masked weights among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.errors import ArgumentTypeError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.prunable import PrunableLayer, is_scale_holder, prunable_class
from keras_ganprune.layers.scope import Scope
from keras_ganprune.layers.tensors import masked


def check_layer(model: Any) -> None:
    """Raise `ArgumentTypeError` if `model` is not a Keras 3 model or layer."""
    if isinstance(model, keras.layers.Layer):
        return
    module = type(model).__module__
    keras_2 = module.startswith("tf_keras")
    raise ArgumentTypeError(
        "`model` must be a Keras 3 model or layer. "
        f"Received: {model!r} (of type {module}.{type(model).__name__})."
        + (
            " This is a Keras 2 object (tf_keras). Build the model with `import keras`."
            if keras_2
            else ""
        )
    )


def _children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the sublayers of a layer, without theirs.

    Private method of Keras: it is the only way to the sublayers of a plain layer or a wrapper.
    """
    return list(layer._flatten_layers(include_self=False, recursive=False))


def walk(model: keras.layers.Layer) -> list[tuple[str, keras.layers.Layer]]:
    """Return (path, layer) for `model` and every layer below it, parents first, each layer once."""
    pairs: list[tuple[str, keras.layers.Layer]] = []
    seen: set[int] = set()

    def visit(layer: keras.layers.Layer, path: str) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        pairs.append((path, layer))
        for child in _children(layer):
            visit(child, f"{path}/{child.name}" if path else child.name)

    visit(model, "")
    pairs[0] = (model.name, model)
    return pairs


def prunable_layers(model: keras.layers.Layer) -> list[tuple[str, PrunableLayer]]:
    """Return (path, layer) for every Prunable layer of a model that holds masks."""
    return [
        (path, layer)
        for path, layer in walk(model)
        if isinstance(layer, PrunableLayer)
        and getattr(layer, "pruning_masks", None) is not None
        and layer.pruning_masks.masks
    ]


def prunable_candidates(model: keras.layers.Layer) -> list[tuple[str, keras.layers.Layer]]:
    """Return (path, layer) for the layers that are or can become Prunable.

    The inner parts of such a layer are left out: the layer itself masks their kernels.
    """
    inner_parts: set[int] = set()
    candidates = []
    for path, layer in walk(model):
        if id(layer) in inner_parts:
            continue
        # A Prunable layer gets another class if other weights of its plain class were registered later.
        prunable = prunable_class(layer) or (layer if isinstance(layer, PrunableLayer) else None)
        if prunable is None or not prunable.pruned_weight_names:
            continue
        candidates.append((path, layer))
        if any("." in name for name in prunable.pruned_weight_names):
            inner_parts.update(id(inner) for _, inner in walk(layer)[1:])
    return candidates


def never_called(model: keras.layers.Layer) -> set[int]:
    """Return the ids of the layers without weights inside networks that were called.

    A network was called if a layer inside it has weights. If the model itself was not called, such as a GAN
    without `call`, its parts are such networks.
    """
    found: set[int] = set()
    for part in [model] if model.built else _children(model):
        layers = [layer for _, layer in walk(part)]
        if any(layer.built and layer.weights for layer in layers):
            found.update(id(layer) for layer in layers if not layer.built)
    return found


def holders(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the built plain layers of a model without kernels that can hold masks of other weights."""
    return [
        layer
        for _, layer in walk(model)
        if not isinstance(layer, PrunableLayer) and layer.built and is_scale_holder(layer)
    ]


def is_built(model: keras.layers.Layer) -> bool:
    """Return whether a model and all its layers that can be pruned have weights."""
    candidates = prunable_candidates(model)
    return all(layer.built for _, layer in candidates) and (bool(candidates) or model.built)


@dataclass(frozen=True)
class MaskedWeight:
    """One weight that has a mask.

    Attributes:
        layer_path: Path of its layer in the model, such as 'encoder/conv'.
        name: Attribute path of the weight in the layer, such as 'kernel'.
        layer: The Prunable layer.
        variable: The weight.
        mask: Bool variable of the shape of the weight, True = keep.
    """

    layer_path: str
    name: str
    layer: PrunableLayer
    variable: keras.Variable
    mask: keras.Variable

    @property
    def path(self) -> str:
        """Path of the weight in the model, such as 'encoder/conv/kernel'."""
        return f"{self.layer_path}/{self.name}"

    def apply(self) -> None:
        """Set the pruned entries of the weight to zero."""
        self.variable.assign(masked(self.variable, self.mask))


def masked_weights(*models: keras.layers.Layer, scope: Scope | None = None) -> list[MaskedWeight]:
    """Return every weight of some models that has a mask.

    A weight that several models or layers share is returned once, under its first path.

    Args:
        *models: Keras models or layers.
        scope: Which layers to search: a layer class, a name or path (`*` matches anything), a compiled
            regular expression, a layer, a function of a layer, or a list of these. Defaults to None (all
            layers).

    Returns:
        List of `MaskedWeight`, in the order of the layers. Empty if no layer is Prunable, or if the models
        are not built: masks are made with the weights.

    Raises:
        ArgumentTypeError: `scope` has another type.
        InvalidArgumentError: An entry of `scope` matches no Prunable layer.

    Example:
    >>> model = make_prunable(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")]))
    >>> [(weight.path, tuple(weight.mask.shape)) for weight in masked_weights(model)]
    [('head/kernel', (4, 2))]
    """
    for model in models:
        check_layer(model)
    layers = [pair for model in models for pair in prunable_layers(model)]
    if scope is not None:
        layers = scopes.select(layers, scope)
    weights: dict[int, MaskedWeight] = {}
    for path, layer in layers:
        store = layer.pruning_masks
        for name, mask in store.masks.items():
            variable = store.weights_by_name[name]
            weights.setdefault(id(variable), MaskedWeight(path, name, layer, variable, mask))
    return list(weights.values())


def apply_masks(model: keras.layers.Layer) -> None:
    """Set every pruned weight of a model to zero.

    Call it after code that writes weights without an optimizer, such as `set_weights` or
    `finalize_variable_values`. Inside `fit` the optimizers apply the masks themselves.

    Args:
        model: Keras model or layer. A model without masks is left unchanged.

    Raises:
        ArgumentTypeError: `model` is not a Keras 3 model or layer.

    Example:
    >>> model = make_prunable(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    >>> dense = model.get_weights()
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> model.set_weights(dense)
    >>> apply_masks(model)
    >>> int(np.count_nonzero(model.layers[0].kernel))
    4
    """
    check_layer(model)
    for weight in masked_weights(model):
        weight.apply()
