"""Whole channels."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.granularity.base import (
    Granularity,
    _family,
    axis_number,
    is_int,
    named_axes,
    refuse_named,
)

QUANTITIES = ("channels", "macs", "parameters", "bytes")
AGGREGATES = {"sum": np.sum, "mean": np.mean, "max": np.max}


@_family.register
class Channel(Granularity):
    """Whole neurons, filters or channels.

    Coupled, as by default: a unit is a channel with everything that it goes with, in all layers that
    make, scale or read it (see `channel_groups`): slices of kernels, bias, gamma, beta. What is masked so
    can be cut out by `shrink`, with the same outputs. Not coupled: everything at one index of an axis of
    one kernel, whatever other layers do with it.

        score of a unit = sum of the scores of its weights (coupled: in the kernels that make it)

    Args:
        axis: 'out' (neurons of `Dense`, filters of `Conv2D` and of `Conv2DTranspose`, each with its
            own axis order), 'in' (all weights that read one input channel), or an int or several,
            axes of the kernel. With several, as the heads and their dimensions in the kernels of
            attention, a unit is one combination of indices.
        coupled: Whether channels that go together are one unit; None for True with axis 'out', and for
            False with any other, which says what happens in one kernel.
        aggregate: 'sum', 'mean' or 'max': the score of a coupled unit from those of the several layers
            that make it (as at an `Add`).
        round_to: Coupled only: the number of channels that stay of a group is a multiple of this, or
            all; None for any number.
        of: Coupled only: what a sparsity is a share of: 'channels', or 'macs', 'parameters' or 'bytes' of
            the network, of which the sparsity that is asked for is cut to within 2 % of what stays. For
            modes 'hard' and 'soft', and allocations 'uniform' and 'global_ranking'.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> Channel(axis=0).pool(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    array([0.6, 1.5])

    Reference: [Pruning Filters for Efficient ConvNets](https://arxiv.org/abs/1608.08710), §3.1.
    """

    def __init__(
        self,
        axis: int | str | Sequence[int] = "out",
        coupled: bool | None = None,
        aggregate: str = "sum",
        round_to: int | None = None,
        of: str = "channels",
    ):
        several = isinstance(axis, (tuple, list)) and axis and all(is_int(a) for a in axis)
        if not (axis in ("in", "out") if isinstance(axis, str) else several or is_int(axis)):
            raise InvalidArgumentError(
                f"`axis` must be 'out', 'in', an int or a tuple of ints. Received: {axis!r}."
            )
        if several:
            self.axis = tuple(int(a) for a in axis) if len(axis) > 1 else int(axis[0])
        else:
            self.axis = axis if isinstance(axis, str) else int(axis)
        if coupled not in (None, True, False) or (coupled and axis != "out"):
            raise InvalidArgumentError(
                "`coupled` must be True, False or None; channels are coupled with those of other layers "
                f"by axis='out' alone. Received: coupled={coupled!r}, axis={axis!r}."
            )
        self.coupled = self.axis == "out" if coupled is None else bool(coupled)
        if aggregate not in AGGREGATES:
            raise InvalidArgumentError(
                f"`aggregate` must be 'sum', 'mean' or 'max'. Received: {aggregate!r}."
            )
        if round_to is not None and (not is_int(round_to) or round_to < 1):
            raise InvalidArgumentError(
                f"`round_to` must be a positive int, a number of channels. Received: {round_to!r}."
            )
        if of not in QUANTITIES:
            raise InvalidArgumentError(
                f"`of` must be one of {', '.join(map(repr, QUANTITIES))}. Received: {of!r}."
            )
        given = {"aggregate": aggregate, "round_to": round_to, "of": of}
        if not self.coupled and given != {"aggregate": "sum", "round_to": None, "of": "channels"}:
            raise InvalidArgumentError(
                "`aggregate`, `round_to` and `of` are for coupled channels. Received: "
                f"axis={axis!r}, coupled={coupled!r}, {', '.join(f'{k}={v!r}' for k, v in given.items())}."
            )
        self.aggregate, self.round_to, self.of = aggregate, round_to, of

    def get_config(self):
        return {
            "axis": list(self.axis) if isinstance(self.axis, tuple) else self.axis,
            "coupled": self.coupled,
            "aggregate": self.aggregate,
            "round_to": self.round_to,
            "of": self.of,
        }

    def __repr__(self):
        usual = {
            "coupled": self.axis == "out",
            "aggregate": "sum",
            "round_to": None,
            "of": "channels",
        }
        config = self.get_config()
        said = {k: v for k, v in config.items() if k not in usual or v != usual[k]}
        return f"Channel({', '.join(f'{k}={v!r}' for k, v in said.items())})"

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

    def rows(self, weight: np.ndarray) -> np.ndarray:
        """Return the units as the rows of a matrix."""
        axis = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        # In the order of the kernel, whatever the order they were named in: so does `pool`.
        axes = sorted(number % weight.ndim for number in axis)
        moved = np.moveaxis(weight, axes, range(len(axes)))
        return moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)


class ChannelUnits(Channel):
    """Units that have several places along an axis, or none: a unit of Dense behind which (7, 7, 128)
    is made of its output has 49 of them.

    Args:
        axis: Axis of the weight.
        units: Int array, for each place the number of its unit, or -1.
    """

    def __init__(self, axis: int, units: np.ndarray):
        super().__init__(axis)
        self.units = units
        self.count = int(units.max()) + 1

    def get_config(self):
        return {"axis": self.axis, "units": self.units.tolist()}

    def pool(self, scores):
        alone = super().pool(scores)
        inside = self.units >= 0
        return np.bincount(self.units[inside], alone[inside], minlength=self.count)

    def alive(self, mask):
        return self.pool(np.asarray(mask, dtype=np.float64)) > 0

    def expand(self, keep, shape):
        return super().expand(np.where(self.units < 0, True, keep[self.units]), shape)

    def unit_sizes(self, shape):
        times = np.bincount(self.units[self.units >= 0], minlength=self.count)
        return times * super().unit_sizes(shape)

    def rows(self, weight):
        alone = super().rows(weight)
        order = np.argsort(self.units, kind="stable")
        order = order[self.units[order] >= 0]
        return alone[order].reshape(self.count, -1)
