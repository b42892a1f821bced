"""Pictures of samples, masks, channels and training, drawn with matplotlib and Pillow."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import annotated, files, optional_imports, validation
from keras_ganprune.utils.palette import KEPT, LIGHT, MASK_CAPTION, PRUNED, mix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def require_plotting() -> Any:
    """Return matplotlib's figure module. Its figures draw to files and open no window.

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
    """Return images side by side as one image.

    Args:
        images: Array (n, height, width, channels), values in [-1, 1].
        columns: Images per row. Defaults to 8.
        gap: White pixels between two images. Defaults to 1.

    Returns:
        float32 array (height, width, channels), values in [0, 1]. Cells without an image are white.

    Example:
    >>> image_grid(np.zeros((6, 28, 28, 1)), columns=3).shape
    (57, 86, 1)
    """
    columns = validation.positive_int(columns, "columns")
    gap = validation.non_negative_int(gap, "gap")
    images = validation.numbers(images, "images").astype("float32")
    if images.ndim != 4 or not images.size:
        raise InvalidArgumentError(
            f"`images` must have the shape (n, height, width, channels). Received: {images.shape}."
        )
    if np.isinf(images).any():
        raise InvalidArgumentError(
            f"`images` must be finite. Received: {int(np.isinf(images).sum())} infinite value(s) of "
            f"{images.size}. Has the training diverged? See `NaNGuard`."
        )
    images = np.clip(images / 2.0 + 0.5, 0.0, 1.0)
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    grid = np.ones(shape, "float32")
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        grid[y : y + height, x : x + width] = image
    return grid


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write a figure. An older picture is replaced only when the new one is complete.

    Args:
        figure: matplotlib figure.
        path: File name. Its ending is the format; '.png' is added to a name without one.
        dpi: Pixels per inch. Defaults to 150.

    Raises:
        InvalidArgumentError: matplotlib does not know the ending.
        OutputError: The picture cannot be written, or the disk is full.
    """
    path = files.as_path(path)
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise InvalidArgumentError(
            f"The name of a picture must end in one of {', '.join(f'.{name}' for name in sorted(known))}. "
            f"Received: '{path}'."
        )
    with files.new_file(path) as work:
        figure.savefig(work, dpi=dpi)


def save_samples(path: pathlib.Path, panels: Mapping[str, np.ndarray], columns: int = 8) -> None:
    """Write one grid of images per panel, side by side.

    Args:
        path: Picture to write.
        panels: Dict of title -> images (n, height, width, channels), values in [-1, 1].
        columns: Images per row of a grid. Defaults to 8.
    """
    rows = max(-(-len(images) // columns) for images in panels.values())
    figure = require_plotting().Figure(
        figsize=(4.4 * len(panels), 4.2 * rows / columns + 0.4), layout="constrained"
    )
    all_axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for axes, (title, images) in zip(all_axes, panels.items(), strict=True):
        grid = image_grid(images, columns)
        grey = grid.shape[-1] == 1
        axes.imshow(grid[..., 0] if grey else grid, cmap="gray" if grey else None, vmin=0, vmax=1)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    save_figure(figure, path, 150)


class SparsityCurve(NamedTuple):
    """The sparsity of one pruned network over the steps, for `save_training`.

    Attributes:
        planned: Function of a step that returns the planned sparsity, or None if there is no plan.
        updates: One row (step, requested, achieved sparsity) per mask update.
    """

    planned: Callable[[int], float] | None
    updates: Sequence[tuple[int, float, float]]


def save_training(
    path: pathlib.Path,
    history: Mapping[str, Sequence[float]],
    curves: Mapping[str, SparsityCurve],
    steps_per_epoch: float,
) -> None:
    """Write a picture with two charts: planned and achieved sparsity, and the losses of a GAN.

    Args:
        path: Picture to write.
        history: `History.history`, with 'generator_loss' and 'discriminator_loss'.
        curves: Dict of network -> its `SparsityCurve`.
        steps_per_epoch: Optimizer steps per epoch.
    """
    figure = require_plotting().Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, 1 + len(next(iter(history.values())))) * steps_per_epoch
    for i, (name, (planned, updates)) in enumerate(curves.items()):
        colour = LIGHT.colour(i)
        if planned is not None:
            steps = np.linspace(0, epochs[-1], 400)
            sparsities = [planned(int(step)) for step in steps]
            left.plot(steps, sparsities, "--", color=colour, lw=1, label=f"{name}: schedule")
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
    for i, name in enumerate(("generator_loss", "discriminator_loss")):
        right.plot(epochs, history[name], color=LIGHT.colour(i), label=name.replace("_", " "))
    right.set(xlabel="step", ylabel="loss")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save_figure(figure, path, 130)


def mask_picture(mask: np.ndarray) -> np.ndarray:
    """Return a mask as a picture. The last two axes form a tile; there is one tile per kernel position.

    Args:
        mask: Bool array of any rank, such as (height, width, in, out) of a `Conv2D`.

    Returns:
        Bool array of rank 2.

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
    """Return the mean of each block of a picture. The last blocks may be smaller.

    Args:
        picture: Array of rank 2.
        down: Rows per block, a positive int.
        across: Columns per block, a positive int.

    Returns:
        float64 array of rank 2, one value per block.

    Example:
    >>> block_means(np.array([[1, 1, 0], [1, 0, 0]]), 2, 2)
    array([[0.75, 0.  ]])
    """
    height, width = picture.shape
    rows, columns = range(0, height, down), range(0, width, across)
    sums = np.add.reduceat(picture.astype("float64"), rows, axis=0)
    sums = np.add.reduceat(sums, columns, axis=1)
    return sums / np.outer(np.diff([*rows, height]), np.diff([*columns, width]))


