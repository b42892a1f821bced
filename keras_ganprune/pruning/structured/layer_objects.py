"""The objects of a user that a layer holds and its configuration cannot: functions, regularizers."""

from __future__ import annotations

import functools
import types
from typing import Any

import keras

from keras_ganprune.layers.copy_state import is_of_keras

# Their class has a configuration, or not; a user's own often has none.
_CONFIGURED = (
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.initializers.Initializer,
)


@functools.cache
def bookkeeping() -> frozenset[str]:
    """Return the attributes that Keras gives to every layer, except those that a user sets."""
    return frozenset(vars(keras.layers.Layer())) - {"activity_regularizer"}


def attributes_of(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the attributes that the class of a layer has set, by name."""
    known = bookkeeping()
    # TensorFlow keeps its own attributes beside them.
    return {
        name: value
        for name, value in vars(layer).items()
        if name not in known and not name.startswith("_self_")
    }


def _is_function(value: Any) -> bool:
    return isinstance(
        value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
    ) or (
        callable(value)
        and not isinstance(value, (type, keras.layers.Layer, keras.Variable, *_CONFIGURED))
        and not keras.ops.is_tensor(value)
        and not isinstance(value, (list, tuple, dict, set))
        and not hasattr(value, "assign")  # a variable of a framework
        and not isinstance(value, (keras.dtype_policies.DTypePolicy, keras.quantizers.Quantizer))
    )


def _reaches(value: Any, things: set[int], depth: int = 4) -> bool:
    """Return whether a function holds one of some objects: in its closure, its arguments or itself."""
    if id(value) in things:
        return True
    if not depth:
        return False
    parts: list[Any] = []
    if isinstance(value, types.MethodType):
        parts = [value.__self__, value.__func__]
    elif isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, types.FunctionType):
        parts = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        for cell in value.__closure__ or ():
            try:
                parts.append(cell.cell_contents)
            except ValueError:  # not set yet
                continue
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    elif isinstance(value, dict):
        parts = list(value.values())
    return any(_reaches(part, things, depth - 1) for part in parts)


def functions_of(layer: keras.layers.Layer, own: bool = False) -> dict[str, Any]:
    """Return the functions among the attributes of a layer, by name.

    Args:
        layer: Layer.
        own: Whether to return also those that belong to the layer: its methods, and functions that use it
            or its weights. Its constructor makes these. Defaults to False.
    """
    parts = {id(part) for part in layer._flatten_layers()} | {id(v) for v in layer.variables}
    return {
        name: value
        for name, value in attributes_of(layer).items()
        if _is_function(value) and (own or not _reaches(value, parts))
    }


def objects_of(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the regularizers, constraints and initializers of a user among the attributes of a layer."""
    return {
        name: value
        for name, value in attributes_of(layer).items()
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
