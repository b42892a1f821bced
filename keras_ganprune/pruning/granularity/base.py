"""What a granularity is, and the one whose units are single weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernel_axes import KernelAxes
from keras_ganprune.utils.registry import Configurable, Family


class Granularity(Configurable):
    """Maps scores of single weights to scores of units, and kept units back to a mask.

    One of your own needs `pool` and `expand`, where each weight belongs to at most one unit; the
    others have defaults that follow from those two, and are faster if written out.

    Attributes:
        pattern: Bool. True: how many weights stay is fixed inside small groups (as for `NM`), not
            over the tensor, so masks come from `pattern_mask` and no allocation is asked. Such a one
            also has `sparsity`, the float that its groups end at.
    """

    pattern = False

    def resolve(self, axes: KernelAxes) -> Granularity:
        """Return this granularity for one kernel, with named axes ('in', 'out') made numbers."""
        return self

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise `InvalidArgumentError` if it cannot be applied to a kernel of `shape`."""

    def note(self, shape: tuple[int, ...]) -> str | None:
        """Return a remark for the user about a kernel of `shape`, such as ragged edges, or None."""
        return None

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Return one score per removable unit, from the scores of the weights inside it."""
        raise NotImplementedError

    def expand(self, keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the bool mask of `shape` for a bool per unit."""
        raise NotImplementedError

    def alive(self, mask: np.ndarray) -> np.ndarray:
        """Return a bool per unit, of the shape that `pool` gives: any weight of it is kept."""
        mask = np.asarray(mask, dtype=bool)
        units = self.pool(np.zeros(mask.shape)).shape
        counts = np.bincount(self._unit_numbers(mask.shape)[mask], minlength=math.prod(units) + 1)
        return (counts[1:] > 0).reshape(units)

    def unit_sizes(self, shape: tuple[int, ...]) -> int | np.ndarray:
        """Return the weights in a unit: an int if all are alike, else ints of the shape of `pool`."""
        units = self.pool(np.zeros(shape)).shape
        counts = np.bincount(self._unit_numbers(shape).ravel(), minlength=math.prod(units) + 1)[1:]
        return int(counts[0]) if np.all(counts == counts[0]) else counts.reshape(units)

    def pattern_mask(self, scores: np.ndarray, sparsity: float) -> np.ndarray:
        """Return the bool mask at `sparsity`; only where `pattern` is True."""
        raise NotImplementedError

    def _unit_numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return for each weight the number of its unit, from 1; 0 if it belongs to none.

        `expand` only carries bools, so the numbers are sent through it bit by bit.
        """
        units = self.pool(np.zeros(shape)).shape
        numbers = np.arange(1, math.prod(units) + 1).reshape(units)
        found = np.zeros(shape, dtype=np.int64)
        for bit in range(int(numbers.max()).bit_length()):
            found |= self.expand((numbers >> bit & 1).astype(bool), shape).astype(np.int64) << bit
        return found


def is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def axis_number(axis: int, shape: tuple[int, ...]) -> int:
    """Return `axis` as a non-negative number, or raise if a kernel of `shape` has no such axis."""
    rank = len(shape)
    if not -rank <= axis < rank:
        raise InvalidArgumentError(
            f"`axis` must be an axis of the kernel. Received: axis={axis} for a kernel of shape "
            f"{tuple(shape)}, which has {rank}. Choose another axis, or leave the layer out of `scope`."
        )
    return axis % rank


def named_axes(axes: KernelAxes, axis: str, owner: Granularity) -> tuple[int, ...]:
    """Return the axes that 'in' or 'out' stands for in one kernel."""
    found = axes.inputs if axis == "in" else axes.outputs
    if not found:
        raise InvalidArgumentError(
            f"{owner!r} needs a weight with an axis over its "
            f"{'input' if axis == 'in' else 'output'} channels, and this one has none. Choose "
            "another `axis`, or leave the layer out of `scope`."
        )
    return found


def refuse_named(axis: Any, owner: Granularity) -> None:
    if isinstance(axis, str):
        raise InvalidArgumentError(
            f"{owner!r} does not know which axis of this kernel {axis!r} is. Call "
            "`resolve(kernel_axes(layer, name))` and use what it returns, or pass the axis as an int."
        )


_family = Family("granularity", Granularity)


class SingleWeights(Granularity):
    """Base of those whose units are single weights. Nothing is copied: kernels can be large."""

    def pool(self, scores):
        return scores

    def expand(self, keep, shape):
        return keep.reshape(shape)

    def alive(self, mask):
        return np.asarray(mask, dtype=bool)

    def unit_sizes(self, shape):
        return 1


@_family.register
class Unstructured(SingleWeights):
    """Every weight is a unit of its own.

    Example:
    >>> Unstructured().pool(np.array([[1.0, 2.0]]))
    array([[1., 2.]])
    """
