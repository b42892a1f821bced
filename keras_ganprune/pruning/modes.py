"""Whether a pruned weight may come back, and how: the mode of pruning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.utils import validation
from keras_ganprune.utils.registry import Configurable, Family

RESTORES = ("zero", "initializer", "previous")


@dataclass(frozen=True)
class Choice:
    """What a mode decides on: the units of one ranking.

    Attributes:
        scores: Flat array, one score a unit, higher = keep.
        kept: Flat bool array, which units are kept now.
        best: Function (scores, budget) -> bool array of the units that stay.
        top: The same without the floor of each tensor.
        budget: Units (or weights, where units differ in size) to keep; None with a threshold.
        threshold: Units with lower scores are pruned; None with a budget.
        size_of: Function, bool array of units -> how much of the budget they use.
        growth: Flat array of gradient magnitudes of units, for modes with `needs_gradient`.
        progress: Float in [0, 1], how far the schedule has come.
        draw: Function, size -> random numbers in [0, 1), the same for the same seed and step.
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
        """Return the units that the target keeps by these scores."""
        if self.threshold is not None:
            return scores >= self.threshold
        return self.best(scores, self.budget)


class Mode(Configurable):
    """Chooses the kept units at one update.

    Attributes:
        enforced: Whether pruned weights are held at zero between updates.
        regrows: Whether pruned units may be kept again.
        needs_gradient: Whether `Choice.growth` is needed.
        needs_budget: Whether a threshold cannot be the target.
        batches: Over how many batches the gradient is averaged.
        restore: What value a weight has that comes back: 'zero', 'initializer' (a fresh one) or
            'previous' (that which it had when it was pruned).
        collects: Whether a pruned weight goes on collecting its optimizer's updates, unseen.
    """

    enforced = True
    regrows = False
    needs_gradient = False
    needs_budget = False
    batches = 0
    restore = "zero"
    collects = False

    def choose(self, choice: Choice) -> np.ndarray:
        """Return the bool array of the units to keep."""
        raise NotImplementedError


_family = Family("mode", Mode)


def _check_restore(restore: Any) -> str:
    if restore not in RESTORES:
        raise InvalidArgumentError(unknown_name("value of `restore`:", restore, RESTORES))
    return restore


def _check_fraction(fraction: Any) -> float:
    if (
        isinstance(fraction, bool)
        or not isinstance(fraction, (int, float, np.integer, np.floating))
        or not 0.0 < fraction <= 1.0
    ):
        fix = f" For {fraction:g} %, pass {fraction / 100:g}." if _is_percent(fraction) else ""
        raise InvalidArgumentError(
            "`fraction`, the share of the kept units to exchange, must be in (0, 1]. "
            f"Received: {fraction!r}.{fix}"
        )
    return float(fraction)


def _check_decay(decay: Any) -> str:
    if decay not in ("cosine", "constant"):
        raise InvalidArgumentError(unknown_name("`decay`", decay, ("cosine", "constant")))
    return decay


def _share(fraction: float, decay: str, progress: float) -> float:
    if decay == "constant":
        return fraction
    return 0.5 * fraction * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def _is_percent(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 1 < value <= 100


@_family.register
class Hard(Mode):
    """A pruned unit stays pruned.

    Example:
    >>> get("hard")
    Hard()
    """

    def choose(self, choice):
        scores = choice.scores
        np.putmask(scores, ~choice.kept, -np.inf)
        return choice.by_score(scores) & choice.kept


@_family.register
class Soft(Mode):
    """Pruned weights are set to zero at each update, then train on freely until the next one.

    At the end of the schedule, and of every `fit`, the last mask is held. Until then the network is *not*
    sparse between updates; a later `fit` whose schedule goes on lets go again.

    Example:
    >>> get("soft").enforced
    False

    Reference: [Soft filter pruning](https://arxiv.org/abs/1808.06866), §3.
    """

    enforced = False
    regrows = True

    def choose(self, choice):
        return choice.by_score(choice.scores)


class _Exchange(Mode):
    """Drops the lowest of the kept units, and keeps as many others again."""

    regrows = True
    needs_budget = True

    def __init__(self, fraction: float = 0.3, decay: str = "cosine", restore: str = "zero"):
        self.fraction = _check_fraction(fraction)
        self.decay = _check_decay(decay)
        self.restore = _check_restore(restore)

    def get_config(self):
        return {"fraction": self.fraction, "decay": self.decay, "restore": self.restore}

    def share(self, progress: float) -> float:
        """Return the share of the kept units to exchange at a progress in [0, 1]."""
        return _share(self.fraction, self.decay, progress)

    def growth(self, choice: Choice) -> np.ndarray:
        """Return the scores by which units come back, higher = first."""
        raise NotImplementedError

    def choose(self, choice):
        budget = choice.budget
        scores = np.where(choice.kept, choice.scores, -np.inf)
        kept = choice.best(scores, budget)
        left = choice.size_of(kept)
        dropped = round(self.share(choice.progress) * left)
        survivors = choice.best(np.where(kept, choice.scores, -np.inf), max(left - dropped, 0))
        missing = budget - choice.size_of(survivors)
        if missing <= 0:
            return survivors
        growth = np.asarray(self.growth(choice), dtype=np.float64)
        # One ranking: the survivors first (they are not to be exchanged), then what grows.
        return choice.best(np.where(survivors, np.inf, growth), budget)


@_family.register
class RigL(_Exchange):
    """Drop by score, grow where the gradient is largest; the number kept does not change.

        exchanged at progress p: fraction / 2 * (1 + cos(pi * p)) of the kept units

    Args:
        fraction: Float in (0, 1], share of the kept units to exchange at the first update.
        decay: 'cosine' (to nothing at the end of the schedule) or 'constant'.
        restore: What value returning weights start from: 'zero', 'initializer' or 'previous'.
        batches: Positive int, batches of the running `fit` over which |gradient| is averaged.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> RigL(0.4).share(0.5)
    0.2

    Reference: [Rigging the lottery](https://arxiv.org/abs/1911.11134), §3.
    """

    needs_gradient = True

    def __init__(
        self,
        fraction: float = 0.3,
        decay: str = "cosine",
        restore: str = "zero",
        batches: int = 1,
    ):
        super().__init__(fraction, decay, restore)
        self.batches = check_batches(batches)

    def get_config(self):
        return {**super().get_config(), "batches": self.batches}

    def growth(self, choice):
        return choice.growth


@_family.register
class SET(_Exchange):
    """Drop by score, grow at random; the number kept does not change.

    Args:
        fraction: Float in (0, 1], share of the kept units to exchange.
        decay: 'constant', or 'cosine' (to nothing at the end of the schedule).
        restore: What value returning weights start from: 'zero', 'initializer' or 'previous'.
        seed: Non-negative int.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> SET(0.4).share(0.5)
    0.4

    Reference: [Sparse evolutionary training](https://arxiv.org/abs/1707.04780), algorithm 1.
    """

    def __init__(
        self,
        fraction: float = 0.3,
        decay: str = "constant",
        restore: str = "zero",
        seed: int = 0,
    ):
        super().__init__(fraction, decay, restore)
        self.seed = validation.non_negative_int(seed, "seed")

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}

    def growth(self, choice):
        return choice.draw(choice.scores.size)


