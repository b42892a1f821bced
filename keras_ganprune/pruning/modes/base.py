"""The base class of modes, and the data that they decide on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np

from keras_ganprune.utils.registry import Configurable, Family

# The value from which a returning weight starts.
Restore: TypeAlias = Literal["zero", "initializer", "previous"]
# How a fraction falls while the schedule runs.
Decay: TypeAlias = Literal["cosine", "constant"]

RESTORES: tuple[Restore, ...] = ("zero", "initializer", "previous")
DECAYS: tuple[Decay, ...] = ("cosine", "constant")


@dataclass(frozen=True)
class Choice:
    """What a mode receives at an update: the units of one ranking.

    Attributes:
        scores: Flat float array, one score per unit, higher = keep. A mode may change it.
        kept: Flat bool array, the units that are kept now.
        best: Function (scores, budget) -> bool array, the units with the highest scores within a budget.
            Each tensor keeps at least its floor. Units with score -inf are never kept.
        top: The same function without floors.
        budget: Int, number of units to keep (of weights, if units differ in size); None if the target
            is a threshold.
        threshold: Float, units with lower scores are pruned; None if the target is a budget.
        size_of: Function, bool array of units -> how much of the budget they use.
        growth: Flat array, the gradient magnitudes of the units; None unless the mode has
            `needs_gradient`.
        progress: Float in [0, 1], the part of the schedule that has passed.
        draw: Function, size -> array of random numbers in [0, 1), the same for the same seed and step.
    """

    scores: np.ndarray
    kept: np.ndarray
    best: Callable[[np.ndarray, int], np.ndarray]
    top: Callable[[np.ndarray, int], np.ndarray]
    budget: int | None
    threshold: float | None
    size_of: Callable[[np.ndarray], int]
    growth: np.ndarray | None
    progress: float
    draw: Callable[[int], np.ndarray]

    def by_score(self, scores: np.ndarray) -> np.ndarray:
        """Return the units that the target keeps by these scores.

        Args:
            scores: Flat array, one score per unit, higher = keep.

        Returns:
            Bool array, True = keep: the best units within the budget, or all that reach the threshold.
        """
        if self.threshold is not None:
            return scores >= self.threshold
        return self.best(scores, cast("int", self.budget))  # one of the two is set


class Mode(Configurable):
    """Base class of modes. A mode chooses which units are kept at an update.

    A subclass must define `choose`, and `get_config` if its constructor has arguments. The attributes say
    what it needs, and what happens to pruned weights between updates.

    An instance can be passed as `mode=` at once. A mode of this package also has the decorator
    `@family.register`, an import and a name in `modes/__init__.py`, and a row in
    `tests/helpers/members.py`.

    Attributes:
        enforced: Bool, whether pruned weights are held at zero between updates. Defaults to True.
        regrows: Bool, whether pruned units can return. Defaults to False.
        needs_gradient: Bool, whether `Choice.growth` is needed. Defaults to False.
        needs_budget: Bool, whether the target must be a sparsity, not a threshold. Defaults to False.
        batches: Int, number of batches over which the gradient is averaged. Defaults to 0.
        restore: Value of a weight that returns: 'zero', 'initializer' (a new initial value) or
            'previous' (the value at which it was pruned). Defaults to 'zero'.
        collects: Bool, whether the optimizer's updates of pruned weights are accumulated while the
            weights count as zero. Defaults to False.

    Example:
    >>> class Inertia(Mode):  # a kept unit needs only 90 % of the score of a pruned one
    ...     regrows = True
    ...     restore = "initializer"
    ...
    ...     def choose(self, choice):
    ...         return choice.by_score(np.where(choice.kept, choice.scores, 0.9 * choice.scores))
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> kgp.Pruner(model, mode=Inertia()).update(sparsity=0.5).kept
    4
    """

    enforced: bool = True
    regrows: bool = False
    needs_gradient: bool = False
    needs_budget: bool = False
    batches: int = 0
    restore: Restore = "zero"
    collects: bool = False

    def choose(self, choice: Choice) -> np.ndarray:
        """Return which units are kept.

        Args:
            choice: Scores, target and state of the units of one ranking.

        Returns:
            Flat bool array, True = keep.
        """
        raise NotImplementedError

    def remaining(self, progress: float) -> float:
        """Return what remains of a pruned weight at an update, if masks are not enforced: 0.0.

        Args:
            progress: Float in [0, 1], the part of the schedule that has passed.
        """
        return 0.0


family = Family("mode", Mode)


def decayed(fraction: float, decay: Decay, progress: float) -> float:
    """Return a fraction at a progress in [0, 1]: constant, or falling to 0 along half a cosine.

    Example:
    >>> decayed(0.4, "cosine", 0.5), decayed(0.4, "constant", 0.5)
    (0.2, 0.4)
    """
    if decay == "constant":
        return fraction
    return 0.5 * fraction * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
