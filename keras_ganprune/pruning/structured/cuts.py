"""Which positions of an old variable the corresponding variable of a narrower network has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError


def take(value: np.ndarray, index: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return an array with only the kept positions of each axis; None keeps the whole axis."""
    for axis, kept in enumerate(index):
        if kept is not None:
            value = np.take(value, kept, axis=axis)
    return value


# Compared by identity: `==` of two variables is a tensor.
@dataclass(frozen=True, eq=False)
class Cut:
    """A variable of a network, and the variable that replaces it in a narrower network.

    Args:
        old: Variable of the old network.
        new: Variable of the new network.
        index: For each axis of `old`, the kept positions as an int array, or None for all.

    Raises:
        InvalidArgumentError: `index` is not valid for `old`, or does not give the shape of `new`.

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
                f"`index` must have an entry for each axis of `old` ('{self.old.path}', of shape {old}). "
                f"Received: {len(self.index)} entries."
            )
        shape = tuple(
            size if kept is None else self._length(axis, size, kept)
            for axis, (size, kept) in enumerate(zip(old, self.index, strict=True))
        )
        if shape != new:
            raise InvalidArgumentError(
                f"`index` leaves the shape {shape} of '{self.old.path}', but `new` "
                f"('{self.new.path}') must have that shape. Received: {new}."
            )

    def _length(self, axis: int, size: int, kept: np.ndarray) -> int:
        """Return how many positions of an axis are kept, or raise if they are not valid."""
        kept = np.asarray(kept)
        valid = kept.ndim == 1 and (not kept.size or kept.dtype.kind in "iu")
        if not valid or (kept.size and (kept.min() < 0 or kept.max() >= size)):
            raise InvalidArgumentError(
                f"The kept positions of axis {axis} of '{self.old.path}' must be one row of ints "
                f"from 0 to {size - 1}. Received: {kept!r}."
            )
        return len(kept)

    def slice(self, value: np.ndarray) -> np.ndarray:
        """Return the kept part of an array that is shaped as `old`: its value, a slot or a mask.

        Args:
            value: Array of the shape of `old`.

        Returns: Array of the shape of `new`.

        Raises:
            InvalidArgumentError: `value` has another shape than `old`.
        """
        value = np.asarray(value)
        if value.shape != tuple(self.old.shape):
            raise InvalidArgumentError(
                f"`value` must have the shape of '{self.old.path}', {tuple(self.old.shape)}. "
                f"Received: {value.shape}."
            )
        return take(value, self.index)
