"""Weights that both networks of a GAN use: kernels tied by `tie_mirrored`, or layers shared from the start.

One variable, one mask. What the shared variable means for a training step is the step's affair; see
`GANModel`, whose optimizers each see only their own network's use of it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.mask_store import MaskConstraint, MaskStore
from keras_ganprune.layers.prunable import (
    PrunableLayer,
    _weight_variable,
    is_built,
    prunable_candidates,
    pruned_names,
    walk,
)

# A transposed convolution and the convolution whose mirror image it is.
_MIRRORS = (
    (keras.layers.Conv1DTranspose, keras.layers.Conv1D),
    (keras.layers.Conv2DTranspose, keras.layers.Conv2D),
    (keras.layers.Conv3DTranspose, keras.layers.Conv3D),
)


@dataclass(frozen=True)
class TiedPair:
    """Two layers that use one kernel.

    Attributes:
        generator, discriminator: Paths of the two layers in their networks.
        variable: The kernel, which was the discriminator's.
    """

    generator: str
    discriminator: str
    variable: keras.Variable = field(compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)


def tie_mirrored(
    generator: keras.layers.Layer,
    discriminator: keras.layers.Layer,
    pairs: Sequence[tuple[Any, Any]] | None = None,
) -> list[TiedPair]:
    """Let the generator's transposed convolutions use the kernels of the discriminator's convolutions.

    In a symmetric DCGAN the generator's layer from c2 to c1 channels has a kernel of the very shape of
    the discriminator's layer from c1 to c2: (h, w, c1, c2) for `Conv2D` is (height, width, in, out), and
    for `Conv2DTranspose` (height, width, out, in). Pairs are looked for from the image end of both
    networks, in the order of their layers: each transposed convolution gets the next convolution with a
    kernel of its shape; what has no partner is left alone.

    Afterwards `layer.kernel is other.kernel`. The variable is the discriminator's, with its value, its
    constraint and its regularizer, which then counts in both losses; the generator's own is gone. It
    has one mask, seen by both layers, whichever becomes Prunable first; where both had one, that of the
    discriminator is kept. Biases are not shared.

    Tie built networks before anything holds on to the old kernels: before the optimizers are built
    (`GANModel.compile`, or the first step of a loop), before a `GANModel` copies the generator for its
    average, before a `Pruner`. An optimizer that is older has to be made anew.

    `GANModel` shows each optimizer only its own network's use of a shared kernel. In a `train_step` of
    your own, the gradient of the generator's loss by its weights also contains what the loss gains by a
    weaker discriminator; to leave that out, take the gradient by the images first, and push it back
    through the generator alone (`tape.gradient(images, weights, output_gradients=slope)`). And since
    `trainable` is a property of the variable, `discriminator.trainable = False` freezes tied kernels
    for the generator too.

    Args:
        generator, discriminator: Built Keras models, pruned or not.
        pairs: None to find the pairs, or a list of (layer of the generator, layer of the discriminator),
            by name, path or object; then any two layers with one kernel of the same shape, `Dense` too.

    Returns: A `TiedPair` for each pair, from the image end.

    Raises:
        UnbuiltModelError: a network has no weights yet.
        InvalidArgumentError: no pair was found, or the two layers of a pair cannot share a kernel.
        UnsupportedLayerError: a layer has no kernel of its own to share: it is wrapped in
            `SpectralNormalization`, quantized, has LoRA, or several kernels.

    Example:
    >>> g = keras.Sequential([keras.Input((4, 4, 8)), keras.layers.Conv2DTranspose(1, 3, name="up")])
    >>> d = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(8, 3, name="down")])
    >>> [(pair.generator, pair.discriminator, pair.shape) for pair in tie_mirrored(g, d)]
    [('up', 'down', (3, 3, 1, 8))]
    >>> g.layers[0].kernel is d.layers[0].kernel
    True
    """
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(network, keras.layers.Layer):
            raise UnsupportedLayerError(
                f"`{name}` must be a Keras 3 model or layer. Received: {network!r} "
                f"(of type {type(network).__module__}.{type(network).__name__})."
            )
        if not is_built(network):
            raise UnbuiltModelError(
                f"`{name}` must be built before its kernels are tied; '{network.name}' has no weights "
                "yet. Call it once on a batch first."
            )
    if pairs is None:
        chosen = _mirrored(generator, discriminator)
    else:
        chosen = [_named(generator, discriminator, pair) for pair in pairs]
    if not chosen:
        raise InvalidArgumentError(
            "No transposed convolution of the generator has a kernel of the shape of a convolution of "
            f"the discriminator. From the image end, the generator has {_shapes(generator, 0)}, the "
            f"discriminator {_shapes(discriminator, 1)}. Name the layers: `pairs=[('g_layer', 'd_layer')]`."
        )
    # All is checked before the first kernel is tied.
    for made, seen in chosen:
        _check_pair(generator, discriminator, made, seen)
    for i, side in enumerate(("generator", "discriminator")):
        paths = [pair[i][0] for pair in chosen]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise InvalidArgumentError(
                f"Each layer can be in one pair only. `pairs` names {', '.join(twice)} of the {side} "
                "more than once."
            )
    tied = []
    for (path, layer), (other_path, other) in chosen:
        kernel = _kernel(other_path, other)
        _share(layer, _kernel(path, layer), kernel)
        _share_masks(layer, other)
        tied.append(TiedPair(path, other_path, kernel))
    _forget_traces(generator)
    return tied


# --- finding pairs -------------------------------------------------------------------------------


def _convolutions(network: keras.layers.Layer, side: int) -> list[tuple[str, Any]]:
    """Return the transposed (side 0) or plain (side 1) convolutions, from the image end."""
    classes = tuple(pair[side] for pair in _MIRRORS)
    # The kernel of a grouped convolution maps parts of the channels: it is nothing's mirror image.
    found = [
        (path, layer)
        for path, layer in walk(network)
        if isinstance(layer, classes) and getattr(layer, "groups", 1) == 1
    ]
    return found if side else found[::-1]


def _shapes(network: keras.layers.Layer, side: int) -> str:
    found = _convolutions(network, side)
    return ", ".join(f"{path} {tuple(layer.kernel.shape)}" for path, layer in found) or "none"


def _mirrored(generator: keras.layers.Layer, discriminator: keras.layers.Layer) -> list:
    found = []
    own = {id(weight) for weight in generator.weights}
    left = _convolutions(discriminator, 1)
    for made in _convolutions(generator, 0):
        for i, seen in enumerate(left):
            if not _mirrors(made[1], seen[1]):
                continue
            # A convolution that the generator uses as well has no kernel to spare for another layer.
            if id(seen[1].kernel) in own and seen[1].kernel is not made[1].kernel:
                continue
            found.append((made, seen))
            left = left[i + 1 :]
            break
    return found


def _mirrors(made: Any, seen: Any) -> bool:
    kinds = any(isinstance(made, a) and isinstance(seen, b) for a, b in _MIRRORS)
    return kinds and tuple(made.kernel.shape) == tuple(seen.kernel.shape)


def _named(generator: keras.layers.Layer, discriminator: keras.layers.Layer, pair: Any) -> tuple:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise InvalidArgumentError(
            "`pairs` must be a list of (layer of the generator, layer of the discriminator). "
            f"Received: {pair!r}."
        )
    found = []
    for network, name in zip((generator, discriminator), pair, strict=True):
        layers = scopes.select(prunable_candidates(network), name)
        if len(layers) > 1:
            raise InvalidArgumentError(
                f"`pairs` must name one layer each time. {name!r} matches "
                f"{', '.join(path for path, _ in layers)} of '{network.name}'."
            )
        found.append(layers[0])
    return tuple(found)


# --- what cannot be tied -------------------------------------------------------------------------


def _kernel(path: str, layer: keras.layers.Layer) -> keras.Variable:
    """Return the one kernel of a layer, or say why it has none to share."""
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        raise UnsupportedLayerError(
            f"'{path}' ({type(layer).__name__}) is quantized or has LoRA enabled, so its kernel is "
            "computed, not stored, and cannot be shared. Tie first, or leave it out of `pairs`."
        )
    names = pruned_names(layer)
    kernel = _weight_variable(layer, names[0]) if len(names) == 1 and "." not in names[0] else None
    if kernel is None:
        raise UnsupportedLayerError(
            f"'{path}' ({type(layer).__name__}) must have exactly one kernel to be tied. "
            f"It has: {', '.join(names)}."
        )
    return kernel


def _users(network: keras.layers.Layer, variable: keras.Variable) -> list[tuple[str, Any]]:
    return [
        (path, layer)
        for path, layer in walk(network)
        if any(own is variable for own in _own_state(layer))
    ]


def _check_pair(generator, discriminator, made, seen) -> None:
    (path, layer), (other_path, other) = made, seen
    pair = f"'{path}' of the generator and '{other_path}' of the discriminator"
    kernel, kept = _kernel(path, layer), _kernel(other_path, other)
    for network, variable in ((generator, kernel), (discriminator, kept)):
        for wrapper_path, wrapper in _users(network, variable):
            if isinstance(wrapper, keras.layers.Wrapper):
                raise UnsupportedLayerError(
                    f"{pair} cannot share a kernel: '{wrapper_path}' ({type(wrapper).__name__}) holds it "
                    "and rewrites it as its own network needs it (SpectralNormalization does in every "
                    "training forward pass), and so would change the other network as well. Tie networks "
                    "without the wrapper, or leave the layer out of `pairs`."
                )
    if kernel is kept:
        return
    if tuple(kernel.shape) != tuple(kept.shape):
        raise InvalidArgumentError(
            f"{pair} must have kernels of the same shape. Received: {tuple(kernel.shape)} and "
            f"{tuple(kept.shape)}. (A transposed convolution has its output channels before its input "
            "channels.)"
        )
    names = [pruned_names(part) for part in (layer, other)]
    if names[0] != names[1]:
        raise InvalidArgumentError(
            f"{pair} must have the same kind of kernel. Received: `{names[0][0]}` and `{names[1][0]}`."
        )
    policies = [part.dtype_policy.name for part in (layer, other)]
    if policies[0] != policies[1] or kernel.dtype != kept.dtype:
        raise InvalidArgumentError(
            f"{pair} must have the same dtype policy. Received: {policies[0]} and {policies[1]}."
        )
    if kernel.trainable != kept.trainable:
        frozen = path if kept.trainable else other_path
        raise InvalidArgumentError(
            f"{pair} must both be trainable, or neither: '{frozen}' is frozen, and a variable is frozen "
            "or trained as a whole. Set `trainable` of the layers first."
        )
    constraint = kernel.constraint
    if isinstance(constraint, MaskConstraint):
        constraint = constraint.inner
    lost = {"constraint": constraint, "regularizer": kernel.regularizer}
    for kind, value in lost.items():
        if value is not None:
            raise InvalidArgumentError(
                f"'{path}' of the generator has a kernel {kind} ({type(value).__name__}), which would be "
                f"lost: the kernel of '{other_path}' of the discriminator is the one that stays. Remove "
                f"`kernel_{kind}` there, or give it to the discriminator's layer."
            )
    # What uses the dropped kernel would be left behind; and no network can use the kept one twice.
    users = [*_users(generator, kernel), *_users(discriminator, kernel), *_users(generator, kept)]
    if len(users) > 1:
        others = [user_path for user_path, user in users if user is not layer] or [path]
        raise InvalidArgumentError(
            f"{pair} cannot share a kernel: one of the two is also that of {', '.join(others)}. Leave "
            "the layer out of `pairs`."
        )


# --- one variable, one mask ----------------------------------------------------------------------


def _own_state(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the variables of a layer itself, without its sublayers; states of its random generators last.

    Private touch: there is no public way to ask for a layer's own variables.
    """
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    return own + [generator.state for generator in layer._seed_generators]


