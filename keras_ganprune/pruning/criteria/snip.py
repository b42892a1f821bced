"""Scores by the connection sensitivity, for pruning before training."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.criteria.base import family, require_gradient
from keras_ganprune.pruning.criteria.gradient import GradientCriterion


@family.register
class SNIP(GradientCriterion):
    """Connection sensitivity: how much the loss changes if a connection is weakened.

        score = |w G|,   G = mean over batches of g

    Gradients keep their sign in the mean (`Taylor` takes the mean of |w g|), so `batches` batches count as
    one large batch. It is meant for networks that are hardly trained: prune once at the beginning, by
    `OneShot(sparsity, step=batches)` with `allocation="global_ranking"`, or in several rounds with
    `Exponential`.

    Args:
        batches: Positive int, number of batches of the running `fit` that are averaged. Defaults to 8.

    Raises:
        InvalidArgumentError: `batches` is not a positive int.

    Example: the second argument is the mean of g.
    >>> SNIP().score(np.array([2.0, -1.0]), np.array([-0.5, 0.25]))
    array([1.  , 0.25])

    Reference:
        [SNIP: single-shot network pruning based on connection sensitivity](https://arxiv.org/abs/1810.02340),
        Eq. 5 (there divided by the sum over all connections, which changes no order).
    """

    signed = True

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return |w G|.

        Raises:
            InvalidArgumentError: `gradient` is None.
        """
        return np.abs(np.multiply(weight, require_gradient(self, gradient)))
