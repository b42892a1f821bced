"""N:M sparsity: every small group keeps the same number of weights."""

from __future__ import annotations

import copy
import math
from typing import Literal

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernel_axes import KernelAxes
from keras_ganprune.pruning.granularity.base import (
    SingleWeights,
    axis_number,
    family,
    named_axes,
    refuse_named,
)
from keras_ganprune.utils import validation
from keras_ganprune.utils.validation import is_int, positive_int


@family.register
class NM(SingleWeights):
    """N:M sparsity: each group of `of` neighbours along one axis keeps `keep` weights.

    The final sparsity is 1 - keep / of. Before that, at sparsity s, a group of g weights keeps

        max(full, min(g, round(g * (1 - s)))),    full = max(1, round(g * keep / of))

    rounded half to even; of equal scores those of lower index are kept. If the axis is not a multiple of
    `of`, the last group is smaller and keeps the same share, and `note` reports it.

    Args:
        keep: Positive int N, number of weights that a group keeps. Defaults to 2.
        of: Int M > N, number of weights in a group. Defaults to 4.
        axis: 'in' (input channels, which sparse hardware needs), 'out' (output channels), or an int, an
            axis of the kernel. If several axes run over the channels, as heads and their dimensions in
            attention, it is the last of them, so that no group spans two heads. Defaults to 'in'.

    Raises:
        InvalidArgumentError: `keep` or `of` is not a positive int, or `keep` is not below `of`.
        InvalidArgumentError: `axis` is not 'in', 'out' or an int.

    Example:
    >>> NM(2, 4, axis=0).pattern_mask(np.array([0.1, 0.4, 0.3, 0.2]), 0.5)
    array([False,  True,  True, False])

    Reference:
        [Training recipe for N:M structured sparsity with decaying pruning
        mask](https://arxiv.org/abs/2209.07617).
    """

    pattern = True

    def __init__(self, keep: int = 2, of: int = 4, axis: int | Literal["in", "out"] = "in"):
        self.keep = positive_int(keep, "keep", "in weights")
        self.of = positive_int(of, "of", "in weights")
        if self.keep >= self.of:
            raise InvalidArgumentError(
                "N must be smaller than M: each group of `of` weights keeps `keep`. "
                f"Received: keep={keep}, of={of}. For 2:4 pass NM(keep=2, of=4)."
            )
        if not (axis in ("in", "out") if isinstance(axis, str) else is_int(axis)):
            raise InvalidArgumentError(f"`axis` must be 'in', 'out' or an int. Received: {axis!r}.")
        self.axis = axis if isinstance(axis, str) else int(axis)
        self._entries = f"weight{{s}} along axis {axis}"

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"keep": self.keep, "of": self.of, "axis": self.axis}

    @property
    def sparsity(self) -> float:
        """The final sparsity, 1 - keep / of."""
        return 1.0 - self.keep / self.of

    def resolve(self, axes: KernelAxes) -> NM:
        """Return a copy whose axis is a number."""
        if not isinstance(self.axis, str):
            return self
        resolved = copy.copy(self)
        resolved.axis = named_axes(axes, self.axis, self)[-1]
        resolved._entries = f"{self.axis}put channel{{s}}"
        return resolved

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise `InvalidArgumentError` if the axis is a name, or a kernel of `shape` does not have it."""
        self._axis_of(shape)

    def _axis_of(self, shape: tuple[int, ...]) -> int:
        refuse_named(self.axis, self)
        return axis_number(int(self.axis), shape)

    def note(self, shape: tuple[int, ...]) -> str | None:
        """Return a remark if the last group is smaller, or None."""
        length = shape[self._axis_of(shape)]
        rest = length % self.of
        if rest == 0:
            return None
        which = "last" if length > self.of else "only"
        entries = self._entries.format(s="" if length == 1 else "s")
        return (
            f"{length} {entries} in groups of {self.of}: the {which} group of {rest} keeps "
            f"{self._kept(rest, self.sparsity)}"
        )

    def pattern_mask(self, scores: np.ndarray, sparsity: float) -> np.ndarray:
        """Return the mask of a kernel: each group keeps its highest scores.

        Args:
            scores: Array of any rank, higher = keep. It may hold -inf (already pruned), but not NaN. A
                group that has too few other scores keeps some of the -inf too, so that its count is exact.
            sparsity: Float in [0, 1 - keep / of]; 0 keeps all.

        Returns:
            Bool array of the shape of `scores`, True = keep.

        Raises:
            InvalidArgumentError: `sparsity` is out of range.
            InvalidArgumentError: The axis is still a name, or `scores` has no such axis.
        """
        axis = self._axis_of(scores.shape)
        sparsity = validation.validate_sparsity(sparsity)
        if sparsity > self.sparsity + 1e-9:
            wider = math.ceil(1.0 / (1.0 - sparsity) - 1e-9)
            raise InvalidArgumentError(
                f"NM({self.keep}, {self.of}) removes at most {self.sparsity:g} of the weights. "
                f"Received: sparsity={sparsity:g}. Lower it, or use a sparser pattern such as "
                f"NM(1, {wider})."
            )
        length = scores.shape[axis]
        rows = math.prod(scores.shape[:axis])
        scores = np.ascontiguousarray(scores)
        mask = np.empty(scores.shape, dtype=bool)
        # Reshaping a contiguous array returns a view, so this writes into `mask` itself.
        flat_scores, flat_mask = scores.reshape(rows, length, -1), mask.reshape(rows, length, -1)
        whole = length - length % self.of
        for start, stop, size in ((0, whole, self.of), (whole, length, length - whole)):
            if start < stop:
                groups = (rows, (stop - start) // size, size, -1)
                flat_mask[:, start:stop].reshape(groups)[...] = _top_of_groups(
                    flat_scores[:, start:stop].reshape(groups), self._kept(size, sparsity)
                )
        return mask

    def _kept(self, size: int, sparsity: float) -> int:
        full = max(1, round(size * self.keep / self.of))
        if sparsity >= self.sparsity - 1e-9:
            return full  # size * (1 - sparsity) is inexact and might round up
        return max(full, min(size, round(size * (1.0 - sparsity))))


def _top_of_groups(groups: np.ndarray, keep: int) -> np.ndarray:
    """Return the mask of the `keep` highest scores along axis 2 of (rows, groups, size, columns)."""
    size = groups.shape[2]
    if keep == size:
        return np.ones(groups.shape, dtype=bool)
    lowest_kept = np.partition(groups, size - keep, axis=2)[:, :, size - keep, None]
    mask = groups >= lowest_kept
    if np.count_nonzero(mask) > keep * (groups.size // size):
        # Of entries that equal the lowest kept score, those of lower index are kept.
        np.greater(groups, lowest_kept, out=mask)
        ties = groups == lowest_kept
        missing = keep - np.count_nonzero(mask, axis=2, keepdims=True)
        mask |= ties & (np.cumsum(ties, axis=2, dtype=np.int32) <= missing)
    return mask
