"""Rules of layers that change the places or the shape of a tensor: pooling, padding, reshaping."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_ganprune.pruning.structured.channels import Axes, Channels, channel_axis
from keras_ganprune.pruning.structured.rules.registry import register_rule

# --- places ------------------------------------------------------------------------------------------


# Layers that change the places of an image or sequence, each channel by itself.
SPATIAL = (
    *(
        getattr(layers, f"{kind}{n}D")
        for n in (1, 2, 3)
        for kind in ("MaxPooling", "AveragePooling", "UpSampling", "ZeroPadding", "Cropping")
    ),
)


@register_rule(*SPATIAL)
def spatial(layer, channels, x, training=None):
    """Only the channel axis passes."""
    axis = channel_axis(layer, x)
    labels = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    return x.along(channels.shape, axis, labels)


@register_rule(
    *(getattr(layers, f"Global{kind}Pooling{n}D") for n in (1, 2, 3) for kind in ("Max", "Average"))
)
def global_pooling(layer, channels, x, mask=None):
    """Only the channel axis passes. It becomes the last one, unless `keepdims` is set."""
    axis = channel_axis(layer, x)
    labels = channels.keeps_only(x, axis, f"'{layer.name}' averages over them")
    return x.along(channels.shape, axis if layer.keepdims else -1, labels)


@register_rule(layers.RepeatVector)
def repeat_vector(layer, channels, x):
    """The last axis passes."""
    return x.along(channels.shape, -1, x[-1])


# --- shapes ------------------------------------------------------------------------------------------


def _reshape_config(layer, config, sizes):
    new = sizes.outputs[0][1:]
    if sum(n is None for n in new) > 1:
        return config
    return {**config, "target_shape": [-1 if n is None else n for n in new]}


@register_rule(layers.Reshape, config=_reshape_config)
def reshape(layer, channels, x):
    """Axes are joined and divided; see `reshaped`."""
    return reshaped(channels, x)


@register_rule(layers.Flatten)
def flatten(layer, channels, x):
    """A reshape; `channels_first` is transposed before."""
    if getattr(layer, "data_format", None) == "channels_first" and x.rank > 2:
        x = transposed(x, [0, *range(2, x.rank), 1])
    return reshaped(channels, x)


@register_rule(layers.Permute)
def permute(layer, channels, x):
    """Axes change places."""
    return transposed(x, [0, *layer.dims])


def transposed(x: Axes, order: list[int]) -> Axes:
    """Return the axes after a transposition."""
    shape = tuple(x.shape[axis] for axis in order)
    return Axes(shape, tuple(x.labels[axis] for axis in order), x.zero, weight=x.weight)


def reshaped(channels: Channels, x: Axes) -> Axes:
    """Return the axes after a reshape.

    The reshape is divided into runs of axes: each run of old axes becomes a run of new axes with the
    same product.
    """
    new = channels.shape
    labels: list[np.ndarray | None] = [None] * len(new)
    # Equal last axes are the same axes, whatever happens to those before them.
    same = 0
    while same < min(len(new), x.rank) and new[-1 - same] == x.shape[-1 - same] is not None:
        same += 1
        labels[-same] = x.labels[-same]
    old_rank, new_rank = x.rank - same, len(new) - same
    runs = _runs(x.shape[:old_rank], new[:new_rank])
    if runs is None:
        for row in x.labels[:old_rank]:
            channels.fix(row, "a reshape of unknown sizes cannot be followed")
        runs = []
    for (a, b), (c, d) in runs:
        if b - a == 1 and d - c == 1:
            labels[c] = x.labels[a]
            continue
        flat = _joined(channels, x.shape[a:b], x.labels[a:b])
        if flat is None:
            continue
        if c == d:
            channels.fix(flat, "an axis of length one stays")
        else:
            axis, row = _divided(channels, flat, new[c:d])
            labels[c + axis] = row
    return Axes(tuple(new), tuple(labels), x.zero, weight=x.weight)


_Run = tuple[tuple[int, int], tuple[int, int]]


def _runs(old: tuple, new: tuple) -> list[_Run] | None:
    """Return the runs ((a, b), (c, d)): axes a to b become axes c to d. None if sizes are not known."""
    runs = []
    a = c = 0
    while a < len(old) or c < len(new):
        if a < len(old) and c < len(new) and old[a] == new[c]:  # also two unknown sizes
            run = (a, a + 1), (c, c + 1)
        else:
            run = _next_run(old, new, a, c)
        if run is None:
            return None
        runs.append(run)
        (_, a), (_, c) = run
    return runs


def _next_run(old: tuple, new: tuple, a: int, c: int) -> _Run | None:
    """Return the shortest run that begins at the axes a and c and has equal products, or None."""
    b, d, left, right = a, c, 1, 1
    while b == a or d == c or left != right:
        if (left <= right or d == len(new)) and b < len(old):
            if old[b] is None:
                return None
            left, b = left * old[b], b + 1
        elif d < len(new):
            if new[d] is None:
                return None
            right, d = right * new[d], d + 1
        elif left == right:
            break
        else:
            return None
    return (a, b), (c, d)


def _joined(channels: Channels, shape: tuple, labels: tuple) -> np.ndarray | None:
    """Return the labels of several axes joined to one. Only the last axis with labels may be cut."""
    with_labels = [i for i, row in enumerate(labels) if row is not None]
    for i in with_labels[:-1]:
        channels.fix(labels[i], "a reshape joins them with others")
    if not with_labels:
        return None
    last = with_labels[-1]
    broadcast = [n if i == last else 1 for i, n in enumerate(shape)]
    return np.broadcast_to(labels[last].reshape(broadcast), shape).reshape(-1)


def _divided(channels: Channels, flat: np.ndarray, shape: tuple) -> tuple[int, np.ndarray]:
    """Divide one axis into several; return which of them has the channels, and their labels.

    It is the axis along which the classes differ, if there is only one. Else it is the last, and the
    labels along the others are tied: of a Dense layer before Reshape((7, 7, 128)), the 49 units of a
    channel are removed together.
    """
    classes = channels.units.find(flat).reshape(shape)
    for axis in range(len(shape)):
        rows = np.moveaxis(classes, axis, 0)
        rows = rows.reshape(len(rows), -1)
        if (rows == rows[:, :1]).all():
            return axis, np.moveaxis(flat.reshape(shape), axis, 0).reshape(len(rows), -1)[:, 0]
    axis = len(shape) - 1
    while axis and shape[axis] == 1:
        axis -= 1
    rows = np.moveaxis(flat.reshape(shape), axis, 0).reshape(shape[axis], -1)
    channels.tie(np.broadcast_to(rows[:, :1], rows.shape).reshape(-1), rows.reshape(-1))
    return axis, rows[:, 0].copy()
