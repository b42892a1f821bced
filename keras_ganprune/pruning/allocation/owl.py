"""Densities by the share of outliers among the scores of each layer."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from keras_ganprune.pruning.allocation.base import (
    Allocation,
    Ranking,
    Tensor,
    checked_minimum,
    exact_counts,
    family,
)
from keras_ganprune.utils import validation


@family.register
class OWL(Allocation):
    """Outlier-weighted layers: tensors with many outstanding scores stay denser.

        outlier share of a tensor = share of its scores above multiple * mean score of the tensor
        density = total density + 2 spread * (scaled share - weighted mean of the scaled shares)

    The shares are scaled to [0, 1] over the tensors. The weights of the mean are the sizes of the tensors,
    so the total is met, exactly with single weights. While a schedule runs, the spread grows with the
    sparsity. Where a density would leave (0, 1], the spread of all tensors is reduced.

    It is meant for scores such as those of `Wanda`, |w| times the norm of the input, whose outliers carry
    most of the signal.

    Args:
        multiple: Positive float, how many times the mean score an outlier has. Defaults to 5.0.
        spread: Float in [0, 1], the largest distance of a density from the total. Defaults to 0.08.
        minimum: The least that every tensor keeps: an int number of units, or a float share of its units.
            Defaults to 1.

    Raises:
        InvalidArgumentError: `multiple` is not positive, or `spread` is not in [0, 1].
        InvalidArgumentError: `minimum` is neither a positive int nor a float in (0, 1).

    Example:
    >>> tensors = [Tensor("a", "a", (10, 4), 40, 1), Tensor("b", "b", (10, 4), 40, 1)]
    >>> flat, spiky = np.ones(40), np.ones(40)
    >>> spiky[:4] = 99.0
    >>> allocation = OWL(spread=0.1).with_scores([flat, spiky])
    >>> [round(s, 3) for s in allocation.sparsities(tensors, 0.5, 0.5)]
    [0.6, 0.4]

    Reference:
        [Outlier weighed layerwise sparsity](https://arxiv.org/abs/2310.05175), §4.2; there the mean over
        layers of equal size.
    """

    needs_scores = True
    _shares: np.ndarray | None = None

    def __init__(self, multiple: float = 5.0, spread: float = 0.08, minimum: int | float = 1):
        self.multiple = validation.positive(multiple, "multiple")
        self.spread = validation.fraction(spread, "spread", one=True)
        self.minimum = checked_minimum(minimum)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"multiple": self.multiple, "spread": self.spread, "minimum": self.minimum}

    def with_scores(self, scores: Sequence[np.ndarray]) -> OWL:
        """Return a copy that knows the share of outliers of each tensor."""
        shares = []
        for row in scores:
            finite = np.abs(row[np.isfinite(row)]).astype(np.float64)
            mean = finite.mean() if finite.size else 0.0
            shares.append(float(np.mean(finite > self.multiple * mean)) if mean > 0 else 0.0)
        knows = copy.copy(self)
        low, high = min(shares), max(shares)
        scale = high - low
        knows._shares = (np.array(shares) - low) / scale if scale > 0 else np.zeros(len(shares))
        return knows

    def sparsities(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[float]:
        """Return the sparsity of each tensor; the same for all without scores."""
        density = 1.0 - sparsity
        if self._shares is None or final <= 0.0:
            return [sparsity] * len(tensors)
        sizes = np.array([t.size for t in tensors], dtype=np.float64)
        centred = self._shares - np.average(self._shares, weights=sizes)
        spread = 2.0 * self.spread * min(1.0, sparsity / final)
        for most, room in ((centred.max(), sparsity), (-centred.min(), 0.999 * density)):
            if most > 0:
                spread = min(spread, room / most)
        return [float(1.0 - d) for d in density + spread * centred]

    def rankings(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[Ranking]:
        """Return one ranking per tensor, whose counts add up to the total."""
        return exact_counts(self, tensors, sparsity, final)
