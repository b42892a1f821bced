"""Scores by the size of the weights."""

from __future__ import annotations

import copy
import math
from typing import Literal

import numpy as np

from keras_ganprune.pruning.criteria.base import Criterion, WeightContext, family
from keras_ganprune.utils import validation


@family.register
class Magnitude(Criterion):
    """Magnitude of the weights: small weights are pruned first.

        l1: sum over the unit of |w|        l2: sqrt(sum over the unit of w^2)

    In unstructured pruning a unit is one weight, so both norms give |w|.

    Args:
        norm: 'l1' or 'l2', the norm of a unit. Defaults to 'l1'.
        normalize: 'spectral' to divide by the spectral norm of the kernel, its largest singular value as
            a matrix (all inputs, outputs). The scale of a kernel then has no effect on a ranking over
            several tensors, as in networks with `SpectralNormalization`, which divide by it anyway.
            Defaults to None: the magnitudes as they are.

    Raises:
        InvalidArgumentError: `norm` is not 'l1' or 'l2', or `normalize` is not None or 'spectral'.

    Example:
    >>> Magnitude("l1").score(np.array([-2.0, 1.0]))
    array([2., 1.])

    Reference:
        [Learning both weights and connections](https://arxiv.org/abs/1506.02626), §3;
        [Pruning filters for efficient ConvNets](https://arxiv.org/abs/1608.08710), §3.1, for channels;
        [Spectral normalization](https://arxiv.org/abs/1802.05957), §2.1, for the spectral norm of a kernel.
    """

    _outputs: tuple[int, ...] = (-1,)

    def __init__(
        self, norm: Literal["l1", "l2"] = "l1", normalize: Literal["spectral"] | None = None
    ):
        self.norm = validation.one_of(norm, "norm", ("l1", "l2"))
        self.normalize = validation.one_of(normalize, "normalize", (None, "spectral"))

    def bind(self, context: WeightContext) -> Magnitude:
        """Return a copy that knows the output axes of the weight, if it needs them."""
        if self.normalize is None:
            return self
        bound = copy.copy(self)
        bound._outputs = context.axes.outputs or (-1,)
        return bound

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return |w|, or w^2 for the L2 norm."""
        if self.normalize is not None:
            weight = np.asarray(weight, dtype=np.float64) / _spectral_norm(weight, self._outputs)
        if self.norm == "l1":
            return np.abs(weight)
        # float64: the squares of small float32 weights would all underflow to zero.
        return np.square(weight, dtype=np.float64)

    def unit(self, pooled: np.ndarray) -> np.ndarray:
        """Return the norms of the units."""
        return pooled if self.norm == "l1" else np.sqrt(pooled)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"norm": self.norm, "normalize": self.normalize}

    def __repr__(self) -> str:
        # It identifies settings in saved files, also in those from before there was `normalize`.
        more = "" if self.normalize is None else f", normalize={self.normalize!r}"
        return f"Magnitude(norm={self.norm!r}{more})"


def _spectral_norm(weight: np.ndarray, outputs: tuple[int, ...]) -> float:
    """Return the largest singular value of a kernel as a matrix (inputs, outputs); 1 if it is zero."""
    axes = sorted(axis % np.ndim(weight) for axis in outputs)
    moved = np.moveaxis(np.asarray(weight, dtype=np.float64), axes, range(len(axes)))
    matrix = moved.reshape(math.prod(moved.shape[: len(axes)]), -1)
    return float(np.linalg.norm(matrix, 2)) or 1.0
