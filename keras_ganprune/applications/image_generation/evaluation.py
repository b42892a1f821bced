"""Image quality and latency of the dense and the final generator."""

from __future__ import annotations

import pathlib

import keras
import numpy as np

from keras_ganprune import datasets
from keras_ganprune.applications.image_generation.options import DemoOptions
from keras_ganprune.gan import GANModel, latents
from keras_ganprune.metrics import ImageQuality, QualityReport, measure_latency
from keras_ganprune.metrics.extractor_training import split_at
from keras_ganprune.utils.status_line import EXTRACTOR, StatusLine

LATENCY_BATCH = 16
_HELD_OUT = 0.2
_GENERATED_IMAGES = 5000
# A fifth of the images is held out, and a feature extractor has 64 features: ten held-out images per feature.
_FEWEST_IMAGES = 3200
_LATENT_SEEDS = 3


def image_quality(options: DemoOptions, images: datasets.Images) -> ImageQuality | None:
    """Return the evaluator of generated images, or None if their quality is not measured."""
    measure_quality = options.quality
    if measure_quality is None:
        enough = images.labels is not None and len(images) >= _FEWEST_IMAGES
        measure_quality = enough and not options.quick
    if not measure_quality:
        return None
    with StatusLine().doing(EXTRACTOR):
        quality = ImageQuality(
            images.images,
            images.labels,
            held_out=_HELD_OUT,
            samples=_GENERATED_IMAGES,
            seed=options.seed,
        )
    accuracy = quality.extractor.accuracy
    words = "" if accuracy is None else f" with an accuracy of {accuracy:.1%}"
    StatusLine().say(
        f"Evaluator: a feature extractor{words}, trained on all images except the last {_HELD_OUT:.0%}."
    )
    return quality


def training_images(images: datasets.Images) -> datasets.Images:
    """Return the images without the last ones, which the evaluator holds out."""
    return images.take(split_at(len(images), _HELD_OUT))


def measure(
    quality: ImageQuality | None, dense: keras.Model, final: keras.Model, final_name: str
) -> dict[str, list[QualityReport]]:
    """Return the quality of real images, and of both generators with several sets of latent vectors."""
    if quality is None:
        return {}
    with StatusLine().doing("Measuring the quality"):
        reports = {"real": [quality.floor()]}
        for name, network in (("dense", dense), (final_name, final)):
            reports[name] = [
                quality.measure_generator(network, seed=seed) for seed in range(_LATENT_SEEDS)
            ]
    return reports


def latency(gan: GANModel, folder: pathlib.Path) -> dict[str, float]:
    """Return the milliseconds per batch of the SavedModels 'dense' and 'generator', measured in turns."""
    z = latents.draw(LATENCY_BATCH, gan.latent_dim, seed=0)
    labels = np.zeros(LATENCY_BATCH, "int32")
    with StatusLine().doing("Measuring the latency"):
        functions = {name: measure_latency.served(folder / name) for name in ("dense", "generator")}
        inputs = [z, labels] if gan.conditional else z
        return {**measure_latency.latency(functions, inputs, repeats=50)}
