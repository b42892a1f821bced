"""The images of a user's folder that has one sub-folder per class."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from keras_ganprune.datasets import packages
from keras_ganprune.datasets.image_folder import GREY_MODES, image_files, opened_image, read_image
from keras_ganprune.datasets.images import Images, scaled
from keras_ganprune.errors import DataError
from keras_ganprune.utils import annotated, validation

_LEAST = 10


def class_folders(
    path: str | os.PathLike[str], size: int = 64
) -> tuple[dict[str, Images], tuple[str, ...]]:
    """Return the images of a folder with one sub-folder per class, in three splits that share no file.

    Of each class, the last sixth of the files, sorted by path, is for the test, and the sixth before for
    validation. Files beside each other are often of one scene.

    Args:
        path: Path of the folder. All images in it have one size and lie in sub-folders, whose names are the
            classes. Images are files that end in .png, .jpg, .jpeg, .bmp, .gif or .webp.
        size: Positive int, height and width in pixels of the longer side; larger images are made smaller.
            Defaults to 64.

    Returns:
        Dict with "train", "validation" and "test", which are `Images` with labels; and the names of the
        classes, sorted. The images have one channel if all of them are grey, else three.

    Raises:
        DataError: `path` is not a folder, it has fewer than two sub-folders or images beside them, a class
            has fewer than 10 images, images differ in size, an image cannot be read, or Pillow is not
            installed.
        InvalidArgumentError: `size` is not a positive int.

    Example:
    >>> parts, classes = kgp.datasets.class_folders("my_cells")  # doctest: +SKIP
    >>> classes  # doctest: +SKIP
    ('defective', 'intact')
    """
    annotated.check(class_folders, locals(), "path")
    size = validation.positive_int(size, "size")
    files = _files(pathlib.Path(path))
    every = [file for group in files.values() for file in group]
    (width, height), grey = _checked(every)
    channels = 1 if grey else 3
    factor = min(1.0, size / max(height, width))
    shape = (max(1, round(factor * width)), max(1, round(factor * height)))
    groups: dict[str, list[tuple[pathlib.Path, int]]] = {"train": [], "validation": [], "test": []}
    for label, group in enumerate(files.values()):
        held_out = len(group) // 6
        ends = (0, len(group) - 2 * held_out, len(group) - held_out, len(group))
        for name, start, end in zip(groups, ends[:-1], ends[1:], strict=True):
            groups[name] += [(file, label) for file in group[start:end]]
    parts = {}
    for name, pairs in groups.items():
        pixels = np.stack([_smaller(read_image(file, channels), shape) for file, _ in pairs])
        labels = np.array([label for _, label in pairs], "int64")
        text = f"{len(pairs):,} images of the folder '{path}'"
        parts[name] = Images(scaled(pixels, 255.0), labels, text)
    return parts, tuple(files)


def _files(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Return class -> its files, sorted."""
    every = image_files(path)
    beside = [file for file in every if file.parent == path]
    if beside:
        raise DataError(
            f"Each image must lie in a sub-folder whose name is its class. Received: '{beside[0].name}' and "
            f"{len(beside) - 1} more beside the sub-folders of '{path}'. Move them into sub-folders."
        )
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = {folder.name: [f for f in every if folder in f.parents] for folder in folders}
    if len(files) < 2:
        raise DataError(
            f"The folder must have at least two sub-folders, one per class. Received: {len(files)} in "
            f"'{path}': {', '.join(files)}. Add a sub-folder with the images of another class."
        )
    for name, group in files.items():
        if len(group) < _LEAST:
            raise DataError(
                f"Each class must have at least {_LEAST} images, for training, validation and test. "
                f"Received: {len(group)} in '{path / name}'. Add images, or remove this sub-folder."
            )
    return files


def _checked(files: list[pathlib.Path]) -> tuple[tuple[int, int], bool]:
    """Return ((width, height) of all images, whether all are grey).

    Raises:
        DataError: Two images have different sizes, or one cannot be read.
    """
    sizes, modes = [], set()
    for file in files:
        with opened_image(file) as image:
            sizes.append(image.size)
            modes.add(image.mode)
    for file, size in zip(files, sizes, strict=True):
        if size != sizes[0]:
            one, other = ("×".join(map(str, pair)) for pair in (sizes[0], size))
            raise DataError(
                f"All images must have the same width and height. Received: {one} ('{files[0]}') and "
                f"{other} ('{file}'). Crop or resize them to one size."
            )
    return sizes[0], modes <= set(GREY_MODES)


def _smaller(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return an image (height, width, channels) resized to (width, height), each pixel a mean."""
    pil = packages.require("PIL.Image")
    image = pil.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    resized = np.asarray(image.resize(shape, pil.Resampling.BOX))
    return resized.reshape(shape[1], shape[0], pixels.shape[-1])
