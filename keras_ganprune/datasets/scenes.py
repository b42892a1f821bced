"""`Scenes`: images with a box and a class for each object in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images of equal size with the boxes of their objects.

    Attributes:
        images: float32 array (n, height, width, 3) in [-1, 1].
        boxes: For each image a float32 array (objects, 4): left, top, width, height in pixels.
        labels: For each image an int64 array (objects,) of class numbers.
        classes: Names of the classes.
        description: One line of text: what the images are, and how many.

    Example:
    >>> from keras_ganprune.datasets import Scenes
    >>> images, box = np.zeros((1, 32, 32, 3), "float32"), np.array([[4.0, 4.0, 8.0, 16.0]], "float32")
    >>> scenes = Scenes(images, (box,), (np.array([0]),), ("person",), "1 image with 1 box")
    >>> len(scenes), scenes.boxes[0].shape
    (1, (1, 4))
    """

    images: np.ndarray
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    classes: tuple[str, ...]
    description: str

    def __len__(self) -> int:
        return len(self.images)
