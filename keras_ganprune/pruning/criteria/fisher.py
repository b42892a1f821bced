"""Scores by the curvature of the loss, estimated from squared gradients."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.criteria.base import family, require_gradient
from keras_ganprune.pruning.criteria.gradient import GradientCriterion


@family.register
class Fisher(GradientCriterion):
    """Optimal brain damage with the diagonal of the empirical Fisher information as the curvature.

        score = h w^2 / 2,   h = mean over batches of g^2

    The score estimates how much the loss rises if the weight becomes zero, near a minimum, where the
    first-order term vanishes. The gradients are those of whole batches, so the order is that of
    `Taylor(squared=True)`. The score of a unit is the sum over its weights: interactions between weights
    are left out.

    Args:
        batches: Positive int, number of batches of the running `fit` that are averaged. Defaults to 8.

    Raises:
        InvalidArgumentError: `batches` is not a positive int.

    Example: the second argument is the root of the mean of g^2.
    >>> Fisher().score(np.array([2.0, -1.0]), np.array([0.5, 1.0]))
    array([0.5, 0.5])

    Reference:
        [Optimal brain damage](https://papers.nips.cc/paper/1989/hash/6c9882bbac1c7093bd25041881277658-Abstract.html),
        Eq. 5, for the saliency; [Faster gaze prediction with dense networks and Fisher
        pruning](https://arxiv.org/abs/1801.05787), §2.1, for the Fisher information.
    """

    moment = 2

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return h w^2 / 2.

        Raises:
            InvalidArgumentError: `gradient` is None.
        """
        product = np.multiply(weight, require_gradient(self, gradient), dtype=np.float64)
        return 0.5 * np.square(product)
