"""Whole channels."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.granularity.base import (
    Granularity,
    _family,
    axis_number,
    is_int,
    named_axes,
    refuse_named,
)


@_family.register
class Channel(Granularity):
    """Whole neurons, filters or input channels: everything at one index of an axis.

        score of a unit = sum of the scores of its weights

    Args:
        axis: 'out' (neurons of `Dense`, filters of `Conv2D` and of `Conv2DTranspose`, each with its
            own axis order), 'in' (all weights that read one input channel), or an int or several,
            axes of the kernel. With several, as the heads and their dimensions in the kernels of
            attention, a unit is one combination of indices.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> Channel(axis=0).pool(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    array([0.6, 1.5])

    Reference: [Pruning Filters for Efficient ConvNets](https://arxiv.org/abs/1608.08710), §3.1.
    """

    def __init__(self, axis: int | str | Sequence[int] = "out"):
        several = isinstance(axis, (tuple, list)) and axis and all(is_int(a) for a in axis)
        if not (axis in ("in", "out") if isinstance(axis, str) else several or is_int(axis)):
            raise InvalidArgumentError(
                f"`axis` must be 'out', 'in', an int or a tuple of ints. Received: {axis!r}."
            )
        if several:
            self.axis = tuple(int(a) for a in axis) if len(axis) > 1 else int(axis[0])
        else:
            self.axis = axis if isinstance(axis, str) else int(axis)

    def get_config(self):
        return {"axis": list(self.axis) if isinstance(self.axis, tuple) else self.axis}

    def resolve(self, axes):
        if not isinstance(self.axis, str):
            return self
        resolved = copy.copy(self)
        found = named_axes(axes, self.axis, self)
        resolved.axis = found if len(found) > 1 else found[0]
        return resolved

    def check(self, shape):
        refuse_named(self.axis, self)
        axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        numbers = [axis_number(axis, shape) for axis in axes]
        if len(set(numbers)) < len(numbers):
            raise InvalidArgumentError(
                f"`axis` must name each axis once. Received: axis={axes} for a kernel of shape "
                f"{tuple(shape)}."
            )

    def _other_axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the axes that are inside a unit."""
        self.check(shape)
        axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        units = {axis % len(shape) for axis in axes}
        return tuple(axis for axis in range(len(shape)) if axis not in units)

    def pool(self, scores):
        # float64: a unit of a large kernel sums many weights, and float32 would lose digits.
        return np.sum(scores, axis=self._other_axes(scores.shape), dtype=np.float64)

    def alive(self, mask):
        return np.any(mask, axis=self._other_axes(mask.shape))

    def expand(self, keep, shape):
        inside = self._other_axes(shape)
        keep = keep.reshape([1 if axis in inside else n for axis, n in enumerate(shape)])
        return np.broadcast_to(keep, shape).copy()

    def unit_sizes(self, shape):
        return math.prod(shape[axis] for axis in self._other_axes(shape))
