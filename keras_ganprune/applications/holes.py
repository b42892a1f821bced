"""Random holes in images: boxes, and free-form strokes."""

from __future__ import annotations

from typing import Literal

import numpy as np

_STROKES = 3
_SMALLEST_SHARE = 0.08


def random_holes(
    count: int, size: int, kind: Literal["box", "free-form", "mixed"] = "mixed", seed: int = 0
) -> np.ndarray:
    """Return masks of images with holes.

    Args:
        count: Positive int, number of masks.
        size: Positive int, height and width in pixels.
        kind: "box" for one rectangle, "free-form" for thick strokes, "mixed" for both in turns. Defaults to
            "mixed".
        seed: Int. Defaults to 0.

    Returns:
        float32 array (count, size, size, 1): 1 where a pixel is known, 0 in a hole.

    Example:
    >>> from keras_ganprune.applications.holes import random_holes
    >>> holes = random_holes(2, 32, "box")
    >>> holes.shape, sorted(set(holes.ravel().tolist()))
    ((2, 32, 32, 1), [0.0, 1.0])

    Reference: free-form holes as in [Free-form image inpainting](https://arxiv.org/abs/1806.03589),
    Algorithm 1.
    """
    rng = np.random.default_rng(seed)
    known = np.ones((count, size, size, 1), "float32")
    rows, columns = np.mgrid[:size, :size]
    for place in range(count):
        free = kind == "free-form" or (kind == "mixed" and place % 2 == 1)
        draw = _free_form if free else _box
        known[place, draw(rng, size, rows, columns), 0] = 0.0
    return known


def _box(rng: np.random.Generator, size: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    height, width = rng.integers(size // 4, size // 2 + 1, 2)
    top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
    inside = (rows >= top) & (rows < top + height)
    return inside & (columns >= left) & (columns < left + width)


def _free_form(
    rng: np.random.Generator, size: int, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Return strokes of straight parts, each in a new direction."""
    hole = np.zeros((size, size), bool)
    strokes = 0
    while strokes < _STROKES or hole.mean() < _SMALLEST_SHARE:
        strokes += 1
        point, angle = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
        radius = rng.uniform(size / 32, size / 16)
        for _ in range(rng.integers(1, 4)):
            end = point + rng.uniform(size / 8, size / 3) * np.array([np.sin(angle), np.cos(angle)])
            hole |= _distance(rows, columns, point, end) <= radius
            point, angle = end, angle + rng.uniform(0.3, 1.2) * rng.choice((-1, 1))
    return hole


def _distance(
    rows: np.ndarray, columns: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Return the distance of each pixel from a line between two points."""
    step = end - start
    along = ((rows - start[0]) * step[0] + (columns - start[1]) * step[1]) / (step @ step)
    along = np.clip(along, 0.0, 1.0)
    return np.hypot(rows - start[0] - along * step[0], columns - start[1] - along * step[1])
