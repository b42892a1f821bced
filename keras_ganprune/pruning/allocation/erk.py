"""Erdős–Rényi-kernel densities: large tensors become sparser than small ones."""

from __future__ import annotations

import math
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
class ERK(Allocation):
    """Erdős–Rényi-kernel densities: large tensors become sparser than small ones.

        density of a tensor = eps * (sum(shape) / prod(shape)) ** power, at most 1

    eps is chosen such that the total is met. A tensor whose density would exceed 1 is kept dense, and eps
    is computed again for the others. With single weights the total is exact. With larger units it is
    rounded tensor by tensor.

    Args:
        power: Non-negative float; 0 gives uniform densities. Defaults to 1.0.
        minimum: The least that every tensor keeps: an int number of units, or a float share of its units.
            Defaults to 1.

    Raises:
        InvalidArgumentError: `power` is not a non-negative number.
        InvalidArgumentError: `minimum` is neither a positive int nor a float in (0, 1).

    Example:
    >>> shapes = {"a": (2, 4), "b": (3, 6), "c": (2, 4, 6)}
    >>> tensors = [Tensor(n, n, s, int(np.prod(s)), 1) for n, s in shapes.items()]
    >>> [round(s, 3) for s in ERK().sparsities(tensors, 0.5, 0.5)]
    [0.0, 0.31, 0.655]

    Reference:
        [Rigging the lottery](https://arxiv.org/abs/1911.11134), §3, with all axes of the kernel; the
        densities of matrices are those of [sparse evolutionary
        training](https://arxiv.org/abs/1707.04780), Eq. 1.
    """

    def __init__(self, power: float = 1.0, minimum: int | float = 1):
        self.power = validation.non_negative(power, "power")
        self.minimum = checked_minimum(minimum)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"power": self.power, "minimum": self.minimum}

    def sparsities(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[float]:
        """Return the sparsity of each tensor."""
        sizes = np.array([t.size for t in tensors], dtype=np.float64)
        raw = np.array([(sum(t.shape) / math.prod(t.shape)) ** self.power for t in tensors])
        kept = sizes.sum() * (1.0 - sparsity)
        dense = np.zeros(len(tensors), dtype=bool)
        while True:
            remaining = kept - sizes[dense].sum()
            densities = np.where(dense, 1.0, 0.0)
            if not dense.all():
                densities[~dense] = remaining * raw[~dense] / (raw[~dense] * sizes[~dense]).sum()
            full = (densities >= 1.0) & ~dense
            if not full.any():
                return [float(1.0 - d) for d in densities]
            dense |= full

    def rankings(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[Ranking]:
        """Return one ranking per tensor, whose counts add up to the total."""
        return exact_counts(self, tensors, sparsity, final)
