"""What a sweep has found: a table, a recommendation, a picture."""

from __future__ import annotations

import csv
import functools
import math
import os
import pathlib
from typing import Any

from keras_ganprune.errors import InvalidArgumentError, PruningError, unknown_name
from keras_ganprune.search import pareto_plot
from keras_ganprune.search.plan import checked_tolerance
from keras_ganprune.search.recommendation import (
    DenseComparison,
    Recommendation,
    Row,
    Trial,
    pareto,
    recommend,
)
from keras_ganprune.search.storage import quiet
from keras_ganprune.search.study import Study, finished_runs
from keras_ganprune.utils import tables

COSTS = ("nonzero", "parameters", "macs", "nonzero_macs")


class SweepResult:
    """The trials of a sweep that have ended; printable, and `to_dicts()` for a data frame.

    Attributes:
        trials: Tuple of `Trial`, one for each training run, failed ones too.
        rows: List of `Row`, the dense runs first: one for each criterion and sparsity (or threshold).
        failed: The trials that failed.
        settings: dict, what the study was made with.
        name: Of the study.

    Example:
    >>> def trial(seed, fd, sparsity=None):
    ...     criterion = None if sparsity is None else "magnitude"
    ...     left = {"achieved": sparsity or 0.0, "parameters": 100, "nonzero": 100, "seconds": 1.0}
    ...     return Trial(criterion, "sparsity", sparsity, seed, None, {"fd": fd}, **left)
    >>> trials = (trial(0, 10.0), trial(1, 20.0), trial(0, 10.5, 0.8), trial(1, 21.0, 0.8))
    >>> result = SweepResult(trials, {"metric": "fd", "direction": "min", "seed": 0})
    >>> best = result.recommend(tolerance=0.1)
    >>> best.sparsity, best.increase, best.pairs, best.sure
    (0.8, 0.05, 2, True)
    """

    def __init__(self, trials: tuple[Trial, ...], settings: dict[str, Any], name: str = "sweep"):
        self.trials = trials
        self.settings = settings
        self.name = name
        self.metric: str = settings["metric"]
        self.direction: str = settings["direction"]
        self.quantity = "threshold" if "thresholds" in settings else "sparsity"

    @classmethod
    def load(cls, storage: Any, name: str = "sweep") -> SweepResult:
        """Return what a sweep has found so far, without going on with it.

        Args:
            storage, name: As for `sweep`.

        Raises:
            FileFormatError: there is no such study, or no sweep has made it.
        """
        with quiet():
            study = Study(storage, name)
            return cls.of(study, study.load())

    @classmethod
    def of(cls, study: Study, settings: dict[str, Any]) -> SweepResult:
        """Return the result of an open study."""
        quantity = "threshold" if "thresholds" in settings else "sparsity"
        trials = []
        for _, trial in study.finished():
            trials += _trials(trial, quantity)
        return cls(tuple(trials), settings, study.name)

    @functools.cached_property
    def comparison(self) -> DenseComparison:
        return DenseComparison(self.trials, self.metric, self.direction, self.settings["seed"])

    @property
    def rows(self) -> list[Row]:
        return self.comparison.rows

    @property
    def failed(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.error is not None]

    def recommend(self, tolerance: float = 0.10) -> Recommendation:
        """Return the highest sparsity whose metric is within tolerance of dense, with its uncertainty.

        Runs are compared with the dense runs of the same seed and fold, which began with the same weights
        and saw the same data in the same order. The interval is a bootstrap that draws whole pairs; see
        `paired_increase`.

        Args:
            tolerance: Non-negative float, the relative increase (of a metric that should be high: the
                relative fall) that is put up with.

        Raises:
            InvalidArgumentError: `tolerance` is no such fraction.
            PruningError: no dense run ended well, so there is nothing to compare with.
        """
        tolerance = checked_tolerance(tolerance)
        if not self.comparison.dense:
            raise PruningError(
                "There is no dense run to compare with: "
                + (
                    f"the first failed with {self.failed[0].error}"
                    if self.failed
                    else "none has ended"
                )
                + "."
            )
        return recommend(self.comparison, self.quantity, tolerance)

    def pareto(self, cost: str = "nonzero") -> list[Row]:
        """Return the rows that no other row beats in both the metric and a cost, cheapest first.

        Args:
            cost: 'nonzero' or 'parameters', or 'macs' or 'nonzero_macs'; see `Trial`.
        """
        if cost not in COSTS:
            raise InvalidArgumentError(unknown_name("cost", cost, COSTS))
        return pareto(self.rows, cost, self.direction)

    def save_pareto(self, path: str | os.PathLike, tolerance: float = 0.10) -> None:
        """Draw the metric against nonzero parameters, and against multiply-accumulates, as a picture.

        Args:
            path: Where to, such as 'pareto.png'.
            tolerance: As for `recommend`; drawn as a band above (or below) dense.

        Raises:
            MissingPackageError: matplotlib is not installed.
            PruningError: no trial has ended well.
        """
        if not self.rows:
            raise PruningError("There is nothing to draw: no trial has ended well.")
        pareto_plot.save(pathlib.Path(path), self, tolerance)

    def save_csv(self, path: str | os.PathLike) -> None:
        """Write one row for each trial."""
        rows = [trial.to_dict() for trial in self.trials]
        names = list(dict.fromkeys(name for row in rows for name in row))
        with pathlib.Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts, for a CSV file or a data frame."""
        return [dict(vars(row)) for row in self.rows]

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first."""
        cells = [
            (
                *("criterion", self.quantity, "achieved", "runs", self.metric, "against dense"),
                *("95 % interval", "not zero", "MACs", "MACs, not zero", "s a run"),
            )
        ]
        for row in self.rows:
            spread = "" if math.isnan(row.deviation) else f" ± {row.deviation:.3g}"
            interval = "–" if row.interval is None else tables.change_range(*row.interval)
            failed = f" ({row.failed} failed)" if row.failed else ""
            cells.append(
                (
                    row.criterion or "dense",
                    "–" if row.dense else f"{row.requested:.4g}",
                    f"{row.sparsity:.4f}",
                    f"{row.trials}{failed}",
                    f"{row.mean:.4g}{spread}",
                    "–" if row.dense else tables.change(row.increase),
                    interval,
                    f"{row.nonzero:,.0f}",
                    "?" if row.macs is None else f"{row.macs:,.0f}",
                    "?" if row.nonzero_macs is None else f"{row.nonzero_macs:,.0f}",
                    f"{row.seconds:.3g}",
                )
            )
        return cells

    def to_markdown(self) -> str:
        """Return the table as markdown."""
        return tables.markdown(self.table())

    def __str__(self) -> str:
        lines = [tables.text(self.table())]
        lines += [f"failed: {trial.run}: {trial.error}" for trial in self.failed[:3]]
        if len(self.failed) > 3:
            lines.append(f"and {len(self.failed) - 3} more that failed")
        return "\n".join(lines)

    __repr__ = __str__


def _trials(trial: Any, quantity: str) -> list[Trial]:
    """Return the training runs of one Optuna trial that has ended."""
    error = trial.user_attrs.get("error")
    found = []
    for pair, outcome in finished_runs(trial).items():
        found.append(Trial(quantity=quantity, seed=pair[0], fold=pair[1], **outcome))
    if error is not None:
        found.append(Trial(quantity=quantity, error=error, **trial.user_attrs["failed_run"]))
    return found
