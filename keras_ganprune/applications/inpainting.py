"""Inpainting: a U-Net fills boxes and free-form holes in images of solar cells, or in photos."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import keras
import numpy as np

from keras_ganprune.applications import image_restoration as restoration
from keras_ganprune.applications import image_scores
from keras_ganprune.applications.base import Application, Metric, Source, Split, Splits
from keras_ganprune.applications.feature_distance import FEATURE_DISTANCE, FeatureDistance
from keras_ganprune.applications.holes import random_holes
from keras_ganprune.applications.image_blocks import HoleFill, PixelShuffle, small_start
from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.datasets import packages, solar_cells
from keras_ganprune.datasets.images import Images
from keras_ganprune.gan import keep_known_pixels

_SIZE = 64
_PHOTOS = 4096
_TEST = 96
_CHANNELS = (32, 48, 64)


@documented
@attrs.frozen
class InpaintingOptions(ApplicationOptions):
    """The options of inpainting.

    Raises:
        InvalidArgumentError: An option has a wrong value.

    Example:
    >>> InpaintingOptions(holes="box").holes
    'box'
    """

    data: str | None = option(
        None,
        "Images: solar-cells, photos, or the path of your own folder of photos.",
        default_text="solar-cells",
    )
    holes: str = option("mixed", "Shape of the holes.", choices=("mixed", "box", "free-form"))
    adversarial: float = option(
        0.002,
        "Weight of the adversarial loss; a larger one makes sharper images with a lower PSNR.",
        kind=float,
    )


class Inpainting(Application):
    """Fills holes in images. Known pixels stay as they are, also in the exported network.

    Args:
        options: `InpaintingOptions`.

    Example:
    >>> from keras_ganprune.applications.inpainting import Inpainting
    >>> Inpainting.target
    'generator'

    References: [U-Net](https://arxiv.org/abs/1505.04597);
    [Context encoders](https://arxiv.org/abs/1604.07379), Eq. 3: reconstruction and adversarial loss.
    """

    name: ClassVar[str] = "inpainting"
    help: ClassVar[str] = "fill holes in images of solar cells, or in photos (U-Net)"
    options_class: ClassVar[type] = InpaintingOptions
    metrics: ClassVar[Mapping[str, Any]] = {
        "psnr": Metric("PSNR in the holes, dB", higher_is_better=True, digits=2),
        "ssim": Metric("SSIM in the holes", higher_is_better=True, digits=4),
        "distance": FEATURE_DISTANCE,
    }
    target: ClassVar[str | None] = "generator"

    def data(self) -> Splits:
        """Return images with holes and their masks; the targets are the whole images."""
        return self._data

    @functools.cached_property
    def _data(self) -> Splits:
        options = self.options
        cells = options.data in (None, "solar-cells")
        if cells:
            images = solar_cells(_SIZE)
            if not options.quick:
                images["train"] = _mirrored(images["train"])
        else:
            images = restoration.photo_splits(options, _SIZE, _PHOTOS, channels=3)
        # The baseline of biharmonic functions is slow.
        images["test"] = _spread(images["test"], _TEST)
        distance = FeatureDistance(images["train"].images)
        parts = {
            n: self._with_holes(part, k, distance) for k, (n, part) in enumerate(images.items())
        }
        words = f"{options.holes} holes"
        if not cells:
            return restoration.splits_of(parts, images, options, words)
        source = Source("the ELPV data set", *_of_cells())
        forms = "" if options.quick else ", in four mirrored forms"
        counts = [f"{len(parts[name]):,}" for name in ("train", "validation", "test")]
        description = (
            f"Solar cells of {source.name}, {_SIZE}×{_SIZE} pixels: {counts[0]} for train{forms}; "
            f"{counts[1]} for validation, {counts[2]} for test, of other modules; {words}."
        )
        return Splits(parts["train"], parts["validation"], parts["test"], source, description)

    def _with_holes(self, part: Images, place: int, distance: FeatureDistance) -> Split:
        known = random_holes(
            len(part), _SIZE, self.options.holes, seed=10 * self.options.seed + place
        )
        extra = {"holes": known == 0.0, "distance": distance}
        return Split((known * part.images, known), part.images, extra)

    def networks(self, data: Splits, width: float = 1.0) -> dict[str, keras.Model]:
        """Return the generator [image, mask] → image, and the discriminator, which sees the result alone."""
        factor = 0.5 if self.options.quick else 1.0
        shape = data.train.y.shape[1:]
        return {
            "generator": filler(shape, [max(4, round(width * factor * c)) for c in _CHANNELS]),
            "discriminator": restoration.patch_discriminator(shape, round(24 * factor)),
        }

    def model(self, networks: Mapping[str, keras.Model]) -> keras.Model:
        """Return the compiled `ImageToImageGAN`."""
        return restoration.compiled(networks, self, self.options.adversarial)

    def evaluate(self, network: keras.Model, data: Split) -> dict[str, float]:
        """Return PSNR and SSIM inside the holes, and the feature distance of the whole images."""
        return self._scores(image_scores.restored(network, list(data.x)), data)

    def _scores(self, images: np.ndarray, data: Split) -> dict[str, float]:
        scores = image_scores.scores(images, data.y, data.extra["holes"])
        return {**scores, "distance": data.extra["distance"](images, data.y)}

    def baselines(self, data: Splits) -> dict[str, dict[str, float]]:
        """Return the scores of biharmonic inpainting."""
        return {"biharmonic": self._scores(_biharmonic(data.test), data.test)}

    def show(self, networks: Mapping[str, keras.Model], data: Split) -> Any:
        """Return images with holes, the biharmonic results, those of each network, and whole images."""
        return restoration.show(
            networks, data, {"with holes": lambda part: part.x[0], "biharmonic": _biharmonic}
        )

    def epochs(self) -> tuple[int, int]:
        """Return (epochs of the dense training, epochs of each compression)."""
        return (3, 1) if self.options.quick else (3, 3)

    def batch_size(self) -> int:
        """Return the number of images per step: few, as pruned networks need many steps to recover."""
        return 16


def _of_cells() -> tuple[str, str]:
    from keras_ganprune.datasets.elpv_cells import CITATION, LICENSE

    return LICENSE, CITATION


def _mirrored(images: Images) -> Images:
    """Return images in four forms: as they are, mirrored, upside down, and both. Each gets its own hole."""
    forms = [images.images[:, ::vertical, ::across] for vertical in (1, -1) for across in (1, -1)]
    labels = None if images.labels is None else np.tile(images.labels, 4)
    return Images(np.concatenate(forms), labels, f"{images.description}, in four mirrored forms")


def _spread(images: Images, count: int) -> Images:
    """Return images that are spread evenly over a data set."""
    places = np.unique(np.linspace(0, len(images) - 1, count).astype(int))
    labels = None if images.labels is None else images.labels[places]
    return Images(images.images[places], labels, f"{len(places)} of {images.description}")


def _biharmonic(data: Split) -> np.ndarray:
    inpaint = packages.require("skimage.restoration").inpaint_biharmonic
    holes = data.extra["holes"][..., 0]
    filled = [
        inpaint(image, hole, channel_axis=-1) for image, hole in zip(data.x[0], holes, strict=True)
    ]
    return np.clip(np.stack(filled), -1, 1).astype("float32")


def filler(shape: tuple[int, ...], channels: list[int]) -> keras.Model:
    """Return a U-Net that adds detail to a smooth filling of the holes of an image.

    Args:
        shape: (height, width, channels), multiples of 2 ** len(channels).
        channels: Channels of each level, from half of the resolution to the smallest images.
    """
    layers = keras.layers
    image = keras.Input(shape, name="image")
    mask = keras.Input((*shape[:-1], 1), name="mask")
    filled = HoleFill(name="filled")([image, mask])
    x = layers.Concatenate()([filled, mask])
    kept = []
    for level, width in enumerate(channels):
        x = _conv(width, 4, f"half_{level}", strides=2)(x)
        x = _conv(width, 3, f"down_{level}")(x)
        kept.append(x)
    x = _conv(channels[-1], 3, "middle")(x)
    for level, width in reversed(list(enumerate(channels[:-1]))):
        x = layers.Conv2DTranspose(
            width, 4, strides=2, padding="same", activation="relu", name=f"double_{level}"
        )(x)
        x = layers.Concatenate()([x, kept[level]])
        x = _conv(width, 3, f"up_{level}")(x)
    x = layers.Conv2D(
        4 * shape[-1], 3, padding="same", kernel_initializer=small_start(), name="detail"
    )(x)
    x = layers.Add(name="generated")([filled, PixelShuffle(2, name="full")(x)])
    return keras.Model([image, mask], keep_known_pixels(x, image, mask), name="generator")


def _conv(channels: int, size: int, name: str, **kwargs: Any) -> Any:
    return keras.layers.Conv2D(
        channels, size, padding="same", activation="relu", name=name, **kwargs
    )
