"""The search for the sizes of all groups at which a network costs what it may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ganprune.pruning.structured.costs import Costs

# How near a cost has to come to what was asked for, as a share of that.
TOLERANCE = 0.02

# So many pairs of changes are tried exactly, of those that look best.
_PAIRS = 256
# Where there are no more places than these, all of them are.
_PLACES = 20_000


@dataclass(frozen=True)
class Path:
    """The sizes that a group may have, and which units it has at each.

    Attributes:
        order: Units that are still there, the best first.
        sizes: Int array, ascending: how many of them may stay.
        kinds: Int array (sizes x kinds), how many units of each kind of `Costs` these are.
    """

    order: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray

    def nearest(self, wanted: float) -> int:
        """Return the number of the size nearest to one that is wanted, the larger of two."""
        return int(len(self.sizes) - 1 - np.argmin(np.abs(self.sizes - wanted)[::-1]))


class Search:
    """Looks for sizes of all groups; a place is an int array, the number of a size in each `Path`."""

    def __init__(self, costs: Costs, quantity: str, target: float, paths: Sequence[Path]):
        self.costs, self.quantity, self.target, self.paths = costs, quantity, target, paths
        self.top = np.array([len(path.sizes) - 1 for path in paths])

    def counts(self, place: np.ndarray) -> np.ndarray:
        return sum(path.kinds[p] for path, p in zip(self.paths, place, strict=True))

    def cost(self, place: np.ndarray) -> int:
        return int(self.costs.at(self.quantity, self.counts(place)))

    def gap(self, cost: Any) -> Any:
        """Return how far a cost is from the target, as a share of that."""
        return np.abs(cost - self.target) / self.target

    def missed(self, place: np.ndarray) -> bool:
        return bool(self.gap(self.cost(place)) > TOLERANCE)

    def uniform(self, groups: Sequence[int]) -> np.ndarray:
        """Return the place nearest to the target at which all groups keep one share of their sizes."""

        def at(share: float) -> np.ndarray:
            return np.array([p.nearest(share * n) for p, n in zip(self.paths, groups, strict=True)])

        return self._bracket(at, 0.0, 1.0, lambda low, high: (low + high) / 2)

    def ranked(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """Return the place nearest to the target at which the best units of all groups stay.

        Args:
            scores: Of the units of each path, in its order.
        """
        owner = np.repeat(np.arange(len(scores)), [len(own) for own in scores])
        owner = owner[np.argsort(-np.concatenate(scores), kind="stable")]

        def at(kept: int) -> np.ndarray:
            counts = np.bincount(owner[:kept], minlength=len(scores))
            return np.array([p.nearest(n) for p, n in zip(self.paths, counts, strict=True)])

        return self._bracket(at, 0, len(owner), lambda low, high: (low + high) // 2)

    def _bracket(self, at: Callable, low: Any, high: Any, between: Callable) -> np.ndarray:
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
        """Change the size of one group after the other for as long as the cost comes nearer.

        Where that ends too far off, two are changed at once.

        Args:
            place: Where to begin.
            reach: How many sizes each group may end away from there.
        """
        low, high = np.maximum(place - reach, 0), np.minimum(place + reach, self.top)
        while True:
            moves = [(i, 1) for i in np.flatnonzero(place < high)]
            moves += [(i, -1) for i in np.flatnonzero(place > low)]
            if not moves:
                return place
            own, step = np.array(moves).T
            change = np.stack(
                [
                    self.paths[i].kinds[place[i] + s] - self.paths[i].kinds[place[i]]
                    for i, s in moves
                ]
            )
            singles = np.arange(len(moves))[:, None]
            best, costs = self._best(place, change, singles)
            if best is None and self.missed(place):
                best, _ = self._best(place, change, self._pairs(place, own, costs))
            if best is None:
                return place
            place = place.copy()
            place[own[best]] += step[best]

    def anywhere(self, place: np.ndarray) -> np.ndarray:
        """Return the nearest place of all if they are few: single steps get stuck where sizes are coarse."""
        lengths = self.top + 1
        if np.prod(lengths.astype(np.float64)) > _PLACES:
            return place
        places = np.stack([axis.ravel() for axis in np.indices(lengths)])
        kinds = sum(path.kinds[own].T for path, own in zip(self.paths, places, strict=True))
        gaps = self.gap(self.costs.at(self.quantity, kinds))
        # Of all that are near enough, the one that changes least.
        moved = np.abs(places - place[:, None]).sum(axis=0)
        good = gaps <= TOLERANCE
        return places[
            :, np.argmin(np.where(good, moved, np.inf)) if good.any() else np.argmin(gaps)
        ]

    def _best(
        self, place: np.ndarray, change: np.ndarray, choices: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the choice of moves that comes nearest, or None if all are farther; and their costs."""
        costs = np.zeros(0)
        if len(choices):
            kinds = self.counts(place) + change[choices].sum(axis=1)
            costs = self.costs.at(self.quantity, kinds.T)
            best = int(np.argmin(self.gap(costs)))
            if self.gap(costs[best]) < self.gap(self.cost(place)):
                return choices[best], costs
        return None, costs

    def _pairs(self, place: np.ndarray, own: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """Return pairs of moves of different groups, those that would be best if costs were linear."""
        a, b = np.triu_indices(len(own), k=1)
        a, b = a[own[a] != own[b]], b[own[a] != own[b]]
        order = np.argsort(self.gap(costs[a] + costs[b] - self.cost(place)), kind="stable")
        return np.stack([a, b], axis=1)[order[:_PAIRS]]
