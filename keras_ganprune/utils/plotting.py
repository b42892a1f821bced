"""Figures of a run: samples, training curves, masks and channels."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ganprune.utils import optional_imports


def require_plotting() -> Any:
    """Return `matplotlib.figure`, which draws to files without a display.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    return optional_imports.require("matplotlib.figure", "demo", "Pictures")


def require_pillow() -> Any:
    """Return `PIL.Image`, which writes PNG and GIF files.

    Raises:
        MissingPackageError: Pillow is not installed.
    """
    return optional_imports.require("PIL.Image", "demo", "Pictures")


def image_grid(images: np.ndarray, columns: int = 8, gap: int = 1) -> np.ndarray:
    """Arrange images in a grid, row by row, on a white background.

    Args:
        images: Array (n, height, width, channels) in [-1, 1].
        columns: Positive int, images per row. Defaults to 8.
        gap: Int, pixels between two images. Defaults to 1.

    Returns: float32 array (grid height, grid width, channels) in [0, 1].

    Example:
    >>> image_grid(np.zeros((3, 4, 4, 1)), columns=2).shape
    (9, 9, 1)
    """
    images = np.clip(np.asarray(images, dtype="float32") / 2.0 + 0.5, 0.0, 1.0)
    n, height, width, depth = images.shape
    rows = -(-n // columns)
    grid = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, depth), "float32")
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        grid[y : y + height, x : x + width] = image
    return grid


