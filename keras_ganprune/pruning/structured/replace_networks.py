"""Narrower networks in the place of the old ones, in a model that may be in the middle of `fit`.

The model, its optimizers and the data stay the objects they were. What changes is which networks the
model has, which variables its optimizers train, and the step, which is traced once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

from keras_ganprune.backend import tracing
from keras_ganprune.errors import InvalidArgumentError, UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.rebuild_optimizers import rebuild_optimizers
from keras_ganprune.training import discovery

Replacement = tuple[keras.layers.Layer, keras.layers.Layer, Sequence[Cut]]


def replace_networks(model: keras.Model, replacements: Sequence[Replacement]) -> None:
    """Put narrower networks in the place of old ones, with everything that training knows of them.

    Each new network becomes every attribute that the old one was, of the model or of a layer in it,
    also inside lists, tuples and dicts. The optimizers stay the objects they are, with their count of
    steps and their learning rate; their slots, averages (`use_ema`) and gradients that are being
    accumulated are cut like the weights. Compiled functions are dropped; between two batches of `fit`
    there is a new train function, which the next batch traces.

    The values of the new variables are left alone: they should be in them already. Nothing is changed
    if anything cannot be done. Callbacks that hold the old variables have to be told by the caller.

    Args:
        model: The model that `fit` is called on.
        replacements: Rows of (old network, new network, cuts), with a `Cut` for every weight of the new
            network. Networks that belong together (an average and what it averages) go in one call.

    Raises:
        InvalidArgumentError: a network is not an attribute of the model, or the cuts do not fit.
        UnbuiltModelError: a network has no weights yet.
        UnsupportedLayerError: something else in the model is made of the old network, or an optimizer
            keeps state in a way that is not known.

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
        raise UnsupportedLayerError(
            f"`model` must be the `keras.Model` that is fitted. Received: {model!r} "
            f"(of type {type(model).__module__}.{type(model).__name__})."
        )
    rows = [(old, new, list(cuts)) for old, new, cuts in replacements]
    for old, new, cuts in rows:
        _check_row(model, old, new, cuts)
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


# --- what must hold before anything is changed ---------------------------------------------------


def _check_row(model: keras.Model, old: Any, new: Any, cuts: list[Cut]) -> None:
    for name, network in (("old", old), ("new", new)):
        if not isinstance(network, keras.layers.Layer):
            raise UnsupportedLayerError(
                f"The {name} network must be a Keras model or layer. Received: {network!r} "
                f"(of type {type(network).__module__}.{type(network).__name__})."
            )
        if not network.weights:
            raise UnbuiltModelError(
                f"The {name} network '{network.name}' has no weights yet. Call it once on a batch first."
            )
    if any(new is layer for layer in model._flatten_layers()):
        raise InvalidArgumentError(
            f"The new network '{new.name}' must be another object than the old, not yet in the "
            f"{type(model).__name__}. Rebuild it from its configuration."
        )
    own, found = {id(v) for v in old.variables}, {id(cut.new): cut for cut in cuts}
    strangers = [cut.old.path for cut in cuts if id(cut.old) not in own]
    if strangers:
        raise InvalidArgumentError(
            f"The cuts must be of variables of '{old.name}'. Received also: {', '.join(strangers[:5])}."
        )
    missing = [w.path for w in new.weights if id(w) not in found]
    if missing:
        raise InvalidArgumentError(
            f"There must be a cut for every weight of the new '{new.name}'. Missing: "
            f"{', '.join(missing[:5])}."
        )
    trained = [{id(w) for w in network.trainable_weights} for network in (old, new)]
    unlike = [
        w.path for w in new.weights if (id(found[id(w)].old) in trained[0]) != (id(w) in trained[1])
    ]
    if unlike:
        raise InvalidArgumentError(
            f"Weights must be trainable in the new network where they are in the old. Not so in "
            f"'{new.name}': {', '.join(unlike[:5])}. Set `trainable` of its layers as in the old ones."
        )


