"""The rule of operations whose arguments depend on the sizes of other tensors, by their kinds."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.rules.registry import register_operation_rule
from keras_ganprune.pruning.structured.rules.shapes import reshaped


def _config(operation: Any, config: dict[str, Any], sizes: Any) -> dict[str, Any]:
    """Return the configuration with the known sizes of the smaller result."""
    numbers = config["numbers"]
    if operation.kind not in ("reshape", "places", "full", "broadcast"):
        return config
    shape = [
        new if isinstance(old, int) else old
        for old, new in zip(numbers["shape"], sizes.outputs[0], strict=True)
    ]
    return {**config, "numbers": {**numbers, "shape": shape}}


@register_operation_rule("Sized", config=_config)
def sized(operation, channels, tensors, references):
    """Channels pass along the axes whose size is known; the references are only counted."""
    operands = [x if isinstance(x, Axes) else Axes.fixed(np.shape(x)) for x in tensors]
    kind, shape = operation.kind, tuple(channels.shape)
    if kind == "full" and np.ndim(operation.numbers["value"]) == 0:
        # As many of the same number as there are channels.
        labels = tuple(channels.units.new(n) if n is not None and n > 1 else None for n in shape)
        return Axes(shape, labels, not operation.numbers["value"])
    if not operands:
        return Axes.fixed(shape)
    (x,) = operands
    if kind in ("reshape", "places"):
        return reshaped(channels, x)
    if kind == "broadcast":
        return broadcast(channels, x)
    return _same_places(channels, operation, x)


def _broadcast_config(operation: Any, config: dict[str, Any], sizes: Any) -> dict[str, Any]:
    pairs = zip(config["shape"], sizes.outputs[0], strict=True)
    return {**config, "shape": tuple(old if new is None else new for old, new in pairs)}


@register_operation_rule("BroadcastTo", config=_broadcast_config)
def broadcast_to(operation, channels, x):
    """See `broadcast`."""
    return broadcast(channels, x)


@register_operation_rule("Tile")
def tile(operation, channels, x):
    """Channels pass along the axes that are not repeated."""
    labels = []
    for axis, size in enumerate(channels.shape):
        place = axis - len(channels.shape)
        same = place >= -x.rank and x.shape[place] == size
        if not same and place >= -x.rank:
            channels.fix(x[place], f"'{operation.name}' repeats them")
        labels.append(x[place] if same else None)
    return Axes(tuple(channels.shape), tuple(labels), x.zero)


def broadcast(channels: Channels, x: Axes) -> Axes:
    """Return the axes of a tensor that is repeated along axes of length one and along new axes."""
    shape = channels.shape
    labels: list[np.ndarray | None] = [None] * len(shape)
    for axis in range(-x.rank, 0):
        if x.shape[axis] == shape[axis]:
            labels[axis] = x[axis]
        else:
            channels.fix(x[axis], "they are spread over others")
    for axis, (row, n) in enumerate(zip(labels, shape, strict=True)):
        place = axis - len(shape)
        is_new = place < -x.rank or x.shape[place] != n
        if row is None and is_new and n is not None and n > 1:
            labels[axis] = channels.units.new(n)
    whole = all(
        row is None or (axis - len(shape) >= -x.rank and row is x[axis - len(shape)])
        for axis, row in enumerate(labels)
    )
    return Axes(tuple(shape), tuple(labels), x.zero and whole)


def _same_places(channels: Channels, operation: Any, x: Axes) -> Axes:
    """Slices, tiles and repetitions of an axis of unknown size: all other axes pass."""
    shape, numbers = tuple(channels.shape), operation.numbers
    key = numbers.get("key")
    touched = [axis for axis, _ in numbers["parts"]] if "parts" in numbers else [numbers["axis"]]
    for axis in touched:
        channels.fix(x[axis], "some of them are picked by a number that is not known")
    if key is None and len(shape) == x.rank:
        labels = [None if axis in touched else row for axis, row in enumerate(x.labels)]
        return Axes(shape, tuple(labels), x.zero)
    labels, axis = [], 0
    for part in key or ():
        if part is None:
            labels.append(None)
            continue
        row, axis = x[axis], axis + 1
        if part == slice(None):
            labels.append(None if axis - 1 in touched else row)
        else:
            channels.fix(row, "some of them are picked")
            if isinstance(part, slice):
                labels.append(None)
    return Axes(shape, tuple(labels), x.zero)