def save_samples(path: pathlib.Path, panels: Mapping[str, np.ndarray], columns: int = 8) -> None:
    """Draw a grid of images per panel, side by side.

    Args:
        path: Path of the image file.
        panels: Title -> images (n, height, width, channels) in [-1, 1].
        columns: Positive int, images per row of a panel. Defaults to 8.
    """
    rows = max(-(-len(images) // columns) for images in panels.values())
    picture = require_plotting().Figure(
        figsize=(4.4 * len(panels), 4.2 * rows / columns + 0.4), layout="constrained"
    )
    axes = np.atleast_1d(picture.subplots(1, len(panels)))
    for axis, (title, images) in zip(axes, panels.items(), strict=True):
        grid = image_grid(images, columns)
        grey = grid.shape[-1] == 1
        axis.imshow(grid[..., 0] if grey else grid, cmap="gray" if grey else None, vmin=0, vmax=1)
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    picture.savefig(path, dpi=150)


def save_training(
    path: pathlib.Path,
    history: Mapping[str, Sequence[float]],
    prunes: Mapping[str, Any],
    steps_per_epoch: float,
) -> None:
    """Draw the scheduled and the achieved sparsity over the steps, and the losses.

    Args:
        path: Path of the image file.
        history: 'generator_loss' and 'discriminator_loss', one value per epoch.
        prunes: Name -> `Prune` callback, after the training.
        steps_per_epoch: Optimizer steps per epoch.
    """
    picture = require_plotting().Figure(figsize=(10, 3.6), layout="constrained")
    left, right = picture.subplots(1, 2)
    epochs = np.arange(1, 1 + len(next(iter(history.values())))) * steps_per_epoch
    for i, (name, prune) in enumerate(prunes.items()):
        colour = f"C{i}"
        if prune.schedule.quantity == "sparsity":
            steps = np.linspace(0, epochs[-1], 400)
            left.plot(
                steps,
                [prune.schedule(int(s)) for s in steps],
                "--",
                color=colour,
                lw=1,
                label=f"{name}: schedule",
            )
        updates = prune.updates
        left.plot(
            [0, *(update[0] for update in updates), epochs[-1]],
            [0, *(update[2] for update in updates), updates[-1][2] if updates else 0],
            color=colour,
            marker=".",
            drawstyle="steps-post",
            label=f"{name}: achieved",
        )
    left.set(xlabel="step", ylabel="sparsity", ylim=(-0.02, 1.02))
    left.legend(loc="lower right", fontsize=8)
    for name in ("generator_loss", "discriminator_loss"):
        right.plot(epochs, history[name], label=name.replace("_", " "))
    right.set(xlabel="step", ylabel="loss")
    right.legend(fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    picture.savefig(path, dpi=130)


def mask_picture(mask: np.ndarray) -> np.ndarray:
    """Return a mask as a 2D array: a tile of its last two axes for each kernel position of a convolution.

    Args:
        mask: Bool array of any rank, such as (height, width, in, out) of a `Conv2D`.

    Returns: Bool array of rank 2. A mask of rank 1 becomes one row.

    Example:
    >>> mask_picture(np.ones((3, 5, 4, 8), bool)).shape
    (12, 40)
    """
    mask = np.asarray(mask)
    if mask.ndim < 2:
        return mask.reshape(1, -1)
    *positions, rows, columns = mask.shape
    down = int(np.prod(positions[:-1])) if len(positions) > 1 else 1
    across = positions[-1] if positions else 1
    tiles = mask.reshape(down, across, rows, columns)
    return tiles.transpose(0, 2, 1, 3).reshape(down * rows, across * columns)


def block_means(picture: np.ndarray, down: int, across: int) -> np.ndarray:
    """Return the mean of each block of a 2D array. The last blocks may be smaller.

    Args:
        picture: Array of rank 2.
        down: Positive int, rows of a block.
        across: Positive int, columns of a block.

    Example:
    >>> block_means(np.array([[1, 1, 0], [1, 0, 0]]), 2, 2)
    array([[0.75, 0.  ]])
    """
    height, width = picture.shape
    rows, columns = range(0, height, down), range(0, width, across)
    sums = np.add.reduceat(picture.astype("float64"), rows, axis=0)
    sums = np.add.reduceat(sums, columns, axis=1)
    return sums / np.outer(np.diff([*rows, height]), np.diff([*columns, width]))


def draw_mask(axis: Any, mask: Any, title: str = "") -> None:
    """Draw a mask (bool array, True = keep) on matplotlib axes. Kept weights are white."""
    axis.imshow(
        mask_picture(np.asarray(mask)),
        cmap="gray",
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
    )
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def save_masks(path: pathlib.Path, networks: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the masks of some networks, a row per network.

    Args:
        path: Path of the image file.
        networks: Name of the network -> (path of the weight -> bool array, True = keep).
    """
    columns = max(len(masks) for masks in networks.values())
    picture = require_plotting().Figure(
        figsize=(3.0 * columns, 2.8 * len(networks)), layout="constrained"
    )
    grid = picture.subplots(len(networks), columns, squeeze=False)
    for axes, (name, masks) in zip(grid, networks.items(), strict=True):
        for axis in axes:
            axis.set_axis_off()
        for axis, (path_of_mask, mask) in zip(axes, masks.items(), strict=False):
            mask = np.asarray(mask)
            axis.set_axis_on()
            kept = np.count_nonzero(mask) / mask.size
            draw_mask(axis, mask, f"{name}: {path_of_mask}\n{kept:.1%} of {mask.size:,} kept")
    # There are many more weights than pixels. At a low resolution a sparse mask looks black.
    picture.savefig(path, dpi=150)


def save_channels(
    path: pathlib.Path, networks: Mapping[str, Sequence[tuple[str, int, int]]]
) -> None:
    """Draw the number of channels of each group before and after shrinking, a panel per network.

    Args:
        path: Path of the image file.
        networks: Name of the network -> rows of (label of the group, channels before, channels after).
    """
    height = max(len(rows) for rows in networks.values())
    picture = require_plotting().Figure(
        figsize=(5 * len(networks), 0.5 * height + 1.4), layout="constrained"
    )
    for axis, (name, rows) in zip(
        np.atleast_1d(picture.subplots(1, len(networks))), networks.items(), strict=True
    ):
        places = np.arange(len(rows))
        axis.barh(places, [before for _, before, _ in rows], color="0.85", label="dense")
        axis.barh(places, [after for _, _, after in rows], color="C0", height=0.5, label="shrunk")
        axis.set_yticks(places, [f"{label}: {after} of {before}" for label, before, after in rows])
        axis.invert_yaxis()
        axis.set(xlabel="channels", title=name)
        axis.legend(loc="lower right", fontsize=8)
    picture.savefig(path, dpi=150)
