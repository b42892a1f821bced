"""The state of a layer, copied to another layer of the same class: weights, assets, attributes, functions."""

from __future__ import annotations

import builtins
import copy as shallow
import functools
import inspect
import pathlib
import tempfile
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.kernels import own_variables
from keras_ganprune.layers.tensors import to_numpy

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
# Attributes that Keras sets later, in `compile`, `fit`, `build` or a call. They are no part of what a
# layer computes.
_LATER = {
    "_functional",
    "_compile_config",
    "_compiled_trainable_state",
    "_eval_epoch_iterator",
    "history",
    "optimizer",
    "stop_predicting",
    "stop_training",
    "pruning_masks",
    "call",
}


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


def copy_state(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copy all that one layer holds to another layer of its class, but not its sublayers.

    Args:
        old: Built layer. It is not changed.
        new: Built layer of the same class and shapes.
    """
    carry_functions(old, new)
    copy_weights(old, new)
    copy_data(old, new)


def copy_weights(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copy weights and assets, such as the vocabulary of a lookup, by the layer's own methods for saving."""
    store: dict[str, Any] = {}
    old.save_own_variables(store)
    # Arrays, not variables: on JAX two variables would hold the same array, and a step may donate it.
    arrays = {key: _copied(value) for key, value in store.items()}
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
        other.assign(_copied(variable))


def _copied(value: Any) -> np.ndarray:
    return np.array(to_numpy(value) if _is_tensor(value) else value)


def carry_functions(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Give a layer the very functions of another: activations, the function of a `Lambda`, own callables.

    A configuration has only the name of a function, and a name such as 'relu' may mean Keras's.
    """
    _Carrier(functions=True).attributes(old, new)


def copy_data(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copy what a layer holds beside its weights and functions.

    These are states and seeds, arrays and tensors that `__init__` made, variables of TensorFlow or PyTorch,
    and, for classes that are not Keras's, numbers and texts that `get_config` may have forgotten.
    """
    if new.trainable != old.trainable:
        new.trainable = old.trainable
    _Carrier(data=True, plain=not is_keras_class(type(old))).attributes(old, new)
    for kind in ("_buffers", "_parameters"):  # torch.nn.Module keeps them apart
        _copy_torch(vars(old).get(kind), vars(new).get(kind))


def is_of_keras(thing: Any) -> bool:
    """Return whether a class or function is a part of Keras."""
    return str(getattr(thing, "__module__", "")).split(".")[0] == "keras"


def is_keras_class(cls: type) -> bool:
    """Return whether a class is one of Keras, or Keras's with a mask."""
    return is_of_keras(getattr(cls, "plain_class", cls))


@functools.cache
def _base_attributes() -> frozenset[str]:
    """Return the names of the attributes that Keras gives every layer and model."""
    return frozenset(
        {*vars(keras.layers.Layer()), *vars(keras.Model()), *_LATER} - {"activity_regularizer"}
    )


def attributes(layer: keras.layers.Layer) -> list[tuple[str, Any]]:
    """Return (name, value) for each attribute of a layer that its own class made."""
    return [
        (name, value)
        for name, value in list(vars(layer).items())
        if name not in _base_attributes() and not name.startswith("_self_")
    ]


def is_function(value: Any) -> bool:
    """Return whether a value is a function. A method of a layer belongs to that layer."""
    if isinstance(value, functools.partial):
        parts = (value.func, *value.args, *value.keywords.values())
        return not any(_belongs_to_layer(part) for part in parts)
    return isinstance(value, _FUNCTIONS) and not _belongs_to_layer(value)


def _belongs_to_layer(value: Any) -> bool:
    owner = value if isinstance(value, keras.layers.Layer) else getattr(value, "__self__", None)
    return isinstance(owner, (keras.layers.Layer, keras.Variable))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.Variable) or bool(keras.ops.is_tensor(value))


def _is_framework_variable(value: Any) -> bool:
    """Return whether a value is a variable of TensorFlow that Keras does not own."""
    return hasattr(value, "assign") and hasattr(value, "read_value") and hasattr(value, "shape")


class Snapshot(dict):
    """The attributes of an object by name, with arrays for variables and tensors."""


def snapshot(layer: keras.layers.Layer) -> Snapshot:
    """Return what `copy_data` copies, as arrays, numbers and texts that another process can read."""
    values = _reduced(dict(attributes(layer)), Snapshot, {id(layer)})
    buffers = (
        vars(layer).get("_buffers") or {}
    )  # those of PyTorch, which another backend has as attributes
    return Snapshot(values, **{k: _copied(v) for k, v in buffers.items() if v is not None})


def restore(values: Snapshot, new: keras.layers.Layer) -> None:
    """Write a snapshot of a layer into a layer of the same class."""
    carrier = _Carrier(data=True, plain=not is_keras_class(type(new)))
    put = functools.partial(object.__setattr__, new)
    buffers = vars(new).get("_buffers") or {}
    for name, value in values.items():
        if name in buffers:
            buffers[name].data.copy_(keras.ops.convert_to_tensor(value))
        else:
            carrier.value(vars(new), name, value, put)


# A class, so it is the same object in every process.
_NOTHING = inspect.Parameter.empty


def _reduced(values: Any, kind: type, seen: set[int]) -> Any:
    """Return a dict, or the values of a dict as a list, without what only this process has."""
    entries = {key: _reduced_value(value, seen) for key, value in values.items()}
    if issubclass(kind, dict):
        return kind((k, v) for k, v in entries.items() if v is not _NOTHING)
    return kind(entries.values())


def _reduced_value(value: Any, seen: set[int]) -> Any:
    if isinstance(value, keras.layers.Layer) or is_function(value):
        return _NOTHING
    if isinstance(value, keras.Variable) or _is_framework_variable(value) or _is_tensor(value):
        return _copied(value)
    if isinstance(value, (np.ndarray, np.generic, *_PLAIN)) or _is_plain_tuple(value):
        return value
    if id(value) in seen:
        return _NOTHING
    seen = {*seen, id(value)}
    if isinstance(value, dict):
        return _reduced(value, dict, seen)
    if isinstance(value, (list, tuple)):
        kind = tuple if isinstance(value, tuple) else list
        return _reduced(dict(enumerate(value)), kind, seen)
    return _reduced(vars(value), Snapshot, seen) if _has_own_data(value) else _NOTHING


def _has_own_data(value: Any) -> bool:
    """Return whether the attributes of an object are copied: of a user's own class, or a seed generator."""
    own = not _is_framework_class(type(value))
    return hasattr(value, "__dict__") and (own or isinstance(value, keras.random.SeedGenerator))


class _Carrier:
    """Copies values of one layer to their places in another.

    Args:
        functions: Whether functions are copied, by identity.
        data: Whether variables, arrays and tensors are copied, by value.
        plain: Whether numbers and texts are copied.
    """

    def __init__(self, *, functions: bool = False, data: bool = False, plain: bool = False):
        self.functions = functions
        self.data = data
        self.plain = plain
        self.seen: set[int] = set()

    def attributes(self, old: Any, new: Any) -> None:
        """Copy the attributes of a layer."""
        self.seen.add(id(old))
        put = functools.partial(object.__setattr__, new)
        for name, value in attributes(old):
            self.value(vars(new), name, value, put)

    def value(self, holder: Any, key: Any, value: Any, put: Callable[[Any, Any], None]) -> None:
        """Copy one value, and what is inside it.

        Args:
            holder: The dict or list that has the present value.
            key: Key or index in it.
            value: The value in the old layer.
            put: Function of key and value that replaces the present value.
        """
        has = key in holder if isinstance(holder, dict) else key < len(holder)
        current = holder[key] if has else None
        if value is current or value is _NOTHING or isinstance(value, keras.layers.Layer):
            return
        if is_function(value):
            if self.functions and not isinstance(current, types.MethodType):
                put(key, value)
        elif isinstance(value, keras.Variable) or _is_framework_variable(value):
            if self.data:
                _assign(current, value)
        elif isinstance(value, (np.ndarray, np.generic)) or _is_tensor(value):
            if self.data and not _same_array(value, current):
                self.array(key, value, current, put)
        elif isinstance(value, _PLAIN) or _is_plain_tuple(value):
            if self.plain and not (type(current) is type(value) and current == value):
                put(key, value)
        elif not has and self.plain and _is_data(value):
            put(key, shallow.deepcopy(value))
        elif id(value) not in self.seen:
            self.seen.add(id(value))
            self._inside(current, key, value, put)

    def array(self, key: Any, value: Any, current: Any, put: Callable[[Any, Any], None]) -> None:
        """Copy an array. In a snapshot it may stand for a variable or a tensor."""
        if isinstance(current, keras.Variable) or _is_framework_variable(current):
            _assign(current, value)
        elif isinstance(value, np.ndarray) and _is_tensor(current):
            put(key, keras.ops.convert_to_tensor(value))
        else:
            put(key, _own_copy(value))

    def _inside(self, current: Any, key: Any, value: Any, put: Callable[[Any, Any], None]) -> None:
        """Copy the entries of a container, or the attributes of an object."""
        if isinstance(value, Snapshot):
            if _has_own_data(current):
                setter = functools.partial(object.__setattr__, current)
                for name, entry in value.items():
                    self.value(vars(current), name, entry, setter)
        elif isinstance(value, dict) and isinstance(current, dict):
            for name, entry in value.items():
                self.value(current, name, entry, current.__setitem__)
        elif isinstance(value, list) and isinstance(current, list):
            if len(value) != len(current) and self.plain and _is_data(value):
                current[:] = shallow.deepcopy(list(value))
                return
            for i, entry in enumerate(value[: len(current)]):
                self.value(current, i, entry, current.__setitem__)
        elif isinstance(value, tuple) and isinstance(current, tuple) and len(value) == len(current):
            entries = list(current)
            for i, entry in enumerate(value):
                self.value(entries, i, entry, entries.__setitem__)
            if any(a is not b for a, b in zip(entries, current, strict=True)):
                put(key, tuple(entries))
        elif type(value) is type(current) and _has_own_data(value):
            setter = functools.partial(object.__setattr__, current)
            for name, entry in list(vars(value).items()):
                self.value(vars(current), name, entry, setter)


def _is_framework_class(cls: type) -> bool:
    return cls.__module__.split(".")[0] in {
        "keras",
        "keras_ganprune",
        "tensorflow",
        "torch",
        "jax",
        "jaxlib",
        "numpy",
        "threading",
        builtins.__name__,
    }


def _is_plain_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(entry, _PLAIN) or _is_plain_tuple(entry) for entry in value
    )


