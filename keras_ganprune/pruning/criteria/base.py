"""What a criterion is, and the ones that look at nothing but the weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernel_axes import KernelAxes
from keras_ganprune.pruning.granularity import Granularity
from keras_ganprune.utils import validation
from keras_ganprune.utils.registry import Configurable, Family


@dataclass(frozen=True)
class WeightContext:
    """What a criterion may know of the weight that it scores.

    Attributes:
        index: Int, its place among the pruned weights.
        path: Layer path and weight name.
        axes: Which axes of the weight run over input and over output channels.
        layer: The layer that holds it.
        network: The network that holds the layer.
    """

    index: int
    path: str
    axes: KernelAxes
    layer: keras.layers.Layer
    network: keras.layers.Layer


class Criterion(Configurable):
    """Scores of weights, higher = keep.

    A new criterion overrides `score`, and `unit` where the score of a unit is not the plain sum.

    Attributes:
        needs_gradient: Whether `score` needs a gradient.
        moment: 1 or 2: `score` is given mean |g|, or the root of mean g^2, over the sampled batches.
        batches: Over how many batches of the running `fit` gradients are sampled.
        source: 'training': the gradients that the optimizers see; 'adversarial': those of the
            generator's loss as the trained discriminator judges it.
    """

    needs_gradient = False
    moment = 1
    batches = 0
    source = "training"

    def bind(self, context: WeightContext) -> Criterion:
        """Return the criterion for one weight; itself unless it has to know more than the values."""
        return self

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return an array of the shape of `weight`, higher = keep."""
        raise NotImplementedError

    def unit(self, pooled: np.ndarray) -> np.ndarray:
        """Return the scores of units from what `Granularity.pool` made of the scores of weights."""
        return pooled

    def unit_scores(
        self, weight: np.ndarray, gradient: np.ndarray | None, granularity: Granularity
    ) -> np.ndarray:
        """Return one score for each unit of a granularity whose axes are resolved."""
        return self.unit(granularity.pool(self.score(weight, gradient)))

    def note(self) -> str | None:
        """Return what a user should know of how a bound criterion scores its weight, or None."""
        return None

    def conflict(self, granularity: Granularity, joint: bool) -> str | None:
        """Return why the criterion cannot go with a granularity (or a joint ranking), or None."""
        return None


family = Family("criterion", Criterion)


@family.register
class Magnitude(Criterion):
    """Magnitude of the weights: small ones go first.

        l1: sum over the unit of |w|        l2: sqrt(sum over the unit of w^2)

    For unstructured pruning a unit is one weight, so both give |w|.

    Args:
        norm: 'l1' or 'l2', the norm of a unit.

    Example:
    >>> Magnitude("l1").score(np.array([-2.0, 1.0]))
    array([2., 1.])

    Reference: [Learning both weights and connections](https://arxiv.org/abs/1506.02626), §3.
    """

    def __init__(self, norm: str = "l1"):
        if norm not in ("l1", "l2"):
            raise InvalidArgumentError(f"`norm` must be 'l1' or 'l2'. Received: {norm!r}.")
        self.norm = norm

    def score(self, weight, gradient=None):
        if self.norm == "l1":
            return np.abs(weight)
        # float64: the square of a small float32 weight would underflow to a tie at zero.
        return np.square(weight, dtype=np.float64)

    def unit(self, pooled):
        return pooled if self.norm == "l1" else np.sqrt(pooled)

    def get_config(self):
        return {"norm": self.norm}


@family.register
class Random(Criterion):
    """Random scores in [0, 1): the yardstick that every other criterion has to beat.

    They are the same at every update, so that masks nest. Two tensors never share them.

    Args:
        seed: Non-negative int.

    Example:
    >>> scores = Random(seed=1).score(np.zeros((2, 3)))
    >>> scores.shape, bool((scores < 1).all())
    ((2, 3), True)
    """

    _index = 0

    def __init__(self, seed: int = 0):
        self.seed = validation.non_negative_int(seed, "seed")

    def bind(self, context):
        bound = copy.copy(self)
        bound._index = context.index
        return bound

    def score(self, weight, gradient=None):
        return np.random.default_rng((self.seed, self._index)).random(np.shape(weight))

    def unit_scores(self, weight, gradient, granularity):
        # Drawn for units: sums over large units would all be nearly equal.
        units = np.shape(granularity.pool(np.zeros(np.shape(weight), dtype=np.float32)))
        return np.random.default_rng((self.seed, self._index)).random(units)

    def get_config(self):
        return {"seed": self.seed}


def require_gradient(criterion: Criterion, gradient: Any) -> np.ndarray:
    """Return the gradient as an array, or raise."""
    if gradient is None:
        raise InvalidArgumentError(
            f"{criterion!r} needs a gradient of the shape of the weight. Received: None. Inside `fit` "
            "the `Prune` callback samples it; by hand, pass `gradients=` to `Pruner.update`."
        )
    return np.asarray(gradient)
