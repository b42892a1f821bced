"""What is removed together: the unit of pruning."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_ganprune._registry import Configurable, Family


class Granularity(Configurable):
    """Maps scores of single weights to scores of units, and kept units back to a mask."""

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Return one score per removable unit: the sum of the scores inside it."""
        raise NotImplementedError

    def expand(self, keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the bool mask of `shape` for a bool per unit."""
        raise NotImplementedError


_family = Family("granularity", Granularity)


@_family.register
class Unstructured(Granularity):
    """Every weight is a unit of its own.

    Example:
    >>> Unstructured().pool(np.array([[1.0, 2.0]]))
    array([[1., 2.]])
    """

    def pool(self, scores):
        return scores

    def expand(self, keep, shape):
        return keep.reshape(shape)


def get(identifier: Any) -> Granularity:
    """Return the granularity for a name ('unstructured'), a config or an instance."""
    return _family.get(identifier)
