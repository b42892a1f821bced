"""The base class of criteria, and what a criterion knows about the weight that it scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernel_axes import KernelAxes
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.granularity import Granularity
from keras_ganprune.utils.registry import Configurable, Family


@dataclass(frozen=True)
class WeightContext:
    """What `Criterion.bind` receives about the weight that will be scored.

    Attributes:
        index: Int, position among the pruned weights.
        path: Path of the layer and name of the weight, such as 'generator/dense/kernel'.
        axes: Axes of the weight over its input and over its output channels.
        layer: Layer that holds the weight.
        network: Network that holds the layer.
    """

    index: int
    path: str
    axes: KernelAxes
    layer: keras.layers.Layer
    network: keras.layers.Layer


class Criterion(Configurable):
    """Base class of criteria. A criterion scores weights; the lowest scores are pruned first.

    A subclass must define `score`. It may override:

    - `get_config`, which returns the arguments of the constructor. Needed if there are any.
    - `unit`, if a unit's score is computed from the pooled score. An L2 norm, for example, takes its root.
    - `unit_scores`, if only a whole unit has a score.
    - `bind`, if the scores depend on the layer or the network of the weight.
    - `conflict`, if the criterion does not support some granularity or a joint ranking.

    An instance can be passed as `criterion=` at once. A criterion of this package also has the decorator
    `@family.register`, an import and a name in `criteria/__init__.py`, and a row in
    `tests/helpers/members.py`.

    Attributes:
        needs_gradient: Bool, whether `score` needs a gradient. Defaults to False.
        moment: 1 or 2. `score` receives the mean of |g| over the sampled batches (1), or the root of the
            mean of g^2 (2). Defaults to 1.
        batches: Int, number of batches of the running `fit` over which gradients are averaged.
            Defaults to 0.
        signed: Bool, whether gradients keep their sign: `score` receives the mean of g, not of |g|.
            Defaults to False.
        times_weight: Bool, whether each gradient is multiplied by the weight before the mean. Defaults
            to False.
        source: 'training' for the gradients that the optimizers use, or 'adversarial' for those of the
            generator's loss under the current discriminator. Defaults to 'training'.
        measures: Bool, whether `score` receives what `measure` returns, in place of a gradient. Defaults
            to False.
        needs_calibration: Bool, whether `measure` runs the network on calibration inputs. Defaults to
            False.

    Example:
    >>> class Power(Criterion):
    ...     def __init__(self, power=2.0):
    ...         self.power = power
    ...
    ...     def score(self, weight, gradient=None):
    ...         return np.abs(weight) ** self.power
    ...
    ...     def get_config(self):
    ...         return {"power": self.power}
    >>> Power().score(np.array([-3.0, 1.0]))
    array([9., 1.])
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> kgp.Pruner(model, criterion=Power(1.0)).update(sparsity=0.5).kept
    4
    """

    needs_gradient: bool = False
    moment: int = 1
    batches: int = 0
    signed: bool = False
    times_weight: bool = False
    source: Literal["training", "adversarial"] = "training"
    measures: bool = False
    needs_calibration: bool = False

    def bind(self, context: WeightContext) -> Criterion:
        """Return the criterion for one weight. The default returns `self`.

        Args:
            context: The weight's position, layer and network.

        Returns:
            A criterion. An override returns a changed copy: one criterion serves all weights.
        """
        return self

    def measure(
        self,
        networks: Sequence[keras.layers.Layer],
        weights: Sequence[MaskedWeight],
        calibration: Sequence[Any] | None,
    ) -> list[Any]:
        """Return what `score` needs to know of each weight, measured on the networks as they are now.

        Used only if `measures` is True. The networks must be left as they were.

        Args:
            networks: The networks that are pruned.
            weights: Their weights that have masks.
            calibration: Inputs for each network, or None if `needs_calibration` is False.

        Returns:
            One array per weight, of the shape of the weight. `score` receives it as `gradient`.
        """
        raise NotImplementedError

    def evidence(
        self,
        networks: Sequence[keras.layers.Layer],
        weights: Sequence[MaskedWeight],
        gradients: list[Any],
        calibration: Sequence[Any] | None,
    ) -> list[Any]:
        """Return what `score` receives for each weight: its gradient, or what `measure` returns."""
        return self.measure(networks, weights, calibration) if self.measures else gradients

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return the scores of single weights.

        Args:
            weight: Array, the values of the weight. It must not be changed.
            gradient: Array of the shape of `weight`, see `moment` and `measure`; None if the criterion
                needs neither gradients nor measurements.

        Returns:
            Array of the shape of `weight`, higher = keep.
        """
        raise NotImplementedError

    def unit(self, pooled: np.ndarray) -> np.ndarray:
        """Return the scores of units from the result of `Granularity.pool` on the scores of weights."""
        return pooled

    def unit_scores(
        self, weight: np.ndarray, gradient: np.ndarray | None, granularity: Granularity
    ) -> np.ndarray:
        """Return the scores of the units of a granularity.

        Args:
            weight: Array, the values of the weight.
            gradient: Array of the shape of `weight`, or None.
            granularity: A granularity that was resolved for this weight.

        Returns:
            Array of the shape that `granularity.pool` returns, higher = keep.
        """
        return self.unit(granularity.pool(self.score(weight, gradient)))

    def note(self) -> str | None:
        """Return a remark for the user on how a bound criterion scores its weight, or None."""
        return None

    def conflict(self, granularity: Granularity, joint: bool) -> str | None:
        """Return why the criterion cannot be used with these settings, or None.

        Args:
            granularity: The granularity of the pruner.
            joint: Bool, whether raw scores of different tensors are compared.
        """
        return None


family = Family("criterion", Criterion)


def require_gradient(criterion: Criterion, gradient: np.ndarray | None) -> np.ndarray:
    """Return the gradient as an array, or raise `InvalidArgumentError` if it is None."""
    if gradient is None:
        raise InvalidArgumentError(
            f"{criterion!r} needs {'a measurement' if criterion.measures else 'a gradient'} of the shape "
            "of the weight. Received: None. "
            + (
                "`Pruner.update`, `shrink` and `Prune` make it."
                if criterion.measures
                else "Inside `fit` the `Prune` callback samples it; otherwise pass `gradients=` to "
                "`Pruner.update`."
            )
        )
    return np.asarray(gradient)
