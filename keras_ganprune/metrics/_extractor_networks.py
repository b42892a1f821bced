"""The small convolutional networks that become feature extractors."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


class _Seeds:
    """Seeds of initializers and dropout, so that Keras's global seed is neither read nor changed."""

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)

    def __call__(self) -> int:
        """Return the next seed."""
        return int(self._rng.integers(2**31))

    # Keras's stubs say that `kernel_initializer` is a str; it may be an initializer too.
    def he(self) -> Any:
        """Return a He initializer with the next seed."""
        return keras.initializers.HeNormal(seed=self())

    def glorot(self) -> Any:
        """Return a Glorot initializer with the next seed."""
        return keras.initializers.GlorotUniform(seed=self())


def _scaled_input(shape: tuple[int, ...], value_range: tuple[float, float]) -> list[Any]:
    """Return the input, and a layer that scales pixels to [-1, 1] if they have another range."""
    low, high = value_range
    layers = [keras.Input(shape, name="images")]
    if (low, high) != (-1.0, 1.0):
        scale = 2.0 / (high - low)
        layers.append(keras.layers.Rescaling(scale, -1.0 - scale * low, name="scaled"))
    return layers


def _convolutions(shape: tuple[int, ...], seeds: _Seeds) -> list[Any]:
    """Return convolutions that halve the image until it has only a few pixels."""
    layers: list[Any] = []
    size, channels, number = min(shape[:2]), 16, 0
    while number < 2 or size >= 6:
        number += 1
        layers.append(
            keras.layers.Conv2D(
                channels, 3, padding="same", kernel_initializer=seeds.he(), name=f"conv_{number}"
            )
        )
        if size >= 6:
            layers.append(keras.layers.MaxPooling2D(2, name=f"pool_{number}"))
        # ReLU and max pooling commute. After the pooling, ReLU has a quarter of the values to process.
        layers.append(keras.layers.ReLU(name=f"relu_{number}"))
        size, channels = size // 2, min(2 * channels, 128)
    return [*layers, keras.layers.Flatten(name="flat")]


def classifier(
    shape: tuple[int, ...],
    features: int,
    classes: int,
    seed: int,
    value_range: tuple[float, float],
) -> tuple[keras.Sequential, int]:
    """Return a classifier of images, whose layer 'features' gives the features, and a training seed."""
    seeds = _Seeds(seed)
    model = keras.Sequential(
        [
            *_scaled_input(shape, value_range),
            *_convolutions(shape, seeds),
            keras.layers.Dropout(0.4, seed=seeds(), name="dropped"),
            keras.layers.Dense(
                features, use_bias=False, kernel_initializer=seeds.he(), name="hidden"
            ),
            # It normalizes the scale of all features. Without it most ReLUs die (48 of 64 in an experiment).
            keras.layers.BatchNormalization(momentum=0.9, name="normalized"),
            keras.layers.ReLU(name="features"),
            keras.layers.Dense(
                classes, activation="softmax", kernel_initializer=seeds.glorot(), name="classes"
            ),
        ],
        name="classifier",
    )
    return model, seeds()


def autoencoder(
    shape: tuple[int, ...], features: int, seed: int, value_range: tuple[float, float]
) -> tuple[keras.Sequential, keras.Sequential, int]:
    """Return an autoencoder of images, its encoder, and a training seed."""
    seeds = _Seeds(seed)
    encoder = keras.Sequential(
        [
            *_scaled_input(shape, value_range),
            *_convolutions(shape, seeds),
            keras.layers.Dense(
                features, use_bias=False, kernel_initializer=seeds.glorot(), name="code"
            ),
            keras.layers.BatchNormalization(
                momentum=0.9, center=False, scale=False, name="features"
            ),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((features,)),
            keras.layers.Dense(256, activation="relu", kernel_initializer=seeds.he()),
            keras.layers.Dense(int(np.prod(shape)), kernel_initializer=seeds.glorot()),
            keras.layers.Reshape(shape),
        ],
        name="decoder",
    )
    return keras.Sequential([encoder, decoder], name="autoencoder"), encoder, seeds()
