"""Gives a layer that was built again the state of the old one, cut where the layer is cut.

A layer has more state than its weights: what `load_own_variables` computes from them, vocabularies, the
states of a stateful recurrent layer, seeds, and the attributes that its constructor made: functions,
constants, objects of a user. What cannot be cut stays as the constructor made it; the comparison with the
user's model finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.layers.copy_state import copy_assets, copy_state
from keras_ganprune.layers.guard import MaskConstraint
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.structured.cuts import take
from keras_ganprune.pruning.structured.layer_objects import (
    attributes_of,
    functions_of,
    objects_of,
)

# The kept positions along each axis of a variable, or None for an axis that stays.
Index = Callable[[keras.Variable], Sequence["np.ndarray | None"]]


def copy_vocabulary(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copy the assets of a layer before it is built.

    Args:
        old: Layer.
        new: Layer of the same class, with the same configuration.
    """
    for one, other in _pairs(old, new):
        # Private touch: Keras's `load_assets` reads this attribute, which only `adapt` makes.
        weights = getattr(one, "idf_weights_const", None)
        if weights is not None and not hasattr(other, "idf_weights_const"):
            _set(other, "idf_weights_const", weights)
    copy_assets(old, new)


def carry_forgotten(
    old: keras.layers.Layer, new: keras.layers.Layer, whole: Callable[[], keras.layers.Layer]
) -> None:
    """Give a layer that is not built yet the data that `get_config` of the old one does not hold.

    What an old layer has, and a layer made from its configuration has not, was forgotten, or drawn by the
    constructor. What the cut has changed stays.

    Args:
        old: Layer.
        new: Layer of the same class, made from its configuration, perhaps with other sizes.
        whole: Function that makes a layer from the configuration of the old one without a cut.
    """
    present = vars(new)
    found = {
        name: value
        for name, value in attributes_of(old).items()
        if name in present and _is_data(value) and not _is_same(value, present[name])
    }
    if not found:
        return
    uncut = vars(whole())
    for name, value in found.items():
        if name in uncut and _is_same(present[name], uncut[name]):
            _set(new, name, value.copy() if isinstance(value, np.ndarray) else value)


# Types of attributes that are data.
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def _is_data(value: Any) -> bool:
    """Return whether a value is a number, a text, an array, or a tuple of them."""
    if isinstance(value, tuple):
        return all(_is_data(entry) for entry in value)
    return isinstance(value, _PLAIN) or _is_array(value)


def _is_same(one: Any, other: Any) -> bool:
    if _is_array(one) and _is_array(other):
        return np.array_equal(np.asarray(_array(one)), np.asarray(_array(other)))
    return type(one) is type(other) and not _is_array(one) and bool(one == other)


def carry_state(
    old: keras.layers.Layer, new: keras.layers.Layer, index: Index, whole: bool
) -> None:
    """Give a built layer, and the layers in it, the state of an old one that is not weights.

    The weights have been assigned before.

    Args:
        old: Layer.
        new: Layer of the same class, perhaps with fewer channels.
        index: Function that returns the kept positions along each axis of a variable of `old`.
        whole: Whether the layer and its tensors have all their channels. Then all its data are copied.
    """
    for one, other in _pairs(old, new):
        _carry_objects(one, other)
        if whole:
            copy_state(one, other)
            continue
        _carry_variables(one, other, index)
        _carry_arrays(one, other)
        _finish(other)


def carry_penalties(old: keras.Variable, new: keras.Variable) -> None:
    """Give a new variable the regularizer and the constraint of the old one, without its mask."""
    constraint = old.constraint
    while isinstance(constraint, MaskConstraint):
        constraint = constraint.inner
    for name, value in (("regularizer", old.regularizer), ("constraint", constraint)):
        if getattr(new, name) is not value:
            setattr(new, name, value)


