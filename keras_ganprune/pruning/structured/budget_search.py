"""The search for the sizes of all groups at which a network costs as much as its budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ganprune.pruning.structured.costs import Costs

# Largest valid difference between the cost and the target, as a share of the target.
TOLERANCE = 0.02

# How many pairs of moves are tried exactly, beginning with those that look best.
_PAIRS = 256
# All combinations of sizes are tried if there are at most so many.
_COMBINATIONS = 20_000


@dataclass(frozen=True)
class Path:
    """The sizes that a group may have, and the units that stay at each size.

    Attributes:
        order: Int array, the remaining units, the best first.
        sizes: Int array, ascending: the valid numbers of units.
        kinds: Int array (sizes x kinds): how many units of each kind of `Costs` stay at each size.
    """

    order: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray

    def nearest(self, size: float) -> int:
        """Return the index of the nearest valid size; of two, the larger."""
        return int(len(self.sizes) - 1 - np.argmin(np.abs(self.sizes - size)[::-1]))


class Search:
    """Searches for sizes of all groups.

    A place is an int array: for each `Path` the index of a size.

    Args:
        costs: Costs of the network.
        quantity: 'macs', 'parameters' or 'bytes'.
        target: The cost to reach.
        paths: A `Path` for each group.
    """

    def __init__(self, costs: Costs, quantity: str, target: float, paths: Sequence[Path]):
        self.costs, self.quantity, self.target, self.paths = costs, quantity, target, paths
        self.top = np.array([len(path.sizes) - 1 for path in paths])

    def counts(self, place: np.ndarray) -> np.ndarray:
        """Return how many units of each kind stay at a place."""
        rows = [path.kinds[index] for path, index in zip(self.paths, place, strict=True)]
        return np.sum(rows, axis=0)

    def cost(self, place: np.ndarray) -> int:
        """Return the cost at a place."""
        return int(self.costs.at(self.quantity, self.counts(place)))

    def gap(self, cost: Any) -> Any:
        """Return the distance of a cost from the target, as a share of the target."""
        return np.abs(cost - self.target) / self.target

    def is_missed(self, place: np.ndarray) -> bool:
        """Return whether the cost at a place differs from the target by more than the tolerance."""
        return bool(self.gap(self.cost(place)) > TOLERANCE)

    def uniform(self, sizes: Sequence[int]) -> np.ndarray:
        """Return the place nearest to the target at which all groups keep the same share.

        Args:
            sizes: Number of units of each group in the dense network.
        """

        def at(share: float) -> np.ndarray:
            return np.array([p.nearest(share * n) for p, n in zip(self.paths, sizes, strict=True)])

        return self._bisect(at, 0.0, 1.0, lambda low, high: (low + high) / 2)

    def ranked(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """Return the place nearest to the target at which the best units of all groups stay.

        Args:
            scores: For each path the scores of its units, in its order.
        """
        owner = np.repeat(np.arange(len(scores)), [len(row) for row in scores])
        owner = owner[np.argsort(-np.concatenate(scores), kind="stable")]

        def at(kept: int) -> np.ndarray:
            counts = np.bincount(owner[:kept], minlength=len(scores))
            return np.array([p.nearest(n) for p, n in zip(self.paths, counts, strict=True)])

        return self._bisect(at, 0, len(owner), lambda low, high: (low + high) // 2)

    def _bisect(self, at: Callable, low: Any, high: Any, between: Callable) -> np.ndarray:
        for _ in range(60):
            middle = between(low, high)
            if middle in (low, high):
                break
            if self.cost(at(middle)) <= self.target:
                low = middle
            else:
                high = middle
        return min((at(low), at(high)), key=lambda place: self.gap(self.cost(place)))

    def adjust(self, place: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Move one group at a time to the next size, as long as the cost gets nearer to the target.

        If no single move helps and the target is still missed, two groups are moved at once.

        Args:
            place: Where to begin.
            reach: For each group the largest distance from there, in sizes.
        """
        low, high = np.maximum(place - reach, 0), np.minimum(place + reach, self.top)
        while True:
            moves = [(int(i), 1) for i in np.flatnonzero(place < high)]
            moves += [(int(i), -1) for i in np.flatnonzero(place > low)]
            if not moves:
                return place
            group, step = np.array(moves).T
            change = np.stack(
                [
                    self.paths[i].kinds[place[i] + s] - self.paths[i].kinds[place[i]]
                    for i, s in moves
                ]
            )
            singles = np.arange(len(moves))[:, None]
            best, costs = self._best(place, change, singles)
            if best is None and self.is_missed(place):
                best, _ = self._best(place, change, self._pairs(place, group, costs))
            if best is None:
                return place
            place = place.copy()
            place[group[best]] += step[best]

    def anywhere(self, place: np.ndarray) -> np.ndarray:
        """Return the place nearest to the target, or `place` if there are too many to try all.

        Single moves get stuck where sizes are coarse.
        """
        lengths = tuple(int(n) for n in self.top + 1)
        if math.prod(lengths) > _COMBINATIONS:
            return place
        places = np.stack([axis.ravel() for axis in np.indices(lengths)])
        rows = [path.kinds[index].T for path, index in zip(self.paths, places, strict=True)]
        gaps = self.gap(self.costs.at(self.quantity, np.sum(rows, axis=0)))
        # Of all places within the tolerance, the one that changes least.
        moved = np.abs(places - place[:, None]).sum(axis=0)
        near = gaps <= TOLERANCE
        best = np.argmin(np.where(near, moved, np.inf)) if near.any() else np.argmin(gaps)
        return places[:, best]

    def _best(
        self, place: np.ndarray, change: np.ndarray, choices: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the best choice of moves and the costs of all choices.

        The choice is None if none is nearer to the target than `place`.
        """
        costs = np.zeros(0)
        if len(choices):
            kinds = self.counts(place) + change[choices].sum(axis=1)
            costs = self.costs.at(self.quantity, kinds.T)
            best = int(np.argmin(self.gap(costs)))
            if self.gap(costs[best]) < self.gap(self.cost(place)):
                return choices[best], costs
        return None, costs

    def _pairs(self, place: np.ndarray, group: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """Return pairs of moves of different groups, in the order of their costs if costs were linear."""
        a, b = np.triu_indices(len(group), k=1)
        a, b = a[group[a] != group[b]], b[group[a] != group[b]]
        order = np.argsort(self.gap(costs[a] + costs[b] - self.cost(place)), kind="stable")
        return np.stack([a, b], axis=1)[order[:_PAIRS]]
