"""Whole layers."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.granularity.base import Granularity, _family


@_family.register
class Layer(Granularity):
    """Whole residual blocks: the branch that is added to a tensor again, with all its layers.

    A block whose weights are all zero adds nothing, so `shrink` leaves it out with the same outputs. The
    score of a block is the mean score of the weights in its kernels; one block always stays.

    Example:
    >>> Layer().pool(np.array([[1.0, 2.0]]))
    array([3.])

    Reference: [Deep networks with stochastic depth](https://arxiv.org/abs/1603.09382), §3, on networks
    that do without some of their residual blocks.
    """

    coupled = True

    def pool(self, scores):
        return np.sum(scores, dtype=np.float64, keepdims=True).reshape(1)

    def expand(self, keep, shape):
        return np.full(shape, bool(np.reshape(keep, -1)[0]))
