"""Scores by the distance to the other channels."""

from __future__ import annotations

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.criteria.base import Criterion, family
from keras_ganprune.pruning.granularity import Channel, Granularity


@family.register
class GeometricMedian(Criterion):
    """Distance to the other channels: channels that the others can replace are pruned first.

        score of channel i = sum over j of ||w_i - w_j||_2

    The size of a channel does not matter. The granularity must be 'channel'.

    Example:
    >>> kernel = np.array([[0.0, 1.0, 5.0]])  # (inputs, outputs)
    >>> GeometricMedian().unit_scores(kernel, None, Channel(axis=1))
    array([6., 5., 9.])

    Reference:
        [Filter pruning via geometric median](https://arxiv.org/abs/1811.00250), Eq. 4.
    """

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Raise `InvalidArgumentError`: a single weight has no score."""
        raise InvalidArgumentError(
            "GeometricMedian compares whole channels, so a single weight has no score. "
            "Use `granularity='channel'`."
        )

    def unit_scores(
        self, weight: np.ndarray, gradient: np.ndarray | None, granularity: Granularity
    ) -> np.ndarray:
        """Return the sum of the distances of each channel to all channels."""
        if not isinstance(granularity, Channel):
            return self.score(weight)
        rows = granularity.rows(np.asarray(weight, dtype=np.float64))
        squares = np.einsum("ij,ij->i", rows, rows)
        total = np.zeros(len(rows))
        # In chunks: the matrix of all distances can be larger than the memory.
        for start in range(0, len(rows), 512):
            chunk = rows[start : start + 512]
            both = squares[start : start + 512, None] + squares
            distance = both - 2.0 * (chunk @ rows.T)
            # Equal channels differ by rounding only, which must not decide between them.
            distance[distance < 1e-13 * both] = 0.0
            total[start : start + 512] = np.sqrt(distance).sum(axis=1)
        shape = np.shape(granularity.pool(np.zeros(np.shape(weight), dtype=np.float32)))
        return total.reshape(shape)

    def conflict(self, granularity: Granularity, joint: bool) -> str | None:
        """Return why the criterion cannot be used with these settings, or None."""
        if not isinstance(granularity, Channel):
            return "it compares whole channels; use the granularity 'channel'"
        return None
