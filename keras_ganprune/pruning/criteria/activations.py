"""Scores of channels by their activations on calibration inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.connectivity import following_activation
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.criteria.base import Criterion, family, require_gradient
from keras_ganprune.pruning.granularity import Channel, Granularity
from keras_ganprune.pruning.layer_activity import channels_last, observe, values_of
from keras_ganprune.utils import validation


class _ActivationCriterion(Criterion):
    measures = True
    needs_calibration = True

    def __init__(self, batches: int = 4):
        self.batches = validation.positive_int(batches, "batches")

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"batches": self.batches}

    def statistic(self, activations: np.ndarray) -> np.ndarray:
        """Return the number of each activation that is averaged."""
        raise NotImplementedError

    def measure(
        self,
        networks: Sequence[keras.layers.Layer],
        weights: Sequence[MaskedWeight],
        calibration: Sequence[Any] | None,
    ) -> list[Any]:
        """Return the mean of the statistic over samples and positions, for the channel of each weight."""
        sums: dict[int, list[Any]] = {}

        def add(layer: keras.layers.Layer, _: Any, outputs: Any) -> None:
            array = values_of(keras.tree.flatten(outputs)[0])
            if array is None:
                return
            rows = channels_last(array, layer).astype(np.float64)
            rows = self.statistic(rows.reshape(-1, rows.shape[-1]))
            row = sums.setdefault(id(layer), [0.0, 0])
            row[0], row[1] = row[0] + rows.sum(axis=0), row[1] + len(rows)

        makers: dict[int, keras.layers.Layer] = {}
        for network, inputs in zip(networks, calibration or [], strict=True):
            inside = {id(layer) for layer in network._flatten_layers()}
            own = [w.layer for w in weights if id(w.layer) in inside]
            makers |= {id(layer): following_activation(layer, network) for layer in own}
            observe(network, list(makers.values()), inputs, add)
        return [self._by_weight(w, sums.get(id(makers[id(w.layer)]))) for w in weights]

    def _by_weight(self, weight: MaskedWeight, row: list[Any] | None) -> np.ndarray:
        """Return the mean of each channel, in the shape of the weight."""
        shape = tuple(weight.mask.shape)
        axes = sorted(axis % len(shape) for axis in kernel_axes(weight.layer, weight.name).outputs)
        size = math.prod(shape[axis] for axis in axes)
        if row is None or size % np.size(row[0]):
            raise UnsupportedLayerError(
                f"{self!r} needs the activations of '{weight.path}', which could not be observed: they "
                "are made inside a loop, or are not the output of the layer. Leave the layer out of "
                "`scope`, or use a criterion such as 'l2'."
            )
        means = np.resize(row[0] / row[1], size)  # channels last: several outputs may share one
        spread = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
        return np.broadcast_to(means.reshape(spread), shape)

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Raise `InvalidArgumentError`: a single weight has no activation."""
        raise InvalidArgumentError(
            f"{self!r} scores whole channels, so a single weight has no score. Use the granularity "
            "'channel'."
        )

    def unit_scores(
        self, weight: np.ndarray, gradient: np.ndarray | None, granularity: Granularity
    ) -> np.ndarray:
        """Return the mean of the statistic for each channel."""
        means = require_gradient(self, gradient)
        pooled = granularity.pool(np.asarray(means, dtype=np.float64))
        return pooled / granularity.unit_sizes(np.shape(weight))

    def conflict(self, granularity: Granularity, joint: bool) -> str | None:
        """Return why the criterion cannot be used with these settings, or None."""
        if not isinstance(granularity, Channel) or granularity.axis == "in":
            return "it scores the output channels of layers; use the granularity 'channel'"
        return None


@family.register
class MeanActivation(_ActivationCriterion):
    """Mean absolute activation: channels that are nearly silent are pruned first.

        score of channel c = mean over samples and positions of |a_c|

    a is the output after the next activation, through batch normalization, where the graph of the network
    is known (Sequential and functional networks); otherwise the output of the layer. Activations are
    those of the calibration inputs in inference mode; see `Wanda` for where these come from.

    Args:
        batches: Positive int, number of batches of the running `fit` whose inputs are used. Defaults to 4.

    Raises:
        InvalidArgumentError: `batches` is not a positive int.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(2, "relu"), keras.layers.Dense(1)]
    ... )
    >>> model.layers[0].set_weights([np.array([[1.0, -3.0], [0.0, 0.0]]), np.zeros(2)])
    >>> small = kgp.shrink(
    ...     model, sparsity=0.5, criterion="mean_activation", inputs=np.array([[1.0, 0.0]])
    ... )
    >>> np.array(small.get_weights()[0]).tolist()
    [[1.0], [0.0]]

    Reference:
        [Pruning CNNs for resource efficient inference](https://arxiv.org/abs/1611.06440), §2.2.
    """

    def statistic(self, activations: np.ndarray) -> np.ndarray:
        """Return |a|."""
        return np.abs(activations)


@family.register
class APOZ(_ActivationCriterion):
    """Average percentage of zeros: channels that a ReLU switches off most often are pruned first.

        score of channel c = 1 - share of samples and positions at which a_c <= 0

    a is as for `MeanActivation`. For activations without zeros, such as tanh or leaky ReLU, negative values
    count as zeros.

    Args:
        batches: Positive int, number of batches of the running `fit` whose inputs are used. Defaults to 4.

    Raises:
        InvalidArgumentError: `batches` is not a positive int.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((1,)), keras.layers.Dense(2, "relu"), keras.layers.Dense(1)]
    ... )
    >>> model.layers[0].set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    >>> x = np.array([[1.0], [2.0], [-1.0]])
    >>> small = kgp.shrink(model, sparsity=0.5, criterion="apoz", inputs=x)
    >>> np.array(small.get_weights()[0]).tolist()
    [[1.0]]

    Reference:
        [Network trimming](https://arxiv.org/abs/1607.03250), Eq. 1.
    """

    def statistic(self, activations: np.ndarray) -> np.ndarray:
        """Return 1 where the activation is positive, else 0."""
        return activations > 0
