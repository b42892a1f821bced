"""What denoising, super-resolution and inpainting share: photos, discriminator, GAN and picture."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.applications import image_scores
from keras_ganprune.applications.base import Application, Source, Split, Splits
from keras_ganprune.applications.dense_training import Plan
from keras_ganprune.applications.image_panels import panel
from keras_ganprune.applications.learning_rates import falling
from keras_ganprune.datasets import photos
from keras_ganprune.datasets.images import Images
from keras_ganprune.datasets.photos import photo_patches
from keras_ganprune.gan.image_to_image import ImageToImageGAN
from keras_ganprune.gan.reconstruction import L1Loss

_SHOWN = 6
_QUICK = 4  # A quick run uses a quarter of the patches.


def photo_splits(options: Any, size: int, count: int, channels: int) -> dict[str, Images]:
    """Return patches of the photos of the packages, or of the user's folder `options.data`."""
    folder = None if options.data in (None, "photos") else pathlib.Path(options.data)
    return photo_patches(
        size=size,
        count=count // _QUICK if options.quick else count,
        channels=channels,
        folder=folder,
        seed=options.seed,
    )


def splits_of(
    parts: Mapping[str, Split], images: Mapping[str, Images], options: Any, words: str
) -> Splits:
    """Return splits with their source and description."""
    shipped = options.data in (None, "photos")
    source = (
        Source("photos of scikit-image and scikit-learn", photos.LICENSE, photos.CITATION)
        if shipped
        else Source(f"the folder '{options.data}'", "that of your photos", "your own photos")
    )
    counts = ", ".join(
        f"{len(parts[name]):,} for {name}" for name in ("train", "validation", "test")
    )
    description = (
        f"Patches of {source.name}: {counts}; {words}. Tested on {images['test'].description}."
    )
    return Splits(parts["train"], parts["validation"], parts["test"], source, description)


def patch_discriminator(shape: tuple[int, ...], channels: int = 24) -> keras.Model:
    """Return a discriminator that returns a logit for each patch of an image.

    Args:
        shape: (height, width, channels).
        channels: Channels of its first layer. Defaults to 24.

    Reference: [Image-to-image translation](https://arxiv.org/abs/1611.07004), Section 3.2.2.
    """
    layers = keras.layers
    x = image = keras.Input(shape)
    for place in range(3):
        x = layers.Conv2D(channels * 2**place, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(0.2)(x)
    x = layers.Conv2D(1, 3, padding="same")(x)
    return keras.Model(image, x, name="discriminator")


def compiled(
    networks: Mapping[str, keras.Model],
    application: Application,
    adversarial_weight: float,
    rate: float = 1e-3,
    **kwargs: Any,
) -> ImageToImageGAN:
    """Return a compiled `ImageToImageGAN` with an averaged generator.

    Args:
        networks: "generator" and "discriminator".
        application: The application, for its seed and the lengths of its trainings.
        adversarial_weight: Weight of the adversarial loss beside the mean absolute error, whose weight is 1.
        rate: Learning rate of the generator in the dense training; it falls in those after it. Defaults to
            1e-3.
        **kwargs: Further arguments of `ImageToImageGAN`.
    """
    gan = ImageToImageGAN(
        networks["generator"],
        networks["discriminator"],
        "hinge",
        **{"reconstruction": L1Loss(1.0), "ema_decay": 0.995, "value_range": None, **kwargs},
        adversarial_weight=adversarial_weight,
        balance_frequency=0,
        seed=application.options.seed,
    )
    steps = Plan.of(application, application.data()).steps
    gan.compile(
        generator_optimizer=keras.optimizers.Adam(falling(rate, *steps), beta_1=0.9),
        discriminator_optimizer=keras.optimizers.Adam(2e-4, beta_1=0.5),
    )
    return gan


def show(
    networks: Mapping[str, keras.Model],
    data: Split,
    before: Mapping[str, Callable[[Split], np.ndarray]],
) -> Any:
    """Return a figure: what comes before the networks, their results, the originals.

    Args:
        networks: Title -> network.
        data: The held-out data.
        before: Title -> function that returns images for a part of the data.
    """
    places = np.linspace(0, len(data) - 1, _SHOWN).astype(int)
    x, y = (keras.tree.map_structure(lambda array: array[places], a) for a in (data.x, data.y))
    arrays = {k: v[places] for k, v in data.extra.items() if isinstance(v, np.ndarray)}
    part = Split(x, y, arrays)
    columns = {title: make(part) for title, make in before.items()}
    columns |= {title: image_scores.restored(n, part.x) for title, n in networks.items()}
    holes = part.extra.get("holes")
    notes = {
        title: f"{image_scores.scores(images, part.y, holes)['psnr']:.1f} dB"
        for title, images in columns.items()
        if images.shape == part.y.shape
    }
    return panel({**columns, "original": part.y}, notes)
