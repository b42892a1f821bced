"""What a layer holds beside its weights, in a form that another process can read."""

from __future__ import annotations

import builtins
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.copy_state import attributes, is_function, is_keras_class
from keras_ganprune.layers.object_parts import (
    NOTHING,
    PLAIN,
    as_array,
    is_framework_variable,
    is_tensor,
    is_variable,
    same_array,
)


class Snapshot(dict):
    """The attributes of an object by name, with arrays for variables and tensors."""


def snapshot(layer: keras.layers.Layer) -> Snapshot:
    """Return what `copy_data` copies, as arrays, numbers and texts that another process can read."""
    values = _reduced(dict(attributes(layer)), Snapshot, {id(layer)})
    buffers = (
        vars(layer).get("_buffers") or {}
    )  # those of PyTorch, which another backend has as attributes
    return Snapshot(values, **{k: as_array(v) for k, v in buffers.items() if v is not None})


def restore(values: Snapshot, new: keras.layers.Layer) -> None:
    """Write a snapshot of a layer into a layer of the same class."""
    buffers = vars(new).get("_buffers") or {}
    for name, value in values.items():
        if name in buffers:
            buffers[name].data.copy_(keras.ops.convert_to_tensor(value))
            continue
        present = vars(new).get(name, NOTHING)
        result = _restored(value, present, not is_keras_class(type(new)))
        if result is not present:
            object.__setattr__(new, name, result)


def _restored(value: Any, present: Any, plain: bool) -> Any:
    """Return what stands for an entry of a snapshot: the present value, if it can be filled.

    Args:
        value: Entry of a snapshot.
        present: What the layer has in this place, or `NOTHING`.
        plain: Whether numbers and texts count. The configurations of Keras's own layers have them.
    """
    if value is NOTHING:  # only the process that wrote it has it, such as a layer in a list
        return present
    if isinstance(value, np.ndarray):
        if is_variable(present):
            if tuple(present.shape) == tuple(value.shape):
                present.assign(value)
            return present
        tensor = not isinstance(present, np.ndarray) and keras.ops.is_tensor(present)
        made = keras.ops.convert_to_tensor(value) if tensor else value
        return present if same_array(made, present) else made
    if isinstance(value, Snapshot):
        if _has_own_data(present):
            for name, entry in value.items():
                result = _restored(entry, vars(present).get(name, NOTHING), plain)
                if result is not vars(present).get(name, NOTHING):
                    object.__setattr__(present, name, result)
        return present
    if isinstance(value, dict) and isinstance(present, dict):
        for name, entry in value.items():
            result = _restored(entry, present.get(name, NOTHING), plain)
            if result is not NOTHING:
                present[name] = result
        return present
    if isinstance(value, (list, tuple)) and isinstance(present, (list, tuple)):
        if len(value) == len(present):
            entries = [_restored(v, p, plain) for v, p in zip(value, present, strict=True)]
            same = all(a is b for a, b in zip(entries, present, strict=True))
            return present if same else type(value)(entries)
    return value if plain else present


def _reduced(values: Any, kind: type, seen: set[int]) -> Any:
    """Return a dict, or the values of a dict as a list, without what only this process has."""
    entries = {key: _reduced_value(value, seen) for key, value in values.items()}
    if issubclass(kind, dict):
        return kind((k, v) for k, v in entries.items() if v is not NOTHING)
    return kind(entries.values())


def _reduced_value(value: Any, seen: set[int]) -> Any:
    if isinstance(value, keras.layers.Layer) or is_function(value):
        return NOTHING
    if isinstance(value, keras.Variable) or is_framework_variable(value) or is_tensor(value):
        return as_array(value)
    if isinstance(value, (np.ndarray, np.generic, *PLAIN)):
        return value
    if id(value) in seen:
        return NOTHING
    seen = {*seen, id(value)}
    if isinstance(value, dict):
        return _reduced(value, dict, seen)
    if isinstance(value, (list, tuple)):
        kind = tuple if isinstance(value, tuple) else list
        return _reduced(dict(enumerate(value)), kind, seen)
    return _reduced(vars(value), Snapshot, seen) if _has_own_data(value) else NOTHING


def _has_own_data(value: Any) -> bool:
    """Return whether the attributes of an object are copied: of a user's own class, or a seed generator."""
    own = not _is_framework_class(type(value))
    return hasattr(value, "__dict__") and (own or isinstance(value, keras.random.SeedGenerator))


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
