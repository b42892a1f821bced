"""The two small GANs that the demo, the notebooks and the benchmarks train."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def dcgan(
    image_shape: tuple[int, int, int], latent_dim: int = 64, channels: int = 32
) -> tuple[keras.Model, keras.Model]:
    """Return the generator and discriminator of a small DCGAN for square images.

    Reference: [DCGAN](https://arxiv.org/abs/1511.06434).
    """
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
    image_shape: tuple[int, int, int], latent_dim: int = 100
) -> tuple[keras.Model, keras.Model]:
    """Return the classic fully connected GAN: 100→256→512→1024→pixels, pixels→512→1024→1."""
    layers = keras.layers
    pixels = int(np.prod(image_shape))
    hidden: list[Any] = []
    for units in (256, 512, 1024):
        hidden += [
            layers.Dense(units),
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
