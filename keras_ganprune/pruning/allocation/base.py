"""The base class of allocations, and the data that they work with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.utils.registry import Configurable, Family
from keras_ganprune.utils.validation import is_int, is_number


@dataclass(frozen=True)
class Tensor:
    """What an allocation receives about one tensor.

    Attributes:
        path: Path of the layer and name of the weight, such as 'generator/dense/kernel'.
        layer_path: Path of the layer, such as 'generator/dense'.
        shape: Shape of the weight.
        units: Int, number of units that can be removed.
        unit_size: Int, weights per unit; None if units differ in size. It is 1 for channels that are
            coupled over several layers: such channels are counted, whatever their size.
        makers: For coupled channels, the paths of all weights that produce them. Each of these paths can
            be used in `PerLayer`.
        kind: What the units are made of, such as 'Conv2D 3x3'; equal for tensors of the same kind.
    """

    path: str
    layer_path: str
    shape: tuple[int, ...]
    units: int
    unit_size: int | None
    makers: tuple[str, ...] = ()
    kind: str = ""

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape) if self.unit_size is None else self.units * self.unit_size


@dataclass(frozen=True)
class Ranking:
    """Tensors that are ranked together, and how many of their units are kept.

    Attributes:
        members: Indices of the tensors.
        keep: Int, number of units to keep; with `in_weights`, number of weights.
        in_weights: Bool, whether `keep` counts weights because units differ in size.
        wanted: Int, number that would be kept without a `minimum`; None if it is `keep`.
    """

    members: tuple[int, ...]
    keep: int
    in_weights: bool = False
    wanted: int | None = None


class Allocation(Configurable):
    """Base class of allocations. An allocation distributes one total sparsity over several tensors.

    A subclass must define `sparsities`, or `rankings` if it compares scores of different tensors. It may
    override:

    - `get_config`, which returns the arguments of the constructor. Needed if there are any.
    - `check`, if some totals or tensors are not possible.
    - `normalize`, if scores of different tensors have to be made comparable.
    - `with_scores`, if the distribution depends on the scores (then `needs_scores` is True).

    An instance can be passed as `allocation=` at once. An allocation of this package also has the
    decorator `@family.register`, an import and a name in `allocation/__init__.py`, and a row in
    `tests/helpers/members.py`.

    Attributes:
        joint: Bool, whether scores of different tensors are compared. Defaults to False.
        minimum: The least that is kept of every tensor: an int number of units, or a float share of its
            units. Defaults to 1.
        needs_scores: Bool, whether `with_scores` is called before `rankings`. Defaults to False.
        budget_ranking: How channels are chosen for a `Budget`: 'uniform', 'global' or 'isomorphic', as
            in `fit`. Defaults to 'uniform'.

    Example:
    >>> class LastLayerDense(Allocation):
    ...     def sparsities(self, tensors, sparsity, final):
    ...         total = sum(tensor.size for tensor in tensors)
    ...         others = total - tensors[-1].size
    ...         return [sparsity * total / others] * (len(tensors) - 1) + [0.0]
    >>> dense = keras.layers.Dense
    >>> model = keras.Sequential([keras.Input((4,)), dense(5), dense(2)])
    >>> pruner = kgp.Pruner(model, allocation=LastLayerDense())
    >>> pruner.update(sparsity=0.5).kept
    15
    >>> [row.kept for row in kgp.sparsity_report(model)]
    [5, 10]
    """

    joint: bool = False
    minimum: int | float = 1
    needs_scores: bool = False
    budget_ranking: Literal["uniform", "global", "isomorphic"] = "uniform"

    def floor(self, units: int) -> int:
        """Return the least number of units that a tensor with this number of units keeps."""
        if isinstance(self.minimum, float):
            return max(1, math.ceil(self.minimum * units))
        return min(self.minimum, units)

    def check(self, tensors: Sequence[Tensor], final: float | None = None) -> None:
        """Raise `InvalidArgumentError` if a total cannot be distributed over these tensors.

        Args:
            tensors: The tensors that are pruned.
            final: Float, the total sparsity at the end of the schedule, or None to check only what does
                not depend on it.
        """

    def sparsities(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[float]:
        """Return the sparsity of each tensor.

        Args:
            tensors: The tensors that are pruned.
            sparsity: Float, the total sparsity now.
            final: Float, the total sparsity at the end of the schedule.

        Returns:
            List of floats in [0, 1), one per tensor. Their mean, weighted by size, is `sparsity`.
        """
        raise NotImplementedError

    def rankings(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[Ranking]:
        """Return which tensors are ranked together, and how many of their units are kept.

        The default ranks each tensor alone, by its share in `sparsities`.

        Args:
            tensors: The tensors that are pruned.
            sparsity: Float, the total sparsity now.
            final: Float, the total sparsity at the end of the schedule.

        Returns:
            List of `Ranking`s. Each tensor is a member of exactly one of them.
        """
        shares = self.sparsities(tensors, sparsity, final)
        rankings = []
        for index, (tensor, share) in enumerate(zip(tensors, shares, strict=True)):
            count = mask_ops.kept_count(tensor.units, share)
            keep = max(count, self.floor(tensor.units))
            rankings.append(Ranking((index,), keep, wanted=count))
        return rankings

    def with_scores(self, scores: Sequence[np.ndarray]) -> Allocation:
        """Return a copy that knows the scores. The default returns `self`.

        Args:
            scores: For each tensor a flat array, the scores of its units.
        """
        return self

    def normalize(self, scores: np.ndarray) -> np.ndarray:
        """Return a tensor's scores in a unit that can be compared with other tensors' scores.

        Args:
            scores: Array, the scores of the units of one tensor; entries can be infinite.

        Returns:
            Array of the same shape, in the same order of scores. The default returns `scores`.
        """
        return scores


family = Family("allocation", Allocation)


def ranked_together(
    allocation: Allocation, tensors: Sequence[Tensor], members: Sequence[int], sparsity: float
) -> Ranking:
    """Return one ranking of some tensors. It counts units, or weights if the units differ in size.

    Args:
        allocation: The allocation, which knows the least that every tensor keeps.
        tensors: All tensors that are pruned.
        members: Indices of those that are ranked together.
        sparsity: Float, the sparsity of these tensors together.
    """
    own = [tensors[i] for i in members]
    in_weights = len({t.unit_size for t in own}) > 1 or own[0].unit_size is None
    keep = count = mask_ops.kept_count(
        sum(t.size if in_weights else t.units for t in own), sparsity
    )
    if not in_weights:
        keep = max(count, sum(allocation.floor(t.units) for t in own))
    return Ranking(tuple(members), keep, in_weights, count)


def exact_counts(
    allocation: Allocation, tensors: Sequence[Tensor], sparsity: float, final: float
) -> list[Ranking]:
    """Return one ranking per tensor, whose counts add up to the total where units are single weights.

    The rounded counts of the tensors may miss the total by a few; those nearest to a half are changed.

    Args:
        allocation: An allocation that defines `sparsities`.
        tensors: The tensors that are pruned.
        sparsity: Float, the total sparsity now.
        final: Float, the total sparsity at the end of the schedule.
    """
    rankings = Allocation.rankings(allocation, tensors, sparsity, final)
    if any(t.unit_size != 1 for t in tensors):
        return rankings
    shares = allocation.sparsities(tensors, sparsity, final)
    exact = np.array([t.units * (1.0 - s) for t, s in zip(tensors, shares, strict=True)])
    keep = np.array([r.keep for r in rankings])
    floors = np.array([allocation.floor(t.units) for t in tensors])
    tops = np.array([t.units for t in tensors])
    missing = mask_ops.kept_count(int(tops.sum()), sparsity) - int(keep.sum())
    step = 1 if missing > 0 else -1
    while missing:
        room = keep < tops if step > 0 else keep > floors
        if not room.any():
            break
        index = int(np.argmax(np.where(room, step * (exact - keep), -np.inf)))
        keep[index] += step
        missing -= step
    # Each count is what the total needs, unless the floors alone exceed the total.
    exceeded = missing < 0
    return [
        Ranking(r.members, int(k), wanted=r.wanted if exceeded else int(k))
        for r, k in zip(rankings, keep, strict=True)
    ]


def checked_minimum(minimum: Any) -> int | float:
    """Return `minimum` as a plain int or float.

    Raises:
        InvalidArgumentError: `minimum` is neither a positive int nor a float in (0, 1).
    """
    if is_int(minimum) and minimum >= 1:
        return int(minimum)
    if is_number(minimum) and not is_int(minimum) and 0.0 < minimum < 1.0:
        return float(minimum)
    raise InvalidArgumentError(
        "`minimum`, the least that every tensor keeps, must be a positive int (units) or a float in "
        f"(0, 1) (share of its units). Received: {minimum!r}."
    )
