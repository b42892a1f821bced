"""Training batches of images that are shifted at random."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

BATCH_SIZE = 64
# The largest shift, relative to the shorter side of an image.
_SHIFT = 0.07


class ShiftedImages(keras.utils.PyDataset):
    """Batches of images in a new order, with new random shifts, in every epoch.

    All batches have the same size: the last one is filled up with images of the same epoch.

    Args:
        images: Array (n, height, width, channels).
        numbers: Class numbers (n,) as targets; None if each image is its own target.
        seed: Int, seed of the order and the shifts.
    """

    def __init__(self, images: np.ndarray, numbers: np.ndarray | None, seed: int):
        super().__init__()
        self._images, self._numbers = images, numbers
        self._largest_shift = max(1, round(_SHIFT * min(images.shape[1:3])))
        self._rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._images) // BATCH_SIZE)

    def on_epoch_end(self) -> None:
        """Draw a new order and new shifts."""
        limit = self._largest_shift
        self._order = self._rng.permutation(len(self._images))
        self._shifts = self._rng.integers(-limit, limit + 1, (len(self._images), 2))

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self._order[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        if len(rows) < BATCH_SIZE:
            rows = np.concatenate([rows, self._order[: BATCH_SIZE - len(rows)]])
            rows = np.resize(rows, BATCH_SIZE)  # repeats rows if there are fewer than 64 images
        moved = shifted(self._images[rows], self._shifts[rows])
        return moved, moved if self._numbers is None else self._numbers[rows]


def shifted(images: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return float32 images that are shifted by (rows, columns); pixels of the edge fill the gaps.

    Args:
        images: Array (n, height, width, channels).
        shifts: Int array (n, 2); the result at (y, x) is the image at (y, x) + shift.
    """
    _, height, width, _ = images.shape
    y = np.clip(np.arange(height) + shifts[:, :1], 0, height - 1)
    x = np.clip(np.arange(width) + shifts[:, 1:], 0, width - 1)
    index = np.arange(len(images))[:, None, None]
    return images[index, y[:, :, None], x[:, None, :]].astype("float32", copy=False)
