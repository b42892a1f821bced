"""Batch normalization after pruning: statistics that give back the mean and variance of the dense network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.layers.tensors import to_numpy

# A variance below this share of epsilon is that of a constant channel.
_CONSTANT = 1e-6


def moments(layer: keras.layers.BatchNormalization, inputs: Sequence[Any]) -> tuple[Any, Any]:
    """Return (mean, variance) of each channel over all inputs, in float64."""
    total, squares, count = 0.0, 0.0, 0
    for x in inputs:
        values = np.moveaxis(to_numpy(keras.ops.cast(x, "float32")), cast(int, layer.axis), -1)
        values = values.reshape(-1, values.shape[-1]).astype("float64")
        total = total + values.sum(axis=0)
        squares = squares + np.square(values).sum(axis=0)
        count += len(values)
    mean = total / count
    return mean, np.maximum(squares / count - mean**2, 0.0)


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
    mean, variance = (to_numpy(v).astype("float64") for v in (dense.moving_mean, dense.moving_variance))
    varies = np.minimum(seen[1], wanted[1]) > _CONSTANT * epsilon
    factor = np.where(varies, seen[1] / np.where(varies, wanted[1], 1.0), 1.0)
    new_variance = np.maximum((variance + epsilon) * factor - epsilon, 0.0)
    ratio = np.sqrt((new_variance + epsilon) / (variance + epsilon))
    return seen[0] - (wanted[0] - mean) * ratio, new_variance