def _pairs(
    old: keras.layers.Layer, new: keras.layers.Layer
) -> Iterator[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Yield a layer and the layers in it, each with its new one; the inner ones first.

    Private touch: there is no public way to the sublayers of a layer that is not a model.
    """
    if old is new:
        return
    inside = [part._flatten_layers(include_self=False, recursive=False) for part in (old, new)]
    if [type(a) for a in inside[0]] == [type(b) for b in inside[1]]:
        for one, other in zip(*inside, strict=True):
            yield from _pairs(one, other)
    yield old, new


def _set(layer: keras.layers.Layer, name: str, value: Any) -> None:
    """Set an attribute of a built layer, past the tracking of Keras and the frameworks."""
    object.__setattr__(layer, name, value)


def _carry_objects(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Carry functions, regularizers, constraints and initializers over by identity."""
    for name, value in {**functions_of(old), **objects_of(old)}.items():
        _set(new, name, value)


def _extra_variables(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the variables of a layer that are not its weights, by attribute and position."""
    weights = {id(w) for w in layer.weights}
    found: dict[str, Any] = {}
    for name, value in attributes_of(layer).items():
        for place, leaf in enumerate(_leaves(value)):
            is_variable = isinstance(leaf, keras.Variable) or _is_framework_variable(leaf)
            if is_variable and id(leaf) not in weights:
                found[f"{name}.{place}"] = leaf
    # Private touch: there is no public list of the seeds of one layer.
    for place, seed in enumerate(layer._seed_generators):
        found[f"_seed_generators.{place}"] = seed.state
    return found


def _is_framework_variable(value: Any) -> bool:
    """Return whether a value is a variable of a framework, such as a `tf.Variable`."""
    return hasattr(value, "assign") and hasattr(value, "shape") and hasattr(value, "dtype")


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple, dict)):
        # Keras annotates that `flatten` may return None, which it never does.
        return cast("list[Any]", keras.tree.flatten(value))
    return [value]


def _carry_variables(old: keras.layers.Layer, new: keras.layers.Layer, index: Index) -> None:
    """Assign the variables that are no weights: states, seeds, variables of a framework."""
    others = _extra_variables(new)
    for name, variable in _extra_variables(old).items():
        other = others.get(name)
        if other is None or other is variable:
            continue
        is_keras = isinstance(variable, keras.Variable)
        value = to_numpy(variable) if is_keras else _array(variable)
        if value is None:
            continue
        if is_keras:
            value = take(value, index(variable))
        if value.shape == tuple(other.shape):
            other.assign(value)


def _array(value: Any) -> np.ndarray | None:
    try:
        return np.asarray(keras.ops.convert_to_numpy(value))
    except Exception:  # a string, a ragged or symbolic tensor
        return None


def _is_array(value: Any) -> bool:
    """Return whether a value is an array or a tensor, not a variable."""
    if isinstance(value, (keras.Variable, keras.KerasTensor)) or _is_framework_variable(value):
        return False
    if isinstance(value, np.ndarray):
        return True
    return bool(keras.ops.is_tensor(value)) and _array(value) is not None


def _carry_arrays(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Carry the arrays and tensors over that have the same shape in the cut layer."""
    present = vars(new)
    for name, value in attributes_of(old).items():
        other: Any = present.get(name)
        if _is_array(value) and _is_array(other) and tuple(other.shape) == tuple(value.shape):
            copied = value.copy() if isinstance(value, np.ndarray) else keras.ops.copy(value)
            _set(new, name, copied)


def _finish(layer: keras.layers.Layer) -> None:
    """Let a layer that loads in a way of its own compute what follows from its weights."""
    base = keras.layers.Layer
    if type(layer).load_own_variables is base.load_own_variables:
        return
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    layer.load_own_variables({key: _stored(value) for key, value in store.items()})


def _stored(value: Any) -> Any:
    """Return a value as a file would give it back."""
    if isinstance(value, keras.Variable):
        return to_numpy(value)
    return np.asarray(keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value)
