"""What a cut has made of a variable: which positions of the old one the new one has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError


def take(value: np.ndarray, index: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return an array with only the kept positions of each axis; None keeps an axis whole."""
    for axis, kept in enumerate(index):
        if kept is not None:
            value = np.take(value, kept, axis=axis)
    return value


# Compared by identity: `==` of two variables is a tensor.
@dataclass(frozen=True, eq=False)
class Cut:
    """A variable of a network, and the one that has its place in a narrower network.

    Args:
        old, new: The two variables.
        index: For each axis of `old` the kept positions as an int array, or None for all.

    Raises:
        InvalidArgumentError: `index` does not fit `old`, or does not give the shape of `new`.

    Example:
    >>> old, new = keras.Variable(np.zeros((4, 3))), keras.Variable(np.zeros((2, 3)))
    >>> Cut(old, new, (np.array([1, 3]), None)).slice(np.arange(12).reshape(4, 3))
    array([[ 3,  4,  5],
           [ 9, 10, 11]])
    """

    old: keras.Variable
    new: keras.Variable
    index: tuple[np.ndarray | None, ...]

    def __post_init__(self):
        old, new = tuple(self.old.shape), tuple(self.new.shape)
        if len(self.index) != len(old):
            raise InvalidArgumentError(
                f"`index` must have an entry for each axis of `old`, {old} of '{self.old.path}'. "
                f"Received: {len(self.index)}."
            )
        found = []
        for axis, (size, kept) in enumerate(zip(old, self.index, strict=True)):
            if kept is None:
                found.append(size)
                continue
            kept = np.asarray(kept)
            wrong = kept.ndim != 1 or (kept.size and kept.dtype.kind not in "iu")
            if wrong or (kept.size and (kept.min() < 0 or kept.max() >= size)):
                raise InvalidArgumentError(
                    f"The kept positions of axis {axis} of '{self.old.path}' must be one row of ints "
                    f"from 0 to {size - 1}. Received: {kept!r}."
                )
            found.append(len(kept))
        if tuple(found) != new:
            raise InvalidArgumentError(
                f"`index` leaves the shape {tuple(found)} of '{self.old.path}', but `new` "
                f"('{self.new.path}') must have that shape. Received: {new}."
            )

    def slice(self, value: np.ndarray) -> np.ndarray:
        """Return what an array of the shape of `old` is for `new`: its values, a slot, a mask.

        Raises:
            InvalidArgumentError: the array has another shape than `old`.
        """
        value = np.asarray(value)
        if value.shape != tuple(self.old.shape):
            raise InvalidArgumentError(
                f"`value` must have the shape of '{self.old.path}', {tuple(self.old.shape)}. "
                f"Received: {value.shape}."
            )
        return take(value, self.index)
