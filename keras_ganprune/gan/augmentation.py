"""Random changes of the images that a discriminator sees, real and generated alike."""

from __future__ import annotations

from typing import Any

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import DataError
from keras_ganprune.utils import annotated, validation
from keras_ganprune.utils.registry import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class DiffAugment(keras.layers.Layer):
    """Shifts images and changes their brightness and contrast, by random amounts for each image.

    A discriminator that is trained on few images memorises them. It cannot do so if it sees changed
    images only, real and generated alike. The changes have a gradient, so the generator learns through
    them. Use it as `GANModel(augmentation=DiffAugment())`. It does nothing if `training` is false.

    Args:
        translation: Float in [0, 1), the longest shift, as a fraction of the height and of the width. A
            shift is a whole number of pixels; the nearest pixels fill the uncovered border. Defaults to
            0.125.
        brightness: Non-negative float: a random number from [-brightness, brightness] is added to all
            pixels of an image. Defaults to 0.2.
        contrast: Float in [0, 1]: the differences between the pixels and their mean are multiplied by a
            random number from [1 - contrast, 1 + contrast]. Defaults to 0.0.
        seed: Int, or None for a random seed. Defaults to None.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        InvalidArgumentError: `translation`, `brightness` or `contrast` is outside its range.
        DataError: The input of a call in training mode is not (batch, height, width, channels).

    Example:
    >>> images = np.zeros((2, 8, 8, 1), "float32")
    >>> augment = DiffAugment(translation=0.25, brightness=0.2, seed=1)
    >>> augment(images, training=True).shape == images.shape
    True

    Reference: [Differentiable augmentation](https://arxiv.org/abs/2006.10738), with edges repeated
    where the paper pads with zeros.
    """

    def __init__(
        self,
        translation: float = 0.125,
        brightness: float = 0.2,
        contrast: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        annotated.check(DiffAugment.__init__, locals(), "seed")
        super().__init__(**kwargs)
        self.translation = validation.fraction(translation, "translation")
        self.brightness = validation.non_negative(brightness, "brightness")
        self.contrast = validation.fraction(contrast, "contrast", one=True)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, images, training=False):
        """Return changed images in training, and the images themselves otherwise."""
        if not training:
            return images
        if len(images.shape) != 4:
            raise DataError(
                "`DiffAugment` takes images (batch, height, width, channels). Received: an array of "
                f"shape {tuple(images.shape)}. Leave `augmentation` out, or pass a layer that changes "
                "the inputs of your discriminator."
            )
        return self._shift(self._change_values(images))

    def _random(self, batch: Any, low: float, high: float) -> Any:
        return keras.random.uniform(
            (batch,), low, high, dtype=self.compute_dtype, seed=self.seed_generator
        )

    def _change_values(self, images):
        batch = _batch_size(images)
        if self.brightness:
            images = (
                images + self._random(batch, -self.brightness, self.brightness)[:, None, None, None]
            )
        if self.contrast:
            mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
            factor = self._random(batch, 1.0 - self.contrast, 1.0 + self.contrast)
            images = (images - mean) * factor[:, None, None, None] + mean
        return images

    def _shift(self, images):
        height, width = images.shape[1:3]
        batch = _batch_size(images)
        # Products with selection matrices instead of a gather, which is slow on a GPU. Every backend
        # compiles them and has a gradient for them.
        if int(self.translation * height):
            images = ops.einsum("bij,bjwc->biwc", self._shift_matrices(batch, height), images)
        if int(self.translation * width):
            images = ops.einsum("bij,bhjc->bhic", self._shift_matrices(batch, width), images)
        return images

    def _shift_matrices(self, batch, size):
        """Return one matrix (size, size) per image that shifts an axis by a few pixels."""
        most = int(self.translation * size)
        # Half a pixel more at both ends, so that the longest shift is as likely as every other.
        shift = ops.round(self._random(batch, -most - 0.499, most + 0.499))
        positions = ops.arange(size, dtype=self.compute_dtype)
        sources = ops.clip(positions[None, :] + shift[:, None], 0, size - 1)
        return ops.cast(
            ops.equal(sources[:, :, None], positions[None, None, :]), self.compute_dtype
        )

    def compute_output_shape(self, input_shape):
        """Return the input shape."""
        return input_shape

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "translation": self.translation,
            "brightness": self.brightness,
            "contrast": self.contrast,
            "seed": self.seed,
        }


def _batch_size(images: Any) -> Any:
    """Return the number of images, an int or a scalar tensor."""
    shape: Any = ops.shape(images)
    return shape[0]
