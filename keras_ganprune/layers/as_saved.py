"""Models in a form that their configuration holds completely, within a context.

A configuration names functions, and it names what is unknown to Keras only if it is registered. So for the
time of a copy each function gets a name of its own, and each layer class of a user's own a rebuilder that
knows the layer that is copied.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_ganprune.layers.copy_state import attributes, is_function, is_keras_class
from keras_ganprune.layers.traversal import walk

# The entry of a configuration that says which layer it is of.
_NUMBER = "_number_of_the_copied_layer"
# The entry with the layers that are arguments of its constructor.
_LAYERS = "_layers_of_the_copied_layer"


@contextlib.contextmanager
def uncompiled(model: keras.layers.Layer) -> Iterator[None]:
    """Within the context, a configuration leaves out losses, metrics and optimizers."""
    models = [layer for _, layer in walk(model) if vars(layer).get("compiled", False)]
    for layer in models:
        object.__setattr__(layer, "compiled", False)
    try:
        yield
    finally:
        for layer in models:
            object.__setattr__(layer, "compiled", True)


@contextlib.contextmanager
def named_functions(
    model: keras.layers.Layer, only: Callable[[Any], bool] = lambda value: True
) -> Iterator[dict[str, Any]]:
    """Within the context, the functions of the layers have unique names; yield name -> function.

    This holds for functions and other callables that are not Keras's, such as a regularizer without
    `get_config`.

    Args:
        model: Model whose configuration is read within the context.
        only: Function that returns whether a function gets a name. Defaults to all.
    """
    objects: dict[str, Any] = {}
    swapped: list[tuple[keras.layers.Layer, str, Any]] = []
    names: dict[int, str] = {}
    try:
        for _, layer in walk(model):
            for attribute, value in attributes(layer):
                if not (is_own_callable(value) and only(value)):
                    continue
                name = names.setdefault(id(value), f"_function_{len(names)}_of_a_copied_model")
                objects[name] = value
                swapped.append((layer, attribute, value))
                object.__setattr__(layer, attribute, _stand_in(name, value))
        yield objects
    finally:
        for layer, attribute, value in swapped:
            object.__setattr__(layer, attribute, value)


def is_own_callable(value: Any) -> bool:
    """Return whether a value is a function or a callable object that is not Keras's."""
    if is_function(value):
        return (getattr(value, "__module__", None) or "").split(".")[0] != "keras"
    return (
        callable(value)
        and not isinstance(value, (type, keras.layers.Layer, keras.Variable))
        and type(value).__module__.split(".")[0] not in ("keras", "keras_ganprune", "tensorflow")
        and not keras.ops.is_tensor(value)
    )


def _stand_in(name: str, value: Any) -> Callable[..., Any]:
    def function(*args, **kwargs):
        return value(*args, **kwargs)

    function.__name__ = function.__qualname__ = name
    return function


def own_objects(model: keras.layers.Layer) -> dict[str, Any]:
    """Return the classes of a model that are not Keras's, by the names that a configuration may use."""
    objects: dict[str, Any] = {}
    for _, layer in walk(model):
        if not is_keras_class(type(layer)):
            objects[type(layer).__name__] = type(layer)
            objects[keras.saving.get_registered_name(type(layer))] = type(layer)
    return objects


def same_names(model: keras.layers.Layer) -> bool:
    """Return whether two classes of a model that are not Keras's have one name."""
    classes = {type(layer) for _, layer in walk(model) if not is_keras_class(type(layer))}
    return len({keras.saving.get_registered_name(cls) for cls in classes}) < len(classes)


def own_functions(model: keras.layers.Layer) -> dict[str, Any]:
    """Return the functions of a model that are not Keras's, by their own names."""
    found: dict[str, Any] = {}
    for _, layer in walk(model):
        for _, value in attributes(layer):
            for leaf in value if isinstance(value, (list, tuple)) else [value]:
                if is_function(leaf) and is_own_callable(leaf) and hasattr(leaf, "__name__"):
                    found[leaf.__name__] = leaf
    return found