def _by_old(cuts: Iterable[Cut]) -> dict[int, Cut]:
    """Return the cuts by their old variable, which two networks may share if they go on sharing."""
    by_old: dict[int, Cut] = {}
    by_new: dict[int, Cut] = {}
    for cut in cuts:
        other = by_old.setdefault(id(cut.old), cut)
        twin = by_new.setdefault(id(cut.new), cut)
        if other.new is not cut.new or twin.old is not cut.old:
            raise InvalidArgumentError(
                f"Each old variable must become one new variable, so what networks share they go on "
                f"sharing. '{cut.old.path}' and '{twin.old.path}' become '{cut.new.path}' and "
                f"'{other.new.path}'."
            )
    return by_old


def _children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Private touch: there is no public way to the sublayers of a layer that is not a model."""
    return layer._flatten_layers(include_self=False, recursive=False)


def _layers_around(model: keras.Model, inside: Any) -> list[keras.layers.Layer]:
    """Return a model and all layers in it, but for some networks and what is only in them."""
    found, waiting, seen = [], [model], set(inside)
    while waiting:
        layer = waiting.pop()
        if id(layer) not in seen:
            seen.add(id(layer))
            found.append(layer)
            waiting += _children(layer)
    return found


def _check_holders(
    model: keras.Model, holders: list[keras.layers.Layer], rows: list, gone: set[int]
) -> None:
    """Check that the old networks can be taken out, and that nothing would go on using them."""
    for old, _, _ in rows:
        places = [holder for holder in holders if list(_places(holder, old))]
        for holder in holders:
            # Private touch: a functional model runs the graph that it was made with, whatever its
            # attributes say.
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
        own = [*holder._trainable_variables, *holder._non_trainable_variables]
        shared = [v.path for v in own if id(v) in gone]
        if shared:
            raise UnsupportedLayerError(
                f"'{holder.name}' uses {', '.join(shared[:5])} too, and would go on with the old weights. "
                "Replace the network that it belongs to in the same call, or untie it first."
            )


# --- the networks --------------------------------------------------------------------------------

# Keras's own lists of layers, which follow from the attributes.
_BOOKKEEPING = ("_layers", "_metrics", "_functional", "_tracker", "_compiled_trainable_state")
_GRAPH = ("_operations", "_operations_by_depth", "_nodes", "_nodes_by_depth", "_inbound_nodes")


def _places(holder: Any, old: Any) -> Iterator[str]:
    """Yield the names of the attributes that are an old network or contain it."""
    for name, value in discovery.attributes(holder).items():
        # TensorFlow's own (`_self_`) follow when an attribute is set.
        if name not in _BOOKKEEPING + _GRAPH and not name.startswith("_self_"):
            if value is old or _contains(value, old):
                yield name


def _contains(value: Any, old: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, (list, tuple)) and any(v is old or _contains(v, old) for v in value)


def _exchanged(value: Any, old: Any, new: Any) -> Any:
    """Return a value with the new network in it; lists and dicts stay the objects they are."""
    if value is old:
        return new
    if isinstance(value, tuple) and _contains(value, old):
        parts = [_exchanged(v, old, new) for v in value]
        # `__class__`, since TensorFlow wraps a tuple that is an attribute.
        return value._make(parts) if hasattr(value, "_make") else value.__class__(parts)
    if isinstance(value, (list, dict)):
        for key, v in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if v is old or _contains(v, old):
                value[key] = _exchanged(v, old, new)
    return value


def _put(holder: keras.layers.Layer, old: Any, new: Any) -> None:
    """Make the new network every attribute that the old one was.

    Private touch: a layer that is built is locked, so it takes no new sublayer; and one that is tracked
    anew comes last, while the old one stays among `layers`. So the tracker's entry is exchanged first,
    where it stands; then Keras knows the new network, and setting the attributes adds nothing.
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
    """Drop what was traced with the old networks; between two batches, have the step traced anew.

    Private touch: Keras notes which layers were trainable in `compile`, and takes layers that it has
    not seen for a change that calls for another `compile`.
    """
    noted = getattr(model, "_compiled_trainable_state", None)
    if noted is not None:
        inside = {id(layer) for layer in model._flatten_layers()}
        for old, new, _ in rows:
            for layer in old._flatten_layers():
                if id(layer) not in inside:
                    noted.pop(layer, None)
            noted.update({layer: layer.trainable for layer in new._flatten_layers()})
    traced = model.train_function is not None
    model.train_function = model.test_function = model.predict_function = None
    if traced:
        # `fit` looks for it before each batch, but makes it only before the first.
        tracing.remake(model)
