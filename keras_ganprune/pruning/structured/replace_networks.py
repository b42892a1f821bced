"""Replaces the networks of a model by narrower ones, also in the middle of `fit`.

The model, its optimizers and the data stay the same objects. What changes: the networks of the model,
the variables that its optimizers train, and the compiled step, which is traced again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

from keras_ganprune.backend import tracing
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.rebuild_optimizers import rebuild_optimizers
from keras_ganprune.training import discovery

# An old network, the new network, and a `Cut` for every weight of the new one.
Replacement = tuple[keras.layers.Layer, keras.layers.Layer, Sequence[Cut]]


def replace_networks(model: keras.Model, replacements: Sequence[Replacement]) -> None:
    """Replace networks of a model by narrower ones, with everything that training knows of them.

    Each new network is set for every attribute that was the old one: of the model or of a layer in it,
    also inside lists, tuples and dicts. The optimizers stay the same objects, with their step count and
    learning rate. Their slots, averages (`use_ema`) and accumulated gradients are cut like the weights.
    Compiled functions are dropped; between two batches of `fit`, a new train function is made, which the
    next batch traces.

    The values of the new variables are not changed: assign them before. If anything cannot be done,
    nothing is changed. Callbacks that hold the old variables must be updated by the caller.

    Args:
        model: The model on which `fit` is called.
        replacements: Rows of (old network, new network, cuts), with a `Cut` for every weight of the new
            network. Networks that belong together (an average and its source) must be in one call.

    Raises:
        ArgumentTypeError: `model` is not a `keras.Model`, or a network is not a layer.
        InvalidArgumentError: A network is not an attribute of the model, or the cuts are not valid for
            it.
        UnbuiltModelError: A network has no weights yet.
        UnsupportedLayerError: Something else in the model uses the old network or its weights, or an
            optimizer keeps state in a way that is not known.

    Example:
    >>> class Net(keras.Model):
    ...     def __init__(self, units):
    ...         super().__init__()
    ...         self.head = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    >>> model, new = Net(3), keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> index = {2: (None, np.array([0, 2])), 1: (np.array([0, 2]),)}
    >>> pairs = zip(model.head.weights, new.weights)
    >>> cuts = [Cut(v, w, index[len(v.shape)]) for v, w in pairs]
    >>> replace_networks(model, [(model.head, new, cuts)])
    >>> [tuple(w.shape) for w in model.weights]
    [(4, 2), (2,)]
    """
    if not isinstance(model, keras.Model):
        raise ArgumentTypeError(
            f"`model` must be the `keras.Model` that is fitted. Received: {model!r} "
            f"(of type {type(model).__module__}.{type(model).__name__})."
        )
    rows = [(old, new, list(cuts)) for old, new, cuts in replacements]
    for old, new, cuts in rows:
        _check_networks(model, old, new)
        _check_cuts(old, new, cuts)
    by_old = _by_old(cut for _, _, cuts in rows for cut in cuts)
    staying = {id(v) for _, new, _ in rows for v in new.variables}
    gone = {id(v) for old, _, _ in rows for v in old.variables} - staying
    new_of = {id(old): new for old, new, _ in rows}
    holders = _layers_around(model, new_of)
    _check_holders(model, holders, rows, gone)
    rebuild_optimizers(model, by_old, [(old, new) for old, new, _ in rows])
    for holder in holders:
        for old, new, _ in rows:
            _put(holder, old, new)
    _forget_compiled(model, rows)


# --- checks before anything is changed -----------------------------------------------------------


def _check_networks(model: keras.Model, old: Any, new: Any) -> None:
    """Raise unless both networks are built and the new one is not in the model yet."""
    for name, network in (("old", old), ("new", new)):
        if not isinstance(network, keras.layers.Layer):
            raise ArgumentTypeError(
                f"The {name} network must be a Keras model or layer. Received: {network!r} "
                f"(of type {type(network).__module__}.{type(network).__name__})."
            )
        if not network.weights:
            raise UnbuiltModelError(
                f"The {name} network '{network.name}' has no weights yet. Call it once on a batch first."
            )
    if any(new is layer for layer in model._flatten_layers()):
        raise InvalidArgumentError(
            f"The new network '{new.name}' must be another object than the old one, not yet in the "
            f"{type(model).__name__}. Build it from the configuration of the old one."
        )


def _check_cuts(old: keras.layers.Layer, new: keras.layers.Layer, cuts: list[Cut]) -> None:
    """Raise unless there is a cut of the old network for every weight of the new one."""
    old_ids, cut_of = {id(v) for v in old.variables}, {id(cut.new): cut for cut in cuts}
    strangers = [cut.old.path for cut in cuts if id(cut.old) not in old_ids]
    if strangers:
        raise InvalidArgumentError(
            f"The cuts must be of variables of '{old.name}'. Received also: {', '.join(strangers[:5])}."
        )
    missing = [w.path for w in new.weights if id(w) not in cut_of]
    if missing:
        raise InvalidArgumentError(
            f"There must be a cut for every weight of the new '{new.name}'. Missing: "
            f"{', '.join(missing[:5])}."
        )
    old_trained, new_trained = ({id(w) for w in n.trainable_weights} for n in (old, new))
    different = [
        w.path
        for w in new.weights
        if (id(cut_of[id(w)].old) in old_trained) != (id(w) in new_trained)
    ]
    if different:
        raise InvalidArgumentError(
            "Weights must be trainable in the new network where they are in the old one. This does not "
            f"hold in '{new.name}' for {', '.join(different[:5])}. Set `trainable` of its layers as in the "
            "old network."
        )


def _by_old(cuts: Iterable[Cut]) -> dict[int, Cut]:
    """Return the cuts by the id of the old variable. Variables that networks share must stay shared."""
    by_old: dict[int, Cut] = {}
    by_new: dict[int, Cut] = {}
    for cut in cuts:
        other = by_old.setdefault(id(cut.old), cut)
        twin = by_new.setdefault(id(cut.new), cut)
        if other.new is not cut.new or twin.old is not cut.old:
            raise InvalidArgumentError(
                "Each old variable must become one new variable, so that networks share afterwards what "
                f"they share now. Received: '{cut.old.path}' and '{twin.old.path}' become "
                f"'{cut.new.path}' and '{other.new.path}'."
            )
    return by_old


def _children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the direct sublayers of a layer.

    Private touch: there is no public way to the sublayers of a layer that is not a model.
    """
    return layer._flatten_layers(include_self=False, recursive=False)


