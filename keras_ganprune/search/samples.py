"""The samples that the runs of a sweep train on and are measured on."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DataError


def digest(*arrays: np.ndarray) -> str:
    """Return a short hash of the contents of arrays.

    Example:
    >>> digest(np.zeros(3)) == digest(np.zeros(3)), digest(np.zeros(3)) == digest(np.ones(3))
    (True, False)
    """
    hasher = hashlib.blake2b(digest_size=6)
    for array in arrays:
        hasher.update(np.ascontiguousarray(array).view(np.uint8).data)
    return hasher.hexdigest()


class Samples:
    """Inputs and labels with one entry per sample.

    Args:
        images: Array (n, ...), or a tuple or dict of arrays for networks with several inputs.
        labels: Array (n, ...), a tuple or dict of arrays, or None.

    Raises:
        DataError: There is no sample, or the arrays do not have one entry per sample.
    """

    def __init__(self, images: Any, labels: Any = None):
        self.images = _arrays(images)
        self.labels = None if labels is None else _arrays(labels)
        first, *others = _leaves(self.images)
        if first.ndim < 1 or not len(first):
            raise DataError(
                f"`images` must be a non-empty array (n, ...). Received: shape {first.shape}."
            )
        for array in (*others, *_leaves(self.labels)):
            if len(array) != len(first):
                raise DataError(
                    f"`labels` must have one entry per image, {len(first)}. Received: {len(array)}."
                )

    def __len__(self) -> int:
        return len(_leaves(self.images)[0])

    def take(self, part: Any) -> tuple[Any, Any]:
        """Return (images, labels) of a slice or of indices."""
        images = keras.tree.map_structure(lambda array: array[part], self.images)
        if self.labels is None:
            return images, None
        return images, keras.tree.map_structure(lambda array: array[part], self.labels)

    def settings(self) -> dict[str, Any]:
        """Return short descriptions of both, to compare with other sweeps."""
        arrays = _leaves(self.images)
        shapes = " and ".join("×".join(map(str, array.shape[1:])) for array in arrays)
        labels = None if self.labels is None else digest(*_leaves(self.labels))
        return {"images": f"{len(self)} of {shapes}, {digest(*arrays)}", "labels": labels}


def _arrays(values: Any) -> Any:
    """Return an array, or the same structure of arrays for a tuple or dict of arrays."""
    if _is_several(values):
        return keras.tree.map_structure(np.asarray, values)
    return np.asarray(values)


def _is_several(values: Any) -> bool:
    """Return whether values are a tuple or dict of arrays, and not one array."""
    if not isinstance(values, (tuple, dict)):
        return False
    leaves = [*(values.values() if isinstance(values, dict) else values)]
    return bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves)


def _leaves(values: Any) -> list[np.ndarray]:
    return [] if values is None else keras.tree.flatten(values)