def _is_data(value: Any) -> bool:
    """Return whether a container holds only numbers, texts and arrays."""
    if isinstance(value, dict):
        return all(_is_data(entry) for entry in value.values())
    if isinstance(value, (list, tuple, set)):
        return all(_is_data(entry) for entry in value)
    return isinstance(value, (*_PLAIN, np.ndarray, np.generic))


def _same_array(value: Any, current: Any) -> bool:
    if not (_is_tensor(current) or isinstance(current, (np.ndarray, np.generic))):
        return False
    if type(value) is not type(current) or tuple(value.shape) != tuple(current.shape):
        return False
    return _copied(value).tobytes() == _copied(current).tobytes() and value.dtype == current.dtype


def _own_copy(value: Any) -> Any:
    """Return a copy of an array or tensor. Tensors of TensorFlow and JAX cannot change."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.detach().clone() if hasattr(value, "detach") else value


def _assign(current: Any, value: Any) -> None:
    """Write the value of a variable into its counterpart of the same shape."""
    if hasattr(current, "assign") and tuple(current.shape) == tuple(value.shape):
        current.assign(_copied(value))


def _copy_torch(old: Any, new: Any) -> None:
    """Copy buffers and parameters of a torch.nn.Module that Keras does not track."""
    for name, value in (old or {}).items():
        current = (new or {}).get(name)
        if value is not None and current is not None and value.shape == current.shape:
            current.data.copy_(value.data)