def _layers_around(model: keras.Model, networks: Iterable[int]) -> list[keras.layers.Layer]:
    """Return a model and the layers in it that are not inside some networks, given by id."""
    layers: list[keras.layers.Layer] = []
    waiting: list[keras.layers.Layer] = [model]
    seen = set(networks)
    while waiting:
        layer = waiting.pop()
        if id(layer) not in seen:
            seen.add(id(layer))
            layers.append(layer)
            waiting += _children(layer)
    return layers


def _check_holders(
    model: keras.Model, holders: list[keras.layers.Layer], rows: list, gone: set[int]
) -> None:
    """Raise unless the old networks can be taken out and nothing else uses them.

    Args:
        model: The model.
        holders: The layers that are not inside the networks.
        rows: Rows of (old network, new network, cuts).
        gone: Ids of the variables that the model has no more afterwards.
    """
    for old, _, _ in rows:
        places = [holder for holder in holders if list(_places(holder, old))]
        for holder in holders:
            # Private touch: a functional model always runs the graph that it was made with, and ignores
            # its attributes.
            in_graph = any(op is old for op in getattr(holder, "_operations", None) or ())
            child = any(layer is old for layer in _children(holder))
            if in_graph or (child and holder not in places):
                raise UnsupportedLayerError(
                    f"'{old.name}' is a part of the functional or Sequential model '{holder.name}', whose "
                    "graph cannot be given another network. Call the networks in `train_step`, or leave "
                    f"'{holder.name}' out of the {type(model).__name__}."
                )
        if not places:
            raise InvalidArgumentError(
                f"'{old.name}' must be an attribute of the {type(model).__name__}, perhaps in a list or "
                f"dict. Known: {', '.join(sorted(discovery.networks(model))) or '(none)'}."
            )
    for holder in holders:
        # Private touch: there is no public way to ask for a layer's own variables.
        variables = [*holder._trainable_variables, *holder._non_trainable_variables]
        shared = [v.path for v in variables if id(v) in gone]
        if shared:
            raise UnsupportedLayerError(
                f"'{holder.name}' uses {', '.join(shared[:5])} too, and would keep the old weights. "
                "Replace the network that it belongs to in the same call, or untie it first."
            )


