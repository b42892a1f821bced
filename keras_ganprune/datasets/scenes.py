"""`Scenes`: images with a box and a class for each object in them."""

from __future__ import annotations

import attrs
import numpy as np


@attrs.frozen(eq=False)
class Scenes:
    """Images of equal size with the boxes of their objects.

    Attributes:
        images: float32 array (n, height, width, 3) in [-1, 1].
        boxes: For each image a float32 array (objects, 4): left, top, width, height in pixels.
        labels: For each image an int64 array (objects,) of class numbers.
        classes: Names of the classes.
        description: One line of text: what the images are, how many, and their source.
    """

    images: np.ndarray
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    classes: tuple[str, ...]
    description: str

    def __len__(self) -> int:
        return len(self.images)
