"""Which channels can only go together: labels that are tied to one another."""

from __future__ import annotations

import numpy as np

FIXED = 0


class Units:
    """Labels of channels, in classes that grow: two channels that must go together get into one class.

    Label 0 is that of all channels that stay, whatever happens; a class that it is in is never removed.

    Example:
    >>> units = Units()
    >>> a, b = units.new(3), units.new(3)
    >>> units.tie(a, b)
    >>> units.fix(b[:1])
    >>> units.find(a)
    array([0, 2, 3])
    """

    def __init__(self):
        self._parents = np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._parents)

    def new(self, count: int) -> np.ndarray:
        """Return labels of so many new channels, each in a class of its own."""
        labels = np.arange(len(self._parents), len(self._parents) + count)
        self._parents = np.concatenate([self._parents, labels])
        return labels

    def find(self, labels: np.ndarray) -> np.ndarray:
        """Return the class of each label, named by its lowest member."""
        found = self._parents[labels]
        while True:
            above = self._parents[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parents[labels] = found
        return found

    def tie(self, one: np.ndarray, other: np.ndarray) -> None:
        """Put the labels at each place of two arrays into one class."""
        one, other = np.broadcast_arrays(one, other)
        one, other = one.reshape(-1), other.reshape(-1)
        while True:
            a, b = self.find(one), self.find(other)
            apart = a != b
            if not apart.any():
                return
            a, b = a[apart], b[apart]
            # A class that occurs several times here gets its lowest partner now, the others in the next
            # round. Parents are always lower, so that the class of label 0 is named 0.
            np.minimum.at(self._parents, np.maximum(a, b), np.minimum(a, b))
            one, other = one[apart], other[apart]

    def fix(self, labels: np.ndarray) -> None:
        """Make labels stay."""
        self.tie(labels, np.full(np.shape(labels), FIXED))
