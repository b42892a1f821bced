"""Gives a layer that was built again the state of the old one, cut where the layer is cut.

A layer has more state than its weights: what `load_own_variables` computes from them, vocabularies, the
states of a stateful recurrent layer, seeds, and the attributes that its constructor made: functions,
constants, objects of a user. What cannot be cut stays as the constructor made it; the comparison with the
user's model finds it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.carrier import Carrier, NotCarriedError
from keras_ganprune.layers.copy_state import (
    attributes,
    carry_attribute,
    copy_assets,
    copy_state,
    is_of_keras,
)
from keras_ganprune.layers.guard import MaskConstraint
from keras_ganprune.layers.kernels import own_variables
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.structured.cuts import take
from keras_ganprune.pruning.structured.layer_objects import functions_of, objects_of

# The kept positions along each axis of a variable, or None for an axis that stays.
Index = Callable[[keras.Variable], Sequence["np.ndarray | None"]]


def copy_vocabulary(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copy the assets of a layer before it is built.

    Args:
        old: Layer.
        new: Layer of the same class, with the same configuration.
    """
    for one, other in layer_pairs(old, new):
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
    present, carrier = vars(new), Carrier()
    found = {
        name: value
        for name, value in attributes(old)
        if name in present
        and not carrier.holds_state(value)
        and not carrier.same(value, present[name])
    }
    if not found:
        return
    uncut = vars(whole())
    for name, value in found.items():
        if name in uncut and carrier.same(uncut[name], present[name]):
            with contextlib.suppress(NotCarriedError):  # `carry_state` names it.
                _set(new, name, carrier.carried(value))


def carry_state(
    old: keras.layers.Layer,
    new: keras.layers.Layer,
    index: Index,
    uncut: Callable[[], keras.layers.Layer | None] | None,
    carrier: Carrier,
) -> None:
    """Give a built layer, and the layers in it, the state of an old one that is not weights.

    The weights have been assigned before.

    Args:
        old: Layer.
        new: Layer of the same class, perhaps with fewer channels.
        index: Function that returns the kept positions along each axis of a variable of `old`.
        uncut: Function that makes a built layer from the configuration of the old one without a cut, or
            None if it cannot. None if `new` and its tensors have all their channels: then all its data are
            copied.
        carrier: Knows all layers of both networks.

    Raises:
        NotCarriedError: An attribute cannot be copied.
    """
    pairs = layer_pairs(old, new)
    fresh: dict[int, keras.layers.Layer] | None = None
    for one, other in pairs:
        _carry_objects(one, other)
        if uncut is None:
            copy_state(one, other, carrier)
            continue
        if fresh is None and not is_of_keras(type(one)):
            made = uncut()
            fresh = {} if made is None else {id(a): b for a, b in layer_pairs(old, made)}
        _carry_variables(one, other, index)
        _carry_arrays(one, other)
        _carry_later(one, other, (fresh or {}).get(id(one)), carrier)
        _carry_ties(one, other, carrier)
        _finish(other)


def _carry_later(
    old: keras.layers.Layer,
    new: keras.layers.Layer,
    uncut: keras.layers.Layer | None,
    carrier: Carrier,
) -> None:
    """Carry what the old layer got after its construction.

    That is what the new layer does not have, and what a layer from the configuration of the old one has
    with another value, which the cut has not changed.
    """
    present = vars(new)
    built, cut = (
        Carrier([] if uncut is None else [(a, b)]) for a, b in ((old, uncut), (uncut, new))
    )
    for name, value in attributes(old):
        if name in present:
            if uncut is None or name not in vars(uncut):
                continue
            whole = vars(uncut)[name]
            if built.same(value, whole) or not cut.same(whole, present[name]):
                continue
        carry_attribute(carrier, name, value, old, new)


def tied_by_hand(layer: keras.layers.Layer) -> tuple[str, str] | None:
    """Return the first attribute that is a variable of another layer, and the path of it, or None."""
    own = {id(v) for v in layer.variables}
    for name, value in attributes(layer):
        if isinstance(value, keras.Variable) and id(value) not in own:
            return name, value.path
    return None


def _carry_ties(old: keras.layers.Layer, new: keras.layers.Layer, carrier: Carrier) -> None:
    """Give a layer the new variable of another layer whose variable the old one uses (tied by hand)."""
    own = {id(v) for v in own_variables(old)}
    for name, value in attributes(old):
        if isinstance(value, keras.Variable) and id(value) not in own and id(value) in carrier.new:
            _set(new, name, carrier.new[id(value)])


def carry_penalties(old: keras.Variable, new: keras.Variable) -> None:
    """Give a new variable the regularizer and the constraint of the old one, without its mask."""
    constraint = old.constraint
    while isinstance(constraint, MaskConstraint):
        constraint = constraint.inner
    for name, value in (("regularizer", old.regularizer), ("constraint", constraint)):
        if getattr(new, name) is not value:
            setattr(new, name, value)


def layer_pairs(
    old: keras.layers.Layer, new: keras.layers.Layer
) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Return a layer and the layers in it, each with its new one; the inner ones first.

    Private touch: there is no public way to the sublayers of a layer that is not a model.
    """
    if old is new:
        return []
    inside = [part._flatten_layers(include_self=False, recursive=False) for part in (old, new)]
    pairs = []
    if [type(a) for a in inside[0]] == [type(b) for b in inside[1]]:
        for one, other in zip(*inside, strict=True):
            pairs += layer_pairs(one, other)
    return [*pairs, (old, new)]


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
    for name, value in attributes(layer):
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
    """Return what lists, tuples and dicts hold. (`keras.tree` sorts keys, which may not be comparable.)"""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for entry in value for leaf in _leaves(entry)]
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
    for name, value in attributes(old):
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
