"""Scores by the weight times the size of what it receives."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.kernels import member
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.criteria.base import (
    Criterion,
    WeightContext,
    family,
    require_gradient,
)
from keras_ganprune.pruning.granularity import Granularity
from keras_ganprune.pruning.layer_activity import channels_last, observe, values_of
from keras_ganprune.utils import validation


@family.register
class Wanda(Criterion):
    """Weight times the norm of its input: small weights may matter where the input is large.

        score = |w| * sqrt(mean of x^2),   x = the input of the weight on the calibration inputs

    The mean is over samples and positions; the norm of the paper differs by a factor that is the same for
    all weights of a layer. For a kernel of a convolution, x is the input channel. No gradients and no
    labels are needed, so it also works outside `fit`: `Pruner.update(calibration=...)` and
    `shrink(inputs=...)`. In `fit`, `Prune` uses the batches of the training, or latent vectors for a
    generator that takes them.

    Where the input is not known (inside recurrent cells, and behind the first kernel of a separable
    convolution), x counts as 1, so that the score is the magnitude.

    Args:
        per_output: Bool. True: the weights of each output are compared with each other only, so that
            every output loses the same share. Then the score is the rank among them, in (0, 1]. Defaults
            to False: all weights of a layer are compared.
        batches: Positive int, number of batches of the running `fit` whose inputs are used. Defaults to 4.

    Raises:
        InvalidArgumentError: `per_output` is not a bool, or `batches` is not a positive int.

    Example: the second argument is the root of the mean of x^2, for each weight.
    >>> Wanda().score(np.array([[1.0], [-2.0]]), np.array([[3.0], [1.0]]))
    array([[3.],
           [2.]])
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.set_weights([np.array([[1.0], [2.0]]), np.zeros(1)])
    >>> pruner = kgp.Pruner(model, criterion="wanda")
    >>> report = pruner.update(sparsity=0.5, calibration=np.array([[3.0, 1.0]]))
    >>> np.array(model.get_weights()[0]).tolist()
    [[1.0], [0.0]]

    Reference:
        [A simple and effective pruning approach for large language models](https://arxiv.org/abs/2306.11695),
        Eq. 1; there with `per_output`, which did not help image classifiers.
    """

    measures = True
    needs_calibration = True
    _outputs: tuple[int, ...] = ()

    def __init__(self, per_output: bool = False, batches: int = 4):
        self.per_output = validation.boolean(per_output, "per_output")
        self.batches = validation.positive_int(batches, "batches")

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"per_output": self.per_output, "batches": self.batches}

    def bind(self, context: WeightContext) -> Wanda:
        """Return a copy that knows the output axes of the weight."""
        bound = copy.copy(self)
        bound._outputs = context.axes.outputs
        return bound

    def measure(
        self,
        networks: Sequence[keras.layers.Layer],
        weights: Sequence[MaskedWeight],
        calibration: Sequence[Any] | None,
    ) -> list[Any]:
        """Return the root mean square of the input of each weight."""
        sums: dict[int, list[Any]] = {}

        def add(layer: keras.layers.Layer, inputs: Any, _: Any) -> None:
            array = values_of(inputs)
            if array is not None:
                squares, count = _squares(layer, array)
                row = sums.setdefault(id(layer), [0.0, 0])
                row[0], row[1] = row[0] + squares, row[1] + count

        owners = [_owner(weight) for weight in weights]
        for network, inputs in zip(networks, calibration or [], strict=True):
            inside = {id(layer) for layer in network._flatten_layers()}
            observe(network, [x for x in owners if id(x) in inside], inputs, add)
        unknown: list[Any] = [None, 0]
        return [
            _by_weight(weight, *sums.get(id(owner), unknown))
            for weight, owner in zip(weights, owners, strict=True)
        ]

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return |w| times the norm of the input.

        Raises:
            InvalidArgumentError: Nothing was measured.
        """
        scores = np.abs(weight) * require_gradient(self, gradient)
        return _ranks(scores, self._outputs) if self.per_output else scores

    def conflict(self, granularity: Granularity, joint: bool) -> str | None:
        """Return why the criterion cannot be used with these settings, or None."""
        if self.per_output and joint:
            return (
                "ranks within an output are the same in all layers, so a joint ranking would compare "
                "nothing; use allocation='uniform', or Wanda(per_output=False)"
            )
        return None


def _owner(weight: MaskedWeight) -> keras.layers.Layer:
    """Return the layer that holds the weight itself: a cell, or a projection of an attention layer."""
    return functools.reduce(member, weight.name.split(".")[:-1], weight.layer)


def _squares(layer: keras.layers.Layer, inputs: np.ndarray) -> tuple[Any, int]:
    """Return the sums of the squared inputs over all but the channels, and how many were added."""
    if isinstance(layer, keras.layers.Embedding):
        # An index stands for a row of ones and zeros.
        count = np.bincount(inputs.astype(np.int64).reshape(-1), minlength=layer.input_dim)
        return count.astype(np.float64), inputs.size
    array = channels_last(inputs, layer).astype(np.float64)
    summed = _summed_axes(layer, array.ndim)
    others = tuple(axis for axis in range(array.ndim) if axis not in summed)
    return np.square(array).sum(axis=others).reshape(-1), math.prod(array.shape[i] for i in others)


def _summed_axes(layer: keras.layers.Layer, ndim: int) -> tuple[int, ...]:
    """Return the axes of the input that a kernel sums over: the last one, or those of the equation."""
    if not isinstance(layer, keras.layers.EinsumDense):
        return (ndim - 1,)
    inputs, kernel, output = layer.equation.replace("->", ",").split(",")
    letters = [letter for letter in kernel if letter not in output]
    inputs = inputs.replace("...", "")
    return tuple(ndim - len(inputs) + inputs.index(letter) for letter in letters)


def _by_weight(weight: MaskedWeight, squares: Any, count: int) -> np.ndarray:
    """Return the root mean square of the inputs in the shape of the weight; ones if it is not known."""
    shape = tuple(weight.mask.shape)
    axes = [axis % len(shape) for axis in kernel_axes(weight.layer, weight.name).inputs]
    size = math.prod(shape[axis] for axis in axes)
    last = weight.name.rpartition(".")[2]
    known = axes and last not in ("pointwise_kernel", "recurrent_kernel")
    if squares is None or not known or np.size(squares) % size:
        return np.ones(shape, dtype=np.float32)
    norms = np.sqrt(np.asarray(squares) / count)
    if np.size(squares) == size:
        spread = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
        return np.broadcast_to(norms.reshape(spread), shape)
    # The channels of a grouped convolution: each group of outputs has inputs of its own.
    groups = np.size(squares) // size
    if shape[-1] % groups:
        return np.ones(shape, dtype=np.float32)
    return np.broadcast_to(
        np.repeat(norms.reshape(groups, size).T, shape[-1] // groups, axis=1), shape
    )


def _ranks(scores: np.ndarray, outputs: tuple[int, ...]) -> np.ndarray:
    """Return the rank of each score among those of its output, from 1 / n to 1."""
    axes = sorted(axis % scores.ndim for axis in outputs)
    moved = np.moveaxis(scores, axes, range(len(axes)))
    rows = moved.reshape(math.prod(moved.shape[: len(axes)]), -1)
    # Of equal scores, the lower index stays.
    order = np.argsort(-rows, axis=1, kind="stable")
    ranks = np.empty(rows.shape, dtype=np.float64)
    places = np.broadcast_to(np.arange(rows.shape[1], 0, -1) / rows.shape[1], rows.shape)
    np.put_along_axis(ranks, order, places, axis=1)
    return np.moveaxis(ranks.reshape(moved.shape), range(len(axes)), axes)
