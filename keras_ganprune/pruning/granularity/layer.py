"""Whole residual blocks."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.granularity.base import Granularity, family


@family.register
class Layer(Granularity):
    """Whole residual blocks: a unit is the branch of a block, with all its layers.

    A branch whose weights are all zero adds zero, so `shrink` removes it without a change of the outputs.
    The score of a block is the mean score of the weights in its kernels. At least one block is kept.

    Example:
    >>> Layer().pool(np.array([[1.0, 2.0]]))
    array([3.])

    Reference:
        [Deep networks with stochastic depth](https://arxiv.org/abs/1603.09382), §3, which trains networks
        without some of their residual blocks.
    """

    coupled = True

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Return the sum of all scores, in an array of shape (1,)."""
        return np.sum(scores, dtype=np.float64, keepdims=True).reshape(1)

    def expand(self, keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of `shape` that is True or False everywhere."""
        return np.full(shape, bool(np.reshape(keep, -1)[0]))
