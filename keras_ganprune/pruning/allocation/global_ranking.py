"""One ranking over all tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from keras_ganprune.pruning.allocation.base import (
    Allocation,
    Ranking,
    Tensor,
    checked_minimum,
    family,
    ranked_together,
)
from keras_ganprune.utils import validation

_SCALES: dict[str, Callable[[np.ndarray], Any]] = {
    "mean": lambda scores: np.mean(np.abs(scores)),
    "rms": lambda scores: np.sqrt(np.mean(np.square(scores))),
    "l2": np.linalg.norm,
}


@family.register
class GlobalRanking(Allocation):
    """One ranking over all tensors, of one network or of several, so that some tensors lose more.

    The total is exact. It counts units if all units have the same size. Otherwise it counts weights, and
    is the number nearest to the target that whole units can give. Every tensor keeps at least `minimum`
    units, because a layer without weights would cut the network in two.

    Args:
        normalize: How scores of different tensors are made comparable. None compares them as they are.
            'mean' and 'rms' divide them by the mean, or the root mean square, of their tensor; this
            protects layers with small weights. 'l2' divides them by the L2 norm of their tensor, which
            grows with its size, so that large tensors lose more. Defaults to None.
        minimum: The least that every tensor keeps: an int number of units, or a float share of its units.
            Defaults to 1.

    Raises:
        InvalidArgumentError: `normalize` is not None, 'mean', 'rms' or 'l2'.
        InvalidArgumentError: `minimum` is neither a positive int nor a float in (0, 1).

    Example:
    >>> tensors = [Tensor("a", "a", (10, 4), 40, 1), Tensor("b", "b", (4, 1), 4, 1)]
    >>> GlobalRanking().rankings(tensors, 0.5, 0.5)
    [Ranking(members=(0, 1), keep=22, in_weights=False, wanted=22)]

    Reference:
        [What is the state of neural network pruning?](https://arxiv.org/abs/2003.03033), §2.
    """

    joint = True
    budget_ranking = "global"

    def __init__(
        self, normalize: Literal["mean", "rms", "l2"] | None = None, minimum: int | float = 1
    ):
        self.normalization = validation.one_of(normalize, "normalize", (None, *_SCALES))
        self.minimum = checked_minimum(minimum)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"normalize": self.normalization, "minimum": self.minimum}

    def rankings(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[Ranking]:
        """Return one ranking of all tensors."""
        return [ranked_together(self, tensors, range(len(tensors)), sparsity)]

    def normalize(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores of a tensor, divided by their scale. Infinite scores do not count in it."""
        if self.normalization is None:
            return scores
        finite = scores[np.isfinite(scores)].astype(np.float64)
        if not finite.size:
            return scores
        scale = float(_SCALES[self.normalization](finite))
        return scores / scale if scale > 0 else scores
