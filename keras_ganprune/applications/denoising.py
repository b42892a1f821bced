"""Denoising: a residual network removes noise from real photos."""

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
from keras_ganprune.applications.image_blocks import PixelShuffle, residual_block, small_start
from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.datasets import packages
from keras_ganprune.utils import validation

_SIZE, _PATCHES = 48, 3072
_CHANNELS, _BLOCKS = 40, 4


@documented
@attrs.frozen
class DenoisingOptions(ApplicationOptions):
    """The options of denoising.

    Raises:
        InvalidArgumentError: An option has a wrong value.

    Example:
    >>> DenoisingOptions(noise=50.0).noise
    50.0
    """

    noise: float = option(
        25.0,
        "Standard deviation of the noise, for pixels from 0 to 255.",
        kind=float,
        check=validation.positive,
    )
    adversarial: bool = option(
        False,
        "Also train against a discriminator: sharper images with a lower PSNR.",
        kind=bool,
        default_text="no",
    )


class Denoising(Application):
    """Removes noise from photos: the network predicts the noise, at half of the resolution.

    Args:
        options: `DenoisingOptions`.

    Example:
    >>> from keras_ganprune.applications.denoising import Denoising, DenoisingOptions
    >>> Denoising(DenoisingOptions()).metrics["psnr"].title
    'PSNR, dB'

    References: [DnCNN](https://arxiv.org/abs/1608.03981), Eq. 1: the residual is learned;
    [FFDNet](https://arxiv.org/abs/1710.04026), Section III: layers at half of the resolution.
    """

    name: ClassVar[str] = "denoising"
    help: ClassVar[str] = "remove noise from photos with a residual network"
    options_class: ClassVar[type] = DenoisingOptions
    metrics: ClassVar[Mapping[str, Any]] = {"psnr": image_scores.PSNR, "ssim": image_scores.SSIM}
    target: ClassVar[str | None] = "generator"

    def data(self) -> Splits:
        """Return patches of photos with noise; the targets are the patches without it."""
        return self._data

    @functools.cached_property
    def _data(self) -> Splits:
        options = self.options
        patches = restoration.photo_splits(options, _SIZE, _PATCHES, channels=1)
        # In [-1, 1] a grey level of 255 is 2 / 255.
        deviation = options.noise * 2.0 / 255.0
        parts = {}
        for place, (name, images) in enumerate(patches.items()):
            noise = np.random.default_rng((options.seed, place)).normal(
                0, deviation, images.images.shape
            )
            parts[name] = Split(images.images + noise.astype("float32"), images.images)
        words = f"noise of {options.noise:g} of 255"
        return restoration.splits_of(parts, patches, options, words)

    def networks(self, data: Splits, width: float = 1.0) -> dict[str, keras.Model]:
        """Return the generator and the discriminator, which sees the result alone."""
        shape = data.train.x.shape[1:]
        channels = max(4, round(width * (_CHANNELS // 2 if self.options.quick else _CHANNELS)))
        generator = denoiser(shape, channels, _BLOCKS)
        return {"generator": generator, "discriminator": restoration.patch_discriminator(shape)}

    def model(self, networks: Mapping[str, keras.Model]) -> keras.Model:
        """Return the compiled `ImageToImageGAN`."""
        weight = 0.01 if self.options.adversarial else 0.0
        return restoration.compiled(networks, self, adversarial_weight=weight)

    def evaluate(self, network: keras.Model, data: Split) -> dict[str, float]:
        """Return PSNR and SSIM against the photos without noise."""
        return image_scores.scores(image_scores.restored(network, data.x), data.y)

    def baselines(self, data: Splits) -> dict[str, dict[str, float]]:
        """Return the scores of the noisy photos, and of non-local means that knows the noise."""
        test = data.test
        return {
            "non-local means": image_scores.scores(self._non_local_means(test.x), test.y),
            "noisy input": image_scores.scores(np.clip(test.x, -1, 1), test.y),
        }

    def _non_local_means(self, images: np.ndarray) -> np.ndarray:
        denoise = packages.require("skimage.restoration").denoise_nl_means
        deviation = self.options.noise * 2.0 / 255.0
        settings = {"patch_size": 5, "patch_distance": 8, "h": 0.8 * deviation, "sigma": deviation}
        cleaned = [denoise(i, fast_mode=False, channel_axis=-1, **settings) for i in images]
        return np.clip(np.stack(cleaned).reshape(images.shape), -1, 1)

    def show(self, networks: Mapping[str, keras.Model], data: Split) -> Any:
        """Return noisy photos, what each network makes of them, and the photos without noise."""
        before = {
            "noisy": lambda part: part.x,
            "non-local means": lambda part: self._non_local_means(part.x),
        }
        return restoration.show(networks, data, before)

    def epochs(self) -> tuple[int, int]:
        """Return (epochs of the dense training, epochs of each compression)."""
        return (2, 1) if self.options.quick else (8, 7)

    def batch_size(self) -> int:
        """Return the number of patches per step: few, as pruned networks need many steps to recover."""
        return 8


def denoiser(shape: tuple[int, ...], channels: int, blocks: int) -> keras.Model:
    """Return a network that subtracts the noise that it predicts.

    Args:
        shape: (height, width, channels), both sizes even.
        channels: Channels of the hidden layers.
        blocks: Number of residual blocks.
    """
    layers = keras.layers
    x = image = keras.Input(shape)
    x = layers.Conv2D(channels, 4, strides=2, padding="same", name="half")(x)
    for block in range(blocks):
        x = residual_block(x, channels, f"block_{block}")
    x = layers.Conv2D(
        4 * shape[-1], 3, padding="same", kernel_initializer=small_start(), name="noise"
    )(x)
    x = PixelShuffle(2, name="full")(x)
    return keras.Model(image, layers.Subtract(name="clean")([image, x]), name="generator")
