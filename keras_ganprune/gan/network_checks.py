"""Checks of the networks and layers that a GAN is made of: their types, inputs and shapes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, UnbuiltModelError
from keras_ganprune.utils import validation


def ema_decay(value: Any) -> float:
    """Return the decay of a moving average.

    Raises:
        InvalidArgumentError: `value` is not a number in (0, 1).
    """
    if not validation.is_number(value) or not 0 < value < 1:
        raise InvalidArgumentError(
            f"`ema_decay` must be None or a float in (0, 1). Received: {value!r}. Usual is 0.99 to 0.9999."
        )
    return float(value)


def inputs_of(network: keras.layers.Layer) -> list | None:
    """Return the symbolic inputs of a network, or None for a subclassed network or a layer."""
    try:
        inputs = network.inputs  # pyright: ignore[reportAttributeAccessIssue]  (not every layer)
    except (AttributeError, ValueError):
        return None
    return list(inputs) if inputs else None


def output_shape(network: keras.Model) -> tuple | None:
    """Return the output shape of a network, or None if it is not known."""
    try:
        return tuple(network.output_shape)  # pyright: ignore[reportAttributeAccessIssue]
    except (AttributeError, ValueError, TypeError):
        return None


def shapes_match(one: tuple, other: tuple) -> bool:
    """Return whether two shapes can be equal, where None stands for any size."""
    return len(one) == len(other) and all(
        a == b or a is None or b is None for a, b in zip(one, other, strict=True)
    )


def conditional(generator: Any, discriminator: Any, value: bool | None) -> bool:
    """Return whether both networks take labels.

    Args:
        generator: The generator.
        discriminator: The discriminator.
        value: The argument `conditional`. None reads the answer from the number of inputs.

    Raises:
        ArgumentTypeError: A network is not a Keras model.
        InvalidArgumentError: The networks do not take the same kind of inputs, or `value` contradicts
            their number of inputs.
    """
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(network, keras.Model):
            raise ArgumentTypeError(
                f"`{name}` must be a `keras.Model`. Received: {network!r} "
                f"(of type {type(network).__module__}.{type(network).__name__})."
            )
    if generator is discriminator:
        raise InvalidArgumentError(
            "`generator` and `discriminator` must be two networks. Received: "
            f"'{generator.name}' as both. Build a network for each."
        )
    counts = [
        len(inputs) if inputs else None
        for inputs in (inputs_of(generator), inputs_of(discriminator))
    ]
    known = [count for count in counts if count is not None]
    if any(count > 2 for count in known) or len(set(known)) == 2:
        raise InvalidArgumentError(
            "The generator must take latent vectors and the discriminator images, or both also labels. "
            f"Received: a generator with {counts[0]} inputs and a discriminator with {counts[1]}."
        )
    if value is None:
        return 2 in known
    if known and value != (2 in known):
        raise InvalidArgumentError(
            f"`conditional={value}` does not fit networks with {known[0]} input(s)."
        )
    return validation.boolean(value, "conditional")


def networks_fit(
    generator: keras.Model, discriminator: keras.Model, latent_dim: int, takes_labels: bool
) -> None:
    """Build the networks if they are not built, and compare their shapes.

    Raises:
        UnbuiltModelError: A network has no weights and cannot be built from latent vectors.
        InvalidArgumentError: The shapes of the networks do not fit together.
    """
    if not generator.built or not discriminator.built:
        _build(generator, discriminator, latent_dim, takes_labels)
    inputs = inputs_of(generator)
    if inputs:
        shape = tuple(inputs[0].shape)
        if len(shape) != 2 or shape[-1] not in (latent_dim, None):
            raise InvalidArgumentError(
                f"`latent_dim` must be the length of the generator's latent vectors. Received: "
                f"latent_dim={latent_dim}, and a generator whose first input has shape {shape}."
            )
    inputs = inputs_of(discriminator)
    generated = output_shape(generator)
    expected = tuple(inputs[0].shape) if inputs else None
    if generated and expected and not shapes_match(generated[1:], expected[1:]):
        raise InvalidArgumentError(
            "The generator's output must have the shape of the discriminator's input. "
            f"Received: {generated[1:]} from the generator, {expected[1:]} at the discriminator."
        )
    logits = output_shape(discriminator)
    if logits is not None and (len(logits) < 2 or (logits[0] is not None and logits[0] != 1)):
        raise InvalidArgumentError(
            f"The discriminator must return logits for each image. Received: output shape {logits}."
        )


def _build(
    generator: keras.Model, discriminator: keras.Model, latent_dim: int, takes_labels: bool
) -> None:
    """Build two networks by calling them on one latent vector."""
    if takes_labels:
        raise UnbuiltModelError(
            "Networks that take labels must be built before `GANModel` gets them, since the shape of "
            "a label is not known here. Call each once on a batch: `generator([z, labels])`, "
            "`discriminator([images, labels])`."
        )
    z = np.zeros((1, latent_dim), dtype="float32")
    try:
        discriminator(generator(z))
    except Exception as error:
        raise UnbuiltModelError(
            f"The networks are not built and could not be built from latent vectors of shape "
            f"(batch, {latent_dim}): {type(error).__name__}: {error}\nCall each once on a batch to "
            "see which of them fails."
        ) from error


def augmentation(layer: Any, shape: tuple | None) -> keras.layers.Layer | None:
    """Return an augmentation layer, built for images of a shape if it is known, or None.

    Raises:
        ArgumentTypeError: `layer` is neither None nor a Keras layer.
        InvalidArgumentError: The layer has trainable weights.
    """
    if layer is None:
        return None
    if not isinstance(layer, keras.layers.Layer):
        raise ArgumentTypeError(
            "`augmentation` must be None or a Keras layer that maps images to images, such as "
            f"`DiffAugment()`. Received: {layer!r} (of type {type(layer).__name__})."
        )
    if not layer.built and shape:
        layer.build(shape)
        layer.built = True
    if layer.trainable_weights:
        raise InvalidArgumentError(
            "`augmentation` must have no trainable weights: neither optimizer would train them. "
            f"Received: {layer!r}."
        )
    return layer
