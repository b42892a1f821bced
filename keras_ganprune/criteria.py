"""Which weights matter: a criterion gives scores, and the lowest scores go first."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_ganprune._registry import Configurable, Family
from keras_ganprune.errors import InvalidArgumentError


class Criterion(Configurable):
    """Scores of weights, higher = keep.

    A new criterion overrides `score`, and `unit` where the score of a unit is not the plain sum.
    """

    needs_gradient = False

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return an array of the shape of `weight`, higher = keep."""
        raise NotImplementedError

    def unit(self, pooled: np.ndarray) -> np.ndarray:
        """Return the scores of units from the sums that `Granularity.pool` made."""
        return pooled


_family = Family("criterion", Criterion)


@_family.register
class Magnitude(Criterion):
    """Magnitude of the weights: small ones go first.

        l1: sum over the unit of |w|        l2: sqrt(sum over the unit of w^2)

    For unstructured pruning a unit is one weight, so both give |w|.

    Args:
        norm: 'l1' or 'l2', the norm of a unit.

    Example:
    >>> Magnitude("l1").score(np.array([-2.0, 1.0]))
    array([2., 1.])

    Reference: [Learning both weights and connections](https://arxiv.org/abs/1506.02626), §3.
    """

    def __init__(self, norm: str = "l1"):
        if norm not in ("l1", "l2"):
            raise InvalidArgumentError(f"`norm` must be 'l1' or 'l2'. Received: {norm!r}.")
        self.norm = norm

    def score(self, weight, gradient=None):
        if self.norm == "l1":
            return np.abs(weight)
        # float64: the square of a small float32 weight would underflow to a tie at zero.
        return np.square(weight, dtype=np.float64)

    def unit(self, pooled):
        return pooled if self.norm == "l1" else np.sqrt(pooled)

    def get_config(self):
        return {"norm": self.norm}


_NORMS = {"l1": "l1", "l2": "l2", "magnitude_l1": "l1", "magnitude_l2": "l2"}


def get(identifier: Any) -> Criterion:
    """Return the criterion for a name ('magnitude', 'l1', 'l2'), a config or an instance."""
    if isinstance(identifier, str) and identifier in _NORMS:
        return Magnitude(_NORMS[identifier])
    return _family.get(identifier)
