"""Super-resolution: small photos become two or four times as large."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import keras
import numpy as np

from keras_ganprune.applications import image_restoration as restoration
from keras_ganprune.applications import image_scores
from keras_ganprune.applications.base import Application, Split, Splits
from keras_ganprune.applications.feature_distance import FEATURE_DISTANCE, FeatureDistance
from keras_ganprune.applications.image_blocks import (
    PixelShuffle,
    activated,
    residual_block,
    small_start,
)
from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.datasets import packages
from keras_ganprune.datasets.images import scaled
from keras_ganprune.errors import InvalidArgumentError

_SIZE, _PATCHES = 48, 3072
_CHANNELS, _BLOCKS = 32, 4


def _check_factor(value: Any, name: str) -> None:
    if value not in (2, 4):
        raise InvalidArgumentError(f"`{name}` must be 2 or 4. Received: {value!r}.")


@documented
@attrs.frozen
class SuperResolutionOptions(ApplicationOptions):
    """The options of super-resolution.

    Raises:
        InvalidArgumentError: An option has a wrong value.

    Example:
    >>> SuperResolutionOptions(factor=4).factor
    4
    """

    factor: int = option(
        2, "How many times larger the result is: 2 or 4.", kind=int, check=_check_factor
    )
    adversarial: float = option(
        0.002,
        "Weight of the adversarial loss; a larger one makes sharper images with a lower PSNR.",
        kind=float,
    )


class SuperResolution(Application):
    """Makes photos larger: a network at the small size adds detail to the bicubic result.

    Args:
        options: `SuperResolutionOptions`.

    Example:
    >>> from keras_ganprune.applications.super_resolution import SuperResolution
    >>> SuperResolution.target
    'generator'

    Reference: [SRGAN](https://arxiv.org/abs/1609.04802), Fig. 4, without normalization as in
    [EDSR](https://arxiv.org/abs/1707.02921).
    """

    name: ClassVar[str] = "super-resolution"
    help: ClassVar[str] = "make small photos two or four times as large (SRGAN)"
    options_class: ClassVar[type] = SuperResolutionOptions
    metrics: ClassVar[Mapping[str, Any]] = {
        "psnr": image_scores.PSNR,
        "ssim": image_scores.SSIM,
        "distance": FEATURE_DISTANCE,
    }
    target: ClassVar[str | None] = "generator"

    def data(self) -> Splits:
        """Return small photos; the targets are the photos before they were made smaller."""
        return self._data

    @functools.cached_property
    def _data(self) -> Splits:
        patches = restoration.photo_splits(self.options, _SIZE, _PATCHES, channels=3)
        distance = FeatureDistance(patches["train"].images)
        parts = {
            name: Split(self._smaller(part.images), part.images, {"distance": distance})
            for name, part in patches.items()
        }
        return restoration.splits_of(
            parts, patches, self.options, f"made {self.options.factor} times smaller"
        )

    def _smaller(self, images: np.ndarray) -> np.ndarray:
        """Return images made smaller by bicubic interpolation, which averages over the pixels it drops."""
        return _resized(images, images.shape[1] // self.options.factor)

    def networks(self, data: Splits, width: float = 1.0) -> dict[str, keras.Model]:
        """Return the generator and the discriminator, which sees the result alone."""
        channels = max(4, round(width * (_CHANNELS // 2 if self.options.quick else _CHANNELS)))
        generator = super_resolver(data.train.x.shape[1:], channels, _BLOCKS, self.options.factor)
        shape = data.train.y.shape[1:]
        return {"generator": generator, "discriminator": restoration.patch_discriminator(shape)}

    def model(self, networks: Mapping[str, keras.Model]) -> keras.Model:
        """Return the compiled `ImageToImageGAN`."""
        return restoration.compiled(networks, self, self.options.adversarial)

    def evaluate(self, network: keras.Model, data: Split) -> dict[str, float]:
        """Return PSNR, SSIM and the feature distance, against the large photos."""
        return self._scores(image_scores.restored(network, data.x), data)

    def _scores(self, images: np.ndarray, data: Split) -> dict[str, float]:
        scores = image_scores.scores(images, data.y)
        return {**scores, "distance": data.extra["distance"](images, data.y)}

    def baselines(self, data: Splits) -> dict[str, dict[str, float]]:
        """Return the scores of bicubic interpolation."""
        return {"bicubic": self._scores(self._bicubic(data.test), data.test)}

    def _bicubic(self, data: Split) -> np.ndarray:
        return np.clip(_resized(data.x, data.y.shape[1]), -1, 1)

    def show(self, networks: Mapping[str, keras.Model], data: Split) -> Any:
        """Return small photos, their bicubic results, those of each network, and the large photos."""
        nearest = {
            "small": lambda part: np.repeat(
                np.repeat(part.x, self.options.factor, 1), self.options.factor, 2
            )
        }
        return restoration.show(networks, data, {**nearest, "bicubic": self._bicubic})

    def epochs(self) -> tuple[int, int]:
        """Return (epochs of the dense training, epochs of each compression)."""
        return (2, 1) if self.options.quick else (8, 4)


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    pil = packages.require("PIL.Image")
    bytes_ = np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype("uint8")
    resized = [pil.fromarray(i).resize((size, size), pil.Resampling.BICUBIC) for i in bytes_]
    return scaled(np.stack([np.asarray(i) for i in resized]), 255.0)


def super_resolver(shape: tuple[int, ...], channels: int, blocks: int, factor: int) -> keras.Model:
    """Return a network that adds detail to the bicubic enlargement of an image.

    Args:
        shape: (height, width, channels) of the small image.
        channels: Channels of the hidden layers.
        blocks: Number of residual blocks.
        factor: 2 or 4.
    """
    layers = keras.layers
    image = keras.Input(shape)
    x = layers.Conv2D(channels, 3, padding="same", name="first")(image)
    x = skip = activated(x, "prelu", "first_activation")
    for block in range(blocks):
        x = residual_block(x, channels, f"block_{block}", "prelu")
    x = layers.Add(name="skip")([x, skip])
    if factor == 4:
        x = layers.Conv2D(4 * channels, 3, padding="same", name="up")(x)
        x = activated(PixelShuffle(2, name="up_shuffle")(x), "prelu", "up_activation")
    x = layers.Conv2D(
        4 * shape[-1], 3, padding="same", kernel_initializer=small_start(), name="detail"
    )(x)
    x = PixelShuffle(2, name="shuffle")(x)
    large = layers.UpSampling2D(factor, interpolation="bicubic", name="bicubic")(image)
    return keras.Model(image, layers.Add(name="result")([large, x]), name="generator")
