"""Whole channels."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernel_axes import KernelAxes
from keras_ganprune.pruning.granularity.base import (
    Granularity,
    axis_number,
    family,
    named_axes,
    refuse_named,
)
from keras_ganprune.utils import annotated, validation

QUANTITIES = ("channels", "macs", "parameters", "bytes")
AGGREGATES = {"sum": np.sum, "mean": np.mean, "max": np.max}


@family.register
class Channel(Granularity):
    """Whole neurons, filters or channels.

    Coupled (the default): a unit is a channel with all its weights in all layers that produce, scale or
    read it (see `channel_groups`): slices of kernels, bias, gamma and beta. `shrink` can remove such a
    channel without a change of the outputs. Not coupled: a unit is all weights at one index of an axis of
    one kernel; other layers are not considered.

        score of a unit = sum of the scores of its weights (coupled: in the kernels that produce it)

    Args:
        axis: 'out' (neurons of `Dense`, filters of `Conv2D` and of `Conv2DTranspose`, each with its
            own axis order), 'in' (all weights that read one input channel), an int, or several ints: axes
            of the kernel. With several axes, such as heads and their dimensions in attention, a unit is one
            combination of indices. Defaults to 'out'.
        coupled: Bool, whether dependent channels are one unit. Defaults to None: True with axis 'out', False
            with any other axis, which concerns one kernel only.
        aggregate: 'sum', 'mean' or 'max', how the scores of a coupled unit in several producing layers (as
            before an `Add`) are combined. Defaults to 'sum'.
        round_to: Int: the number of kept channels of a coupled group is a multiple of it, or all channels.
            Defaults to None, any number.
        of: What a sparsity is a share of: 'channels', or 'macs', 'parameters' or 'bytes' of the network,
            for coupled channels. A requested share of these is met to within 2 % of what remains. It needs
            mode 'hard' or 'soft', and allocation 'uniform' or 'global_ranking'. Defaults to 'channels'.

    Raises:
        InvalidArgumentError: `axis` is not 'in', 'out', an int or a tuple of ints.
        InvalidArgumentError: `coupled` is not a bool or None, or is True with another axis than 'out'.
        InvalidArgumentError: `aggregate` or `of` is not one of its choices, or `round_to` is not a
            positive int.
        InvalidArgumentError: `aggregate`, `round_to` or `of` is set, but channels are not coupled.

    Example:
    >>> Channel(axis=0).pool(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    array([0.6, 1.5])

    Reference:
        [Pruning filters for efficient ConvNets](https://arxiv.org/abs/1608.08710), §3.1; coupled:
        [DepGraph](https://arxiv.org/abs/2301.12900), §3.
    """

    def __init__(
        self,
        axis: int | Literal["out", "in"] | Sequence[int] = "out",
        coupled: bool | None = None,
        aggregate: Literal["sum", "mean", "max"] = "sum",
        round_to: int | None = None,
        of: Literal["channels", "macs", "parameters", "bytes"] = "channels",
    ):
        annotated.check(Channel.__init__, locals(), "coupled")
        self.axis = _checked_axis(axis)
        if coupled not in (None, True, False) or (coupled and axis != "out"):
            raise InvalidArgumentError(
                "`coupled` must be True, False or None, and True needs axis='out'. "
                f"Received: coupled={coupled!r}, axis={axis!r}."
            )
        self.coupled = self.axis == "out" if coupled is None else bool(coupled)
        self.aggregate = validation.one_of(aggregate, "aggregate", AGGREGATES)
        if round_to is not None:
            round_to = validation.positive_int(round_to, "round_to", "a number of channels")
        self.round_to = round_to
        self.of = validation.one_of(of, "of", QUANTITIES)
        options = {"aggregate": aggregate, "round_to": round_to, "of": of}
        if not self.coupled and options != {"aggregate": "sum", "round_to": None, "of": "channels"}:
            raise InvalidArgumentError(
                "`aggregate`, `round_to` and `of` are for coupled channels. Received: "
                f"axis={axis!r}, coupled={coupled!r}, {', '.join(f'{k}={v!r}' for k, v in options.items())}."
            )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "axis": list(self.axis) if isinstance(self.axis, tuple) else self.axis,
            "coupled": self.coupled,
            "aggregate": self.aggregate,
            "round_to": self.round_to,
            "of": self.of,
        }

    def __repr__(self):
        defaults = {
            "coupled": self.axis == "out",
            "aggregate": "sum",
            "round_to": None,
            "of": "channels",
        }
        shown = {k: v for k, v in self.get_config().items() if k == "axis" or v != defaults[k]}
        return f"Channel({', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    def resolve(self, axes: KernelAxes) -> Channel:
        """Return a copy whose axes are numbers."""
        if not isinstance(self.axis, str):
            return self
        resolved = copy.copy(self)
        numbers = named_axes(axes, self.axis, self)
        resolved.axis = numbers[0] if len(numbers) == 1 else numbers
        return resolved

    def _axes(self) -> tuple[int, ...]:
        """Return the axes as a tuple of ints."""
        refuse_named(self.axis, self)
        return self.axis if isinstance(self.axis, tuple) else (int(self.axis),)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise `InvalidArgumentError` if an axis is a name, missing in `shape`, or named twice."""
        axes = self._axes()
        numbers = [axis_number(axis, shape) for axis in axes]
        if len(set(numbers)) < len(numbers):
            raise InvalidArgumentError(
                f"`axis` must name each axis once. Received: axis={axes} for a kernel of shape "
                f"{tuple(shape)}."
            )

    def _axes_inside(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the axes that run over the weights of a unit."""
        self.check(shape)
        units = {axis % len(shape) for axis in self._axes()}
        return tuple(axis for axis in range(len(shape)) if axis not in units)

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Return the sum of the scores in each channel."""
        # float64: the sum over a large kernel would lose digits in float32.
        sums = np.sum(scores, axis=self._axes_inside(scores.shape), dtype=np.float64)
        return np.asarray(sums)

    def alive(self, mask: np.ndarray) -> np.ndarray:
        """Return which channels have at least one kept weight."""
        return np.any(mask, axis=self._axes_inside(mask.shape))

    def expand(self, keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the mask of the weights from one bool per channel."""
        inside = self._axes_inside(shape)
        keep = keep.reshape([1 if axis in inside else n for axis, n in enumerate(shape)])
        return np.broadcast_to(keep, shape).copy()

    def unit_sizes(self, shape: tuple[int, ...]) -> int | np.ndarray:
        """Return the number of weights in a channel."""
        return math.prod(shape[axis] for axis in self._axes_inside(shape))

    def rows(self, weight: np.ndarray) -> np.ndarray:
        """Return a matrix with the weights of one channel in each row."""
        # Sorted, as the axes of the result of `pool` are.
        axes = sorted(number % weight.ndim for number in self._axes())
        moved = np.moveaxis(weight, axes, range(len(axes)))
        return moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)


def _checked_axis(axis: Any) -> int | str | tuple[int, ...]:
    """Return the `axis` of a `Channel` as 'in', 'out', an int, or a tuple of at least two ints."""
    if isinstance(axis, str) and axis in ("in", "out"):
        return axis
    if validation.is_int(axis):
        return int(axis)
    if isinstance(axis, (tuple, list)) and axis and all(validation.is_int(a) for a in axis):
        axes = [int(a) for a in axis]
        return axes[0] if len(axes) == 1 else tuple(axes)
    raise InvalidArgumentError(
        f"`axis` must be 'out', 'in', an int or a tuple of ints. Received: {axis!r}."
    )


class ChannelUnits(Channel):
    """Channels that have several indices along an axis, or none.

    A `Dense` layer before a reshape to (7, 7, 128) has 49 outputs per channel.

    Args:
        axis: Int, axis of the weight.
        units: Int array, the number of the unit at each index of the axis, or -1 for none.

    Example:
    >>> two_channels = ChannelUnits(1, np.array([0, 1, 0, 1]))
    >>> two_channels.pool(np.array([[1.0, 2.0, 3.0, 4.0]]))
    array([4., 6.])
    """

    def __init__(self, axis: int, units: np.ndarray):
        super().__init__(axis)
        self.units = units
        self.count = int(units.max()) + 1

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"axis": self.axis, "units": self.units.tolist()}

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Return the sum of the scores in each unit."""
        by_index = super().pool(scores)
        inside = self.units >= 0
        return np.bincount(self.units[inside], by_index[inside], minlength=self.count)

    def alive(self, mask: np.ndarray) -> np.ndarray:
        """Return which units have at least one kept weight."""
        return self.pool(np.asarray(mask, dtype=np.float64)) > 0

    def expand(self, keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the mask of the weights; weights of no unit are kept."""
        return super().expand(np.where(self.units < 0, True, keep[self.units]), shape)

    def unit_sizes(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the number of weights in each unit."""
        indices = np.bincount(self.units[self.units >= 0], minlength=self.count)
        return indices * super().unit_sizes(shape)

    def rows(self, weight: np.ndarray) -> np.ndarray:
        """Return a matrix with the weights of one unit in each row."""
        by_index = super().rows(weight)
        order = np.argsort(self.units, kind="stable")
        order = order[self.units[order] >= 0]
        return by_index[order].reshape(self.count, -1)
