"""The same sparsity for all tensors."""

from __future__ import annotations

from collections.abc import Sequence

from keras_ganprune.pruning.allocation.base import Allocation, Tensor, checked_minimum, family


@family.register
class Uniform(Allocation):
    """The same sparsity for all tensors.

        kept units of n = max(minimum, round_half_even(n * (1 - sparsity)))

    Args:
        minimum: The least that every tensor keeps: an int number of units, or a float share of its units.
            Defaults to 1.

    Raises:
        InvalidArgumentError: `minimum` is neither a positive int nor a float in (0, 1).

    Example:
    >>> tensors = [Tensor("a", "a", (10, 4), 40, 1), Tensor("b", "b", (4, 1), 4, 1)]
    >>> [r.keep for r in Uniform().rankings(tensors, 0.5, 0.5)]
    [20, 2]

    Reference:
        [To prune, or not to prune](https://arxiv.org/abs/1710.01878), §3, which gives all layers the same
        sparsity.
    """

    def __init__(self, minimum: int | float = 1):
        self.minimum = checked_minimum(minimum)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"minimum": self.minimum}

    def sparsities(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[float]:
        """Return the total sparsity for each tensor."""
        return [sparsity] * len(tensors)
