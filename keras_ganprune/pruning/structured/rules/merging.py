"""How channels pass through layers that merge several tensors."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.rules.layers import stays
from keras_ganprune.pruning.structured.rules.registry import register_rule


def together(
    channels: Channels, tensors: list[Axes], zero: bool = True, either: bool = False
) -> Axes:
    """Return the axes of an operation entry by entry, with broadcasting: what meets, goes together.

    Args:
        zero: Whether the result can be zero where a channel is, for all that is no tensor.
        either: Whether one zero makes a zero, as in a product.
    """
    shape = channels.shape
    labels: list[np.ndarray | None] = []
    for axis in range(-len(shape), 0):
        present = [x for x in tensors if x.rank >= -axis]
        if len({x.shape[axis] for x in present}) == 1:
            across = present
        else:
            # One that is repeated along the axis has a single entry there, which stays.
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

    def silent(x: Axes) -> bool:
        # One that is spread over the channels is not zero where one of them is.
        return x.zero and all(x.rank >= -axis and x.shape[axis] == shape[axis] for axis in cut)

    zeros = [silent(x) for x in tensors]
    return Axes(tuple(shape), tuple(labels), zero and (any(zeros) if either else all(zeros)))


def joined(channels: Channels, tensors: list[Axes], axis: int) -> Axes:
    """Return the axes of a concatenation."""
    axis %= tensors[0].rank
    labels: list[np.ndarray | None] = []
    for place in range(tensors[0].rank):
        found = [x[place] for x in tensors]
        if place == axis and any(part is not None for part in found):
            fixed = [np.zeros(x.shape[axis] or 0, dtype=np.int64) for x in tensors]
            parts = [f if p is None else p for p, f in zip(found, fixed, strict=True)]
            labels.append(np.concatenate(parts))
        elif place == axis:
            labels.append(None)
        else:
            for part in found[1:]:
                channels.tie(found[0], part)
            labels.append(next((part for part in found if part is not None), None))
    return Axes(tuple(channels.shape), tuple(labels), all(x.zero for x in tensors))


@register_rule(
    layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply
)
def merge(layer, channels, inputs, mask=None):
    return together(channels, list(inputs), either=isinstance(layer, layers.Multiply))


@register_rule(layers.Concatenate)
def concatenate(layer, channels, inputs, mask=None):
    return joined(channels, list(inputs), layer.axis)


register_rule(layers.Dot)(stays)
