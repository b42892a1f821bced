"""One ranking for each kind of units."""

from __future__ import annotations

from collections.abc import Sequence

from keras_ganprune.pruning.allocation.base import (
    Allocation,
    Ranking,
    Tensor,
    checked_minimum,
    family,
    ranked_together,
)


@family.register
class Isomorphic(Allocation):
    """Units of the same kind are ranked together, and every kind loses the same share.

    A kind is what a unit is made of: the class of its layer and the size of its kernel (3x3, 1x1, dense),
    for coupled channels those of all layers that the channel runs through. Scores of different kinds have
    different distributions, so a single ranking over all of them would empty one kind first.

    Args:
        minimum: The least that every tensor keeps: an int number of units, or a float share of its units.
            Defaults to 1.

    Raises:
        InvalidArgumentError: `minimum` is neither a positive int nor a float in (0, 1).

    Example:
    >>> tensors = [
    ...     Tensor("a", "a", (3, 3, 1, 8), 72, 1, kind="Conv2D 3x3"),
    ...     Tensor("b", "b", (3, 3, 8, 8), 576, 1, kind="Conv2D 3x3"),
    ...     Tensor("c", "c", (8, 10), 80, 1, kind="Dense"),
    ... ]
    >>> [(ranking.members, ranking.keep) for ranking in Isomorphic().rankings(tensors, 0.5, 0.5)]
    [((0, 1), 324), ((2,), 40)]

    Reference:
        [Isomorphic pruning for vision models](https://arxiv.org/abs/2407.04616), §3.2.
    """

    joint = True
    budget_ranking = "isomorphic"

    def __init__(self, minimum: int | float = 1):
        self.minimum = checked_minimum(minimum)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"minimum": self.minimum}

    def rankings(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[Ranking]:
        """Return one ranking per kind."""
        kinds: dict[str, list[int]] = {}
        for index, tensor in enumerate(tensors):
            kinds.setdefault(tensor.kind, []).append(index)
        return [ranked_together(self, tensors, members, sparsity) for members in kinds.values()]