# --- the replacement -----------------------------------------------------------------------------

# Attributes that Keras derives from the others.
_BOOKKEEPING = ("_layers", "_metrics", "_functional", "_tracker", "_compiled_trainable_state")
_GRAPH = ("_operations", "_operations_by_depth", "_nodes", "_nodes_by_depth", "_inbound_nodes")


def _places(holder: Any, old: Any) -> Iterator[str]:
    """Yield the names of the attributes that are an old network or contain it."""
    for name, value in discovery.attributes(holder).items():
        # TensorFlow updates its own attributes (`_self_...`) when another attribute is set.
        if name not in _BOOKKEEPING + _GRAPH and not name.startswith("_self_"):
            if value is old or _contains(value, old):
                yield name


def _contains(value: Any, network: Any) -> bool:
    """Return whether lists, tuples and dicts contain a network, at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, (list, tuple)) and any(
        v is network or _contains(v, network) for v in value
    )


def _exchanged(value: Any, old: Any, new: Any) -> Any:
    """Return a value with the new network in it. Lists and dicts are changed in place."""
    if value is old:
        return new
    if isinstance(value, tuple) and _contains(value, old):
        entries = [_exchanged(v, old, new) for v in value]
        make = getattr(value, "_make", None)  # of a named tuple
        # `__class__`, since TensorFlow wraps a tuple that is an attribute.
        return value.__class__(entries) if make is None else make(entries)
    if isinstance(value, (list, dict)):
        for key, v in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if v is old or _contains(v, old):
                value[key] = _exchanged(v, old, new)
    return value


def _put(holder: keras.layers.Layer, old: Any, new: Any) -> None:
    """Set the new network for every attribute that was the old one.

    Private touch: a built layer is locked and takes no new sublayer; and a newly tracked sublayer would
    come last, with the old one still in `layers`. So the entry of the tracker is exchanged in its place
    first. Then Keras knows the new network, and setting the attributes adds nothing.
    """
    names = list(_places(holder, old))
    if holder._tracker.is_in_store("layers", old):
        holder._tracker.replace_tracked_value("layers", old, new)
    for name in names:
        before = discovery.attributes(holder)[name]
        after = _exchanged(before, old, new)
        if after is not before:
            setattr(holder, name, after)


def _forget_compiled(model: keras.Model, rows: list) -> None:
    """Drop the functions that were compiled with the old networks.

    In the middle of `fit`, a new train function is made.

    Private touch: `compile` records which layers are trainable. Layers that are not in that record would
    make Keras ask for another `compile`.
    """
    trainable = getattr(model, "_compiled_trainable_state", None)
    if trainable is not None:
        remaining = {id(layer) for layer in model._flatten_layers()}
        for old, new, _ in rows:
            for layer in old._flatten_layers():
                if id(layer) not in remaining:
                    trainable.pop(layer, None)
            trainable.update({layer: layer.trainable for layer in new._flatten_layers()})
    is_compiled = model.train_function is not None
    model.train_function = model.test_function = model.predict_function = None
    if is_compiled:
        # `fit` uses the attribute in each batch, but sets it only before the first.
        tracing.remake(model)
