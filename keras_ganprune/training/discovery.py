"""The parts of a model: its networks, its optimizers and their slots.

A GAN is any `keras.Model` that has networks and optimizers as attributes, under any names. It need not be a
class of this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import keras

from keras_ganprune.backend.tracing import trained_variables
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, unknown_name
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import is_built, prunable_candidates

# Networks of a model: attribute names (with dots for attributes of attributes) or the networks themselves.
# None is the whole model.
NetworkName: TypeAlias = str | keras.layers.Layer
Target: TypeAlias = NetworkName | Sequence[NetworkName] | None
# An optimizer of a model: its attribute name, or the optimizer itself.
OptimizerName: TypeAlias = str | keras.optimizers.Optimizer

_COPY_NAME = re.compile(r"(^|_)(ema|avg|averaged?|shadow)(_|\d|\[|$)", re.IGNORECASE)


def attributes(holder: Any) -> dict[str, Any]:
    """Return the attributes of an object, by name."""
    members = dict(vars(holder))
    if keras.backend.backend() == "torch":
        # On PyTorch a layer is a PyTorch module too, and a module stores its sublayers in `_modules`.
        members.update(members.pop("_modules", {}))
    return members


def _attributes(model: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """Yield (name, object) for attributes of a class, also inside lists, tuples and dicts."""
    for name, value in attributes(model).items():
        # Skip attributes that Keras sets itself, such as lists of all sublayers or the graph of a Sequential.
        if name in ("_layers", "_metrics", "_functional", "_tracker", "_operations"):
            continue
        if isinstance(value, kind):
            yield name, value
        elif name.startswith("_"):
            continue
        elif isinstance(value, (list, tuple)):
            yield from ((f"{name}[{i}]", v) for i, v in enumerate(value) if isinstance(v, kind))
        elif isinstance(value, Mapping):
            yield from ((f"{name}[{k!r}]", v) for k, v in value.items() if isinstance(v, kind))


def networks(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return the layers and models that are attributes of a model, by attribute name.

    Raises:
        ArgumentTypeError: `model` is no Keras model: a callback was used outside of `fit`.
    """
    if not isinstance(model, keras.layers.Layer):
        raise ArgumentTypeError(
            f"A callback works on a Keras model. Received: {model!r} (of type {type(model).__name__}). Pass "
            "the callback to `fit(callbacks=[...])`, which gives it the model."
        )
    return {
        name: network
        for name, network in _attributes(model, keras.layers.Layer)
        if not isinstance(network, keras.metrics.Metric)
    }


def generator_name(names: Iterable[str]) -> str | None:
    """Return the attribute name of the network that is shipped, such as a generator; None if none tells.

    Example:
    >>> generator_name(["discriminator", "G"])
    'G'
    """
    names = set(names)
    known = ("generator", "G", "gen", "g_model", "g", "student")
    return next((name for name in known if name in names), None)


def optimizers(model: keras.Model, unwrap: bool = True) -> list[keras.optimizers.Optimizer]:
    """Return the optimizers of a model, each once.

    Args:
        model: Keras model.
        unwrap: Whether to return the inner optimizer of a loss-scaling optimizer. Defaults to True.
    """
    unique: dict[int, keras.optimizers.Optimizer] = {}
    for _, optimizer in _attributes(model, keras.optimizers.Optimizer):
        inner = getattr(optimizer, "inner_optimizer", optimizer) if unwrap else optimizer
        unique[id(inner)] = inner
    return list(unique.values())


def slots(
    optimizer: keras.optimizers.Optimizer, only_averages: bool = False
) -> Iterator[tuple[keras.Variable, keras.Variable]]:
    """Yield (trained variable, slot) for each slot that has the shape of its variable.

    Args:
        optimizer: Built or unbuilt Keras optimizer.
        only_averages: Whether to yield only the weight averages of `use_ema`. Defaults to False.

    Private attributes of Keras: every optimizer stores its slots in lists in the order of its variables,
    under different names (`_momentums`, `_velocities`, ...). Only the weight averages have a fixed name,
    because the base class creates them.
    """
    trained = trained_variables(optimizer)
    for name, value in vars(optimizer).items():
        # `_variables` contains all variables of the optimizer; on JAX also the masks.
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
    """Return the number of updates that an optimizer has made."""
    return int(to_numpy(optimizer.iterations))


