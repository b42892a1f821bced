"""Rules of normalization layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from keras_ganprune.pruning.structured.channels import Axes
from keras_ganprune.pruning.structured.rules.registry import register_rule


def _single_axis(axis: Any, x: Axes) -> int:
    """Return the one axis of a normalization, not negative."""
    axis = axis[0] if isinstance(axis, (list, tuple)) else axis
    return axis % x.rank


@register_rule(layers.BatchNormalization)
def batch_normalization(layer, channels, x, mask=None, training=None):
    """Each channel has a scale, a shift and its own statistics."""
    axis = _single_axis(layer.axis, x)
    labels = channels.keeps_only(x, axis, f"'{layer.name}' averages over them")
    for name in ("gamma", "beta"):
        channels.along(layer, name, 0, labels)
    channels.state(layer, "moving_mean", 0, labels, mean=True)
    channels.state(layer, "moving_variance", 0, labels)
    # Without a gamma to mask, the output is zero only if the input is (and with it the moving mean).
    return Axes(x.shape, x.labels, layer.scale or x.zero)


def _group_config(layer, config, sizes):
    # By now the layer has replaced -1 by the number of channels.
    before, after = sizes.before[0][layer.axis], sizes.inputs[0][layer.axis]
    return {**config, "groups": layer.groups * after // before}


@register_rule(layers.GroupNormalization, config=_group_config)
def group_normalization(layer, channels, x):
    """A group is removed as a whole, so that the mean over each remaining group stays the same."""
    axis = _single_axis(layer.axis, x)
    labels = channels.keeps_only(x, axis, f"'{layer.name}' averages over them")
    groups = layer.groups if layer.groups > 0 else x.shape[axis]
    if labels is not None and groups < len(labels):
        rows = labels.reshape(groups, -1)
        channels.tie(np.broadcast_to(rows[:, :1], rows.shape).reshape(-1), labels)
    for name in ("gamma", "beta"):
        channels.along(layer, name, 0, labels)
    return Axes(x.shape, x.labels, layer.scale or x.zero)


@register_rule(layers.LayerNormalization)
def layer_normalization(layer, channels, x, mask=None):
    """All channels stay: the mean is over masked channels too, so without them it would differ."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    for axis in axes:
        channels.fix(x[axis], f"'{layer.name}' ({type(layer).__name__}) averages over all of them")
    normalized = {axis % x.rank for axis in axes}
    labels = tuple(None if i in normalized else row for i, row in enumerate(x.labels))
    return Axes(x.shape, labels, x.zero)


@register_rule(layers.UnitNormalization)
def unit_normalization(layer, channels, x):
    """Channels may go if they are zero here: zeros add nothing to a norm."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    for axis in axes:
        if not x.zero:
            channels.fix(x[axis], f"they are not zero where '{layer.name}' takes a norm over them")
    return x


def _normalized_axes(layer: Any, rank: int) -> list[int]:
    """Return the axes along which a `Normalization` has statistics, in the order of its weights."""
    return sorted(axis % rank for axis in layer.axis)


def _normalization_config(layer, config, sizes):
    """Cut a mean and a variance that are arguments; those that `adapt` found are weights."""
    if layer.input_mean is None:
        return config
    rank = len(sizes.before[0])
    new = {}
    for name, value in (("mean", layer.input_mean), ("variance", layer.input_variance)):
        array = np.asarray(value)
        # An array with fewer axes runs along the last of them.
        axes = _normalized_axes(layer, rank)[-array.ndim :] if array.ndim else []
        for place, axis in enumerate(axes):
            if array.shape[place] > 1:
                array = np.compress(sizes.kept(0, axis), array, axis=place)
        new[name] = array.tolist()
    return {**config, **new}


@register_rule(layers.Normalization, config=_normalization_config)
def normalization(layer, channels, x):
    """Each position along an axis has a mean and a variance of its own, which are not trained."""
    if layer.input_mean is None:
        for place, axis in enumerate(_normalized_axes(layer, x.rank)):
            for name in ("adapt_mean", "adapt_variance"):
                channels.state(layer, name, place, x[axis])
    return Axes(x.shape, x.labels, False)
