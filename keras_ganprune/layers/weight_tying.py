"""Weight tying: the generator's transposed convolutions use the discriminator's kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import keras

from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.guard import MaskConstraint
from keras_ganprune.layers.prunable import pruned_names, weight_variable
from keras_ganprune.layers.scope import ScopeEntry
from keras_ganprune.layers.traversal import is_built, prunable_candidates, walk
from keras_ganprune.layers.weight_sharing import (
    forget_compiled_functions,
    own_state,
    replace_variable,
    share_masks,
)

# A transposed convolution, and the convolution that it mirrors.
_MIRRORS = (
    (keras.layers.Conv1DTranspose, keras.layers.Conv1D),
    (keras.layers.Conv2DTranspose, keras.layers.Conv2D),
    (keras.layers.Conv3DTranspose, keras.layers.Conv3D),
)

# A layer with its path in its network.
_Placed: TypeAlias = tuple[str, Any]


@dataclass(frozen=True)
class TiedPair:
    """Two layers that use one kernel, as `tie_mirrored` returns them.

    Attributes:
        generator: Path of the layer in the generator.
        discriminator: Path of the layer in the discriminator.
        variable: The shared kernel, which belonged to the discriminator's layer before.

    Example:
    >>> pair = TiedPair("up", "down", keras.Variable(np.zeros((3, 3, 1, 8))))
    >>> pair.generator, pair.shape
    ('up', (3, 3, 1, 8))
    """

    generator: str
    discriminator: str
    variable: keras.Variable = field(compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the kernel."""
        return tuple(self.variable.shape)


def tie_mirrored(
    generator: keras.layers.Layer,
    discriminator: keras.layers.Layer,
    pairs: Sequence[tuple[ScopeEntry, ScopeEntry]] | None = None,
) -> list[TiedPair]:
    """Let the generator's transposed convolutions use the kernels of the discriminator's convolutions.

    In a symmetric DCGAN, the generator's layer from c2 to c1 channels and the discriminator's layer from c1
    to c2 channels have kernels of the same shape, (height, width, c1, c2): a `Conv2D` kernel is (height,
    width, in, out), and a `Conv2DTranspose` kernel is (height, width, out, in). Pairs are searched from the
    image end of both networks: from the last layer of the generator and from the first layer of the
    discriminator. Each transposed convolution gets the next convolution with a kernel of its shape. Layers
    without a partner are not changed.

    Afterwards `layer.kernel is other.kernel`:

    - The discriminator's variable is kept, with its value, constraint and regularizer. The regularizer then
      counts in both losses. The former kernel of the generator is dropped.
    - The variable has one mask, which both layers use. If both had a mask before, the discriminator's mask is
      kept.
    - Biases are not shared.

    Tie built networks before other objects use the old kernels: before the optimizers are built
    (`GANModel.compile`, or the first step of a loop), before a `GANModel` copies the generator for its
    average, and before a `Pruner`. An optimizer that was built earlier must be created again.

    In `GANModel`, each optimizer gets the gradient of a shared kernel only through the network that it
    trains. A `train_step` of your own must consider two effects:

    - The gradient of the generator's loss with respect to its weights contains the effect of the weights on
      the discriminator. To leave it out, take the gradient with respect to the images first, and
      backpropagate it through the generator alone (`tape.gradient(images, weights, output_gradients=slope)`).
    - `trainable` is a property of the variable, so `discriminator.trainable = False` freezes tied kernels for
      the generator too.

    Args:
        generator: Built Keras model, pruned or not.
        discriminator: Built Keras model, pruned or not.
        pairs: List of (layer of the generator, layer of the discriminator), each by name, path or object. Any
            two layers with one kernel of the same shape can be a pair, also two `Dense` layers. Defaults to
            None (search the pairs).

    Returns:
        A `TiedPair` for each pair, from the image end.

    Raises:
        ArgumentTypeError: `generator` or `discriminator` is not a Keras 3 model or layer.
        UnbuiltModelError: A network has no weights yet.
        InvalidArgumentError: No pair was found, or the two layers of a pair cannot share a kernel.
        UnsupportedLayerError: A layer has no kernel of its own to share: it is inside a
            `SpectralNormalization`, is quantized, has LoRA, or has several kernels.

    Example:
    >>> g = keras.Sequential([keras.Input((4, 4, 8)), keras.layers.Conv2DTranspose(1, 3, name="up")])
    >>> d = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(8, 3, name="down")])
    >>> [(pair.generator, pair.discriminator, pair.shape) for pair in tie_mirrored(g, d)]
    [('up', 'down', (3, 3, 1, 8))]
    >>> g.layers[0].kernel is d.layers[0].kernel
    True
    """
    if pairs is not None and not isinstance(pairs, (list, tuple)):
        raise ArgumentTypeError(
            "`pairs` must be a list of (layer of the generator, layer of the discriminator). Received: "
            f"{pairs!r}."
        )
    _check_networks(generator, discriminator)
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
    # All pairs are checked before the first kernel is tied.
    for upper, lower in chosen:
        _check_pair(generator, discriminator, upper, lower)
    for i, side in enumerate(("generator", "discriminator")):
        paths = [pair[i][0] for pair in chosen]
        repeated = sorted({path for path in paths if paths.count(path) > 1})
        if repeated:
            raise InvalidArgumentError(
                f"Each layer can be in one pair only. `pairs` names {', '.join(repeated)} of the {side} "
                "more than once. Remove all but one of these pairs."
            )
    tied = []
    for (path, layer), (other_path, other) in chosen:
        kernel = _kernel(other_path, other)
        replace_variable(layer, _kernel(path, layer), kernel)
        share_masks(layer, other)
        tied.append(TiedPair(path, other_path, kernel))
    forget_compiled_functions(generator)
    return tied


