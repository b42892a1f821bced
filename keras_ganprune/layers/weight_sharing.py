"""Variables that two networks share, with one mask: set up, save and restore the sharing.

In a training step of `GANModel`, each optimizer gets the gradient of a shared variable only through the
network that it trains.
"""

from __future__ import annotations

import functools
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.guard import guard, unguard
from keras_ganprune.layers.kernels import own_variables
from keras_ganprune.layers.mask_store import MaskStore
from keras_ganprune.layers.prunable import PrunableLayer, pruned_names, weight_variable
from keras_ganprune.layers.traversal import walk


def own_state(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the variables of a layer without its sublayers. Those of its random generators come last.

    Private attribute of Keras: there is no public way to the generators of one layer.
    """
    return own_variables(layer) + [generator.state for generator in layer._seed_generators]


def replace_variable(layer: keras.layers.Layer, old: keras.Variable, new: keras.Variable) -> None:
    """Replace the variable `old` of an existing layer by `new`.

    No other code of this package replaces the variables of a layer.

    `new` takes the position of `old`, because weights files, `get_weights` and `zip(generator.weights,
    ema_generator.weights)` use the order of a layer's variables.

    Private attributes of Keras: a built layer is locked and accepts no new variables, and a newly tracked
    variable would come last. So `new` is written into the tracker first. Then it can be set as an
    attribute, where TensorFlow finds it for a SavedModel.
    """
    if old is new:
        return
    for generator in layer._seed_generators:
        if generator.state is old:
            generator.state = new
    tracker = layer._tracker
    for kind in ("trainable_variables", "non_trainable_variables"):
        ids, variables = tracker.stored_ids[kind], tracker.config[kind][1]
        if id(old) in ids:
            variables[[id(v) for v in variables].index(id(old))] = new
            ids.remove(id(old))
            ids.add(id(new))
            layer._post_untrack_variable(old)
            layer._post_track_variable(new)
    for name, value in list(vars(layer).items()):
        if value is old:
            setattr(layer, name, new)
        elif isinstance(value, list):
            value[:] = [new if item is old else item for item in value]


def share_masks(layer: keras.layers.Layer, other: keras.layers.Layer) -> None:
    """Let two layers with the same kernels use one `MaskStore`, also if they become Prunable later."""
    store: MaskStore | None = getattr(other, "pruning_masks", None)
    if store is None:
        store = getattr(layer, "pruning_masks", None)
        if store is not None:
            # The mask moves from the old variable of the layer to the shared one.
            for name, old in store.weights_by_name.items():
                kernel: Any = weight_variable(layer, name)
                constraint: Any = old.constraint
                unguard(old)
                constraint.inner = kernel.constraint
                guard(kernel, constraint)
                store.weights_by_name[name] = kernel
    for part, partner in ((layer, other), (other, layer)):
        # `object.__setattr__` keeps Keras from tracking the attributes. The partner is bound by `partial`,
        # because Keras would save a layer that is an attribute as a part of this layer.
        attach = functools.partial(_attach_shared_masks, part, partner)
        object.__setattr__(part, "_attach_masks", attach)
        for method in ("enable_lora", "quantize"):
            if hasattr(part, method):
                object.__setattr__(part, method, functools.partial(_refuse_tied, part, method))
        if store is not None and isinstance(part, PrunableLayer):
            object.__setattr__(part, "pruning_masks", store)
    if store is not None:
        store.apply()


def _refuse_tied(layer: Any, method: str, *args: Any, **kwargs: Any) -> None:
    """Replace the methods of a layer with a shared kernel that give it a kernel of its own."""
    raise UnsupportedLayerError(
        f"`{method}` would give '{layer.name}' ({type(layer).__name__}) a kernel of its own, but it shares "
        "one with a layer of another network (`tie_mirrored`). Call it on a copy with separate kernels: "
        "`kgp.strip_pruning(network)`."
    )


def _attach_shared_masks(layer: Any, partner: keras.layers.Layer) -> None:
    """Replace `_attach_masks` of a layer with shared kernels: the first of the two layers makes the masks."""
    store = getattr(partner, "pruning_masks", None)
    if store is None:
        type(layer)._attach_masks(layer)
    else:
        object.__setattr__(layer, "pruning_masks", store)


def forget_compiled_functions(network: keras.layers.Layer) -> None:
    """Drop the compiled functions of a network, which were traced with its former variables."""
    for _, layer in walk(network):
        for name in ("train_function", "test_function", "predict_function"):
            if getattr(layer, name, None) is not None:
                setattr(layer, name, None)


# --- saving --------------------------------------------------------------------------------------


def shared_weights(network: keras.layers.Layer, other: keras.layers.Layer) -> list[keras.Variable]:
    """Return the trainable weights of a network that another network uses too."""
    ids = {id(weight) for weight in other.weights}
    return [weight for weight in network.trainable_weights if id(weight) in ids]


def shared_positions(
    generator: keras.layers.Layer, discriminator: keras.layers.Layer
) -> dict[str, list]:
    """Return the positions of shared variables and layers, for `share_again` after loading.

    Args:
        generator: Built Keras model or layer.
        discriminator: Built Keras model or layer.

    Returns:
        dict of two lists. "variables" has a row of four indices per shared variable: layer of the generator,
        variable in it, layer of the discriminator, variable in it. "layers" has the indices of the layers of
        the generator that are also layers of the discriminator (the same objects). Layers are counted in the
        order of `walk`.
    """
    positions: dict[int, tuple[int, int]] = {}
    layers = set()
    for i, (_, layer) in enumerate(walk(discriminator)):
        layers.add(id(layer))
        for k, variable in enumerate(own_state(layer)):
            positions.setdefault(id(variable), (i, k))
    shared: dict[str, list] = {"variables": [], "layers": []}
    for i, (_, layer) in enumerate(walk(generator)):
        if id(layer) in layers:
            shared["layers"].append(i)
        for k, variable in enumerate(own_state(layer)):
            if id(variable) in positions:
                shared["variables"].append([i, k, *positions[id(variable)]])
    return shared


def share_again(
    generator: keras.layers.Layer, discriminator: keras.layers.Layer, positions: dict[str, list]
) -> None:
    """Restore the sharing between two networks that were loaded separately.

    Args:
        generator: Keras model or layer, with the layers that it had when it was saved.
        discriminator: Keras model or layer, with the layers that it had when it was saved.
        positions: Result of `shared_positions` at the time of saving.

    Raises:
        InvalidArgumentError: The networks do not have the layers that they had when they were saved.
    """
    layers = [layer for _, layer in walk(generator)]
    others = [layer for _, layer in walk(discriminator)]
    rows, same_layers, fits = [], [], True
    try:
        for row in positions.get("variables", ()):
            i, k, j, m = (int(index) for index in row)
            rows.append((layers[i], own_state(layers[i])[k], own_state(others[j])[m]))
        same_layers = [layers[int(i)] for i in positions.get("layers", ())]
    except IndexError:
        fits = False
    if not fits or any(tuple(old.shape) != tuple(new.shape) for _, old, new in rows):
        raise InvalidArgumentError(
            f"'{generator.name}' and '{discriminator.name}' shared weights when they were saved, but do "
            "not have the same layers any more, so the weights cannot be shared again. Build the networks "
            "as they were when they were saved."
        )
    for layer, old, new in rows:
        replace_variable(layer, old, new)
    if rows:
        partners = {_kernel_ids(other): other for other in others}
        for layer in layers:
            kernels = _kernel_ids(layer)
            if kernels and partners.get(kernels, layer) is not layer:
                share_masks(layer, partners[kernels])
    for layer in same_layers:
        object.__setattr__(layer, "load_own_variables", functools.partial(_load_if_saved, layer))


def _kernel_ids(layer: keras.layers.Layer) -> tuple[tuple[str, int], ...]:
    """Return the sorted (name, id) pairs of the kernels of a layer that have or can have masks."""
    kernels = {name: weight_variable(layer, name) for name in pruned_names(layer)}
    return tuple(
        sorted((name, id(kernel)) for name, kernel in kernels.items() if kernel is not None)
    )


def _load_if_saved(layer: keras.layers.Layer, store: Any) -> None:
    """Load the variables of a layer that was one object in both networks, if the file has them.

    The file contains these variables only once, under the other network, and the layer shares them already.
    """
    if len(store.keys()):
        type(layer).load_own_variables(layer, store)
