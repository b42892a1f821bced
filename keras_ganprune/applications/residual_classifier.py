"""A small residual network (ResNet) that says what is in an image."""

from __future__ import annotations

from typing import Any

import keras

_CHANNELS = (16, 32, 64)
# Of the averages of batch statistics, per step. With the 0.99 of Keras, they lag behind a training of some
# hundred steps.
_MOMENTUM = 0.9
# Share of the height and width by which images are shifted at most.
_SHIFT = 0.08
#: What may be mirrored -> argument of `keras.layers.RandomFlip`.
FLIPS = {"both": "horizontal_and_vertical", "horizontal": "horizontal", "none": None}


def residual_classifier(
    shape: tuple[int, ...], classes: int, width: float = 1.0, flips: str = "none"
) -> keras.Model:
    """Return a ResNet of three blocks, for small images.

    In training, images are mirrored and shifted at random; in use, these layers do nothing.

    Args:
        shape: (height, width, channels) of an image.
        classes: Positive int, number of classes.
        width: Positive float, factor for the channels. Defaults to 1.
        flips: "both" mirrors left and right, up and down; "horizontal" left and right; "none" nothing.
            Defaults to "none".

    Returns:
        Keras model that maps images in [-1, 1] to probabilities (n, classes).

    Example:
    >>> from keras_ganprune.applications.residual_classifier import residual_classifier
    >>> residual_classifier((32, 32, 1), 2, width=0.5).output_shape
    (None, 2)

    Reference: [Deep residual learning](https://arxiv.org/abs/1512.03385), Section 4.2.
    """
    layers = keras.layers
    channels = [max(2, round(width * each)) for each in _CHANNELS]
    x = image = keras.Input(shape, name="image")
    if FLIPS[flips] is not None:
        x = layers.RandomFlip(FLIPS[flips], name="mirror")(x)
    x = layers.RandomTranslation(_SHIFT, _SHIFT, fill_mode="reflect", name="shift")(x)
    # Images of 8×8 or 28×28 pixels are small enough.
    strides = 2 if max(shape[:2]) > 32 else 1
    x = _normalized(x, channels[0], 3, strides, "first")
    x = layers.ReLU(name="first_relu")(x)
    for place, each in enumerate(channels):
        x = _block(x, each, 1 if place == 0 else 2, f"block_{place}")
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return keras.Model(image, x, name="network")


def _block(x: Any, channels: int, strides: int, name: str) -> Any:
    layers = keras.layers
    y = _normalized(x, channels, 3, strides, f"{name}_a")
    y = _normalized(layers.ReLU(name=f"{name}_a_relu")(y), channels, 3, 1, f"{name}_b")
    if strides > 1:
        x = _normalized(x, channels, 1, strides, f"{name}_skip")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def _normalized(x: Any, channels: int, size: int, strides: int, name: str) -> Any:
    layers = keras.layers
    x = layers.Conv2D(channels, size, strides, padding="same", use_bias=False, name=name)(x)
    return layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm")(x)