def _check_networks(generator: Any, discriminator: Any) -> None:
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(network, keras.layers.Layer):
            raise ArgumentTypeError(
                f"`{name}` must be a Keras 3 model or layer. Received: {network!r} "
                f"(of type {type(network).__module__}.{type(network).__name__})."
            )
        if not is_built(network):
            raise UnbuiltModelError(
                f"`{name}` must be built before its kernels are tied; '{network.name}' has no weights "
                "yet. Call it once on a batch first."
            )
    if generator is discriminator:
        raise InvalidArgumentError(
            "`generator` and `discriminator` must be two networks. Received: "
            f"'{generator.name}' as both."
        )


# --- which layers are pairs ----------------------------------------------------------------------


def _convolutions(network: keras.layers.Layer, side: int) -> list[_Placed]:
    """Return the transposed (side 0) or plain (side 1) convolutions, from the image end."""
    classes = tuple(pair[side] for pair in _MIRRORS)
    # The kernel of a grouped convolution maps only a part of the channels, so it mirrors no other kernel.
    layers = [
        (path, layer)
        for path, layer in walk(network)
        if isinstance(layer, classes) and getattr(layer, "groups", 1) == 1
    ]
    return layers if side else layers[::-1]


def _shapes(network: keras.layers.Layer, side: int) -> str:
    layers = _convolutions(network, side)
    return ", ".join(f"{path} {tuple(layer.kernel.shape)}" for path, layer in layers) or "none"


def _mirrored(
    generator: keras.layers.Layer, discriminator: keras.layers.Layer
) -> list[tuple[_Placed, _Placed]]:
    pairs = []
    generator_weights = {id(weight) for weight in generator.weights}
    remaining = _convolutions(discriminator, 1)
    for upper in _convolutions(generator, 0):
        for i, lower in enumerate(remaining):
            if not _is_mirror(upper[1], lower[1]):
                continue
            kernel, other = upper[1].kernel, lower[1].kernel
            # The generator uses this convolution too, so a second layer of the generator cannot use its
            # kernel.
            if id(other) in generator_weights and other is not kernel:
                continue
            pairs.append((upper, lower))
            remaining = remaining[i + 1 :]
            break
    return pairs


def _shape(kernel: Any) -> tuple[int, ...]:
    return tuple(kernel.shape)


def _is_mirror(transposed: Any, plain: Any) -> bool:
    if not any(isinstance(transposed, a) and isinstance(plain, b) for a, b in _MIRRORS):
        return False
    shapes = [_shape(layer.kernel) for layer in (transposed, plain)]
    return shapes[0] == shapes[1]


def _named(
    generator: keras.layers.Layer, discriminator: keras.layers.Layer, pair: Any
) -> tuple[_Placed, _Placed]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise InvalidArgumentError(
            "`pairs` must be a list of (layer of the generator, layer of the discriminator). "
            f"Received: {pair!r}."
        )
    return _one_layer(generator, pair[0]), _one_layer(discriminator, pair[1])


