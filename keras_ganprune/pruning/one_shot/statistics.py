"""Means and variances of channels, and what gives those of the dense network back to a pruned one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.one_shot.linear_layers import LinearLayer, Vector

# A variance below this share (of epsilon, or of the largest one) is that of a constant channel.
_CONSTANT = 1e-6


def moments(tensors: Sequence[Any], axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean, variance) of each channel over all entries of some tensors, in float64.

    Args:
        tensors: Inputs or outputs of a layer.
        axis: Axis of the channels.
    """
    total, squares, count = np.zeros(()), np.zeros(()), 0
    for x in tensors:
        values = np.moveaxis(to_numpy(keras.ops.cast(x, "float32")), axis, -1)
        values = values.reshape(-1, values.shape[-1]).astype("float64")
        total = total + values.sum(axis=0)
        squares = squares + np.square(values).sum(axis=0)
        count += len(values)
    mean = total / count
    return mean, np.maximum(squares / count - mean**2, 0.0)


def rescaled(layer: LinearLayer, outputs: Sequence[Any], targets: Sequence[Any]) -> Vector | None:
    """Return weights that give each output channel the mean and variance of the dense network.

    A least-squares fit has a smaller variance than its target: a regression goes towards the mean. Images of
    a generator lose contrast by it.

    Args:
        layer: A layer.
        outputs: Its outputs.
        targets: Those of the dense network.

    Returns:
        One value per variable; None if the layer has no axis of channels.
    """
    axis = layer.channel_axis
    if axis is None:
        return None
    mean, variance = moments(outputs, axis)
    wanted_mean, wanted_variance = moments(targets, axis)
    varies = np.minimum(variance, wanted_variance) > _CONSTANT * np.maximum(
        1e-30, wanted_variance.max()
    )
    factors = np.sqrt(np.where(varies, wanted_variance / np.where(varies, variance, 1.0), 1.0))
    return layer.scaled(factors, wanted_mean - factors * mean)


def matching(
    layer: keras.layers.BatchNormalization,
    dense: keras.layers.BatchNormalization,
    seen: tuple[np.ndarray, np.ndarray],
    wanted: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the moving mean and variance with which the outputs have the moments of the dense network.

        (mean_p - M') / sqrt(V' + eps) = (mean_d - M) / sqrt(V + eps)
              var_p / (V' + eps)       =       var_d / (V + eps)

    M and V are the statistics of the dense layer, which need not be the moments of its inputs. A channel that
    is constant in either network keeps its variance.

    Args:
        layer: Layer of the pruned network.
        dense: The same layer of the dense network.
        seen: (mean, variance) of the inputs in the pruned network.
        wanted: The same in the dense network.
    """
    epsilon = float(layer.epsilon)
    mean, variance = (
        to_numpy(v).astype("float64") for v in (dense.moving_mean, dense.moving_variance)
    )
    varies = np.minimum(seen[1], wanted[1]) > _CONSTANT * epsilon
    factor = np.where(varies, seen[1] / np.where(varies, wanted[1], 1.0), 1.0)
    new_variance = np.maximum((variance + epsilon) * factor - epsilon, 0.0)
    ratio = np.sqrt((new_variance + epsilon) / (variance + epsilon))
    return seen[0] - (wanted[0] - mean) * ratio, new_variance
