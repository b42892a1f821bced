"""The recommended sparsity. Each sparsity is compared with the dense runs of the same seeds and folds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

import numpy as np

from keras_ganprune.metrics.confidence_intervals import bootstrap_increases, paired_increase
from keras_ganprune.search.runs import SweepRun
from keras_ganprune.utils import tables, validation
from keras_ganprune.utils.notebook import Block, ShownInNotebooks

# With fewer pairs, the interval covers the true value much less often than its level states.
_FEW = 5


@dataclass(frozen=True)
class Trial:
    """A training run that has ended.

    Attributes:
        criterion: Name of the criterion; None for a dense run.
        quantity: 'sparsity' or 'threshold'.
        requested: Float, requested sparsity or threshold; None for a dense run.
        seed, fold: Ints (or None), equal to the seed and fold of the dense run that it is compared with.
        values: Dict of floats, the measured values; empty if the run failed.
        achieved: Float, achieved sparsity.
        parameters, nonzero: Ints, number of parameters and of nonzero parameters of the target.
        macs: Int, multiply-accumulates per sample; the shrunk network is counted if whole channels are
            masked. None if they cannot be counted.
        nonzero_macs: Int, multiply-accumulates with a nonzero weight.
        seconds: Float, time to build and train.
        error: Text of the error, or None.

    Example:
    >>> trial = Trial("magnitude", "sparsity", 0.8, 0, None, {"fd": 7.0}, achieved=0.8)
    >>> trial.dense, trial.to_dict()["fd"]
    (False, 7.0)
    """

    criterion: str | None
    quantity: str
    requested: float | None
    seed: int
    fold: int | None
    values: Mapping[str, float] = field(default_factory=dict)
    achieved: float | None = None
    parameters: int | None = None
    nonzero: int | None = None
    macs: int | None = None
    nonzero_macs: int | None = None
    seconds: float | None = None
    error: str | None = None

    @property
    def run(self) -> SweepRun:
        """The planned run."""
        return SweepRun(self.seed, self.fold, self.quantity, self.requested, self.criterion)

    @property
    def dense(self) -> bool:
        """Whether nothing was pruned."""
        return self.requested is None

    def to_dict(self) -> dict[str, Any]:
        """Return one flat dict, for a CSV file or a data frame."""
        fields = {name: value for name, value in vars(self).items() if name != "values"}
        return {**fields, **self.values}


@dataclass(frozen=True)
class Row:
    """All trials of one sparsity (or threshold) and criterion.

    Attributes:
        criterion, requested: Name and float; None for the dense runs.
        sparsity: Float, mean achieved sparsity.
        trials: Int, number of trials that succeeded.
        failed: Int, number of trials that failed.
        mean, deviation: Floats, of the metric. The deviation is NaN for a single trial.
        increase: Float, relative degradation against dense over the pairs; see `relative_increase`.
        interval: 95 % interval of `increase`, (low, high), by `paired_increase`; None for fewer than two
            pairs.
        pairs: Int, number of trials whose dense run succeeded too.
        parameters, nonzero, macs, nonzero_macs, seconds: Means over the trials; see `Trial`.

    Example:
    >>> dense = Trial(None, "sparsity", None, 0, None, {"fd": 10.0}, 0.0, 100, 100, seconds=1.0)
    >>> row = SweepResult((dense,), {"metric": "fd", "direction": "min", "seed": 0}).rows[0]
    >>> row.dense, row.mean, row.trials
    (True, 10.0, 1)
    """

    criterion: str | None
    requested: float | None
    sparsity: float
    trials: int
    failed: int
    mean: float
    deviation: float
    increase: float
    interval: tuple[float, float] | None
    pairs: int
    parameters: float
    nonzero: float
    macs: float | None
    nonzero_macs: float | None
    seconds: float

    @property
    def dense(self) -> bool:
        """Whether nothing was pruned."""
        return self.requested is None


def _key(trial: Trial) -> tuple[str | None, float | None]:
    return (trial.criterion, trial.requested)


def _mean(values: Sequence[Any]) -> Any:
    return None if any(v is None for v in values) else fmean(values)


class DenseComparison:
    """The rows of a sweep, each compared with the dense runs.

    Args:
        trials: Sequence of `Trial`.
        metric: Name of the value that is compared.
        direction: 'min' or 'max'.
        seed: Int, seed of the bootstrap. Defaults to 0.
    """

    def __init__(
        self, trials: Sequence[Trial], metric: str, direction: Literal["min", "max"], seed: int = 0
    ):
        self.metric, self.seed = metric, seed
        self.direction: Literal["min", "max"] = direction
        self.groups: dict[tuple, dict[tuple, float]] = {}
        members: dict[tuple, list[Trial]] = {}
        for trial in trials:
            members.setdefault(_key(trial), []).append(trial)
        for key, group in members.items():
            self.groups[key] = {t.run.pair: t.values[metric] for t in group if t.error is None}
        self.dense = self.groups.get((None, None), {})
        self.rows = sorted(
            (self._row(key, group) for key, group in members.items() if self.groups[key]),
            key=lambda row: (not row.dense, row.criterion or "", row.requested or 0.0),
        )

    def _row(self, key: tuple, group: Sequence[Trial]) -> Row:
        succeeded = [trial for trial in group if trial.error is None]
        values = np.array(list(self.groups[key].values()))
        pairs, pruned, dense = self._pairs(key)
        increase, interval = math.nan, None
        if key == (None, None):
            increase = 0.0
        elif pairs:
            paired = paired_increase(
                dense.tolist(), pruned.tolist(), self.direction, seed=self.seed
            )
            increase = paired.mean
            interval = (paired.low, paired.high) if paired.count > 1 else None
        return Row(
            *key,
            sparsity=fmean(t.achieved or 0.0 for t in succeeded),
            trials=len(succeeded),
            failed=len(group) - len(succeeded),
            mean=float(values.mean()),
            deviation=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
            increase=increase,
            interval=interval,
            pairs=len(pairs),
            **{
                name: _mean([getattr(t, name) for t in succeeded])
                for name in ("parameters", "nonzero", "macs", "nonzero_macs", "seconds")
            },
        )

    def _pairs(self, key: tuple) -> tuple[list, np.ndarray, np.ndarray]:
        values = self.groups[key]
        pairs = sorted(values.keys() & self.dense.keys(), key=lambda pair: (pair[0], pair[1] or 0))
        return (
            pairs,
            np.array([values[pair] for pair in pairs]),
            np.array([self.dense[pair] for pair in pairs]),
        )

    def within(self, tolerance: float, sure: bool = False) -> Row | None:
        """Return the row of the highest sparsity within tolerance, or None.

        Args:
            tolerance: Maximum relative degradation against dense.
            sure: Whether the upper end of the interval must be within the tolerance too. Defaults to
                False.
        """
        rows = [row for row in self.rows if not row.dense and row.pairs]
        if sure:
            rows = [row for row in rows if row.interval and row.interval[1] <= tolerance]
        else:
            rows = [row for row in rows if row.increase <= tolerance]
        # Among rows of equal sparsity, the row with the smaller increase is chosen.
        return max(rows, key=lambda row: (row.sparsity, -row.increase), default=None)

    def shares(self, tolerance: float) -> dict[tuple, float]:
        """Return the fraction of bootstrap samples that choose each row: {(criterion, requested): fraction}.

        The key (None, None) means that no row is within the tolerance. The dict is empty if fewer than two
        pairs are common to all rows.
        """
        rows = [row for row in self.rows if not row.dense and row.pairs]
        keys = [(row.criterion, row.requested) for row in rows]
        common = set.intersection(*(set(self._pairs(key)[0]) for key in keys)) if keys else set()
        if len(common) < 2:
            return {}
        pairs = sorted(common, key=lambda pair: (pair[0], pair[1] or 0))
        dense = np.array([self.dense[pair] for pair in pairs])
        pruned = [np.array([self.groups[key][pair] for pair in pairs]) for key in keys]
        drawn = bootstrap_increases(
            dense, pruned, self.direction, seed=self.seed
        ).bootstrap_distribution
        sparsity = np.array([row.sparsity for row in rows])
        ranked = np.where(drawn <= tolerance, sparsity[:, None], -1.0)
        best = np.where(ranked.max(axis=0) < 0, -1, ranked.argmax(axis=0))
        shares: dict[tuple, float] = {key: float(np.mean(best == i)) for i, key in enumerate(keys)}
        shares[(None, None)] = float(np.mean(best == -1))
        return {key: share for key, share in shares.items() if share > 0}


@dataclass(frozen=True)
class Recommendation(ShownInNotebooks):
    """The highest sparsity whose metric is within tolerance of dense, with its uncertainty.

    Attributes:
        sparsity: Float, achieved sparsity; 0 if no row is within the tolerance.
        criterion, requested: The settings that achieve it; None if no row is within tolerance.
        quantity: 'sparsity' or 'threshold', the meaning of `requested`.
        increase: Float, relative degradation against dense.
        interval: 95 % interval of `increase` over seeds and folds, by `paired_increase`, or None.
        pairs: Int, number of pairs of a pruned and a dense run.
        sure_sparsity: Float, the highest sparsity for which the upper end of the interval is within the
            tolerance; 0 if there is no such sparsity.
        shares: Dict, name of a row -> fraction of bootstrap samples in which this row is recommended.
        nearest: The row nearest to the tolerance, if no row is within it; else None.

    Example:
    >>> dense = Trial(None, "sparsity", None, 0, None, {"fd": 10.0}, 0.0, 100, 100, seconds=1.0)
    >>> pruned = Trial("l1", "sparsity", 0.8, 0, None, {"fd": 10.5}, 0.8, 100, 20, seconds=1.0)
    >>> print(recommend(DenseComparison([dense, pruned], "fd", "min"), "sparsity", tolerance=0.1))
    The highest sparsity whose fd is within 10 % of dense is 0.8000, by l1 with sparsity 0.8:
    +5.0%, over 1 pair of a pruned and a dense run.
    One pair gives no interval: run more seeds.
    """

    metric: str
    tolerance: float
    sparsity: float
    criterion: str | None
    requested: float | None
    quantity: str
    increase: float
    interval: tuple[float, float] | None
    pairs: int
    sure_sparsity: float
    shares: Mapping[str, float]
    nearest: Row | None = None

    @property
    def sure(self) -> bool:
        """Whether the upper end of the interval is within tolerance too."""
        return self.interval is not None and self.interval[1] <= self.tolerance

    def _blocks(self) -> list[Block]:
        return [*str(self).split("\n")]

    def __str__(self) -> str:
        within = f"within {100 * self.tolerance:.3g} % of dense"
        if self.requested is None:
            text = f"No pruned run has a {self.metric} {within}: stay dense."
            if self.nearest is not None:
                text += (
                    f" The nearest is {_named(self.nearest, self.quantity)}: "
                    f"{tables.change(self.nearest.increase)}{_range(self.nearest.interval)}."
                )
            return text
        lines = [
            f"The highest sparsity whose {self.metric} is {within} is {self.sparsity:.4f}, by "
            f"{self.criterion} with {self.quantity} {self.requested:.4g}: {tables.change(self.increase)}"
            f"{_range(self.interval)}, over {self.pairs} pair{'s' if self.pairs != 1 else ''} of a pruned "
            "and a dense run.",
        ]
        if self.interval is None:
            lines.append("One pair gives no interval: run more seeds.")
        elif self.sure:
            lines.append("The upper end of the interval is within the tolerance too.")
        else:
            lines.append(
                "The upper end of the interval is outside the tolerance: to be sure, "
                + (f"take {self.sure_sparsity:.4f}" if self.sure_sparsity else "stay dense")
                + ", or run more seeds."
            )
        if self.interval is not None and self.pairs < _FEW:
            lines.append(
                f"An interval from {self.pairs} pairs is usually too narrow; run {_FEW} pairs or more."
            )
        if self.shares:
            shares = ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items())
            lines.append(f"Bootstrap samples of the pairs choose: {shares}.")
        return "\n".join(lines)

    __repr__ = __str__


def _range(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    return f" (95 % interval {tables.change_range(*interval)})"


def _named(row: Row, quantity: str) -> str:
    return f"{quantity} {row.requested:.4g} by {row.criterion}"


def recommend(comparison: DenseComparison, quantity: str, tolerance: float) -> Recommendation:
    """Return the highest sparsity within tolerance, as a `Recommendation`."""
    row, sure = comparison.within(tolerance), comparison.within(tolerance, sure=True)
    tried = [r for r in comparison.rows if not r.dense and r.pairs]
    criteria = {r.criterion for r in tried}
    shares = {}
    for (criterion, requested), share in comparison.shares(tolerance).items():
        name = "dense" if requested is None else f"{requested:.4g}"
        shares[name if len(criteria) < 2 or requested is None else f"{name} by {criterion}"] = share
    return Recommendation(
        metric=comparison.metric,
        tolerance=tolerance,
        sparsity=0.0 if row is None else row.sparsity,
        criterion=None if row is None else row.criterion,
        requested=None if row is None else row.requested,
        quantity=quantity,
        increase=0.0 if row is None else row.increase,
        interval=None if row is None else row.interval,
        pairs=0 if row is None else row.pairs,
        sure_sparsity=0.0 if sure is None else sure.sparsity,
        shares=dict(sorted(shares.items(), key=lambda item: -item[1])),
        nearest=min(tried, key=lambda r: r.increase, default=None) if row is None else None,
    )


def pareto(rows: Sequence[Row], cost: str, direction: str) -> list[Row]:
    """Return the Pareto front: the rows that no other row at equal or lower cost surpasses in the metric.

    Args:
        cost: 'nonzero', 'parameters', 'macs' or 'nonzero_macs'.
        direction: 'min' if a lower metric is better, 'max' if a higher metric is better.
    """
    sign = validation.sign_of(direction)
    known = [row for row in rows if getattr(row, cost) is not None]
    front, best = [], math.inf
    for row in sorted(known, key=lambda row: (getattr(row, cost), sign * row.mean)):
        if sign * row.mean < best:
            front.append(row)
            best = sign * row.mean
    return front
