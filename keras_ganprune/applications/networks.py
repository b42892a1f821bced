"""The two small GANs that the demo, the notebooks and the benchmarks train."""

from __future__ import annotations

from typing import Any

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
        image_shape: (height, width, channels), height and width equal, multiples of 4.
        latent_dim: Length of a latent vector.
        channels: Of the last hidden layer of the generator, and the first of the discriminator.
        classes: None, or how many labels there are: both networks then take them too, class numbers of
            shape (batch,).

    Reference: [DCGAN](https://arxiv.org/abs/1511.06434); labels in the discriminator:
    [cGANs with projection](https://arxiv.org/abs/1802.05637), Eq. 3.
    """
    generator, discriminator = _dcgan(image_shape, latent_dim, channels)
    if classes is None:
        return generator, discriminator
    return _with_labels(generator, discriminator, image_shape, latent_dim, classes)


def _with_labels(generator, discriminator, image_shape, latent_dim, classes):
    layers = keras.layers
    z, label = keras.Input((latent_dim,)), keras.Input((), dtype="int32", name="label")
    # Scaled by a vector of its class, a latent vector can reach any image of it.
    of_class = layers.Embedding(classes, latent_dim, embeddings_initializer="ones", name="classes")
    x = layers.Multiply()([z, of_class(label)])
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
    fits = layers.Dot(1)([x, layers.Embedding(classes, x.shape[-1], name="classes")(label)])
    x = layers.Add()([last(x), fits])
    return conditional_generator, keras.Model([image, label], x, name="discriminator")


def _dcgan(image_shape, latent_dim, channels):
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

    `width` multiplies the units of the generator's hidden layers.
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
