"""The state of a layer, copied to another layer of the same class: weights, assets, attributes, functions."""

from __future__ import annotations

import functools
import pathlib
import tempfile
from typing import Any

import keras

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.carrier import Carrier, NotCarriedError
from keras_ganprune.layers.kernels import own_variables
from keras_ganprune.layers.object_parts import FUNCTIONS, NOTHING, as_array

# Attributes that Keras sets later, in `compile`, `fit` or `build` of a model. They are no part of what it
# computes.
_OF_MODELS = {
    "_functional",
    "_compile_config",
    "_compiled_trainable_state",
    "_eval_epoch_iterator",
    "history",
    "optimizer",
    "stop_evaluating",
    "stop_predicting",
    "stop_training",
}
# Attributes that this package gives layers and models. What `fit` needs is no part of what they compute.
_OF_MASKS = {"pruning_masks", "_gradient_tap", "_nan_guarded", "_shrunk_by", "_step_with_masks"}
# Attributes that every layer has, and a user may set.
_OF_USERS = {"activity_regularizer", "autocast", "_supports_masking"}


def paired_layers(
    old: keras.layers.Layer, new: keras.layers.Layer
) -> list[tuple[str, keras.layers.Layer, keras.layers.Layer]]:
    """Return (path, layer, its counterpart) for every layer of two models of the same architecture.

    A layer that is used in two places of one model, where the other has two layers, has two counterparts.

    Raises:
        UnsupportedLayerError: The models have other layers.
    """
    pairs: list[tuple[str, keras.layers.Layer, keras.layers.Layer]] = []
    seen: set[tuple[int, int]] = set()

    def visit(a: keras.layers.Layer, b: keras.layers.Layer, path: str) -> None:
        if (id(a), id(b)) in seen:
            return
        seen.add((id(a), id(b)))
        if type(a).__name__ != type(b).__name__:
            raise UnsupportedLayerError(
                f"A copy of '{old.name}' must have its layers. Received: a {type(b).__name__} in the place "
                f"of '{path or a.name}' ({type(a).__name__})."
            )
        pairs.append((path or a.name, a, b))
        for left, right in _paired_children(a, b, path or a.name):
            visit(left, right, f"{path}/{left.name}" if path else left.name)

    visit(old, new, "")
    return pairs


def _paired_children(
    a: keras.layers.Layer, b: keras.layers.Layer, path: str
) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Return the direct sublayers of two layers in pairs: by name if the names are unique, or by order."""
    left, right = (list(x._flatten_layers(include_self=False, recursive=False)) for x in (a, b))
    if len(left) != len(right):
        raise UnsupportedLayerError(
            f"A copy must have the layers of the original. Received: {len(right)} layers instead of "
            f"{len(left)} in '{path}' ({type(a).__name__})."
        )
    by_name = {layer.name: layer for layer in right}
    if len(by_name) == len(right) and {layer.name for layer in left} == set(by_name):
        return [(layer, by_name[layer.name]) for layer in left]
    return list(zip(left, right, strict=True))


def copy_state(
    old: keras.layers.Layer, new: keras.layers.Layer, carrier: Carrier | None = None
) -> None:
    """Copy all that one layer holds to another layer of its class, but not its sublayers.

    Args:
        old: Built layer. It is not changed.
        new: Built layer of the same class and shapes.
        carrier: Knows the other layers of both models. Defaults to None: the layers in these two.

    Raises:
        NotCarriedError: An attribute cannot be copied.
    """
    carrier = carrier or carrier_of(old, new)
    # What a layer computes when it loads its weights may need its functions.
    carry_functions(old, new, carrier)
    copy_weights(old, new)
    copy_data(old, new, carrier)


def carrier_of(old: keras.layers.Layer, new: keras.layers.Layer) -> Carrier:
    """Return a carrier that knows the layers of two models of the same architecture."""
    return Carrier((a, b) for _, a, b in paired_layers(old, new))


def copy_weights(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copy weights and assets, such as the vocabulary of a lookup, by the layer's own methods for saving."""
    store: dict[str, Any] = {}
    old.save_own_variables(store)
    # Arrays, not variables: on JAX two variables would hold the same array, and a step may donate it.
    arrays = {key: as_array(value) for key, value in store.items()}
    if arrays or own_variables(new):
        try:
            new.load_own_variables(arrays)
        except ValueError:
            # A subclass with more weights than its parent saves, such as a `Dense` with a second kernel.
            _assign_by_position(old, new)
    copy_assets(old, new)


