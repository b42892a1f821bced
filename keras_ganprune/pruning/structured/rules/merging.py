"""Rules of layers that merge several tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import layers

from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.rules.registry import register_rule
from keras_ganprune.pruning.structured.union_find import FIXED


def merged(
    channels: Channels,
    tensors: list[Axes],
    zero: bool = True,
    either: bool = False,
    shape: Sequence[int | None] | None = None,
) -> Axes:
    """Return the axes of an elementwise operation with broadcasting. Channels that meet are tied.

    Args:
        channels: The channels of the network.
        tensors: The operands.
        zero: Whether the operands that are no tensors allow a result of zero. Defaults to True.
        either: Whether one zero makes the result zero, as in a product. Defaults to False.
        shape: The shape of the result. Defaults to None: that of the call whose rule is running.
    """
    shape = channels.shape if shape is None else shape
    labels: list[np.ndarray | None] = []
    for axis in range(-len(shape), 0):
        present = [x for x in tensors if x.rank >= -axis]
        if len({x.shape[axis] for x in present}) == 1:
            across = present
        else:
            # An operand that is repeated along the axis has a single entry there, which stays.
            across = [x for x in present if x.shape[axis] != 1]
            for x in present:
                if x.shape[axis] == 1:
                    channels.fix(x[axis], "they are spread over others")
        if not any(x[axis] is not None for x in across):
            labels.append(None)
            continue
        for x in across[1:]:
            channels.tie(across[0][axis], x[axis])
        labels.append(next(x[axis] for x in across if x[axis] is not None))
    cut = [axis for axis in range(-len(shape), 0) if labels[axis] is not None]

    def is_zero(x: Axes) -> bool:
        # An operand that is repeated along the channels is not zero where one of them is.
        return x.zero and all(x.rank >= -axis and x.shape[axis] == shape[axis] for axis in cut)

    zeros = [is_zero(x) for x in tensors]
    return Axes(tuple(shape), tuple(labels), zero and (any(zeros) if either else all(zeros)))


def concatenated(channels: Channels, tensors: list[Axes], axis: int) -> Axes:
    """Return the axes of a concatenation along one axis. The channels of all other axes are tied."""
    axis %= tensors[0].rank
    labels: list[np.ndarray | None] = []
    for place in range(tensors[0].rank):
        rows = [x[place] for x in tensors]
        if all(row is None for row in rows):
            labels.append(None)
        elif place == axis:
            fixed = [np.full(x.shape[axis] or 0, FIXED) for x in tensors]
            parts = [f if row is None else row for row, f in zip(rows, fixed, strict=True)]
            labels.append(np.concatenate(parts))
        else:
            for row in rows[1:]:
                channels.tie(rows[0], row)
            labels.append(next(row for row in rows if row is not None))
    return Axes(tuple(channels.shape), tuple(labels), all(x.zero for x in tensors))


@register_rule(
    layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply
)
def merge(layer, channels, inputs, mask=None):
    """Channels that meet are tied."""
    return merged(channels, list(inputs), either=isinstance(layer, layers.Multiply))


@register_rule(layers.Concatenate)
def concatenate(layer, channels, inputs, mask=None):
    """Labels are placed one after the other."""
    return concatenated(channels, list(inputs), layer.axis)
