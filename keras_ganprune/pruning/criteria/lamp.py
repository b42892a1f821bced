"""Scores that make layers comparable: layer-adaptive magnitude."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.criteria.base import Criterion, family
from keras_ganprune.pruning.granularity import Granularity


@family.register
class LAMP(Criterion):
    """Layer-adaptive magnitude: the squared weight as a share of all that are at least as large.

        score(u) = w_u^2 / sum of w_v^2 over all units v of the tensor with |w_v| >= |w_u|

    Within a tensor the order is that of the magnitude. Between tensors the scores are comparable: the
    largest unit of every tensor has score 1. So use it with `allocation="global_ranking"`, which then
    finds a sparsity for each layer. For larger units, w_u is the L2 norm of the unit. Equal units get
    different scores: the one with the higher index counts as the larger one.

    Example:
    >>> LAMP().score(np.array([1.0, -2.0, 2.0]))
    array([0.11111111, 0.5       , 1.        ])

    Reference:
        [Layer-adaptive sparsity for the magnitude-based pruning](https://arxiv.org/abs/2010.07611),
        Eq. 3.
    """

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return the scores of single weights."""
        return _shares(np.square(weight, dtype=np.float64))

    def unit_scores(
        self, weight: np.ndarray, gradient: np.ndarray | None, granularity: Granularity
    ) -> np.ndarray:
        """Return the scores of units, by their L2 norms."""
        return _shares(granularity.pool(np.square(weight, dtype=np.float64)))


def _shares(squares: np.ndarray) -> np.ndarray:
    """Return each square as a share of the sum of itself and all larger ones."""
    flat = np.asarray(squares).reshape(-1)
    order = np.argsort(flat, kind="stable")
    # From the largest down; of equal squares the later one in `order` counts as the larger one.
    sums = np.cumsum(flat[order][::-1])[::-1]
    shares = np.zeros_like(flat)
    shares[order] = np.divide(flat[order], sums, out=np.zeros_like(sums), where=sums > 0)
    return shares.reshape(np.shape(squares))