def copy_assets(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copy the assets of a layer, such as a vocabulary, by its own methods for saving."""
    # Not every layer has the two methods.
    save, load = getattr(old, "save_assets", None), getattr(new, "load_assets", None)
    if save is None or load is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        # Keras gives each layer a folder of its own.
        inner = pathlib.Path(folder) / "assets"
        inner.mkdir()
        save(str(inner))
        load(str(inner))


def _assign_by_position(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    for variable, other in zip(own_variables(old), own_variables(new), strict=True):
        other.assign(as_array(variable))


def carry_functions(
    old: keras.layers.Layer, new: keras.layers.Layer, carrier: Carrier | None = None
) -> None:
    """Give a layer the very functions of another: activations, the function of a `Lambda`, own callables.

    A configuration has only the name of a function, and a name such as 'relu' may mean Keras's.
    """
    carrier = carrier or carrier_of(old, new)
    for name, value in attributes(old):
        present = vars(new).get(name)
        if is_function(value) and value is not present and not carrier.holds_state(value):
            object.__setattr__(new, name, value)


def copy_data(
    old: keras.layers.Layer, new: keras.layers.Layer, carrier: Carrier | None = None
) -> None:
    """Copy what a layer holds beside its weights: its attributes, and what is in them.

    Raises:
        NotCarriedError: An attribute cannot be copied.
    """
    carrier = carrier or carrier_of(old, new)
    if new.trainable != old.trainable:
        new.trainable = old.trainable
    # Private touch: there is no public list of the seeds of one layer.
    for seed, other in zip(old._seed_generators, new._seed_generators, strict=False):
        other.state.assign(as_array(seed.state))
    for name, value in attributes(old):
        carry_attribute(carrier, name, value, old, new)
    if not is_keras_class(type(old)):
        for name in {name for name, _ in attributes(new)} - {name for name, _ in attributes(old)}:
            object.__delattr__(new, name)
    for kind in ("_buffers", "_parameters"):  # torch.nn.Module keeps them apart
        _copy_torch(vars(old).get(kind), vars(new).get(kind))


def carry_attribute(
    carrier: Carrier, name: str, value: Any, old: keras.layers.Layer, new: keras.layers.Layer
) -> None:
    """Give a layer an attribute of another one.

    Raises:
        NotCarriedError: The attribute cannot be copied. What Keras itself has made may stay as it is.
    """
    present = vars(new).get(name, NOTHING)
    try:
        result = carrier.carried(value, present)
    except NotCarriedError as error:
        if present is not NOTHING and is_keras_class(type(old)):
            return
        raise NotCarriedError(
            f"its attribute `{name}` ({type(value).__name__}) cannot be copied: {error}"
        ) from error
    if result is not present:
        object.__setattr__(new, name, result)


def is_of_keras(thing: Any) -> bool:
    """Return whether a class or function is a part of Keras."""
    return str(getattr(thing, "__module__", "")).split(".")[0] == "keras"


def is_keras_class(cls: type) -> bool:
    """Return whether a class is one of Keras, or Keras's with a mask."""
    return is_of_keras(getattr(cls, "plain_class", cls))


@functools.cache
def _base_attributes(model: bool, functional: bool) -> frozenset[str]:
    """Return the names of the attributes that Keras gives every layer, or every model."""
    names = {*vars(keras.layers.Layer()), *_OF_MASKS, "_torch_params"}
    if model:
        names |= {*vars(keras.Model()), *_OF_MODELS}
    if functional:
        symbol = keras.Input((1,))
        names |= {*vars(keras.Model(symbol, symbol))}
    return frozenset(names - _OF_USERS)


def attributes(layer: keras.layers.Layer) -> list[tuple[str, Any]]:
    """Return (name, value) for each attribute of a layer that its own class or a user has set."""
    base = _base_attributes(isinstance(layer, keras.Model), isinstance(layer, keras.Function))
    return [
        (name, value)
        for name, value in list(vars(layer).items())
        if name not in base and not name.startswith("_self_") and not _is_of_package(value)
    ]


def _is_of_package(value: Any) -> bool:
    """Return whether a value is a function that this package made and put in the place of a method.

    Such a function refers to the layer; what needs it puts it there again.
    """
    function = value.func if isinstance(value, functools.partial) else value
    name = str(getattr(function, "__qualname__", ""))
    private = name.startswith("_") or "<locals>" in name
    return private and str(getattr(function, "__module__", "")).startswith("keras_ganprune.")


def is_function(value: Any) -> bool:
    """Return whether a value is a function. A method of a layer belongs to that layer."""
    if isinstance(value, functools.partial):
        parts = (value.func, *value.args, *value.keywords.values())
        return not any(_belongs_to_layer(part) for part in parts)
    return isinstance(value, FUNCTIONS) and not _belongs_to_layer(value)


def _belongs_to_layer(value: Any) -> bool:
    owner = value if isinstance(value, keras.layers.Layer) else getattr(value, "__self__", None)
    return isinstance(owner, (keras.layers.Layer, keras.Variable))


def _copy_torch(old: Any, new: Any) -> None:
    """Copy buffers and parameters of a torch.nn.Module that Keras does not track."""
    for name, value in (old or {}).items():
        current = (new or {}).get(name)
        if value is not None and current is not None and value.shape == current.shape:
            current.data.copy_(value.data)