def optimizer_config(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Return the configuration of an optimizer, for a file that every backend can read.

    On PyTorch, `keras.optimizers.Adam(...)` returns an object of a subclass that only exists on that backend.
    Keras would write the name of the subclass into the file.
    """
    return _with_public_class(
        cast("dict[str, Any]", keras.saving.serialize_keras_object(optimizer))
    )


def _with_public_class(config: dict[str, Any]) -> dict[str, Any]:
    public = dict(config)
    if "inner_optimizer" in (public["config"] or {}):
        public["config"] = dict(public["config"])
        public["config"]["inner_optimizer"] = _with_public_class(
            public["config"]["inner_optimizer"]
        )
    if (public["module"] or "").startswith("keras.src.backend."):
        public |= {"module": "keras.optimizers", "registered_name": None}
    return public


def optimizer_of(
    model: keras.Model, network: keras.layers.Layer
) -> keras.optimizers.Optimizer | None:
    """Return the built optimizer that trains most of a network's weights, or None.

    An optimizer that has made updates is preferred. Keras gives every compiled model an `optimizer`, and
    `BackupAndRestore` builds it over all weights, also if a custom `train_step` never uses it.
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


def resolve_optimizer(model: keras.Model, chosen: OptimizerName) -> keras.optimizers.Optimizer:
    """Return an optimizer of a model, given by its attribute name or as the object itself.

    Raises:
        InvalidArgumentError: The model has no such optimizer.
    """
    known = dict(_attributes(model, keras.optimizers.Optimizer))
    optimizer = known.get(chosen) if isinstance(chosen, str) else chosen
    inner = [getattr(outer, "inner_optimizer", None) for outer in known.values()]
    if optimizer is None or not any(optimizer is other for other in [*known.values(), *inner]):
        raise InvalidArgumentError(
            unknown_name(f"optimizer of {type(model).__name__}:", chosen, known)
            + " Or pass the optimizer itself, the same object that trains the model."
        )
    unwrapped: Any = getattr(optimizer, "inner_optimizer", optimizer)
    return unwrapped


def resolve_target(model: keras.Model, target: Target) -> list[tuple[str, keras.layers.Layer]]:
    """Return the (name, network) pairs for a `target` argument.

    Args:
        model: Model whose `fit` is called.
        target: Attribute name (with dots for attributes of attributes), a Keras model or layer, a list of
            these, or None for the whole model without its averaged copies.

    Raises:
        InvalidArgumentError: The model has no such attribute, or the list is empty.
        ArgumentTypeError: `target` has another type, or the attribute is not a Keras model or layer.
    """
    if target is None:
        return _without_averages(model) or [("", model)]
    if isinstance(target, (list, tuple)):
        if not target:
            raise InvalidArgumentError(
                f"`target` must name at least one network. Received: {target!r}. "
                "For the whole model pass None."
            )
        pairs = [pair for entry in target for pair in resolve_target(model, entry)]
        names = [name for name, network in pairs if sum(n is network for _, n in pairs) > 1]
        if names:
            raise InvalidArgumentError(
                f"`target` must name each network once. Received: '{names[0]}' more than once."
            )
        return pairs
    if isinstance(target, keras.layers.Layer):
        names = [name for name, network in networks(model).items() if network is target]
        return [("" if target is model else names[0] if names else target.name, target)]
    if not isinstance(target, str):
        raise ArgumentTypeError(
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
        raise ArgumentTypeError(
            f"`target` must name a Keras model or layer. {type(model).__name__}.{target} is a "
            f"{type(network).__name__}. Known: {', '.join(sorted(known)) or '(none)'}."
        )
    return [(target, network)]


def averages(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return the networks of a model that look like weight averages, by attribute name.

    Such a network has a name like 'ema_generator', and the model has another network with the same weight
    shapes.
    """
    return {
        name: network
        for name, network in networks(model).items()
        if _COPY_NAME.search(name) and any(_alike(network, other) for other in model.layers)
    }


def averages_of(model: keras.Model, network: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """Return the weight averages of a model that have the weight shapes of one network, by attribute name."""
    return {name: other for name, other in averages(model).items() if _alike(other, network)}


def _without_averages(model: keras.Model) -> list[tuple[str, keras.layers.Layer]]:
    """Return the prunable parts of a model without its weight averages, or [] if it has no averages."""
    names = {id(network): name for name, network in networks(model).items()}
    excluded = {id(network) for network in averages(model).values()}
    if not excluded:
        return []
    return [
        (names.get(id(layer), str(layer.name)), layer)
        for layer in model.layers
        if id(layer) not in excluded and (not is_built(layer) or prunable_candidates(layer))
    ]


def _alike(one: keras.layers.Layer, other: keras.layers.Layer) -> bool:
    """Return whether two different networks have the same weight shapes."""
    if one is other:
        return False
    if not is_built(one) and not is_built(other):
        # Models without weights will probably get weights. Other layers may never have weights.
        return isinstance(one, keras.Model) and isinstance(other, keras.Model)
    shapes = [tuple(w.shape) for w in one.weights]
    return bool(shapes) and shapes == [tuple(w.shape) for w in other.weights]


def possible_copies(
    model: keras.Model, network: keras.layers.Layer
) -> dict[str, keras.layers.Layer]:
    """Return the other networks of a model that have a network's weight shapes and are not trained.

    Such networks are weight averages, whose weights change, and frozen teachers, whose weights do not. The
    result is empty before the first update of any optimizer, because it is not known yet which networks are
    trained.
    """
    active = [o for o in optimizers(model) if o.built and steps_done(o)]
    trained = {id(v) for optimizer in active for v in trained_variables(optimizer)}
    if not trained:
        return {}
    shapes = [tuple(w.shape) for w in network.weights]
    network_weights = {id(w) for w in network.weights}
    return {
        name: other
        for name, other in networks(model).items()
        if other is not network
        and [tuple(w.shape) for w in other.weights] == shapes
        and not any(id(w) in trained or id(w) in network_weights for w in other.weights)
    }
