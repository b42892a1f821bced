"""Rules of activations and other layers that work on every entry by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.rules.observed import observed, runner
from keras_ganprune.pruning.structured.rules.registry import register_rule


def _values(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def _without_weights(function: Callable) -> Callable | None:
    """Return an activation that can be tried out, or None if it has weights.

    A layer that is not built is copied, because a call builds it.
    """
    if not isinstance(function, keras.layers.Layer):
        return function
    if function.built:
        return None if function.weights else function.call
    copy = type(function).from_config(function.get_config())
    with contextlib.suppress(Exception):  # a softmax over axis 2 takes no input with two axes
        copy(ops.zeros((1, 6)))
    return None if copy.weights else copy.call


def keeps_zero(function: Callable) -> bool:
    """Return whether an activation maps zero to zero."""
    activation = _without_weights(function)
    return activation is not None and not np.any(_values(activation(ops.zeros((1, 3)))))


def activated(channels: Channels, function: Callable | None, x: Axes) -> Axes:
    """Return the axes of a tensor after an activation function, whose channels it may mix."""
    if function is None or function is keras.activations.linear:
        return x
    name = getattr(function, "__name__", None) or getattr(function, "name", type(function).__name__)
    activation = _without_weights(function)
    if activation is None:
        channels.fix(x, f"'{name}' has weights")
        return Axes.fixed(x.shape)
    return observed(channels, runner(activation, (x,)), [x], ["float32"], [x.shape], name)[0]


# Layers whose output has exactly the channels of their input.
IDENTITIES = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.AlphaDropout,
    layers.ActivityRegularization,
    layers.Identity,
    layers.Masking,
)


@register_rule(*IDENTITIES)
def identity(layer, channels, x, training=None, mask=None):
    """Channels pass unchanged, except where the layer treats them differently or together."""
    if getattr(layer, "noise_shape", None) is not None:
        channels.fix(x, f"'{layer.name}' has a `noise_shape`")
    if isinstance(layer, layers.Masking):
        channels.fix(x, f"'{layer.name}' compares all of them")
    return x


@register_rule(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax)
def activation(layer, channels, x, mask=None):
    """Channels pass if the activation acts on each of them alone, as a softmax over places does."""
    return activated(channels, layer, x)


@register_rule(layers.PReLU)
def prelu(layer, channels, x):
    """The slopes have one axis for each axis of the input that is not shared."""
    shared = {axis % x.rank for axis in (layer.shared_axes or [])}
    for axis in range(1, x.rank):
        if axis not in shared and x[axis] is not None:
            channels.along(layer, "alpha", axis - 1, x[axis])
    return x


@register_rule(layers.Rescaling)
def rescaling(layer, channels, x, training=None):
    """Channels pass if there is one scale and one offset for all."""
    if not np.isscalar(layer.scale) or not np.isscalar(layer.offset):
        channels.fix(x, f"'{layer.name}' has a scale for each")
        return x
    return Axes(x.shape, x.labels, x.zero and layer.offset == 0)