@_family.register
class Splice(Mode):
    """Dynamic network surgery: a pruned weight goes on training unseen, and returns if it grew enough.

    A pruned weight counts as zero in the network, but the updates that the optimizer makes to it are
    collected. Two thresholds keep a weight from going in and out at every update: with a target
    threshold `t` a kept unit goes below `t`, a pruned one returns at `t * (1 + margin)`; with a target
    sparsity the scores of pruned units are divided by `1 + margin` before the ranking, so that the
    number kept is exact.

        units that may return at progress p: at most fraction / 2 * (1 + cos(pi * p)) of the kept ones

    Args:
        margin: Non-negative float, how much larger than a kept unit a pruned one must be to return.
        fraction: Float in (0, 1], bounds how many units return at one update, as a share of the kept
            ones, or as many as a sparsity that falls needs.
        decay: 'cosine' (to nothing at the end of the schedule) or 'constant'.
        restore: What value returning weights start from: 'zero', 'initializer', or 'previous' (that at
            which they were pruned, with all that was collected since, as in the paper). Unseen updates
            find no resistance, and under Adam are as large as seen ones, so 'previous' needs a small
            `fraction` or a large `margin` there.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> Splice(margin=0.2).margin
    0.2

    Reference: [Dynamic network surgery](https://arxiv.org/abs/1608.04493), Eq. 3; its surgery grows rare
    in the same way, by a falling probability.
    """

    regrows = True
    collects = True

    def __init__(
        self,
        margin: float = 0.1,
        fraction: float = 0.3,
        decay: str = "cosine",
        restore: str = "zero",
    ):
        if (
            isinstance(margin, bool)
            or not isinstance(margin, (int, float))
            or not 0 <= margin < math.inf
        ):
            raise InvalidArgumentError(
                "`margin` must be a non-negative number; 0.1 means that a pruned unit must be 10 % "
                f"larger than a kept one to return. Received: {margin!r}."
            )
        self.margin = float(margin)
        self.fraction = _check_fraction(fraction)
        self.decay = _check_decay(decay)
        self.restore = _check_restore(restore)

    def get_config(self):
        return {
            "margin": self.margin,
            "fraction": self.fraction,
            "decay": self.decay,
            "restore": self.restore,
        }

    def choose(self, choice):
        scores = np.where(choice.kept, choice.scores, choice.scores / (1.0 + self.margin))
        if not choice.kept.all():
            here = choice.size_of(choice.kept)
            most = round(_share(self.fraction, self.decay, choice.progress) * here)
            if choice.budget is not None:
                # A sparsity that falls is met at once: `fraction` bounds the exchange beyond it.
                most = max(most, choice.budget - here)
            pruned = np.where(choice.kept, -np.inf, scores)
            # Without floors: those are for what stays, not for what may return.
            scores = np.where(choice.kept | choice.top(pruned, most), scores, -np.inf)
        return choice.by_score(scores)


def check_batches(batches: Any) -> int:
    """Return `batches` if it is a positive int."""
    if isinstance(batches, bool) or not isinstance(batches, (int, np.integer)) or batches < 1:
        raise InvalidArgumentError(
            "`batches`, over which the gradient is averaged, must be a positive int. "
            f"Received: {batches!r}."
        )
    return int(batches)


# The modes that a name alone gives.
ModeName: TypeAlias = Literal["hard", "soft", "rigl", "set", "splice"]
# A mapping is a Keras config.
ModeLike: TypeAlias = Mode | ModeName | Mapping[str, Any]


def get(identifier: ModeLike) -> Mode:
    """Return the mode for a name ('hard', 'soft', 'rigl', 'set', 'splice'), a config or an instance."""
    return _family.get(identifier)