def _one_layer(network: keras.layers.Layer, name: ScopeEntry) -> _Placed:
    layers = scopes.select(prunable_candidates(network), name)
    if len(layers) > 1:
        raise InvalidArgumentError(
            f"Each entry of `pairs` must name one layer. {name!r} matches "
            f"{', '.join(path for path, _ in layers)} of '{network.name}'. Use the path of one of them."
        )
    return layers[0]


# --- which kernels cannot be shared --------------------------------------------------------------


def _kernel(path: str, layer: keras.layers.Layer) -> keras.Variable:
    """Return the one kernel of a layer.

    Raises:
        UnsupportedLayerError: The layer has no stored kernel, or several.
    """
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        raise UnsupportedLayerError(
            f"'{path}' ({type(layer).__name__}) is quantized or has LoRA enabled, so its kernel is "
            "computed, not stored, and cannot be shared. Tie first, or leave it out of `pairs`."
        )
    names = pruned_names(layer)
    kernel = weight_variable(layer, names[0]) if len(names) == 1 and "." not in names[0] else None
    if kernel is None:
        raise UnsupportedLayerError(
            f"'{path}' ({type(layer).__name__}) must have exactly one kernel to be tied. "
            f"Received: {', '.join(names) or 'none'}. Leave it out of `pairs`."
        )
    return kernel


def _users(network: keras.layers.Layer, variable: keras.Variable) -> list[_Placed]:
    return [
        (path, layer)
        for path, layer in walk(network)
        if any(state is variable for state in own_state(layer))
    ]


def _check_pair(
    generator: keras.layers.Layer,
    discriminator: keras.layers.Layer,
    upper: _Placed,
    lower: _Placed,
) -> None:
    """Raise if a layer of the generator cannot use the kernel of a layer of the discriminator."""
    (path, layer), (other_path, other) = upper, lower
    pair = f"'{path}' of the generator and '{other_path}' of the discriminator"
    kernel, kept = _kernel(path, layer), _kernel(other_path, other)
    for network, variable in ((generator, kernel), (discriminator, kept)):
        for wrapper_path, wrapper in _users(network, variable):
            if isinstance(wrapper, keras.layers.Wrapper):
                raise UnsupportedLayerError(
                    f"{pair} cannot share a kernel: the wrapper '{wrapper_path}' ({type(wrapper).__name__}) "
                    "may rewrite it for its own network (SpectralNormalization does in every training "
                    "forward pass), and so would change the other network as well. Tie networks without "
                    "the wrapper, or leave the layer out of `pairs`."
                )
    if kernel is kept:
        return
    _check_alike(pair, layer, other, kernel, kept)
    if kernel.trainable != kept.trainable:
        frozen = path if kept.trainable else other_path
        raise InvalidArgumentError(
            f"{pair} must both be trainable, or neither: '{frozen}' is frozen, and a shared variable is "
            "frozen or trained in both networks. Set `trainable` of the layers first."
        )
    constraint = kernel.constraint
    if isinstance(constraint, MaskConstraint):
        constraint = constraint.inner
    dropped = {"constraint": constraint, "regularizer": kernel.regularizer}
    for kind, value in dropped.items():
        if value is not None:
            raise InvalidArgumentError(
                f"'{path}' of the generator has a kernel {kind} ({type(value).__name__}), which would be "
                f"lost, because the kernel of '{other_path}' of the discriminator is kept. Remove "
                f"`kernel_{kind}` there, or give it to the discriminator's layer."
            )
    # Another layer that uses the dropped kernel would keep it, and a network cannot use the kept kernel
    # twice.
    users = [*_users(generator, kernel), *_users(discriminator, kernel), *_users(generator, kept)]
    if len(users) > 1:
        others = [user_path for user_path, user in users if user is not layer] or [path]
        raise InvalidArgumentError(
            f"{pair} cannot share a kernel, because {', '.join(others)} uses one of the two kernels too. "
            "Leave the layer out of `pairs`."
        )


def _check_alike(
    pair: str,
    layer: keras.layers.Layer,
    other: keras.layers.Layer,
    kernel: keras.Variable,
    kept: keras.Variable,
) -> None:
    """Raise `InvalidArgumentError` if two kernels differ in shape, kind or dtype."""
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
