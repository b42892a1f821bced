"""Builds one layer or operation again, from its configuration and its own objects."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import keras

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.carrier import Carrier
from keras_ganprune.layers.copy_state import attributes, is_of_keras
from keras_ganprune.pruning.structured.carry_state import carry_forgotten, copy_vocabulary
from keras_ganprune.pruning.structured.layer_objects import functions_of, objects_of, own_objects
from keras_ganprune.pruning.structured.sized_operations import Sized
from keras_ganprune.utils.foreign_errors import sentence_of

# Keys of a configuration that Keras itself writes; a constructor without `**kwargs` does not take them.
_OF_KERAS = ("name", "trainable", "dtype")


def configuration(old: keras.Operation, path: str) -> dict[str, Any] | None:
    """Return the configuration of a layer or operation; None for one that is copied as an object.

    Args:
        old: Layer or operation.
        path: Its path, for errors.

    Raises:
        UnsupportedLayerError: The layer has weights and no configuration.
    """
    if type(old) is keras.layers.Lambda:
        # Its configuration would hold the bytes of the function, without the names that it uses.
        # Private touch: the shape is an argument of the constructor without a public attribute.
        return {
            "function": old.function,
            "output_shape": old._output_shape,
            "mask": old.mask,
            "arguments": dict(old.arguments),
            "trainable": old.trainable,
            "dtype": old.dtype_policy,
        }
    if not isinstance(old, keras.layers.Layer):
        if not is_of_keras(type(old)) and not isinstance(old, Sized):
            return None
        try:
            return old.get_config()
        except NotImplementedError:
            return None
    try:
        with warnings.catch_warnings():
            # A lambda need not be written down here: the new layer gets the same function.
            warnings.filterwarnings("ignore", message="(?s).*includes a `lambda`")
            return old.get_config()
    except Exception as error:
        reason = error
    with contextlib.suppress(Exception), _stand_ins(old):
        return old.get_config()
    if _is_empty(old):
        return None
    with contextlib.suppress(Exception):
        return _from_attributes(old)
    raise UnsupportedLayerError(
        f"`{type(old).__name__}` '{path}' must define `get_config` (all its constructor arguments), as for "
        f"saving, so that it can be built again. Received: {sentence_of(reason)}"
    )


def _from_attributes(old: keras.layers.Layer) -> dict[str, Any]:
    """Return the arguments of a constructor, read from attributes of the same names.

    Raises:
        TypeError: An argument without a default has no such attribute, or it is not a plain value.
    """
    policy = old.dtype_policy
    named = keras.dtype_policies.get(policy.name) == policy
    # Keras records the arguments of a layer without `get_config` only if all are plain values.
    dtype = policy.name if named else policy
    config: dict[str, Any] = {"trainable": old.trainable, "dtype": dtype}
    for name, parameter in list(inspect.signature(type(old).__init__).parameters.items())[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            continue
        if name in config or name == "name":
            continue
        value = getattr(old, name, inspect.Parameter.empty)
        if isinstance(value, (bool, int, float, str, type(None))):
            config[name] = value
        elif parameter.default is inspect.Parameter.empty:
            raise TypeError(f"`{name}` is not an attribute")
    return config


def build_again(
    old: keras.Operation, path: str, write: Callable[[], dict[str, Any] | None], name: str
) -> keras.Operation:
    """Return a new layer or operation of the class of an old one.

    Args:
        old: Layer or operation.
        path: Its path, for errors.
        write: Function that returns the result of `configuration`, perhaps with other sizes.
        name: Name of the new one.

    Raises:
        UnsupportedLayerError: The constructor does not accept the configuration.
    """
    config = write()
    if config is None:
        return _copy_of_empty(old, name)
    if not isinstance(old, keras.layers.Layer):
        # Not every version of Keras takes a name here.
        new = type(old).from_config({k: v for k, v in config.items() if k != "name"})
        new.name = name
        return new
    if type(old) is keras.layers.Lambda:
        return keras.layers.Lambda(**config, name=name)
    try:
        new = _constructed(old, write, name)
        if not is_of_keras(type(old)):
            carry_forgotten(
                old, new, lambda: _constructed(old, lambda: configuration(old, path), name)
            )
        copy_vocabulary(old, new)
    except Exception as error:
        if _is_empty(old) and config == configuration(old, path):
            return _copy_of_empty(old, name)
        kind = type(old).__name__
        own = f"Let `{kind}.from_config(layer.get_config())` work, as for saving"
        advice = "Please report it" if is_of_keras(type(old)) else own
        raise UnsupportedLayerError(
            f"`{kind}` '{path}' could not be built again from its configuration ({sentence_of(error)}). "
            f"{advice}."
        ) from error
    return new


def _constructed(
    old: keras.layers.Layer, write: Callable[[], dict[str, Any] | None], name: str
) -> keras.layers.Layer:
    """Return a layer from a configuration. The functions and classes in it need not be registered."""
    config = write() or {}
    with keras.saving.custom_object_scope(own_objects(old)):
        try:
            return type(old).from_config({**config, "name": name})
        except Exception as error:
            first = error
        with contextlib.suppress(Exception):
            return _without_keras_keys(old, config, name)
        # A `from_config` that takes functions only as Keras writes them to a file.
        if any(map(inspect.isfunction, config.values())):
            with contextlib.suppress(Exception):
                return type(old)(**{**config, "name": name})
        with contextlib.suppress(Exception):
            return _without_unknown_keys(old, config, name)
        # Functions that cannot be written down, such as a lambda. They are carried over later.
        with contextlib.suppress(Exception):
            with _stand_ins(old):
                plain = write() or {}
            with contextlib.suppress(Exception):
                return type(old).from_config({**plain, "name": name})
            return _without_keras_keys(old, plain, name)
        # Code that Keras loads from a trusted file only, such as that of a `TorchModuleWrapper`.
        with contextlib.suppress(Exception):
            written: Any = keras.saving.serialize_keras_object(old)
            written = {**written, "config": {**config, "name": name}, "build_config": None}
            made: Any = keras.saving.deserialize_keras_object(written, safe_mode=False)
            return made
    raise first


def build_sublayers(
    new: keras.Operation, old: keras.Operation, args: tuple, kwargs: dict[str, Any]
) -> None:
    """Build the sublayers of a layer without a `build` that builds them: here, and when its file is read.

    Its call on symbols builds them, but not those that run in training only. A file must not hold the
    shape of its input: from this shape, Keras builds the layer when it reads the file, but not its sublayers,
    and then its call does not build them any more.

    Args:
        new: Layer that was called on symbols.
        old: The layer that it was made from.
        args: The arguments of that call, with symbols.
        kwargs: The same, by name.
    """
    if not isinstance(new, keras.layers.Layer) or not isinstance(old, keras.layers.Layer):
        return
    takes_training = "training" in inspect.signature(new.call).parameters
    if takes_training and len(new.weights) < len(old.weights):
        with contextlib.suppress(
            Exception
        ):  # Its weights are compared with those of the old layer.
            new.compute_output_spec(*args, **{**kwargs, "training": True})
    # Private touches: neither is there a public way to write no shape, nor to see who defined `build`.
    if getattr(new.build, "_is_default", False) and new._flatten_layers(include_self=False):
        setattr(new, "_build_shapes_dict", None)  # noqa: B010  (Keras's stubs do not have it)


def uncut_layer(old: keras.layers.Layer, path: str) -> keras.layers.Layer | None:
    """Return a built layer from the configuration of another one, or None if that is not possible."""
    with contextlib.suppress(Exception):
        new = _constructed(old, lambda: configuration(old, path), old.name)
        if old.built and not new.built:
            new.build_from_config(old.get_build_config())
        return new
    return None


def _without_keras_keys(
    old: keras.layers.Layer, config: dict[str, Any], name: str
) -> keras.layers.Layer:
    """Return a layer whose constructor does not take all keys that Keras writes."""
    accepted = inspect.signature(type(old).__init__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        raise TypeError("the constructor takes all keys")
    left = {k: v for k, v in config.items() if k in accepted or k not in _OF_KERAS}
    new = type(old).from_config({**left, "name": name} if "name" in accepted else left)
    new.name = name
    new.trainable = old.trainable
    new.dtype_policy = old.dtype_policy
    return new


def _without_unknown_keys(
    old: keras.layers.Layer, config: dict[str, Any], name: str
) -> keras.layers.Layer:
    """Return a layer whose `get_config` writes more than its constructor takes, such as computed sizes.

    Raises:
        TypeError: The new layer has another configuration.
    """
    known = {
        parameter
        for cls in type(old).__mro__
        if "__init__" in vars(cls)
        for parameter in inspect.signature(cls.__init__).parameters
    }
    new = type(old).from_config({k: v for k, v in {**config, "name": name}.items() if k in known})
    if {**new.get_config(), "name": name} != {**config, "name": name}:
        raise TypeError("the configuration is not the same")
    return new


@contextlib.contextmanager
def _stand_ins(layer: keras.layers.Layer) -> Iterator[None]:
    """Within the context, a user's functions and objects do not stand in the way of a configuration.

    A function becomes `keras.activations.linear`; a regularizer, constraint or initializer becomes None.
    What stands for what is of no account: the new layer gets the same objects as the old one.
    """
    before = []
    for part in layer._flatten_layers():
        found = {**functions_of(part, own=True), **objects_of(part)}
        own = {name: value for name, value in found.items() if not is_of_keras(value)}
        attributes = cast("dict[str, Any]", vars(part))
        before.append((attributes, own))
        for name in own:
            # Those that Keras gives to `add_weight`.
            optional = name.endswith(("_regularizer", "_constraint", "_initializer"))
            attributes[name] = None if optional else keras.activations.linear
    try:
        yield
    finally:
        for attributes, values in before:
            attributes.update(values)


def _is_empty(layer: keras.layers.Layer) -> bool:
    """Return whether a layer has neither variables nor sublayers."""
    # Private touch: there is no public way to the sublayers of a layer that is not a model.
    return not layer.variables and not layer._flatten_layers(include_self=False)


def _copy_of_empty(old: Any, name: str) -> Any:
    """Return a copy of an operation, or of a layer that has no variables and cannot write its arguments.

    If the layer can be made from its attributes and is the same then, the result can be saved. Keras
    forgets the arguments of `keras.layers.Identity(dtype=policy)`, for one.
    """
    if isinstance(old, keras.layers.Layer) and old.activity_regularizer is None:
        with contextlib.suppress(Exception):
            new = type(old)(**_from_attributes(old), name=name)
            new.get_config()
            before, after = dict(attributes(old)), dict(attributes(new))
            carrier = Carrier([(old, new)])
            if before.keys() == after.keys() and all(
                carrier.same(before[key], after[key]) for key in before
            ):
                return new
    return _twin(old, name)


def _twin(old: Any, name: str) -> Any:
    """Return another object with the attributes of an operation, or of a layer that has no variables.

    Private touch: the records of its calls are its own. Everything else may be shared, since it is only
    read.
    """
    new = object.__new__(type(old))
    attributes = cast("dict[str, Any]", vars(new))
    attributes.update(vars(old))
    attributes.update(name=name, _inbound_nodes=[], _outbound_nodes=[])
    return new
