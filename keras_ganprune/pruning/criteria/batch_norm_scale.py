"""Scores by the scale of the batch normalization that follows."""

from __future__ import annotations

import copy
import math
import operator
from typing import Any, Literal

import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.connectivity import following_scale
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.criteria.base import Criterion, WeightContext, family
from keras_ganprune.pruning.granularity import Channel, Granularity
from keras_ganprune.utils import validation


@family.register
class BatchNormScale(Criterion):
    """Scale of the batch normalization that follows: channels with a small |gamma| are pruned first.

        channel: |gamma_c|        single weight: |gamma_c| |w| / sum over the channel of |w|

    Batch normalization removes the scale of a kernel, so |gamma| is the magnitude of the channel after
    it. In Sequential and functional networks the normalization is found after activations, dropout,
    resizing and reshapes that keep channels last. Where none is found, or it has `scale=False`, the score
    of a channel is the mean of |w|, and the score of a single weight is |w|.

    Args:
        fallback: 'magnitude' to score layers without such a scale by |w|, or 'error' to refuse them.
            Defaults to 'magnitude'.

    Raises:
        InvalidArgumentError: `fallback` is not 'magnitude' or 'error'.

    Example:
    >>> BatchNormScale().score(np.array([[3.0], [-1.0]]))
    array([[3.],
           [1.]])

    Reference:
        [Network slimming](https://arxiv.org/abs/1708.06519), §3.
    """

    _scale: Any = None
    _axes: tuple[int, ...] = ()

    def __init__(self, fallback: Literal["magnitude", "error"] = "magnitude"):
        self.fallback = validation.one_of(fallback, "fallback", ("magnitude", "error"))

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"fallback": self.fallback}

    def bind(self, context: WeightContext) -> BatchNormScale:
        """Return a copy that knows the scale that follows the weight.

        Raises:
            UnsupportedLayerError: No scale follows the weight, and `fallback` is 'error'.
        """
        scale = following_scale(context.layer, context.network)
        if scale is not None and not _scales_outputs(scale, context):
            scale = None
        if scale is None and self.fallback == "error":
            raise UnsupportedLayerError(
                f"'{context.path}' is not followed by a BatchNormalization with a scale (gamma), which "
                "BatchNormScale(fallback='error') needs. Leave the layer out of `scope`, or use "
                "fallback='magnitude'."
            )
        bound = copy.copy(self)
        bound._scale, bound._axes = scale, context.axes.outputs
        return bound

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return each weight's share of |gamma| of its channel, or |w| without a scale."""
        magnitude = np.abs(weight)
        if self._scale is None:
            return magnitude
        axes = {axis % magnitude.ndim for axis in self._axes}
        others = tuple(set(range(magnitude.ndim)) - axes)
        norm = magnitude.sum(axis=others, keepdims=True, dtype=np.float64)
        gamma = np.abs(to_numpy(self._scale)).astype(np.float64)
        # A Dense layer before a Reshape has several outputs per channel, channels last.
        gamma = np.tile(gamma, norm.size // gamma.size).reshape(norm.shape)
        return np.divide(gamma * magnitude, norm, out=np.zeros(magnitude.shape), where=norm > 0)

    def unit_scores(
        self, weight: np.ndarray, gradient: np.ndarray | None, granularity: Granularity
    ) -> np.ndarray:
        """Return |gamma| of each channel, or the mean of |w| without a scale."""
        scores = granularity.pool(self.score(weight, gradient))
        if self._scale is None and isinstance(granularity, Channel):
            return scores / granularity.unit_sizes(np.shape(weight))
        return scores

    def note(self) -> str | None:
        """Return a remark if the weight is scored by its magnitude."""
        if self._scale is not None:
            return None
        return "scored by magnitude: no batch normalization with a scale was found after it"

    def conflict(self, granularity: Granularity, joint: bool) -> str | None:
        """Return why the criterion cannot be used with these settings, or None."""
        if isinstance(granularity, Channel) and granularity.axis == "in":
            return "batch normalization scales the output channels of a layer; use Channel('out')"
        if joint and self.fallback == "magnitude":
            return (
                "a joint ranking would compare |w| of layers without batch normalization with |gamma| of "
                "the others; use GlobalRanking(normalize='mean'), or BatchNormScale(fallback='error')"
            )
        return None


def _scales_outputs(scale: Any, context: WeightContext) -> bool:
    """Return whether the scale belongs to the output channels of the weight.

    It does not for the first of two kernels of a layer. A scale may be shorter than the outputs, if each
    channel has several of them.
    """
    name = context.path.rpartition("/")[2]
    names = getattr(context.layer, "pruned_weight_names", (name,))
    if name != names[-1] or "recurrent" in name:
        return False
    shape = operator.attrgetter(name)(context.layer).shape
    return math.prod(shape[axis] for axis in context.axes.outputs) % scale.shape[0] == 0
