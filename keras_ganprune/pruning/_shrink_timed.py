"""Which channels stay, so that a network meets a budget in measured latency."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.pruning.achieved_latency import AchievedLatency, measured, title
from keras_ganprune.pruning.structured import budget as budgets
from keras_ganprune.pruning.structured import runtimes
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.pruning.structured.rebuild import Builder
from keras_ganprune.pruning.structured.runtimes import Run

#: Largest valid difference between the latency and the budget, as a share of the budget.
TOLERANCE = 0.1
# A first measurement this near is measured again, and that must be this near.
_NEAR, _PROVEN = 0.06, 0.06
# Networks that are exported and measured at most.
_TRIES = 9
_SECONDS = 1.0
# The proof loads both networks so many times.
_LOADS = 4
# Channels that ONNX Runtime computes together on a CPU: other widths are slower.
_BLOCK = 8


def dense_run(groups: Groups, budget: Budget) -> Run:
    """Return the network as it is now, without masks, as a function that runs it in the runtime.

    Args:
        groups: Groups of the network.
        budget: A latency.
    """
    everything = [np.ones(group.size, dtype=bool) for group in groups]
    return opened(Builder(groups, everything).build()[0], budget)


def opened(network: keras.Model, budget: Budget) -> Run:
    """Return a network, exported, as a function that runs it in the runtime of a latency."""
    return runtimes.opened(network, str(budget.runtime), int(budget.batch_size or 1))


def widths(budget: Budget, round_to: int | None) -> tuple[int | None, ...]:
    """Return the multiples that widths are rounded to, the best one first.

    Args:
        budget: A latency.
        round_to: What the user has requested, or None.
    """
    if round_to is None and budget.runtime == "onnx":
        return (_BLOCK, None)
    return (round_to,)


def timed_units(
    groups: Groups,
    scores: Sequence[np.ndarray],
    budget: Budget,
    *,
    round_to: int | None,
    dense: Run | None = None,
    **settings: Any,
) -> tuple[list[np.ndarray], AchievedLatency]:
    """Return which units of each group stay, and the latency that the smaller network has.

    Args:
        groups, scores: As for `fit`.
        budget: A latency.
        round_to: As for `fit`. None in ONNX Runtime: multiples of 8, if these can meet the budget.
        dense: Runs the network that the budget is a share of. Defaults to None: that of the groups.
        **settings: ranking, minimum and limits, as for `fit`.

    Raises:
        InvalidArgumentError: The smallest network that is allowed takes longer.

    Warns:
        PruningWarning: The nearest network misses the budget by more than 10 %.
    """
    dense = dense_run(groups, budget) if dense is None else dense
    floors: list[AchievedLatency] = []
    found: list[_Try] = []
    for multiple in widths(budget, round_to):
        search = _Search(groups, scores, budget, dense, {"round_to": multiple, **settings})
        best = search.run()
        if best is None:
            floors.append(search.tries[-1].latency)
            continue
        found.append(best)
        if best.gap <= TOLERANCE:
            break
    if not found:
        raise InvalidArgumentError(_no_fit(budget, min(floors, key=lambda each: each.share)))
    best = min(found, key=lambda each: each.gap)
    if best.gap > TOLERANCE:
        warnings.warn(
            f"The budget, {budget.fraction:g} of the latency, is missed by more than {TOLERANCE:.0%}: the "
            f"nearest network that was found has {best.latency}.",
            PruningWarning,
            stacklevel=4,
        )
    return best.keeps, best.latency


def check_reachable(
    groups: Groups, budget: Budget, dense: Run, minimum: int | float, limits: Any
) -> None:
    """Raise if even the smallest network that is allowed takes too long: before a training, not after it.

    Args:
        groups: Groups of the network.
        budget: A latency.
        dense: Runs the network that the budget is a share of.
        minimum, limits: As for `fit`.

    Raises:
        InvalidArgumentError: The budget cannot be met.
    """
    scores = [np.arange(group.size, dtype="float64") for group in groups]
    keeps = groups.never_empty(budgets.smallest(groups, scores, minimum=minimum, limits=limits))
    costs = Costs(groups)
    run = opened(Builder(groups, keeps).build()[0], budget)
    floor = measured(budget, dense, run, costs.macs(list(keeps)) / max(1, costs.macs()))
    if floor.share > budget.fraction * (1 + TOLERANCE):
        raise InvalidArgumentError(_no_fit(budget, floor))


def _no_fit(budget: Budget, floor: AchievedLatency) -> str:
    return (
        f"A budget of {budget.fraction:g} of the latency cannot be met in {title(budget)}: the smallest "
        f"network that is allowed has {floor}. What stays takes the time: layers whose channels cannot be "
        "removed, and the overhead of each call. Loosen `round_to`, `limits`, `keep` or the minimum of the "
        f"allocation, measure larger batches (`batch_size`), or give a budget above {floor.share:.3f}."
    )


class _Try:
    """A network that was measured.

    Attributes:
        keeps: Which units stay.
        share: Share of the multiply-accumulates that stays.
        latency: What was measured.
    """

    def __init__(self, keeps: list[np.ndarray], share: float, latency: AchievedLatency):
        self.keeps, self.share, self.latency = keeps, share, latency

    @property
    def gap(self) -> float:
        """Distance from the budget, as a share of it."""
        target = self.latency.budget.fraction
        return abs(self.latency.share - target) / target


class _Search:
    """Searches for the share of the multiply-accumulates at which the latency meets its budget.

    The latency is taken to be a monotone function of this share: a line between the nearest networks that
    were measured on both sides. Each measured network makes it better.
    """

    def __init__(
        self,
        groups: Groups,
        scores: Sequence[np.ndarray],
        budget: Budget,
        dense: Run,
        settings: dict[str, Any],
    ):
        self.groups, self.scores, self.budget, self.dense = groups, scores, budget, dense
        self.costs = Costs(groups)
        self.settings = {**settings, "costs": self.costs}
        constraints = {k: v for k, v in self.settings.items() if k != "ranking"}
        self.floor = groups.never_empty(budgets.smallest(groups, scores, **constraints))
        self.tries: list[_Try] = []

    def run(self) -> _Try | None:
        """Return the nearest network that was measured; None if the smallest one takes too long."""
        target = self.budget.fraction
        least, share = self._share(self.floor), target
        while len(self.tries) < _TRIES:
            keeps = self._keeps(max(share, least))
            if self._known(keeps):
                break
            found = self._measured(keeps)
            self.tries.append(found)
            if found.gap <= _NEAR and self._proven(found):
                return found
            at_floor = all(np.array_equal(a, b) for a, b in zip(keeps, self.floor, strict=True))
            if at_floor and found.latency.share > target:
                # A network of single channels is worth nothing, so it is taken only where it is meant.
                return found if found.gap <= budgets.TOLERANCE else None
            share = self._next(least)
        best = min(self.tries, key=lambda each: each.gap)
        self._proven(best)
        return min(self.tries, key=lambda each: each.gap)

    def _keeps(self, share: float) -> list[np.ndarray]:
        """Return which units stay at a share of the multiply-accumulates."""
        if share <= self._share(self.floor):
            return self.floor
        budget = Budget(macs=min(1.0, share))
        with _silent():
            keeps = budgets.fit(self.groups, self.scores, budget, **self.settings)
        return self.groups.never_empty(keeps)

    def _share(self, keeps: Sequence[np.ndarray]) -> float:
        return self.costs.macs(list(keeps)) / max(1, self.costs.macs())

    def _known(self, keeps: Sequence[np.ndarray]) -> bool:
        """Return whether a network of these widths was measured."""
        sizes = [int(keep.sum()) for keep in keeps]
        return any(sizes == [int(keep.sum()) for keep in each.keeps] for each in self.tries)

    def _measured(self, keeps: list[np.ndarray], loads: int = 1) -> _Try:
        small, _ = Builder(self.groups, keeps).build()
        share = self._share(keeps)
        run = opened(small, self.budget)
        return _Try(keeps, share, measured(self.budget, self.dense, run, share, _SECONDS, loads))

    def _proven(self, found: _Try) -> bool:
        """Export and measure a network again, loaded several times; return whether it is near then."""
        found.latency = self._measured(found.keeps, _LOADS).latency
        return found.gap <= _PROVEN

    def _next(self, least: float) -> float:
        """Return the share at which a monotone model of the latency meets the budget."""
        target = self.budget.fraction
        points = sorted([(1.0, 1.0), *((t.share, t.latency.share) for t in self.tries)])
        shares = np.array([share for share, _ in points])
        times = _monotone(np.array([time for _, time in points]))
        below = np.flatnonzero(times <= target)
        above = np.flatnonzero(times > target)
        if not len(above):
            return 1.0
        high = int(above[0])
        if len(below):
            low = int(below[-1])
        else:
            # A line through this network and the dense one.
            slope = (1.0 - times[high]) / max(1e-9, 1.0 - shares[high])
            guess = shares[high] - (times[high] - target) / max(1e-9, slope)
            # Not all the way at once: at small widths the latency falls more slowly.
            return float(max(guess, least, shares[high] / 8))
        part = (target - times[low]) / max(1e-9, times[high] - times[low])
        part = min(max(part, 0.1), 0.9)  # each step makes the interval smaller
        return float(shares[low] + part * (shares[high] - shares[low]))


def _monotone(values: np.ndarray) -> np.ndarray:
    """Return the nearest values that do not fall, in the sense of least squares (pooled neighbours)."""
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, count = blocks.pop()
            total = blocks[-1][1] + count
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * count) / total, total]
    return np.concatenate([np.full(int(count), mean) for mean, count in blocks])


@contextmanager
def _silent() -> Iterator[None]:
    """Within the context, nothing warns of budgets in multiply-accumulates, which nobody has requested."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The budget", PruningWarning)
        yield
