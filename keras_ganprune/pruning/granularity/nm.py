"""N:M sparsity: a fixed number of weights stays in every small group."""

from __future__ import annotations

import copy
import math

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.pruning.granularity.base import (
    SingleWeights,
    _family,
    axis_number,
    is_int,
    named_axes,
    refuse_named,
)


@_family.register
class NM(SingleWeights):
    """N:M sparsity: in each group of `of` neighbours along one axis, `keep` weights stay.

    On the way to its final sparsity 1 - keep / of, a group of g weights keeps at sparsity s

        max(full, min(g, round(g * (1 - s)))),    full = max(1, round(g * keep / of))

    rounded half to even; ties are kept by lower index. If the axis is not a multiple of `of`, the
    last group is smaller and keeps its share, and `note` says so.

    Args:
        keep: Positive int N, weights that stay in a group.
        of: Int M > N, weights in a group.
        axis: 'in' (input channels, what sparse hardware reads), 'out' (output channels), or an int,
            an axis of the kernel. Where several axes run over the channels, as heads and their
            dimensions in the kernels of attention, the last of them: its entries are neighbours in
            the flattened matrix, and no group spans two heads.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> NM(2, 4, axis=0).pattern_mask(np.array([0.1, 0.4, 0.3, 0.2]), 0.5)
    array([False,  True,  True, False])

    Reference: [Training Recipe for N:M Structured Sparsity with Decaying Pruning
    Mask](https://arxiv.org/abs/2209.07617).
    """

    pattern = True

    def __init__(self, keep: int = 2, of: int = 4, axis: int | str = "in"):
        for name, value in (("keep", keep), ("of", of)):
            if not is_int(value) or value < 1:
                raise InvalidArgumentError(
                    f"`{name}` must be a positive int, in weights. Received: {value!r} "
                    f"(of type {type(value).__name__})."
                )
        if keep >= of:
            raise InvalidArgumentError(
                "N must be smaller than M: `keep` weights stay in each group of `of`. "
                f"Received: keep={keep}, of={of}. For 2:4 pass NM(keep=2, of=4)."
            )
        if not (axis in ("in", "out") if isinstance(axis, str) else is_int(axis)):
            raise InvalidArgumentError(f"`axis` must be 'in', 'out' or an int. Received: {axis!r}.")
        self.keep = int(keep)
        self.of = int(of)
        self.axis = axis if isinstance(axis, str) else int(axis)
        self._entries = f"weight{{s}} along axis {axis}"

    def get_config(self):
        return {"keep": self.keep, "of": self.of, "axis": self.axis}

    @property
    def sparsity(self) -> float:
        """Final sparsity, 1 - keep / of."""
        return 1.0 - self.keep / self.of

    def resolve(self, axes):
        if not isinstance(self.axis, str):
            return self
        resolved = copy.copy(self)
        resolved.axis = named_axes(axes, self.axis, self)[-1]
        resolved._entries = f"{self.axis}put channel{{s}}"
        return resolved

    def check(self, shape):
        refuse_named(self.axis, self)
        axis_number(self.axis, shape)

    def note(self, shape):
        self.check(shape)
        length = shape[self.axis]
        rest = length % self.of
        if rest == 0:
            return None
        which = "last" if length > self.of else "only"
        entries = self._entries.format(s="" if length == 1 else "s")
        return (
            f"{length} {entries} in groups of {self.of}: the {which} group of {rest} keeps "
            f"{self._kept(rest, self.sparsity)}"
        )

    def pattern_mask(self, scores, sparsity):
        """Return the mask of a kernel: in every group, the highest scores stay.

        Args:
            scores: Array of any rank, higher = keep. May hold -inf (pruned already), not NaN; the
                count of a group holds even where it must take such entries.
            sparsity: Float in [0, 1 - keep / of]; 0 keeps all.

        Returns: Bool array of the shape of `scores`, True = keep.

        Raises:
            InvalidArgumentError: `sparsity` is out of range, or there is no such axis.
        """
        self.check(scores.shape)
        sparsity = mask_ops.validate_sparsity(sparsity)
        if sparsity > self.sparsity + 1e-9:
            wider = math.ceil(1.0 / (1.0 - sparsity) - 1e-9)
            raise InvalidArgumentError(
                f"NM({self.keep}, {self.of}) removes at most {self.sparsity:g} of the weights. "
                f"Received: sparsity={sparsity:g}. Lower it, or take a sparser pattern such as "
                f"NM(1, {wider})."
            )
        axis = axis_number(self.axis, scores.shape)
        length = scores.shape[axis]
        rows = math.prod(scores.shape[:axis])
        scores = np.ascontiguousarray(scores)
        mask = np.empty(scores.shape, dtype=bool)
        # Splitting an axis of a contiguous array makes views, so `mask` itself is written.
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
            return full  # size * (1 - sparsity) is inexact, and may round up here
        return max(full, min(size, round(size * (1.0 - sparsity))))


def _top_of_groups(groups: np.ndarray, keep: int) -> np.ndarray:
    """Return the mask of the `keep` highest along axis 2 of (rows, groups, size, columns)."""
    size = groups.shape[2]
    if keep == size:
        return np.ones(groups.shape, dtype=bool)
    lowest_kept = np.partition(groups, size - keep, axis=2)[:, :, size - keep, None]
    mask = groups >= lowest_kept
    if np.count_nonzero(mask) > keep * (groups.size // size):
        # Entries tied at the lowest kept score: those of lower index stay.
        np.greater(groups, lowest_kept, out=mask)
        ties = groups == lowest_kept
        missing = keep - np.count_nonzero(mask, axis=2, keepdims=True)
        mask |= ties & (np.cumsum(ties, axis=2, dtype=np.int32) <= missing)
    return mask
