"""Random scores, the baseline for all criteria."""

from __future__ import annotations

import copy

import numpy as np

from keras_ganprune.pruning.criteria.base import Criterion, WeightContext, family
from keras_ganprune.pruning.granularity import Granularity
from keras_ganprune.utils import validation


@family.register
class Random(Criterion):
    """Random scores in [0, 1), the baseline that every other criterion has to beat.

    The scores are the same at every update, so that each mask is a subset of the one before. Each tensor
    has its own scores.

    Args:
        seed: Non-negative int. Defaults to 0.

    Raises:
        InvalidArgumentError: `seed` is not a non-negative int.

    Example:
    >>> scores = Random(seed=1).score(np.zeros((2, 3)))
    >>> scores.shape, bool((scores < 1).all())
    ((2, 3), True)

    Reference:
        [What is the state of neural network pruning?](https://arxiv.org/abs/2003.03033), which
        uses random pruning as a baseline.
    """

    _index = 0

    def __init__(self, seed: int = 0):
        self.seed = validation.non_negative_int(seed, "seed")

    def bind(self, context: WeightContext) -> Random:
        """Return a copy with random numbers for this tensor."""
        bound = copy.copy(self)
        bound._index = context.index
        return bound

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return a random number for each weight."""
        return np.random.default_rng((self.seed, self._index)).random(np.shape(weight))

    def unit_scores(
        self, weight: np.ndarray, gradient: np.ndarray | None, granularity: Granularity
    ) -> np.ndarray:
        """Return a random number for each unit."""
        # Sums of random numbers over large units would all be nearly equal.
        units = np.shape(granularity.pool(np.zeros(np.shape(weight), dtype=np.float32)))
        return np.random.default_rng((self.seed, self._index)).random(units)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"seed": self.seed}
