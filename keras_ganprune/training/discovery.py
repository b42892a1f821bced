"""What a model is made of: its networks, its optimizers, and what those optimizers keep.

A GAN is any `keras.Model` with networks and optimizers as attributes, under whatever names; nothing
here asks for a class of this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_ganprune.backend.tracing import trained_variables
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError, unknown_name
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.prunable import is_built, prunable_candidates

_COPY_NAME = re.compile(r"(^|_)(ema|avg|averaged?|shadow)(_|\d|\[|$)", re.IGNORECASE)


def attributes(holder: Any) -> dict[str, Any]:
    """Return the attributes of an object, by name."""
    found = dict(vars(holder))
    if keras.backend.backend() == "torch":
        # Where a layer is a PyTorch module too, which keeps its sublayers apart.
        found.update(found.pop("_modules", {}))
    return found


def _attributes(model: Any, wanted: type) -> Iterator[tuple[str, Any]]:
    """Yield (name, object) for attributes of a kind, also inside lists, tuples and dicts."""
    for name, value in attributes(model).items():
        # Keras's own bookkeeping: lists of all sublayers, the functional twin of a Sequential.
        if name in ("_layers", "_metrics", "_functional", "_tracker", "_operations"):
            continue
        if isinstance(value, wanted):
            yield name, value
        elif name.startswith("_"):
            continue
        elif isinstance(value, (list, tuple)):
            yield from ((f"{name}[{i}]", v) for i, v in enumerate(value) if isinstance(v, wanted))
        elif isinstance(value, Mapping):
            yield from ((f"{name}[{k!r}]", v) for k, v in value.items() if isinstance(v, wanted))


def networks(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return the layers and models that are attributes of a model, by attribute name."""
    return {
        name: network
        for name, network in _attributes(model, keras.layers.Layer)
        if not isinstance(network, keras.metrics.Metric)
    }


def optimizers(model: keras.Model, unwrap: bool = True) -> list[keras.optimizers.Optimizer]:
    """Return the optimizers of a model; of a loss-scaling one, the optimizer inside if `unwrap`."""
    found: dict[int, keras.optimizers.Optimizer] = {}
    for _, optimizer in _attributes(model, keras.optimizers.Optimizer):
        inner = getattr(optimizer, "inner_optimizer", optimizer) if unwrap else optimizer
        found[id(inner)] = inner
    return list(found.values())


def slots(
    optimizer: keras.optimizers.Optimizer, only_averages: bool = False
) -> Iterator[tuple[keras.Variable, keras.Variable]]:
    """Yield (trained variable, slot) for each slot that has the shape of its variable.

    Private touch: every Keras optimizer keeps its slots as lists in the order of its variables, but
    under names of its own (`_momentums`, `_velocities`, ...); the weight average is the one name that
    the base class fixes.
    """
    trained = trained_variables(optimizer)
    for name, value in vars(optimizer).items():
        # (`_variables` are all of them, and on JAX masks too.)
        if name in ("_trainable_variables", "_variables") or not isinstance(value, (list, tuple)):
            continue
        if only_averages and name != "_model_variables_moving_average":
            continue
        if not trained or len(value) != len(trained):
            continue
        for variable, slot in zip(trained, value, strict=True):
            if isinstance(slot, keras.Variable) and tuple(slot.shape) == tuple(variable.shape):
                yield variable, slot


def steps_done(optimizer: keras.optimizers.Optimizer) -> int:
    """Return how many updates an optimizer has made."""
    return int(to_numpy(optimizer.iterations))


