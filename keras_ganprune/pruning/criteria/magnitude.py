"""Scores by the size of the weights."""

from __future__ import annotations

from typing import Literal

import numpy as np

from keras_ganprune.pruning.criteria.base import Criterion, family
from keras_ganprune.utils import validation


@family.register
class Magnitude(Criterion):
    """Magnitude of the weights: small weights are pruned first.

        l1: sum over the unit of |w|        l2: sqrt(sum over the unit of w^2)

    In unstructured pruning a unit is one weight, so both norms give |w|.

    Args:
        norm: 'l1' or 'l2', the norm of a unit. Defaults to 'l1'.

    Raises:
        InvalidArgumentError: `norm` is not 'l1' or 'l2'.

    Example:
    >>> Magnitude("l1").score(np.array([-2.0, 1.0]))
    array([2., 1.])

    Reference:
        [Learning both weights and connections](https://arxiv.org/abs/1506.02626), §3;
        [Pruning filters for efficient ConvNets](https://arxiv.org/abs/1608.08710), §3.1, for channels.
    """

    def __init__(self, norm: Literal["l1", "l2"] = "l1"):
        self.norm = validation.one_of(norm, "norm", ("l1", "l2"))

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return |w|, or w^2 for the L2 norm."""
        if self.norm == "l1":
            return np.abs(weight)
        # float64: the squares of small float32 weights would all underflow to zero.
        return np.square(weight, dtype=np.float64)

    def unit(self, pooled: np.ndarray) -> np.ndarray:
        """Return the norms of the units."""
        return pooled if self.norm == "l1" else np.sqrt(pooled)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"norm": self.norm}