def mask_colours(shares: np.ndarray) -> np.ndarray:
    """Return the colours of a picture of a mask: dark where weights are kept.

    Args:
        shares: Array of rank 2, the share of kept weights in each cell, in [0, 1].

    Returns:
        uint8 array (height, width, 3).

    Example:
    >>> mask_colours(np.array([[0.0, 1.0]])).tolist()
    [[[236, 240, 244], [11, 95, 165]]]
    """
    levels = np.array([mix(PRUNED, KEPT, level / 255) for level in range(256)], dtype="uint8")
    return levels[np.rint(np.asarray(shares, "float64") * 255).astype("uint8")]


def draw_mask(axis: Axes, mask: Any, title: str = "") -> None:
    """Draw a mask on matplotlib axes: dark where a weight is kept, light where it is pruned.

    Args:
        axis: matplotlib axes.
        mask: Array or variable of any rank, True where a weight is kept.
        title: Title of the axes. Defaults to none.

    Example:
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> draw_mask(axes, np.eye(4, dtype=bool), "kernel")
    >>> axes.get_title()
    'kernel'
    """
    annotated.check(draw_mask, locals(), "title")
    axis.imshow(
        mask_colours(mask_picture(np.asarray(mask))),
        aspect="auto",
        interpolation="nearest",
    )
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def save_masks(path: pathlib.Path, networks: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a picture of masks, one row per network.

    Args:
        path: Picture to write.
        networks: Dict of network -> dict of weight path -> mask.
    """
    columns = max(len(masks) for masks in networks.values())
    figure = require_plotting().Figure(
        figsize=(3.0 * columns, 2.8 * len(networks)), layout="constrained"
    )
    grid = figure.subplots(len(networks), columns, squeeze=False)
    for row, (name, masks) in zip(grid, networks.items(), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, (weight, mask) in zip(row, masks.items(), strict=False):
            mask = np.asarray(mask)
            axes.set_axis_on()
            kept = np.count_nonzero(mask) / mask.size
            draw_mask(axes, mask, f"{name}: {weight}\n{kept:.1%} of {mask.size:,} kept")
    figure.suptitle(MASK_CAPTION, fontsize=9)
    # A mask has many more weights than the picture has pixels. At a low resolution, a sparse mask looks
    # empty.
    save_figure(figure, path, 150)


def save_channels(
    path: pathlib.Path, networks: Mapping[str, Sequence[tuple[str, int, int]]]
) -> None:
    """Write a bar chart of the channels of each group, before and after shrinking.

    Args:
        path: Picture to write.
        networks: Dict of network -> rows (label, channels before, channels after).
    """
    height = max(len(rows) for rows in networks.values())
    figure = require_plotting().Figure(
        figsize=(5 * len(networks), 0.5 * height + 1.4), layout="constrained"
    )
    all_axes = np.atleast_1d(figure.subplots(1, len(networks)))
    for axes, (name, rows) in zip(all_axes, networks.items(), strict=True):
        places = np.arange(len(rows))
        before = [row[1] for row in rows]
        after = [row[2] for row in rows]
        axes.barh(places, before, color=LIGHT.track, label="dense")
        axes.barh(places, after, color=LIGHT.bar, height=0.5, label="shrunk")
        axes.set_yticks(places, [f"{label}: {kept} of {total}" for label, total, kept in rows])
        axes.invert_yaxis()
        axes.set(xlabel="channels", title=name)
        axes.legend(loc="lower right", fontsize=8)
    save_figure(figure, path, 150)
