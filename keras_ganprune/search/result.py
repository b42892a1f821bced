"""The result of a sweep: a table, a recommendation, a plot."""

from __future__ import annotations

import csv
import functools
import math
import os
from typing import Any, Literal

from keras_ganprune.errors import InvalidArgumentError, PruningError, unknown_name
from keras_ganprune.search import pareto_plot
from keras_ganprune.search._sealed import reading
from keras_ganprune.search.claim import failed_run, finished_runs
from keras_ganprune.search.plan import checked_tolerance
from keras_ganprune.search.recommendation import (
    DenseComparison,
    Recommendation,
    Row,
    Trial,
    pareto,
    recommend,
)
from keras_ganprune.search.storage import check_is_there, quiet
from keras_ganprune.search.study import Study
from keras_ganprune.utils import files, tables
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock

COSTS = ("nonzero", "parameters", "macs", "nonzero_macs")


class SweepResult(ShownInNotebooks):
    """The trials of a sweep that have ended. It prints as a table; `to_dicts()` is for a data frame.

    Attributes:
        trials: Tuple of `Trial`, one per training run, including failed runs.
        rows: List of `Row`, one per criterion and sparsity (or threshold). The dense row is first.
        failed: The trials that failed.
        settings: Dict, the settings of the study.
        name: Name of the study.

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
        self.direction: Literal["min", "max"] = settings["direction"]
        self.quantity = "threshold" if "thresholds" in settings else "sparsity"

    @classmethod
    def load(cls, storage: Any, name: str = "sweep") -> SweepResult:
        """Return the result of a sweep so far, without resuming it.

        Args:
            storage: Path, URL or Optuna storage of the study, as for `sweep`.
            name: Name of the study in the storage. Defaults to 'sweep'.

        Returns:
            A `SweepResult`.

        Raises:
            FileFormatError: There is no database or no study with this name, no sweep has created it, or it
                is damaged.
        """
        check_is_there(storage)
        with quiet():
            study = Study(storage, name)
            return cls.of(study, study.load())

    @classmethod
    def of(cls, study: Study, settings: dict[str, Any]) -> SweepResult:
        """Return the result of an open study."""
        quantity = "threshold" if "thresholds" in settings else "sparsity"
        trials = []
        with reading():
            for _, trial in study.finished():
                trials += _trials(trial, quantity)
            return cls(tuple(trials), settings, study.name)

    @functools.cached_property
    def comparison(self) -> DenseComparison:
        """The comparison of all rows with the dense runs."""
        return DenseComparison(self.trials, self.metric, self.direction, self.settings["seed"])

    @property
    def rows(self) -> list[Row]:
        """One `Row` per criterion and sparsity (or threshold); the dense row is first."""
        return self.comparison.rows

    @property
    def failed(self) -> list[Trial]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.error is not None]

    def recommend(self, tolerance: float = 0.10) -> Recommendation:
        """Return the highest sparsity whose metric is within tolerance of dense, with its uncertainty.

        Each run is compared with the dense run of the same seed and fold, which started from the same
        weights and saw the same data in the same order. The interval is a bootstrap over pairs; see
        `paired_increase`.

        Args:
            tolerance: Non-negative float, maximum relative degradation against dense: the increase of a
                metric that should be low, or the decrease of a metric that should be high. Defaults to 0.1.

        Raises:
            InvalidArgumentError: `tolerance` is not a non-negative number.
            MissingPackageError: SciPy is not installed.
            PruningError: No dense run succeeded, so there is nothing to compare with.
        """
        tolerance = checked_tolerance(tolerance)
        if not self.comparison.dense:
            raise PruningError(
                "A recommendation needs a dense run that succeeded: "
                + (
                    f"the first failed with {self.failed[0].error}"
                    if self.failed
                    else "no dense run has ended"
                )
                + "."
            )
        return recommend(self.comparison, self.quantity, tolerance)

    def pareto(self, cost: str = "nonzero") -> list[Row]:
        """Return the Pareto front: the rows that no other row at equal or lower cost surpasses in the metric.

        Args:
            cost: 'nonzero', 'parameters', 'macs' or 'nonzero_macs'; see `Trial`. Defaults to 'nonzero'.

        Raises:
            InvalidArgumentError: `cost` is not one of these names.
        """
        if cost not in COSTS:
            raise InvalidArgumentError(unknown_name("cost", cost, COSTS))
        return pareto(self.rows, cost, self.direction)

    def save_pareto(self, path: str | os.PathLike, tolerance: float = 0.10) -> None:
        """Plot the metric against the nonzero parameters and against the multiply-accumulates.

        Args:
            path: Path of the picture, such as 'pareto.png'.
            tolerance: As for `recommend`. It is drawn as a band above (or below) dense. Defaults to 0.1.

        Raises:
            MissingPackageError: matplotlib is not installed.
            PruningError: No trial succeeded.
            InvalidArgumentError: matplotlib does not know the ending of `path`.
            OutputError: The picture cannot be written, or the disk is full.
        """
        if not self.rows:
            raise PruningError(
                "A plot needs at least one trial that succeeded. Received: none. See `failed` for the errors."
            )
        pareto_plot.save(path, self, tolerance)

    def save_csv(self, path: str | os.PathLike) -> None:
        """Write a CSV file with one row per trial.

        Args:
            path: Path of the file, such as 'trials.csv'.

        Raises:
            OutputError: The file cannot be written, or the disk is full.
        """
        rows = [trial.to_dict() for trial in self.trials]
        names = list(dict.fromkeys(name for row in rows for name in row))
        with files.new_file(path) as work, work.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts, for a CSV file or a data frame."""
        return [dict(vars(row)) for row in self.rows]

    def table(self) -> list[tuple[str, ...]]:
        """Return the table as text cells; the first row is the header."""
        cells = [
            (
                *("criterion", self.quantity, "achieved", "runs", self.metric, "against dense"),
                *("95 % interval", "nonzero", "MACs", "nonzero MACs", "s per run"),
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

    def _blocks(self) -> list[Block]:
        return [TableBlock(self.table()), *self._failures()]

    def _failures(self) -> list[str]:
        lines = [f"failed: {trial.run}: {trial.error}" for trial in self.failed[:3]]
        more = len(self.failed) - 3
        return [*lines, f"and {more} more failed trials"] if more > 0 else lines

    def __str__(self) -> str:
        return "\n".join([tables.text(self.table()), *self._failures()])

    __repr__ = __str__


def _trials(trial: Any, quantity: str) -> list[Trial]:
    """Return the training runs of one Optuna trial that has ended."""
    runs = []
    for pair, outcome in finished_runs(trial).items():
        runs.append(Trial(quantity=quantity, seed=pair[0], fold=pair[1], **outcome))
    failed = failed_run(trial)
    if failed is not None:
        runs.append(Trial(quantity=quantity, **failed))
    return runs
