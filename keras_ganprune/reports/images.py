"""The images of a report: grids of samples and pictures of masks, as PNG files in memory."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_ganprune.reports.run import Run
from keras_ganprune.reports.tables.measurements import ordered
from keras_ganprune.reports.tables.names import shown
from keras_ganprune.utils.plotting import (
    block_means,
    image_grid,
    mask_colours,
    mask_picture,
    require_pillow,
)

# Larger images are scaled down, so that the page opens on a phone.
_LARGEST_SIDE = 96
_LATENTS = 10
# The largest number of cells in all mask pictures of a run. One cell takes about half a byte of the page.
_MASK_CELLS = 600_000
# A PNG with 16 colours (levels 0 to 15) needs half a byte per cell.
_MASK_LEVELS = 15


@dataclass(frozen=True)
class Picture:
    """One picture, for the page and for a file beside the Markdown.

    Attributes:
        name: Name of the file, without folder.
        data: The bytes of the file.
        alt: Description for readers who cannot see it.
        title: Title above the picture.
        width: Width in pixels, or None for an SVG picture.
    """

    name: str
    data: bytes
    alt: str
    title: str
    width: int | None = None


def _png(array: np.ndarray, palette: Sequence[int] | None = None) -> bytes:
    image = require_pillow().fromarray(array)
    if palette is not None:
        image.putpalette(list(palette))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _first_images(images: np.ndarray, count: int) -> np.ndarray:
    """Return the first images, scaled down to `_LARGEST_SIDE` pixels."""
    images = images[:count]
    side = max(images.shape[1:3])
    if side <= _LARGEST_SIDE:
        return images
    pillow = require_pillow()
    width, height = (
        max(1, round(n * _LARGEST_SIDE / side)) for n in (images.shape[2], images.shape[1])
    )
    resized = [
        np.asarray(
            pillow.fromarray(_grey(image)).resize((width, height), pillow.Resampling.LANCZOS)
        )
        for image in images
    ]
    return np.stack(resized).reshape(len(images), height, width, images.shape[3])


def _grey(image: np.ndarray) -> np.ndarray:
    """Return an image of one channel without the axis of channels, as Pillow needs it."""
    return image[..., 0] if image.shape[-1] == 1 else image


def _grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Return uint8 images side by side, with grey gaps, which suit light and dark pages."""
    grid = image_grid(images.astype("float32") / 127.5 - 1.0, columns)
    is_gap = image_grid(np.full_like(images, -1, dtype="float32"), columns) == 1.0
    return _grey(np.rint(np.where(is_gap, 0.5, grid) * 255.0).astype("uint8"))


def samples(run: Run) -> list[Picture]:
    """Return one grid per name. All grids except 'real' show the same latent vector at the same position."""
    pictures = []
    for number, name in enumerate(ordered(run.samples)):
        images = run.samples[name]
        is_small = max(images.shape[1:3]) <= 48
        images = _first_images(images, 40 if is_small else 16)
        grid = _grid(images, 10 if is_small else 4)
        kind = "real images" if name == "real" else f"images of the {name} generator"
        pictures.append(
            Picture(
                f"samples-{number}.png",
                _png(grid),
                f"{len(images)} {kind} of '{run.name}' in a grid",
                shown(run, name),
                grid.shape[1],
            )
        )
    return pictures


def pictures(run: Run) -> list[Picture]:
    """Return the pictures that a run has already."""
    return [
        Picture(f"picture-{number}.png", data, f"{title} of '{run.name}'", title)
        for number, (title, data) in enumerate(run.pictures.items())
    ]


def same_latents(run: Run) -> list[Picture]:
    """Return one row of images per generator, one latent vector per column, and their difference."""
    names = [name for name in ordered(run.samples) if name != "real"]
    if len(names) < 2:
        return []
    first_of = {name: _first_images(run.samples[name], _LATENTS) for name in names}
    pictures = []
    for number, (name, images) in enumerate(first_of.items()):
        row = _grid(images, _LATENTS)
        alt = f"The same {len(images)} latent vectors through the {name} generator of '{run.name}'"
        pictures.append(
            Picture(f"latents-{number}.png", _png(row), alt, shown(run, name), row.shape[1])
        )
    first, last = names[0], names[-1]
    base = shown(run, first)
    difference = np.abs(first_of[last].astype("int16") - first_of[first].astype("int16"))
    difference = difference.mean(axis=-1, keepdims=True)
    mean, largest = float(difference.mean()) / 255.0, float(difference.max()) / 255.0
    row = _grid(np.rint(difference / max(largest, 1e-9)).astype("uint8"), _LATENTS)
    pictures.append(
        Picture(
            f"latents-{len(names)}.png",
            _png(row),
            f"Difference between {last} and {base} per pixel, {mean:.1%} of the range on average",
            f"|{last} − {base}|: {mean:.1%} of the range on average; white is {largest:.0%}",
            row.shape[1],
        )
    )
    return pictures


def density(mask: np.ndarray, cells: int) -> np.ndarray:
    """Return a mask as a picture of at most about `cells` cells, with the share of kept entries per cell.

    Example:
    >>> density(np.eye(4, dtype=bool), 4)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    picture = mask_picture(mask)
    rows, columns = picture.shape
    entries = max(1, math.ceil(math.sqrt(picture.size / max(1, cells))))
    # If the picture is narrower than a square cell, the cells are longer instead.
    down = min(entries, rows)
    across = min(math.ceil(entries**2 / down), columns)
    down = min(math.ceil(entries**2 / across), rows)
    return block_means(picture, down, across)


def masks(run: Run) -> Mapping[str, list[Picture]]:
    """Return one picture per mask of each network, dark where weights are kept."""
    cells = _MASK_CELLS // max(1, sum(len(arrays) for arrays in run.masks.values()))
    shares = np.linspace(0.0, 1.0, _MASK_LEVELS + 1)
    colours = mask_colours(shares[None]).ravel()
    pictures: dict[str, list[Picture]] = {}
    number = 0
    for network, arrays in run.masks.items():
        for row, mask in zip(run.layers[network], arrays, strict=True):
            levels = np.rint(density(mask, cells) * _MASK_LEVELS).astype("uint8")
            path = f"{row.layer}/{row.weight}"
            kept = f"{1.0 - row.sparsity:.1%} of {row.total:,} kept"
            pictures.setdefault(network, []).append(
                Picture(
                    f"mask-{number}.png",
                    _png(levels, [int(value) for value in colours]),
                    f"Mask of {path} in the {network} of '{run.name}': {kept}",
                    f"{path}: {kept}",
                    levels.shape[1],
                )
            )
            number += 1
    return pictures
