"""The objects of a user that a layer holds and its configuration cannot: functions, regularizers."""

from __future__ import annotations

import functools
from typing import Any

import keras

from keras_ganprune.layers.as_saved import is_own_callable
from keras_ganprune.layers.carrier import Carrier
from keras_ganprune.layers.copy_state import attributes, is_of_keras
from keras_ganprune.layers.object_parts import FUNCTIONS, compiled_function

# Their class has a configuration, or not; a user's own often has none.
_CONFIGURED = (
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.initializers.Initializer,
)


def _is_function(value: Any) -> bool:
    if isinstance(value, (*FUNCTIONS, functools.partial)) or compiled_function(value) is not None:
        return True
    return is_own_callable(value) and not isinstance(value, _CONFIGURED)


def functions_of(layer: keras.layers.Layer, own: bool = False) -> dict[str, Any]:
    """Return the functions among the attributes of a layer, by name.

    Args:
        layer: Layer.
        own: Whether to return also those that use a layer or a variable, such as the methods of the
            layer. Its constructor makes these. Defaults to False.
    """
    carrier = Carrier()
    return {
        name: value
        for name, value in attributes(layer)
        if _is_function(value) and (own or not carrier.holds_state(value))
    }


def objects_of(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the regularizers, constraints and initializers of a user among the attributes of a layer."""
    return {
        name: value
        for name, value in attributes(layer)
        if isinstance(value, _CONFIGURED) and not is_of_keras(type(value))
    }


def own_objects(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the functions and classes of a user in a layer and its sublayers, by name."""
    found: dict[str, Any] = {}
    for part in layer._flatten_layers():
        things = [*functions_of(part).values(), *(type(o) for o in objects_of(part).values())]
        for thing in [*things, type(part)]:
            name = getattr(thing, "__name__", None)
            if name is not None and not is_of_keras(thing):
                found.setdefault(name, thing)
    return found
