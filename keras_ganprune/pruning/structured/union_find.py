"""Classes of channels that can only be removed together: a union-find over integer labels."""

from __future__ import annotations

import numpy as np

# The label of all channels that always stay.
FIXED = 0


class Units:
    """A union-find over channel labels: tied labels are in one class.

    Label 0 (`FIXED`) stands for all channels that always stay. A class that contains it is never
    removed.

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
        """Return labels of `count` new channels, each in its own class."""
        labels = np.arange(len(self._parents), len(self._parents) + count)
        self._parents = np.concatenate([self._parents, labels])
        return labels

    def find(self, labels: np.ndarray) -> np.ndarray:
        """Return the class of each label. A class is named by its lowest label."""
        roots = self._parents[labels]
        while True:
            parents = self._parents[roots]
            if np.array_equal(parents, roots):
                break
            roots = parents
        self._parents[labels] = roots
        return roots

    def tie(self, one: np.ndarray, other: np.ndarray) -> None:
        """Put the labels at each position of two arrays into one class."""
        one, other = np.broadcast_arrays(one, other)
        one, other = one.reshape(-1), other.reshape(-1)
        while True:
            a, b = self.find(one), self.find(other)
            apart = a != b
            if not apart.any():
                return
            a, b = a[apart], b[apart]
            # A class that occurs several times in `a` or `b` is joined with its lowest partner now, and
            # with the others in the next round. A parent is always lower than its child, so the class
            # of label 0 keeps the name 0.
            np.minimum.at(self._parents, np.maximum(a, b), np.minimum(a, b))
            one, other = one[apart], other[apart]

    def fix(self, labels: np.ndarray) -> None:
        """Put labels into the class of the channels that always stay."""
        self.tie(labels, np.full(np.shape(labels), FIXED))
