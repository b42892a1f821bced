"""A data set of images, and batches of it for `fit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import ArgumentTypeError, DataError
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
    """Batches of arrays in random order. Equal seeds give equal orders. An incomplete last batch is left out.

    Each pass over the data has its own random order. A pass continues in the next epoch, so an epoch may
    have any number of batches.

    Args:
        images: Array (n, ...), or a tuple, list or dict of such arrays for networks with several inputs.
        labels: Array (n, ...), or a tuple, list or dict of such arrays, or None to return images without
            labels.
        batch_size: Positive int, images per batch. If there are fewer images, a batch contains all of them.
        per_epoch: Positive int, batches per epoch.
        seed: Int, seed of the random order.
        weights: Array (n,) of sample weights, for `fit` with labels. Defaults to None.

    Raises:
        ArgumentTypeError: An argument is not an array.
        DataError: `images` or `labels` are no real, finite numbers, or have no axis of samples; there is no
            image, or not one label or weight for each image.
        InvalidArgumentError: A number is not positive, or `seed` is negative.

    Example:
    >>> from keras_ganprune.datasets import Batches
    >>> batches = Batches(np.arange(6), None, batch_size=3, per_epoch=5, seed=0)
    >>> len(batches), sorted([*batches[0], *batches[1]]) == [*range(6)], batches[4].shape
    (5, True, (3,))
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        batch_size: int,
        per_epoch: int,
        seed: int,
        weights: np.ndarray | None = None,
    ):
        annotated.check(Batches.__init__, locals())
        counts = [_counts(part) for part in (images, labels, weights)]
        if not counts[0] or len({n for part in counts for n in part}) != 1 or not counts[0][0]:
            raise DataError(
                "`images` must have at least one image, and `labels` one label for each. Received: "
                f"{_text(counts[0])} images, {_text(counts[1])} labels"
                f"{f', {_text(counts[2])} weights' if weights is not None else ''}."
            )
        for name, part in (("images", images), ("labels", labels), ("weights", weights)):
            for array in [] if part is None else keras.tree.flatten(part):
                validation.samples(array, name)
        super().__init__()
        self.images, self.labels, self.weights = images, labels, weights
        self.count = counts[0][0]
        self.batch_size = min(validation.positive_int(batch_size, "batch_size"), self.count)
        self.per_epoch = validation.positive_int(per_epoch, "per_epoch")
        self.seed = validation.non_negative_int(seed, "seed")
        self.epoch = 0

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, index: int) -> Any:
        whole = self.count // self.batch_size
        passes, batch = divmod(self.epoch * self.per_epoch + index, whole)
        # The order of a pass is computed from its number, since Keras may read batches in any order.
        order = np.random.default_rng((self.seed, passes)).permutation(self.count)
        indices = order[batch * self.batch_size :][: self.batch_size]
        parts = [self.images, self.labels, self.weights]
        while len(parts) > 1 and parts[-1] is None:
            parts.pop()
        taken = [keras.tree.map_structure(lambda array: array[indices], part) for part in parts]
        # Keras takes no lists in the batches of a `PyDataset` on TensorFlow.
        taken = [keras.tree.lists_to_tuples(part) for part in taken]
        return tuple(taken) if len(taken) > 1 or isinstance(taken[0], (tuple, list)) else taken[0]

    def on_epoch_end(self) -> None:
        """Continue with the batches of the next epoch."""
        self.epoch += 1


def _counts(arrays: Any) -> list[int]:
    """Return the number of samples in each array of a structure."""
    leaves: list[Any] = [] if arrays is None else keras.tree.flatten(arrays)  # pyright: ignore
    wrong = [leaf for leaf in leaves if not len(getattr(leaf, "shape", ()))]
    if wrong or (arrays is not None and not leaves):
        received = wrong[0] if wrong else arrays
        raise ArgumentTypeError(
            "`images`, `labels` and `weights` must be arrays with one row per sample, or structures of "
            f"them. Received: {received!r} (of type {type(received).__name__})."
        )
    return [len(leaf) for leaf in leaves]


def _text(counts: list[int]) -> str:
    return " and ".join(map(str, dict.fromkeys(counts))) or "None"


def scaled(images: np.ndarray, highest: float) -> np.ndarray:
    """Return images with values from 0 to `highest` as float32 in [-1, 1], with a channel axis."""
    images = images.astype("float32") / (highest / 2.0) - 1.0
    return images if images.ndim == 4 else images[..., None]
