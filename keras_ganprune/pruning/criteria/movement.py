"""Scores by the direction in which training moves the weights."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.criteria.base import family, require_gradient
from keras_ganprune.pruning.criteria.gradient import GradientCriterion


@family.register
class Movement(GradientCriterion):
    """Movement: weights that training moves towards zero are pruned first, large ones too.

        score = - mean over batches of w g

    The step of gradient descent is -g, so w g > 0 means that |w| shrinks. The paper sums over the whole
    training with a learning rate; here it is the mean over the last `batches` batches before each
    update, which has the same order. It is meant for fine-tuning, where magnitudes tell what the old task
    needed. A score may be negative. The score of a unit is the sum over its weights.

    Args:
        batches: Positive int, number of batches of the running `fit` that are averaged. With a number
            that is not smaller than the `frequency` of `Prune`, no batch is left out. Defaults to 32.

    Raises:
        InvalidArgumentError: `batches` is not a positive int.

    Example: the second argument is the mean of w g.
    >>> Movement().score(np.array([2.0, -1.0]), np.array([-0.5, 0.25]))
    array([ 0.5 , -0.25])

    Reference:
        [Movement pruning: adaptive sparsity by fine-tuning](https://arxiv.org/abs/2005.07683), §3, Eq. 3.
    """

    signed = True
    times_weight = True

    def __init__(self, batches: int = 32):
        super().__init__(batches)

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return the negative mean of w g.

        Raises:
            InvalidArgumentError: `gradient` is None.
        """
        return -require_gradient(self, gradient)