def _share(layer: keras.layers.Layer, old: keras.Variable, new: keras.Variable) -> None:
    """The one place where an existing layer gets another variable: in the place of `old`, `new`.

    Private touch: a built layer is locked, so it takes no new variable, and one that is tracked anew
    comes last. But the order of a layer's variables is that of weights files, of `get_weights` and of
    `zip(generator.weights, ema_generator.weights)`, so `new` goes where `old` stood. Known to the
    tracker, it can then be set as an attribute, by which TensorFlow finds it for a SavedModel.
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


def _kernels(layer: keras.layers.Layer) -> dict[str, int]:
    """Return, by name, the identities of the kernels of a layer that have or can have masks."""
    found = {name: _weight_variable(layer, name) for name in pruned_names(layer)}
    return {name: id(kernel) for name, kernel in found.items() if kernel is not None}


def _share_masks(layer: keras.layers.Layer, other: keras.layers.Layer) -> None:
    """Give two layers with the same kernels one `MaskStore`, now or when they become Prunable."""
    store: MaskStore | None = getattr(other, "pruning_masks", None)
    if store is None:
        store = getattr(layer, "pruning_masks", None)
        if store is not None:
            # The mask goes along: from the variable that the layer had to the one that it has now.
            for name, old in store.weights_by_name.items():
                kernel = _weight_variable(layer, name)
                constraint, constraint.inner = old.constraint, kernel.constraint
                kernel.constraint = constraint
                store.weights_by_name[name] = kernel
    for part, partner in ((layer, other), (other, layer)):
        # `object.__setattr__` keeps Keras from tracking what it is given; and a layer as an attribute
        # would be saved as a part of this one, hence `partial`.
        attach = functools.partial(_attach_shared_masks, part, partner)
        object.__setattr__(part, "_attach_masks", attach)
        if store is not None and isinstance(part, PrunableLayer):
            object.__setattr__(part, "pruning_masks", store)
    if store is not None:
        store.apply()


def _attach_shared_masks(layer: Any, partner: keras.layers.Layer) -> None:
    """What `make_prunable` calls on a layer that shares its kernels: the first makes the masks."""
    store = getattr(partner, "pruning_masks", None)
    if store is None:
        type(layer)._attach_masks(layer)
    else:
        object.__setattr__(layer, "pruning_masks", store)


def _forget_traces(network: keras.layers.Layer) -> None:
    """Drop the compiled functions of a network, which hold the variables it had when they were traced."""
    for _, layer in walk(network):
        for name in ("train_function", "test_function", "predict_function"):
            if getattr(layer, name, None) is not None:
                setattr(layer, name, None)


# --- saving --------------------------------------------------------------------------------------


def shared_weights(network: keras.layers.Layer, other: keras.layers.Layer) -> list[keras.Variable]:
    """Return the trainable weights of a network that another one uses too."""
    ids = {id(weight) for weight in other.weights}
    return [weight for weight in network.trainable_weights if id(weight) in ids]


def shared_positions(
    generator: keras.layers.Layer, discriminator: keras.layers.Layer
) -> dict[str, list]:
    """Return what two networks share, by position, for `share_again` after they were loaded.

    Returns: dict of "variables", rows of (layer of the generator, variable of it, layer of the
        discriminator, variable of it), each an index; and "layers", those of the generator that are the
        very objects that the discriminator has. Layers are counted as `walk` finds them.
    """
    seen: dict[int, tuple[int, int]] = {}
    layers = {}
    for i, (_, layer) in enumerate(walk(discriminator)):
        layers[id(layer)] = i
        for k, variable in enumerate(_own_state(layer)):
            seen.setdefault(id(variable), (i, k))
    found: dict[str, list] = {"variables": [], "layers": []}
    for i, (_, layer) in enumerate(walk(generator)):
        if id(layer) in layers:
            found["layers"].append(i)
        for k, variable in enumerate(_own_state(layer)):
            if id(variable) in seen:
                found["variables"].append([i, k, *seen[id(variable)]])
    return found


def share_again(
    generator: keras.layers.Layer, discriminator: keras.layers.Layer, positions: dict[str, list]
) -> None:
    """Make two networks that were loaded apart share what they shared when they were saved.

    Raises:
        InvalidArgumentError: the networks are not those that were saved.
    """
    own, others = ([layer for _, layer in walk(n)] for n in (generator, discriminator))
    try:
        rows = [
            (own[i], _own_state(own[i])[k], others[j], _own_state(others[j])[m])
            for i, k, j, m in positions.get("variables", ())
        ]
        twins = [own[i] for i in positions.get("layers", ())]
    except IndexError:
        rows = twins = None
    if rows is None or any(tuple(old.shape) != tuple(new.shape) for _, old, _, new in rows):
        raise InvalidArgumentError(
            f"'{generator.name}' and '{discriminator.name}' shared weights when they were saved, but do "
            "not have the same layers any more, so the weights cannot be shared again. Build them as "
            "they were."
        )
    for layer, old, _, new in rows:
        _share(layer, old, new)
    if rows:
        partners = {tuple(sorted(_kernels(other).items())): other for other in others}
        for layer in own:
            kernels = tuple(sorted(_kernels(layer).items()))
            if kernels and partners.get(kernels, layer) is not layer:
                _share_masks(layer, partners[kernels])
    for layer in twins:
        object.__setattr__(layer, "load_own_variables", functools.partial(_load_if_there, layer))


def _load_if_there(layer: keras.layers.Layer, store: Any) -> None:
    """Load a layer that was one object in both networks, and so is in the file once, under the other.

    It has the variables of that one, so there is nothing left to read.
    """
    if len(store.keys()):
        type(layer).load_own_variables(layer, store)
