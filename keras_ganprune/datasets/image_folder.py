"""The images of a user's folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_ganprune.datasets import packages
from keras_ganprune.datasets.images import Images, scaled
from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.utils import annotated
from keras_ganprune.utils.validation import is_int

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
#: Pillow's modes of images without colour.
GREY_MODES = ("1", "L", "LA", "I", "I;16")


def check_size(size: Any) -> None:
    """Raise `InvalidArgumentError` if a size is no multiple of 4, or below 8."""
    if not is_int(size) or size < 8 or size % 4:
        raise InvalidArgumentError(
            f"`size` must be a multiple of 4, at least 8. Received: {size!r}."
        )


def image_files(path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Return the image files of a folder and its subfolders, sorted by path.

    Raises:
        DataError: `path` is not a folder, or it has no image.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise DataError(f"The path must be a folder of images. Received: '{path}'.")
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not files:
        raise DataError(
            f"The folder '{path}' must contain images. It has no file that ends in {', '.join(_SUFFIXES)}."
        )
    return files


def read_image(path: pathlib.Path, channels: int) -> np.ndarray:
    """Return an image as uint8 array (height, width, channels).

    Args:
        path: Path of the file.
        channels: 1 for grey, 3 for colour.

    Raises:
        DataError: The file cannot be read, or Pillow is not installed.
    """
    with opened_image(path) as image:
        array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if channels == 1 else array


@contextlib.contextmanager
def opened_image(path: pathlib.Path) -> Iterator[Any]:
    """Open an image with Pillow and load its pixels.

    Raises:
        DataError: The file cannot be read, or Pillow is not installed.
    """
    pil = packages.require("PIL.Image")
    try:
        with pil.open(path) as image:
            image.load()
            yield image
    except Exception as error:  # Pillow raises many classes for damaged files.
        raise DataError(
            f"The image '{path}' cannot be read ({error}). Remove or repair it."
        ) from error


def folder(path: str | os.PathLike, size: int = 28) -> Images:
    """Return the images of a folder and its subfolders, cropped to squares of `size` pixels.

    The result has one channel if all images are grey, else three.

    Args:
        path: Path of the folder. Images are files that end in .png, .jpg, .jpeg, .bmp, .gif or .webp.
        size: Int, height and width in pixels; a multiple of 4, at least 8. Defaults to 28.

    Returns:
        `Images` without labels, in the order of their paths.

    Raises:
        DataError: `path` is not a folder, it contains no image, an image cannot be read, or Pillow is not
            installed.
        InvalidArgumentError: `size` is not a multiple of 4, or is below 8.

    Example:
    >>> kgp.datasets.folder("photos", size=64)  # doctest: +SKIP
    """
    annotated.check(folder, locals(), "path")
    path = pathlib.Path(path)
    if not path.is_dir():
        raise DataError(
            f"The data must be 'mnist', 'mnist-5000', 'digits' or a folder of images. Received: '{path}'."
        )
    check_size(size)
    ops = packages.require("PIL.ImageOps")
    loaded = []
    for file in image_files(path):
        with opened_image(file) as image:
            grey = image.mode in GREY_MODES
            loaded.append((grey, ops.fit(image.convert("RGB"), (size, size))))
    mode = "L" if all(grey for grey, _ in loaded) else "RGB"
    images = np.stack([np.asarray(image.convert(mode)) for _, image in loaded])
    return Images(scaled(images, 255.0), None, f"{len(images):,} images of the folder '{path}'")
