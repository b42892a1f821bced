"""Rules of the `keras.ops` operations that take parts of a tensor: slices and splits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_ganprune.pruning.structured.channels import Axes
from keras_ganprune.pruning.structured.keys import parts_by_axis
from keras_ganprune.pruning.structured.rules.registry import register_operation_rule


def _positions_before(kept: np.ndarray) -> np.ndarray:
    """Return, for each position (and the end), how many positions before it stay."""
    return np.concatenate([[0], np.cumsum(kept)])


def _split_config(operation, config, sizes):
    """Return the positions of a split, counted in the channels that stay."""
    positions = operation.indices_or_sections
    kept = sizes.kept(0, operation.axis)
    if kept.all():  # also an axis of unknown size
        return config
    if isinstance(positions, int):
        step = len(kept) // positions
        positions = [step * i for i in range(1, positions)]
    before = _positions_before(kept)
    return {**config, "indices_or_sections": [int(before[p]) for p in positions]}


@register_operation_rule("Split", config=_split_config)
def split(operation, channels, x):
    """Each part has its part of the labels."""
    axis = operation.axis % x.rank
    parts = None if x[axis] is None else np.split(x[axis], operation.indices_or_sections)
    outputs = []
    for i, shape in enumerate(channels.shapes):
        labels = list(x.labels)
        labels[axis] = None if parts is None else parts[i]
        outputs.append(Axes(tuple(shape), tuple(labels), x.zero))
    return outputs if len(outputs) > 1 else outputs[0]


@register_operation_rule("GetItem")
def get_item(operation, channels, x, key):
    """A slice has a part of the labels. Channels that are picked one by one, or by a step, stay."""
    parts = parts_by_axis(key, x.rank)
    if parts is None:
        channels.fix(x, "they are picked one by one")
        return Axes.fixed(channels.shape)
    labels: list[np.ndarray | None] = []
    axis = 0
    for part in parts:
        if part is None:
            labels.append(None)
            continue
        row = x[axis]
        axis += 1
        if isinstance(part, int):
            channels.fix(row, "one of them is picked")
        elif row is None:
            labels.append(None)
        elif part.step not in (None, 1):
            channels.fix(row, "some of them are picked")
            labels.append(None)
        else:
            labels.append(row[part])
    return Axes(tuple(channels.shape), tuple(labels), x.zero, weight=x.weight)


def cut_key(key: Any, rank: int, kept: Callable[[int], np.ndarray | None]) -> Any:
    """Return the key of a slice, counted in the channels that stay.

    Args:
        key: Key of `x[key]`.
        rank: Rank of `x`.
        kept: Function (axis) -> bool array of the positions that stay, or None for all.
    """
    parts = parts_by_axis(key, rank)
    if parts is None:
        return key
    axis, new_key = 0, []
    for part in parts:
        if part is not None:
            mask = kept(axis)
            axis += 1
            is_part = isinstance(part, slice) and part != slice(None)
            if mask is not None and not mask.all() and is_part:
                before = _positions_before(mask)
                start, stop, _ = part.indices(len(mask))
                part = slice(int(before[start]), int(before[max(start, stop)]))
        new_key.append(part)
    return tuple(new_key)