def optimizer_config(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Return the configuration of an optimizer, for a file that every backend can read.

    On PyTorch `keras.optimizers.Adam(...)` makes an object of a subclass of the backend's own, which
    Keras would write into the file as it is.
    """
    return _public(keras.saving.serialize_keras_object(optimizer))


def _public(config: dict[str, Any]) -> dict[str, Any]:
    found = dict(config)
    if "inner_optimizer" in (found["config"] or {}):
        found["config"] = dict(found["config"])
        found["config"]["inner_optimizer"] = _public(found["config"]["inner_optimizer"])
    if (found["module"] or "").startswith("keras.src.backend."):
        found |= {"module": "keras.optimizers", "registered_name": None}
    return found


def optimizer_of(
    model: keras.Model, network: keras.layers.Layer
) -> keras.optimizers.Optimizer | None:
    """Return the built optimizer that trains most of a network's weights, or None.

    One that has made updates goes before one that has not: Keras gives every compiled model an
    `optimizer`, and `BackupAndRestore` builds it over all weights, also where a custom `train_step`
    never calls it.
    """
    weights = {id(w) for w in network.trainable_weights}
    best, best_rank = None, (False, 0, 0)
    for optimizer in optimizers(model):
        count = sum(id(v) in weights for v in trained_variables(optimizer))
        if not count:
            continue
        rank = (steps_done(optimizer) > 0, count, steps_done(optimizer))
        if rank > best_rank:
            best, best_rank = optimizer, rank
    return best


def resolve_optimizer(model: keras.Model, chosen: Any) -> keras.optimizers.Optimizer:
    """Return the optimizer that an attribute name, or the object itself, means.

    Raises:
        InvalidArgumentError: the model has no such optimizer.
    """
    known = dict(_attributes(model, keras.optimizers.Optimizer))
    found = known.get(chosen) if isinstance(chosen, str) else chosen
    own = [*known.values(), *(getattr(o, "inner_optimizer", None) for o in known.values())]
    if found is None or not any(found is optimizer for optimizer in own):
        raise InvalidArgumentError(
            unknown_name(f"optimizer of {type(model).__name__}:", chosen, known)
            + " Or pass the optimizer itself, the very object that the model trains with."
        )
    return getattr(found, "inner_optimizer", found)


def resolve_target(model: keras.Model, target: Any) -> list[tuple[str, keras.layers.Layer]]:
    """Return the (name, network) pairs that a `target` argument means.

    Args:
        model: The model that `fit` is called on.
        target: Attribute name (dots reach deeper), a list of names or networks, a Keras model or
            layer, or None for the model itself, without averaged copies it keeps.

    Raises:
        InvalidArgumentError: no such attribute.
        UnsupportedLayerError: the attribute is not a Keras model or layer.
    """
    if target is None:
        return _without_averages(model) or [("", model)]
    if isinstance(target, (list, tuple)):
        if not target:
            raise InvalidArgumentError("`target` must name at least one network. Received: [].")
        return [pair for entry in target for pair in resolve_target(model, entry)]
    if isinstance(target, keras.layers.Layer):
        names = [name for name, network in networks(model).items() if network is target]
        return [("" if target is model else names[0] if names else target.name, target)]
    if not isinstance(target, str):
        raise UnsupportedLayerError(
            "`target` must be an attribute name of the model, a list of names, a Keras model or "
            f"None. Received: {target!r} (of type {type(target).__name__})."
        )
    known = networks(model)
    if target in known:
        return [(target, known[target])]
    network: Any = model
    for part in target.split("."):
        network = getattr(network, part, None)
    if network is None:
        raise InvalidArgumentError(
            unknown_name(f"target of {type(model).__name__}:", target, known)
            + " Or pass the network itself."
        )
    if isinstance(network, (list, tuple)) and network:
        return resolve_target(model, list(network))
    if not isinstance(network, keras.layers.Layer):
        raise UnsupportedLayerError(
            f"`target` must name a Keras model or layer. {type(model).__name__}.{target} is a "
            f"{type(network).__name__}. Known: {', '.join(sorted(known)) or '(none)'}."
        )
    return [(target, network)]


def averages(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return the networks of a model that look like weight averages, by attribute name.

    They are told by their name and by a twin, another network with the same weight shapes.
    """
    return {
        name: network
        for name, network in networks(model).items()
        if _COPY_NAME.search(name) and any(_twins(network, other) for other in model.layers)
    }


def averages_of(model: keras.Model, network: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """Return the weight averages of one network of a model, by attribute name; see `averages`."""
    return {name: other for name, other in averages(model).items() if _twins(other, network)}


def _without_averages(model: keras.Model) -> list[tuple[str, keras.layers.Layer]]:
    """Return the parts of a model that can be pruned, without its weight averages; [] if it has none."""
    names = {id(network): name for name, network in networks(model).items()}
    left_out = {id(network) for network in averages(model).values()}
    if not left_out:
        return []
    return [
        (names.get(id(layer), layer.name), layer)
        for layer in model.layers
        if id(layer) not in left_out and (not is_built(layer) or prunable_candidates(layer))
    ]


def _twins(one: keras.layers.Layer, other: keras.layers.Layer) -> bool:
    if one is other:
        return False
    if not is_built(one) and not is_built(other):
        # Two networks that have no weights yet; other layers may never get any.
        return isinstance(one, keras.Model) and isinstance(other, keras.Model)
    shapes = [tuple(w.shape) for w in one.weights]
    return bool(shapes) and shapes == [tuple(w.shape) for w in other.weights]


def possible_copies(
    model: keras.Model, network: keras.layers.Layer
) -> dict[str, keras.layers.Layer]:
    """Return the other networks of a model that have a network's weight shapes and are not trained.

    A weight average and a frozen teacher both qualify; whether its weights move tells them apart.
    Before any optimizer has made an update nothing can be told, and nothing is returned.
    """
    working = [o for o in optimizers(model) if o.built and steps_done(o)]
    trained = {id(v) for optimizer in working for v in trained_variables(optimizer)}
    if not trained:
        return {}
    shapes = [tuple(w.shape) for w in network.weights]
    own = {id(w) for w in network.weights}
    return {
        name: other
        for name, other in networks(model).items()
        if other is not network
        and [tuple(w.shape) for w in other.weights] == shapes
        and not any(id(w) in trained or id(w) in own for w in other.weights)
    }
