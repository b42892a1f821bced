"""How one total sparsity is spread over several tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ganprune import masks
from keras_ganprune._registry import Configurable, Family


class Allocation(Configurable):
    """Chooses the kept units of all tensors at once.

    `select` gets one array of unit scores for each tensor (pruned units hold -inf under `hard`)
    and how many weights a unit of it has, and returns one bool array for each.
    """

    def select(
        self, scores: Sequence[np.ndarray], unit_sizes: Sequence[int], sparsity: float
    ) -> list[np.ndarray]:
        raise NotImplementedError


_family = Family("allocation", Allocation)


@_family.register
class Uniform(Allocation):
    """Every tensor gets the same sparsity: `max(1, round(n * (1 - s)))` units are kept of n.

    Example:
    >>> Uniform().select([np.array([1.0, 2.0, 3.0, 4.0])], [1], 0.5)
    [array([False, False,  True,  True])]
    """

    def select(self, scores, unit_sizes, sparsity):
        return [masks.top_k_mask(s, masks.kept_count(s.size, sparsity)) for s in scores]


@_family.register
class GlobalRanking(Allocation):
    """One ranking over all tensors, so that layers of small weights lose more.

    The total is exact. The best unit of every tensor stays, since a layer with no weight left
    cuts the network in two.

    Example:
    >>> GlobalRanking().select([np.array([1.0, 2.0]), np.array([3.0, 4.0])], [1, 1], 0.5)
    [array([False,  True]), array([False,  True])]
    """

    def select(self, scores, unit_sizes, sparsity):
        flat = np.concatenate([s.reshape(-1) for s in scores])
        start = 0
        for s in scores:
            flat[start + int(np.argmax(s))] = np.inf
            start += s.size
        keep = masks.top_k_mask(flat, max(len(scores), masks.kept_count(flat.size, sparsity)))
        edges = np.cumsum([s.size for s in scores])[:-1]
        return [k.reshape(s.shape) for k, s in zip(np.split(keep, edges), scores, strict=True)]


def get(identifier: Any) -> Allocation:
    """Return the allocation for a name ('uniform', 'global_ranking'), a config or an instance."""
    return _family.get(identifier)
