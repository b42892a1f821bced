"""A data set of images, and batches of it for `fit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DataError
from keras_ganprune.utils import annotated, validation


@dataclass(frozen=True)
class Images:
    """A data set of images.

    Args:
        images: float32 array (n, height, width, channels) in [-1, 1].
        labels: int64 array (n,) of class numbers, or None if the images have no labels.
        description: One line of text: what the images are, how many, and their source.

    Example:
    >>> from keras_ganprune.datasets import Images
    >>> images = Images(np.zeros((3, 8, 8, 1), "float32"), None, "3 grey images")
    >>> len(images), images.take(2).description
    (3, '3 grey images, the first 2 of them')
    """

    images: np.ndarray
    labels: np.ndarray | None
    description: str

    def __len__(self) -> int:
        return len(self.images)

    def take(self, n: int | None) -> Images:
        """Return the first images as a data set.

        Args:
            n: Number of images. If None, or larger than the number of images, all images are returned.
        """
        if n is None or n >= len(self):
            return self
        labels = None if self.labels is None else self.labels[:n]
        return Images(self.images[:n], labels, f"{self.description}, the first {n:,} of them")


class Batches(keras.utils.PyDataset):
    """Batches of images in random order. Equal seeds give equal orders. An incomplete last batch is left out.

    Each pass over the images has its own random order. A pass continues in the next epoch, so an epoch may
    have any number of batches.

    Args:
        images: Array (n, ...).
        labels: Array (n, ...), or None to return images without labels.
        batch_size: Positive int, images per batch. If there are fewer images, a batch contains all of them.
        per_epoch: Positive int, batches per epoch.
        seed: Int, seed of the random order.

    Raises:
        DataError: `images` or `labels` are no real, finite numbers, or have no axis of samples; there is no
            image, or not one label for each image.
        InvalidArgumentError: A number is not positive, or `seed` is negative.

    Example:
    >>> from keras_ganprune.datasets import Batches
    >>> batches = Batches(np.arange(6), None, batch_size=3, per_epoch=5, seed=0)
    >>> len(batches), sorted([*batches[0], *batches[1]]) == [*range(6)], batches[4].shape
    (5, True, (3,))
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        batch_size: int,
        per_epoch: int,
        seed: int,
    ):
        annotated.check(Batches.__init__, locals())
        validation.samples(images, "images")
        if labels is not None:
            validation.samples(labels, "labels")
        if not len(images) or (labels is not None and len(labels) != len(images)):
            raise DataError(
                "`images` must have at least one image, and `labels` one label for each. Received: "
                f"{len(images)} images, {None if labels is None else len(labels)} labels."
            )
        super().__init__()
        self.images, self.labels = images, labels
        self.batch_size = min(validation.positive_int(batch_size, "batch_size"), len(images))
        self.per_epoch = validation.positive_int(per_epoch, "per_epoch")
        self.seed = validation.non_negative_int(seed, "seed")
        self.epoch = 0

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, index: int) -> Any:
        whole = len(self.images) // self.batch_size
        passes, batch = divmod(self.epoch * self.per_epoch + index, whole)
        # The order of a pass is computed from its number, since Keras may read batches in any order.
        order = np.random.default_rng((self.seed, passes)).permutation(len(self.images))
        indices = order[batch * self.batch_size :][: self.batch_size]
        images = self.images[indices]
        return images if self.labels is None else (images, self.labels[indices])

    def on_epoch_end(self) -> None:
        """Continue with the batches of the next epoch."""
        self.epoch += 1


def scaled(images: np.ndarray, highest: float) -> np.ndarray:
    """Return images with values from 0 to `highest` as float32 in [-1, 1], with a channel axis."""
    images = images.astype("float32") / (highest / 2.0) - 1.0
    return images if images.ndim == 4 else images[..., None]
