"""The images that the GANs of the quality benchmark learn, and the judges of what they generate."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HELD_OUT_PATCHES = 1_000


@dataclass(frozen=True)
class Pictures:
    """Images, of which the last ones are held out.

    Attributes:
        images: float32 array (n, height, width, channels) in [-1, 1].
        classes: Numbers (n,) that the extractor learns.
        labels: Numbers (n,) that a conditional GAN gets.
        held_out: Number of images at the end that neither a GAN nor an extractor is trained on.
    """

    images: np.ndarray
    classes: np.ndarray
    labels: np.ndarray
    held_out: int


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        load: Function that returns `Pictures`.
        extractor: Arguments of `train_extractor` for the judge.
        flips: Axes along which the GAN also sees the images mirrored: 1 is up and down, 2 left and right.
    """

    load: Callable[[], Pictures]
    extractor: dict[str, Any] = field(default_factory=dict)
    flips: tuple[int, ...] = ()


def _named(name: str, share: float) -> Pictures:
    from keras_ganprune import datasets
    from keras_ganprune.metrics.extractor_training import split_at

    found = datasets.load(name)
    held_out = len(found) - split_at(len(found), share)
    labels = np.asarray(found.labels)
    return Pictures(found.images, labels, labels, held_out)


def _cells() -> Pictures:
    """Return the solar cells, whole modules held out.

    The extractor learns type and defect, four classes; the type alone is too easy to give useful features.
    """
    from keras_ganprune import datasets

    by_type = datasets.solar_cells(64, labels="type")
    by_defect = datasets.solar_cells(64, labels="defect")
    parts = ("train", "validation", "test")
    types = np.concatenate([by_type[part].labels for part in parts])
    defects = np.concatenate([by_defect[part].labels for part in parts])
    images = np.concatenate([by_type[part].images for part in parts])
    first = len(by_type["train"])
    # The cells are sorted by module; an extractor and a GAN want them in random order.
    order = np.r_[np.random.default_rng(0).permutation(first), first : len(images)]
    return Pictures(
        images[order], 2 * types[order] + defects[order], types[order], len(images) - first
    )


def _photos() -> dict[str, np.ndarray]:
    """Return the colour photos of scikit-image and scikit-learn as uint8 arrays."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    return {
        "astronaut": data.astronaut(),
        "coffee": data.coffee(),
        "chelsea": data.chelsea(),
        "rocket": data.rocket(),
        "motorcycle": data.stereo_motorcycle()[0],
        "hubble": data.hubble_deep_field(),
        "tissue": data.immunohistochemistry(),
        "china": load_sample_image("china.jpg"),
        "flower": load_sample_image("flower.jpg"),
    }


def _patches(size: int = 32, per_photo: int = 1_000, tile: int = 64, seed: int = 0) -> Pictures:
    """Return patches of photos. Their class is the photo that they are cut from.

    Each photo is divided into tiles, of which every fifth is held out with all of its patches: no pixel is
    both learned and held out, and both have the same photos.
    """
    rng = np.random.default_rng(seed)
    parts: dict[bool, list[tuple[np.ndarray, int]]] = {False: [], True: []}
    photos = list(_photos().values())
    for number, photo in enumerate(photos):
        photo = photo[..., :3]
        tiles = [
            (y, x)
            for y in range(0, photo.shape[0] - tile + 1, tile)
            for x in range(0, photo.shape[1] - tile + 1, tile)
        ]
        order = rng.permutation(len(tiles))
        apart = {False: order[len(tiles) // 5 :], True: order[: len(tiles) // 5]}
        for held, mine in apart.items():
            for _ in range(HELD_OUT_PATCHES // len(photos) + 1 if held else per_photo):
                y, x = tiles[rng.choice(mine)] + rng.integers(0, tile - size + 1, 2)
                parts[held].append((photo[y : y + size, x : x + size], number))
    learned = [parts[False][i] for i in rng.permutation(len(parts[False]))]
    kept = learned + parts[True]
    images = np.stack([patch for patch, _ in kept]).astype("float32") / 127.5 - 1.0
    numbers = np.array([number for _, number in kept])
    return Pictures(images, numbers, numbers, len(parts[True]))


# The digits are few: two fifths are held out, with fewer features, so that there are 20 images for each.
SOURCES = {
    "mnist-5000": Source(lambda: _named("mnist-5000", 0.2)),
    "digits": Source(lambda: _named("digits", 0.4), {"features": 32, "epochs": 20}),
    "elpv-64": Source(_cells, {"features": 32}, flips=(1, 2)),
    "photos-32": Source(_patches, flips=(2,)),
}


@functools.lru_cache
def pictures(name: str) -> Pictures:
    """Return a data set."""
    return SOURCES[name].load()


def training_images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, labels) to train a GAN on: all that are not held out, and their mirror images."""
    found = pictures(name)
    images, labels = found.images[: -found.held_out], found.labels[: -found.held_out]
    for axis in SOURCES[name].flips:
        images, labels = np.concatenate([images, np.flip(images, axis)]), np.tile(labels, 2)
    return images, labels


@functools.lru_cache
def evaluator(name: str):
    """Return the evaluator of a data set, with the features of a classifier of the training images."""
    return _evaluator(name, SOURCES[name].extractor)


@functools.lru_cache
def second_evaluator(name: str):
    """Return a second opinion, from a network of another seed that learned no classes: an autoencoder."""
    return _evaluator(name, {**SOURCES[name].extractor, "kind": "autoencoder", "seed": 1})


def _evaluator(name: str, settings: dict[str, Any]):
    from keras_ganprune.metrics import ImageQuality, train_extractor

    found = pictures(name)
    extractor = train_extractor(
        found.images, found.classes, held_out=found.held_out / len(found.images), **settings
    )
    held_out = slice(-found.held_out, None)
    return ImageQuality(found.images[held_out], found.labels[held_out], extractor=extractor)
