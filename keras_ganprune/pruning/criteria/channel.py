"""Criteria that compare whole channels."""

from __future__ import annotations

import copy
import math
import operator
from typing import Any

import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.connectivity import following_scale
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.pruning.criteria.base import Criterion, WeightContext, family
from keras_ganprune.pruning.granularity import Channel


@family.register
class BatchNormScale(Criterion):
    """Scale of the batch normalization that follows: channels with a small |gamma| go first.

        channel: |gamma_c|        single weight: |gamma_c| |w| / sum over the channel of |w|

    Batch normalization undoes the scale of a kernel, so this is what the magnitude of a weight amounts
    to behind it. The normalization is found in the graph of Sequential and functional networks, behind
    activations, dropout, resizing and reshapes that keep channels last. A layer that has none, or one
    with `scale=False`, is scored by the mean |w| of a channel (|w| of a single weight).

    Args:
        fallback: 'magnitude' as said, or 'error' to refuse such layers.

    Raises: UnsupportedLayerError (a TypeError), with 'error'.

    Example:
    >>> BatchNormScale().score(np.array([[3.0], [-1.0]]))
    array([[3.],
           [1.]])

    Reference: [Network slimming](https://arxiv.org/abs/1708.06519), §3.
    """

    _scale: Any = None
    _axes: tuple[int, ...] = ()

    def __init__(self, fallback: str = "magnitude"):
        if fallback not in ("magnitude", "error"):
            raise InvalidArgumentError(
                f"`fallback` must be 'magnitude' or 'error'. Received: {fallback!r}."
            )
        self.fallback = fallback

    def get_config(self):
        return {"fallback": self.fallback}

    def bind(self, context):
        scale = following_scale(context.layer, context.network)
        if scale is not None and not _scales(scale, context):
            scale = None
        if scale is None and self.fallback == "error":
            raise UnsupportedLayerError(
                f"'{context.path}' is not followed by a BatchNormalization with a scale (gamma), which "
                "BatchNormScale(fallback='error') asks for. Leave the layer out of `scope`, or use "
                "fallback='magnitude'."
            )
        bound = copy.copy(self)
        bound._scale, bound._axes = scale, context.axes.outputs
        return bound

    def score(self, weight, gradient=None):
        magnitude = np.abs(weight)
        if self._scale is None:
            return magnitude
        axes = {axis % magnitude.ndim for axis in self._axes}
        others = tuple(set(range(magnitude.ndim)) - axes)
        norm = magnitude.sum(axis=others, keepdims=True, dtype=np.float64)
        gamma = np.abs(to_numpy(self._scale)).astype(np.float64)
        # A Dense layer in front of a Reshape has every channel several times, channels last.
        gamma = np.tile(gamma, norm.size // gamma.size).reshape(norm.shape)
        return np.divide(gamma * magnitude, norm, out=np.zeros(magnitude.shape), where=norm > 0)

    def unit_scores(self, weight, gradient, granularity):
        scores = granularity.pool(self.score(weight, gradient))
        if self._scale is None and isinstance(granularity, Channel):
            return scores / granularity.unit_sizes(np.shape(weight))
        return scores

    def note(self):
        if self._scale is not None:
            return None
        return "scored by its magnitude, as no batch normalization with a scale is known to follow"

    def conflict(self, granularity, joint):
        if isinstance(granularity, Channel) and granularity.axis == "in":
            return "batch normalization scales the output channels of a layer; use Channel('out')"
        if joint and self.fallback == "magnitude":
            return (
                "layers without a batch normalization would be ranked by |w| against the |gamma| of "
                "others; use GlobalRanking(normalize='mean'), or BatchNormScale(fallback='error')"
            )
        return None


def _scales(scale: Any, context: WeightContext) -> bool:
    """Return whether the channels of a scale are the output channels of a weight (or each of them
    several times), as they are not of the first of two kernels in a layer."""
    name = context.path.rpartition("/")[2]
    names = getattr(context.layer, "pruned_weight_names", (name,))
    if name != names[-1] or "recurrent" in name:
        return False
    shape = operator.attrgetter(name)(context.layer).shape
    return math.prod(shape[axis] for axis in context.axes.outputs) % scale.shape[0] == 0


@family.register
class GeometricMedian(Criterion):
    """Distance to the other channels: what the others can stand in for goes first, small or not.

        score of channel i = sum over j of ||w_i - w_j||_2

    Needs the granularity `Channel`.

    Example:
    >>> kernel = np.array([[0.0, 1.0, 5.0]])  # (inputs, outputs)
    >>> GeometricMedian().unit_scores(kernel, None, Channel(axis=1))
    array([6., 5., 9.])

    Reference: [Filter pruning via geometric median](https://arxiv.org/abs/1811.00250), Eq. 4.
    """

    def score(self, weight, gradient=None):
        raise InvalidArgumentError(
            "GeometricMedian compares whole channels, so a single weight has no score. "
            "Use `granularity='channel'`."
        )

    def unit_scores(self, weight, gradient, granularity):
        rows = granularity.rows(np.asarray(weight, dtype=np.float64))
        squares = np.einsum("ij,ij->i", rows, rows)
        total = np.zeros(len(rows))
        # In pieces: all distances at once take the square of the number of channels in memory.
        for start in range(0, len(rows), 512):
            part = rows[start : start + 512]
            both = squares[start : start + 512, None] + squares
            distance = both - 2.0 * (part @ rows.T)
            # What rounding leaves of equal channels is no distance, and must not decide between them.
            distance[distance < 1e-13 * both] = 0.0
            total[start : start + 512] = np.sqrt(distance).sum(axis=1)
        shape = np.shape(granularity.pool(np.zeros(np.shape(weight), dtype=np.float32)))
        return total.reshape(shape)

    def conflict(self, granularity, joint):
        if not isinstance(granularity, Channel):
            return "it compares whole channels; use the granularity 'channel'"
        return None
