"""Sizes that are unknown and turn out equal: a square image alone in its batch."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_ganprune as kgp


class Shuffled(keras.layers.Layer):
    """Pixel shuffle, written for images of any size."""

    def call(self, x):
        batch, height, width, channels = ops.shape(x)
        x = ops.reshape(x, (batch, height, width, 2, 2, channels // 4))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (batch, 2 * height, 2 * width, channels // 4))

    def compute_output_shape(self, shape):
        sizes = [None if size is None else 2 * size for size in shape[1:3]]
        return (shape[0], *sizes, shape[3] // 4)


class Spread(keras.layers.Layer):
    """The mean over the image at each of its places."""

    def call(self, x):
        batch, height, width, channels = ops.shape(x)
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        return ops.broadcast_to(mean, (batch, height, width, channels))


class Coordinates(keras.layers.Layer):
    """A row number and a column number beside each pixel."""

    def call(self, x):
        batch, height, width, _ = ops.shape(x)
        rows = ops.cast(ops.reshape(ops.arange(height), (1, height, 1, 1)), x.dtype)
        columns = ops.cast(ops.reshape(ops.arange(width), (1, 1, width, 1)), x.dtype)
        ones = ops.ones((batch, height, width, 1))
        return ops.concatenate([x, ones * rows, ones * columns], axis=-1)

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-1] + 2)


@pytest.mark.parametrize("layer", [Shuffled, Spread, Coordinates])
def test_a_square_image_alone_in_its_batch(layer):
    """`add` of Keras on TensorFlow takes (1, n, 1) beside (1, 1, n) for a bias."""
    x = image = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(8, 3, padding="same")(x)
    x = keras.layers.Conv2D(2, 1)(layer()(x))
    model = keras.Model(image, x)
    small = kgp.shrink(model, sparsity=0.5)
    masked = kgp.Pruner(model, granularity="channel")
    masked.update(sparsity=0.5)
    assert small.count_params() < 0.7 * model.count_params()
    for size in [(1, 8, 8, 2), (1, 5, 5, 2), (2, 6, 6, 2), (2, 2, 2, 2), (1, 4, 9, 2)]:
        images = np.random.default_rng(0).normal(size=size).astype("float32")
        np.testing.assert_allclose(small(images), model(images), rtol=1e-4, atol=1e-5)
