"""Patches of real photos, and of the photos in a user's folder. No photo is in two splits."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ganprune.datasets import packages
from keras_ganprune.datasets.image_folder import image_files, read_image
from keras_ganprune.datasets.images import Images, scaled
from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.utils import annotated, validation

#: Photos and micrographs by split. The packages ship them.
PHOTOS = {
    "train": (
        *("astronaut", "coffee", "flower", "motorcycle_left", "hubble_deep_field", "ihc"),
        *("camera", "gravel", "grass", "moon", "page"),
    ),
    "validation": ("rocket", "brick"),
    "test": ("chelsea", "china", "coins"),
}
LICENSE = "CC0 or public domain (scikit-image); CC BY 2.0 (scikit-learn)"
CITATION = (
    "Photos and micrographs of scikit-image (van der Walt et al., 2014, doi:10.7717/peerj.453); "
    "china.jpg by danielbuechele and flower.jpg by vultilion, of scikit-learn"
)
# Candidates per patch. The more detailed ones are kept: a clear sky teaches nothing, and its PSNR is huge.
_CANDIDATES = 2
_FEWEST_PHOTOS = 3


def photo_patches(
    size: int = 48,
    count: int = 4096,
    channels: int = 3,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> dict[str, Images]:
    """Return square patches of real photos in three splits that share no photo.

    Training patches lie at random places and are turned and mirrored at random. Patches of the other splits
    lie on a grid. Half of the patches, those with less detail, are left out.

    Args:
        size: Positive int, height and width of a patch in pixels. Defaults to 48.
        count: Positive int, number of training patches; the other splits have up to a sixteenth of it.
            Defaults to 4096.
        channels: 3 for colour, 1 for grey. Defaults to 3.
        folder: Path of a folder with photos of any size, at least three of them. Defaults to None, which
            means photos that scikit-image and scikit-learn ship.
        seed: Int, seed of the places. Defaults to 0.

    Returns:
        Dict with "train", "validation" and "test": `Images` in [-1, 1], whose labels are numbers of photos.

    Raises:
        DataError: The folder has fewer than three photos, a photo is smaller than a patch or cannot be read,
            or a package is not installed.
        InvalidArgumentError: A number is outside its range.

    Example:
    >>> patches = kgp.datasets.photo_patches(size=32, count=8)  # doctest: +SKIP
    >>> patches["train"].images.shape  # doctest: +SKIP
    (8, 32, 32, 3)
    """
    annotated.check(photo_patches, locals())
    size = validation.positive_int(size, "size")
    count = validation.positive_int(count, "count")
    if channels not in (1, 3):
        raise InvalidArgumentError(f"`channels` must be 1 (grey) or 3. Received: {channels!r}.")
    splits = _shipped(channels) if folder is None else _of_folder(pathlib.Path(folder), channels)
    rng = np.random.default_rng(seed)
    result, number = {}, 0
    for name, photos in splits.items():
        check_sizes(photos, size)
        wanted = count if name == "train" else max(1, count // 16)
        parts, labels = [], []
        shares = np.array_split(np.arange(wanted), len(photos))
        for photo, share in zip(photos.values(), shares, strict=True):
            cut = _random_patches if name == "train" else _grid_patches
            part = cut(photo, size, max(1, len(share)), rng)
            parts.append(part)
            labels.append(np.full(len(part), number))
            number += 1
        images = np.concatenate(parts)
        text = (
            f"{len(images):,} {size}×{size} patches of {len(photos)} photos ({', '.join(photos)})"
        )
        result[name] = Images(scaled(images, 255.0), np.concatenate(labels), text)
    order = rng.permutation(len(result["train"]))
    train = result["train"]
    result["train"] = Images(train.images[order], _labels(train)[order], train.description)
    return result


def _labels(images: Images) -> np.ndarray:
    return np.zeros(len(images), "int64") if images.labels is None else images.labels


def check_sizes(photos: Mapping[str, np.ndarray], size: int) -> None:
    """Raise `DataError` if a photo is smaller than a patch."""
    for name, photo in photos.items():
        if min(photo.shape[:2]) < size:
            raise DataError(
                f"Each photo must be at least as large as a patch, {size}×{size} pixels. Received: '{name}' "
                f"with {photo.shape[0]}×{photo.shape[1]}. Use larger photos, or remove this one."
            )


def _shipped(channels: int) -> dict[str, dict[str, np.ndarray]]:
    """Return the photos of the packages by split and name, as uint8 arrays (height, width, channels)."""
    folders = [
        pathlib.Path(packages.require(module).__file__).parent / below
        for module, below in (("skimage", "data"), ("sklearn", "datasets/images"))
    ]
    return {s: {n: _read(n, folders, channels) for n in group} for s, group in PHOTOS.items()}


def _read(name: str, folders: Sequence[pathlib.Path], channels: int) -> np.ndarray:
    for folder in folders:
        for suffix in (".png", ".jpg"):
            path = folder / f"{name}{suffix}"
            if path.exists():
                return read_image(path, channels)
    raise DataError(
        f"The photo '{name}' is not among the files of scikit-image and scikit-learn. Install newer "
        "versions of both: pip install -U scikit-image scikit-learn."
    )


def _of_folder(folder: pathlib.Path, channels: int) -> dict[str, dict[str, np.ndarray]]:
    """Return the photos of a folder by split: about a sixth for validation and a sixth for the test."""
    files = image_files(folder)
    if len(files) < _FEWEST_PHOTOS:
        raise DataError(
            f"A folder must have at least {_FEWEST_PHOTOS} photos: for training, validation and test. "
            f"Received: {len(files)} in '{folder}'."
        )
    held_out = max(1, len(files) // 6)
    # Files beside each other are often of one scene. So the splits are ranges of the sorted names.
    groups = {
        "train": files[: -2 * held_out],
        "validation": files[-2 * held_out : -held_out],
        "test": files[-held_out:],
    }
    return {s: {p.name: read_image(p, channels) for p in group} for s, group in groups.items()}


def _random_patches(photo: np.ndarray, size: int, count: int, rng: Any) -> np.ndarray:
    """Return the more detailed ones of random patches, turned and mirrored at random."""
    total = _CANDIDATES * count
    tops = rng.integers(0, photo.shape[0] - size + 1, total)
    lefts = rng.integers(0, photo.shape[1] - size + 1, total)
    turns, mirrors = rng.integers(0, 4, total), rng.choice((-1, 1), total)
    patches = np.stack(
        [
            np.rot90(photo[top : top + size, left : left + size][:, ::mirror], turn)
            for top, left, turn, mirror in zip(tops, lefts, turns, mirrors, strict=True)
        ]
    )
    return _detailed(patches, count)


def _grid_patches(photo: np.ndarray, size: int, count: int, rng: Any) -> np.ndarray:
    """Return the more detailed patches of a grid, at most `count`."""
    places = [
        (top, left)
        for top in range(0, photo.shape[0] - size + 1, size)
        for left in range(0, photo.shape[1] - size + 1, size)
    ]
    patches = np.stack([photo[top : top + size, left : left + size] for top, left in places])
    half = _detailed(patches, -(-len(patches) // _CANDIDATES))
    return half[np.unique(np.linspace(0, len(half) - 1, count).astype(int))]


def _detailed(patches: np.ndarray, count: int) -> np.ndarray:
    """Return the patches with the most detail, in their order."""
    steps = np.abs(np.diff(patches.astype("float32"), axis=1)).mean((1, 2, 3))
    return patches[np.sort(np.argsort(-steps, kind="stable")[:count])]