@contextlib.contextmanager
def rebuilders(model: keras.layers.Layer, attributes_first: bool) -> Iterator[dict[str, Any]]:
    """Within the context, configurations number the layers of own classes; yield name -> rebuilder.

    A rebuilder makes a layer of the configuration and of what the layer itself holds: an argument that the
    configuration lacks is read from the attribute of the same name.

    Args:
        model: Model whose configuration is read within the context.
        attributes_first: Whether this is done also where the class itself accepts its configuration.
    """
    layers = [layer for _, layer in walk(model) if not is_keras_class(type(layer))]

    def numbered(layer: keras.layers.Layer, number: int) -> Callable[[], dict[str, Any]]:
        def get_config() -> dict[str, Any]:
            try:
                config = dict(type(layer).get_config(layer))
            except Exception:  # this class has no usable one
                config = {"name": layer.name}
            missing = [n for n in _parameters(type(layer)) if n not in config]
            inner = {n: _attribute(layer, n) for n in missing}
            # Keras makes configurations of them.
            inner = {n: value for n, value in inner.items() if _holds_layers(value)}
            return {**config, _NUMBER: number, _LAYERS: inner}

        return get_config

    objects: dict[str, Any] = {}
    before = [vars(layer).get("get_config") for layer in layers]
    try:
        for number, layer in enumerate(layers):
            object.__setattr__(layer, "get_config", numbered(layer, number))
            rebuilder = _Rebuilder(type(layer), layers, attributes_first)
            objects[type(layer).__name__] = rebuilder
            objects[keras.saving.get_registered_name(type(layer))] = rebuilder
        yield objects
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                layer.__dict__.pop("get_config", None)
            else:
                object.__setattr__(layer, "get_config", own)


def _holds_layers(value: Any) -> bool:
    entries = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(entry, keras.layers.Layer) for entry in entries)


def _attribute(layer: keras.layers.Layer, name: str) -> Any:
    """Return the attribute that keeps an argument, or `Parameter.empty`."""
    for attribute in (name, f"_{name}"):
        # PyTorch keeps sublayers apart from the other attributes.
        with contextlib.suppress(Exception):
            return getattr(layer, attribute)
    return inspect.Parameter.empty


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a constructor, without `self` and those of every layer."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {p.name: p for p in parameters if p.kind in kinds and p.name not in _BASE}


# Arguments that every layer has, unless its constructor leaves them out.
_BASE = ("name", "trainable", "dtype")


class _Rebuilder:
    """Stands for a class while a configuration is read."""

    def __init__(self, cls: Any, layers: list[keras.layers.Layer], attributes_first: bool):
        self.cls = cls
        self.layers = layers
        self.attributes_first = attributes_first

    def from_config(self, config: dict[str, Any], **kwargs: Any) -> Any:
        """Return a layer of a configuration, from which arguments may be missing."""
        config = dict(config)
        number, inner = config.pop(_NUMBER, None), config.pop(_LAYERS, {})
        if number is None:
            return self.cls.from_config(config, **kwargs)
        old = self.layers[int(number)]
        cls: Any = type(old)  # Another class may have the same name.
        if not self.attributes_first:
            try:
                return cls.from_config(dict(config), **kwargs)
            except Exception:
                arguments = _filled(cls, {**config, **inner}, old)
                if arguments is None:
                    raise
        else:
            arguments = _filled(cls, {**config, **inner}, old)
            if arguments is None:
                return cls.from_config(config, **kwargs)
        layer = cls(**arguments)
        layer.name = old.name
        return layer


def _filled(cls: type, config: dict[str, Any], old: keras.layers.Layer) -> dict[str, Any] | None:
    """Return the arguments of the constructor, or None if one is not known."""
    signature = inspect.signature(cls.__init__).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.values())
    arguments = {}
    for name, value in config.items():
        if name in signature or open_ended:
            arguments[name] = keras.saving.deserialize_keras_object(value)
    for name, parameter in _parameters(cls).items():
        if name in arguments:
            continue
        value = _attribute(old, name)
        if value is inspect.Parameter.empty or _holds_layers(value):
            if parameter.default is parameter.empty:
                return None
            continue
        arguments[name] = value
    return arguments
