"""Layers and blocks of networks that map an image to an image of any size."""

from __future__ import annotations

from typing import Any

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.utils.registry import PACKAGE

# The mean of a mask over any number of pixels is above it, if a pixel is known.
_SMALLEST = 1e-3


@keras.saving.register_keras_serializable(package=PACKAGE)
class PixelShuffle(keras.layers.Layer):
    """Turns groups of channels into pixels: (b, h, w, c·r^2) → (b, h·r, w·r, c).

    Args:
        factor: Positive int r, the growth of height and width.
        **kwargs: Further arguments of `keras.layers.Layer`.

    Example:
    >>> from keras_ganprune.applications.image_blocks import PixelShuffle
    >>> tuple(PixelShuffle(2)(np.zeros((1, 4, 5, 12))).shape)
    (1, 8, 10, 3)

    Reference: [ESPCN](https://arxiv.org/abs/1609.05158), Eq. 4.
    """

    def __init__(self, factor: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: Any) -> Any:
        """Return the larger image."""
        batch, height, width, channels = ops.shape(inputs)
        r = self.factor
        x = ops.reshape(inputs, (batch, height, width, r, r, channels // r**2))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (batch, height * r, width * r, channels // r**2))

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Return the shape of the larger image."""
        batch, height, width, channels = input_shape
        r = self.factor
        grown = [None if size is None else size * r for size in (height, width)]
        return (batch, *grown, channels // r**2)

    def get_config(self):
        """Return the arguments from which the layer is rebuilt."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package=PACKAGE)
class HoleFill(keras.layers.Layer):
    """Fills the holes of an image smoothly, without weights.

    The known pixels are averaged to smaller and smaller images (pull). Then each hole gets the next smaller
    image, made larger and smoothed (push).

    Args:
        sweeps: Positive int, how often each size is smoothed. Defaults to 2.
        **kwargs: Further arguments of `keras.layers.Layer`.

    Example:
    >>> from keras_ganprune.applications.image_blocks import HoleFill
    >>> image, mask = np.full((1, 8, 8, 1), 0.5, "float32"), np.ones((1, 8, 8, 1), "float32")
    >>> mask[:, 2:5, 3:6] = 0.0
    >>> bool(np.allclose(HoleFill()([image * mask, mask]), 0.5))
    True

    Reference: [The lumigraph](https://doi.org/10.1145/237170.237200), Section 3.4.2: pull and push.
    """

    def __init__(self, sweeps: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.sweeps = sweeps

    def call(self, inputs: Any) -> Any:
        """Return [image, mask] as an image without holes; the mask is 1 where a pixel is known."""
        image, mask = inputs
        image = image * mask
        levels = []
        while max(image.shape[1:3]) > 1:
            levels.append((image, mask))
            share = ops.average_pool(mask, 2, 2, "same")
            mask = ops.cast(share > 0.0, image.dtype)
            image = ops.average_pool(image, 2, 2, "same") / ops.maximum(share, _SMALLEST)
        for known, mask in reversed(levels):
            image = ops.image.resize(
                image, known.shape[1:3], interpolation="bilinear", data_format="channels_last"
            )
            image = known + (1.0 - mask) * image
            for _ in range(self.sweeps):
                image = known + (1.0 - mask) * ops.average_pool(image, 3, 1, "same")
        return image

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Return the shape of the image."""
        return tuple(input_shape[0])

    def get_config(self):
        """Return the arguments from which the layer is rebuilt."""
        return {**super().get_config(), "sweeps": self.sweeps}


def residual_block(x: Any, channels: int, name: str, activation: str = "relu") -> Any:
    """Return x + conv(activation(conv(x))), for images of any size.

    Args:
        x: Symbolic images (batch, height, width, channels).
        channels: Channels of the block and of `x`.
        name: Prefix of the names of its layers.
        activation: "relu" or "prelu". Defaults to "relu".

    Reference: [EDSR](https://arxiv.org/abs/1707.02921), Fig. 2: residual blocks without normalization.
    """
    layers = keras.layers
    y = layers.Conv2D(channels, 3, padding="same", name=f"{name}_a")(x)
    y = activated(y, activation, f"{name}_activation")
    y = layers.Conv2D(channels, 3, padding="same", name=f"{name}_b")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def activated(x: Any, activation: str, name: str) -> Any:
    """Return the activations of images; 'prelu' has one slope per channel."""
    if activation == "prelu":
        return keras.layers.PReLU(shared_axes=[1, 2], name=name)(x)
    return keras.layers.Activation(activation, name=name)(x)


def small_start() -> Any:
    """Return the initializer of a last layer whose result is added to the input: it begins near zero."""
    return keras.initializers.VarianceScaling(0.01)
