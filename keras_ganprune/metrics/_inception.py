"""InceptionV3 as a network that gives features for images of any size."""

from __future__ import annotations

import os

import keras

from keras_ganprune.errors import DataError, InvalidArgumentError


def inception_network(
    image_shape: tuple[int, ...],
    weights: str | os.PathLike[str],
    value_range: tuple[float, float],
) -> keras.Model:
    """Return InceptionV3 without its top, after layers that resize and scale images; see `inception`."""
    low, high = value_range
    if len(image_shape) != 3 or image_shape[-1] not in (1, 3):
        raise InvalidArgumentError(
            "`image_shape` must be (height, width, channels) with 1 or 3 channels. Received: "
            f"{image_shape!r}."
        )
    try:
        body = keras.applications.InceptionV3(
            include_top=False, pooling="avg", weights=os.fspath(weights), input_shape=(299, 299, 3)
        )
    except Exception as error:  # the download and the file may fail with any class of error
        raise DataError(
            f"The weights of InceptionV3 cannot be loaded ({type(error).__name__}: {error}). Let Keras "
            "download them on a machine with a network connection, pass their file as `weights=`, or "
            "train an extractor on your own images: `train_extractor(images, labels)`."
        ) from error
    images = keras.Input(image_shape)
    x = keras.layers.Rescaling(2.0 / (high - low), -1.0 - 2.0 * low / (high - low))(images)
    x = keras.layers.Resizing(299, 299)(x)
    if image_shape[-1] == 1:
        x = keras.layers.Concatenate()([x, x, x])
    return keras.Model(images, body(x, training=False), name="inception")
