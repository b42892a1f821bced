"""The images of a report: grids of samples and masks, as PNG files in memory."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_ganprune.reports.run import Run
from keras_ganprune.reports.tables import ordered
from keras_ganprune.utils.plotting import block_means, image_grid, mask_picture, require_pillow

# Images wider than that are made smaller; a page should open on a phone.
_SIDE = 96
_LATENTS = 10
# Cells of all mask pictures of a run together; a cell is about half a byte of the page.
_MASK_CELLS = 600_000
_KEPT, _PRUNED = (11, 95, 165), (236, 240, 244)


@dataclass(frozen=True)
class Picture:
    """One picture, for the page and for a file beside the Markdown.

    Attributes:
        name: Of the file, without folder.
        data: The bytes of the file.
        alt: What is to be seen, for those who cannot.
        title: What stands with it.
        width: Int, pixels, or None where it has no size of its own.
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


def _shown(images: np.ndarray, most: int) -> np.ndarray:
    """Return the first images, not larger than a page can show."""
    images = images[:most]
    side = max(images.shape[1:3])
    if side <= _SIDE:
        return images
    size = tuple(max(1, round(n * _SIDE / side)) for n in (images.shape[2], images.shape[1]))
    resize = [
        np.asarray(
            require_pillow().fromarray(_grey(i)).resize(size, require_pillow().Resampling.LANCZOS)
        )
        for i in images
    ]
    return np.stack(resize).reshape(len(images), size[1], size[0], images.shape[3])


def _grey(image: np.ndarray) -> np.ndarray:
    return image[..., 0] if image.shape[-1] == 1 else image


def _grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Return uint8 images as one array, with grey lines between them, which suit a dark page too."""
    grid = image_grid(images.astype("float32") / 127.5 - 1.0, columns)
    between = image_grid(np.full_like(images, -1, dtype="float32"), columns) == 1.0
    return _grey(np.rint(np.where(between, 0.5, grid) * 255.0).astype("uint8"))


def samples(run: Run) -> list[Picture]:
    """Return a grid for each name; a place in it is the same latent vector in all but 'real'."""
    found = []
    for number, name in enumerate(ordered(run.samples)):
        images = run.samples[name]
        small = max(images.shape[1:3]) <= 48
        images = _shown(images, 40 if small else 16)
        grid = _grid(images, 10 if small else 4)
        what = "real images" if name == "real" else f"images of the {name} generator"
        found.append(
            Picture(
                f"samples-{number}.png",
                _png(grid),
                f"{len(images)} {what} of '{run.name}' in a grid",
                name,
                grid.shape[1],
            )
        )
    return found


def same_latents(run: Run) -> list[Picture]:
    """Return a row of images for each generator, one latent vector a column, and how far they differ."""
    names = [name for name in ordered(run.samples) if name != "real"]
    if len(names) < 2:
        return []
    shown = {name: _shown(run.samples[name], _LATENTS) for name in names}
    found = [
        Picture(
            f"latents-{number}.png",
            _png(row := _grid(images, _LATENTS)),
            f"The same {len(images)} latent vectors through the {name} generator of '{run.name}'",
            name,
            row.shape[1],
        )
        for number, (name, images) in enumerate(shown.items())
    ]
    first, last = shown[names[0]].astype("int16"), shown[names[-1]].astype("int16")
    away = np.abs(last - first).mean(axis=-1, keepdims=True)
    mean, most = float(away.mean()) / 255.0, float(away.max()) / 255.0
    row = _grid(np.rint(away / max(most, 1e-9)).astype("uint8"), _LATENTS)
    found.append(
        Picture(
            f"latents-{len(names)}.png",
            _png(row),
            f"How far {names[-1]} is from {names[0]} in each pixel, {mean:.1%} of the range on average",
            f"|{names[-1]} − {names[0]}|: {mean:.1%} of the range on average; white is {most:.0%}",
            row.shape[1],
        )
    )
    return found


def density(mask: np.ndarray, cells: int) -> np.ndarray:
    """Return a mask as a picture of at most about `cells` cells: in each, the share that stays.

    Example:
    >>> density(np.eye(4, dtype=bool), 4)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    picture = mask_picture(mask)
    rows, columns = picture.shape
    every = max(1, math.ceil(math.sqrt(picture.size / max(1, cells))))
    # A long thin one is averaged along its long side.
    down = min(every, rows)
    across = min(math.ceil(every**2 / down), columns)
    down = min(math.ceil(every**2 / across), rows)
    return block_means(picture, down, across)


def masks(run: Run) -> Mapping[str, list[Picture]]:
    """Return a picture of each mask of each network, dark where weights stay."""
    total = sum(len(found) for found in run.masks.values())
    found: dict[str, list[Picture]] = {}
    levels = np.linspace(_PRUNED, _KEPT, 16).round().astype(int).ravel()
    for network, arrays in run.masks.items():
        for row, mask in zip(run.layers[network], arrays, strict=True):
            shares = density(mask, _MASK_CELLS // max(1, total))
            picture = np.rint(shares * 15.0).astype("uint8")
            path = f"{row.layer}/{row.weight}"
            number = sum(len(each) for each in found.values())
            kept = 1.0 - row.sparsity
            found.setdefault(network, []).append(
                Picture(
                    f"mask-{number}.png",
                    _png(picture, levels),
                    f"Mask of {path} in the {network} of '{run.name}': {kept:.1%} of {row.total:,} stay",
                    f"{path}: {kept:.1%} of {row.total:,} stay",
                    picture.shape[1],
                )
            )
    return found
