"""The two small GANs that the demo, the notebooks and the benchmarks use: `dcgan` and `mlp`."""

from __future__ import annotations

from typing import Any, cast

import keras
import numpy as np


def dcgan(
    image_shape: tuple[int, int, int],
    latent_dim: int = 64,
    channels: int = 32,
    classes: int | None = None,
) -> tuple[keras.Model, keras.Model]:
    """Return the generator and discriminator of a small DCGAN for square images.

    Args:
        image_shape: (height, width, channels); height and width are equal and multiples of 4.
        latent_dim: Length of a latent vector. Defaults to 64.
        channels: Channels of the last hidden layer of the generator and of the first layer of the
            discriminator. Defaults to 32.
        classes: Number of classes of a class-conditional GAN. Both networks then also take class numbers of
            shape (batch,). Defaults to None: networks without labels.

    Returns:
        (generator, discriminator).

    Example:
    >>> generator, discriminator = dcgan((28, 28, 1), channels=8)
    >>> generator.output_shape, discriminator.output_shape
    ((None, 28, 28, 1), (None, 1))

    Reference: [DCGAN](https://arxiv.org/abs/1511.06434); labels in the discriminator:
    [cGANs with projection](https://arxiv.org/abs/1802.05637), Eq. 3.
    """
    generator, discriminator = _dcgan(image_shape, latent_dim, channels)
    if classes is None:
        return generator, discriminator
    return _with_labels(generator, discriminator, image_shape, latent_dim, classes)


def _with_labels(
    generator: keras.Sequential,
    discriminator: keras.Sequential,
    image_shape: tuple[int, int, int],
    latent_dim: int,
    classes: int,
) -> tuple[keras.Model, keras.Model]:
    """Return class-conditional networks with the layers of unconditional ones."""
    layers = keras.layers
    z, label = keras.Input((latent_dim,)), keras.Input((), dtype="int32", name="label")
    # Each class scales and shifts the latent vector.
    scale = layers.Embedding(classes, latent_dim, embeddings_initializer="ones", name="classes")
    x = layers.Multiply()([z, scale(label)])
    shift = layers.Embedding(classes, latent_dim, name="class_shift")
    x = layers.Add()([x, shift(label)])
    for layer in generator.layers:
        x = layer(x)
    conditional_generator = keras.Model([z, label], x, name="generator")
    image, label = keras.Input(image_shape), keras.Input((), dtype="int32", name="label")
    x = image
    *hidden, last = discriminator.layers
    for layer in hidden:
        x = layer(x)
    features = cast(keras.KerasTensor, x).shape[-1]
    class_vector = layers.Embedding(classes, features, name="classes")
    projection = layers.Dot(1)([x, class_vector(label)])
    x = layers.Add()([last(x), projection])
    return conditional_generator, keras.Model([image, label], x, name="discriminator")


def _dcgan(
    image_shape: tuple[int, int, int], latent_dim: int, channels: int
) -> tuple[keras.Sequential, keras.Sequential]:
    layers = keras.layers
    size, _, depth = image_shape
    base = size // 4
    transposed = {"strides": 2, "padding": "same", "use_bias": False}
    generator = keras.Sequential(
        [
            keras.Input((latent_dim,)),
            layers.Dense(base * base * 2 * channels, use_bias=False),
            layers.Reshape((base, base, 2 * channels)),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2DTranspose(channels, 5, **transposed),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2DTranspose(depth, 5, strides=2, padding="same", activation="tanh"),
        ],
        name="generator",
    )
    discriminator = keras.Sequential(
        [
            keras.Input(image_shape),
            layers.Conv2D(channels, 5, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Conv2D(2 * channels, 5, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1),
        ],
        name="discriminator",
    )
    return generator, discriminator


def mlp(
    image_shape: tuple[int, int, int], latent_dim: int = 100, width: float = 1.0
) -> tuple[keras.Model, keras.Model]:
    """Return the classic fully connected GAN: 100→256→512→1024→pixels, pixels→512→1024→1.

    Args:
        image_shape: (height, width, channels).
        latent_dim: Length of a latent vector. Defaults to 100.
        width: Positive float, factor for the units of the hidden layers of the generator. Defaults to 1.

    Returns:
        (generator, discriminator).

    Example:
    >>> generator, discriminator = mlp((8, 8, 1), width=0.25)
    >>> generator.output_shape, discriminator.output_shape
    ((None, 8, 8, 1), (None, 1))

    Reference: [Generative adversarial nets](https://arxiv.org/abs/1406.2661).
    """
    layers = keras.layers
    pixels = int(np.prod(image_shape))
    hidden: list[Any] = []
    for units in (256, 512, 1024):
        hidden += [
            layers.Dense(max(1, round(width * units))),
            layers.LeakyReLU(0.2),
            layers.BatchNormalization(momentum=0.8),
        ]
    generator = keras.Sequential(
        [
            keras.Input((latent_dim,)),
            *hidden,
            layers.Dense(pixels, activation="tanh"),
            layers.Reshape(image_shape),
        ],
        name="generator",
    )
    discriminator = keras.Sequential(
        [
            keras.Input(image_shape),
            layers.Flatten(),
            layers.Dense(512),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Dense(1024),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Dense(1),
        ],
        name="discriminator",
    )
    return generator, discriminator
