"""What a sweep trains: sparsities or thresholds × criteria × seeds × folds, and a dense run for each pair."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.layers import mask_ops
from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning import compatibility, criteria, granularity, modes
from keras_ganprune.pruning.schedules import PolynomialDecay, Schedule, Threshold
from keras_ganprune.utils import validation

SEARCHES = ("grid", "tpe")
# Mask updates of a run from its first to its last step, as in the demo.
_UPDATES = 60


@dataclass(frozen=True)
class SweepRun:
    """One training run of a sweep, as it is planned.

    Attributes:
        seed: Int, of weights, data order and latents.
        fold: Int, which fold is held out; None without cross-validation.
        quantity: 'sparsity' or 'threshold'.
        requested: Float, the sparsity or threshold at the end; None for the dense run.
        criterion: Name of the criterion; None for the dense run.
    """

    seed: int
    fold: int | None
    quantity: str = "sparsity"
    requested: float | None = None
    criterion: str | None = None

    @property
    def dense(self) -> bool:
        return self.requested is None

    @property
    def pair(self) -> tuple[int, int | None]:
        """What a pruned run shares with the dense one that it is compared with."""
        return (self.seed, self.fold)

    def __str__(self) -> str:
        what = "dense" if self.dense else f"{self.criterion}, {self.quantity} {self.requested:.4g}"
        return f"{what}, seed {self.seed}" + ("" if self.fold is None else f", fold {self.fold}")


@dataclass(frozen=True)
class Cell:
    """What one Optuna trial does: one run, or, of a search, a sparsity with all seeds and folds.

    Attributes:
        name: Unique within the study.
        runs: The runs; of a candidate, dense ones that stand for their seeds and folds.
        candidate: Whether the search has yet to choose the sparsity.
    """

    name: str
    runs: tuple[SweepRun, ...]
    candidate: bool = False


def _numbers(values: Any, name: str) -> tuple[float, ...]:
    if isinstance(values, (int, float, np.number)):
        values = [values]
    try:
        values = tuple(values)
    except TypeError:
        values = ()
    if not values or isinstance(values[0], str):
        raise InvalidArgumentError(f"`{name}` must be a sequence of numbers. Received: {values!r}.")
    return values


def _sparsities(values: Any) -> tuple[float, ...]:
    found = tuple(
        mask_ops.validate_sparsity(v, "sparsities") for v in _numbers(values, "sparsities")
    )
    if 0.0 in found:
        raise InvalidArgumentError(
            "`sparsities` must be above 0: dense runs are made anyway, as what the others are compared "
            f"with. Received: {values!r}. Leave the 0 out."
        )
    return found


def _thresholds(values: Any) -> tuple[float, ...]:
    found = _numbers(values, "thresholds")
    for value in found:
        good = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not good or not 0 < value < math.inf:
            raise InvalidArgumentError(
                f"`thresholds` must be positive, finite numbers. Received: {value!r}."
            )
    return tuple(float(value) for value in found)


def _distinct(values: Sequence[Any], name: str) -> None:
    if len(set(values)) != len(values):
        raise InvalidArgumentError(f"`{name}` must not repeat a value. Received: {list(values)}.")


def checked_tolerance(value: Any) -> float:
    return validation.non_negative(
        value, "tolerance", "a non-negative fraction, such as 0.1 for 10 %"
    )


def label(criterion: Any) -> str:
    """Return the name of a criterion in tables: what the user wrote, or its repr."""
    return criterion if isinstance(criterion, str) else repr(criteria.get(criterion))


@dataclass(frozen=True)
class Plan:
    """Everything that a sweep is told, checked; see `sweep` for the arguments.

    Example:
    >>> plan = Plan(sparsities=(0.5, 0.9), seeds=(0, 1), steps=100, batch_size=8)
    >>> [cell.name for cell in plan.cells()][:3]
    ['dense, seed 0', 'dense, seed 1', 'magnitude, sparsity 0.5, seed 0']
    """

    steps: int
    batch_size: int
    sparsities: Any = (0.5, 0.8, 0.9, 0.95)
    thresholds: Any = None
    criteria: Any = ("magnitude",)
    seeds: Any = (0, 1, 2)
    folds: int | None = None
    begin: float = 0.3
    end: float = 0.65
    target: Any = "generator"
    allocation: Any = "uniform"
    mode: Any = "hard"
    granularity: Any = "unstructured"
    search: str = "grid"
    trials: int | None = None
    metric: str = "fd"
    direction: str = "min"
    tolerance: float = 0.10
    seed: int = 0

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        put("steps", validation.positive_int(self.steps, "steps"))
        put("batch_size", validation.positive_int(self.batch_size, "batch_size"))
        if self.thresholds is not None:
            put("thresholds", _thresholds(self.thresholds))
        else:
            put("sparsities", _sparsities(self.sparsities))
        _distinct(self.values, "thresholds" if self.thresholds is not None else "sparsities")
        one = isinstance(self.criteria, (str, dict, criteria.Criterion))
        put("criteria", (self.criteria,) if one else tuple(self.criteria))
        if not self.criteria:
            raise InvalidArgumentError("`criteria` must name at least one criterion. Received: [].")
        _distinct([label(c) for c in self.criteria], "criteria")
        if isinstance(self.target, keras.layers.Layer):
            raise InvalidArgumentError(
                "`target` must be the attribute name of a network (or a list of names, or None for the "
                f"whole model), since every run builds a new one. Received: {self.target!r}."
            )
        put("seeds", self._checked_seeds())
        if self.search not in SEARCHES:
            raise InvalidArgumentError(unknown_name("search", self.search, SEARCHES))
        validation.sign_of(self.direction)
        self._check_search()
        if not 0.0 <= self.begin < self.end <= 1.0:
            raise InvalidArgumentError(
                "`begin` and `end` must be shares of the steps, 0 <= begin < end <= 1. "
                f"Received: {self.begin!r} and {self.end!r}."
            )
        if round(self.begin * self.steps) >= round(self.end * self.steps):
            raise InvalidArgumentError(
                f"Pruning must take at least one of the {self.steps} `steps`. From {self.begin:g} to "
                f"{self.end:g} of them is none; train longer."
            )
        put("tolerance", checked_tolerance(self.tolerance))
        # What does not go together is said before anything is trained.
        for criterion in self.criteria:
            compatibility.check(
                compatibility.get(
                    criterion,
                    self.granularity,
                    self.allocation,
                    self.mode,
                    self._schedule(self.values[-1]),
                )
            )

    def _checked_seeds(self) -> tuple[int, ...]:
        seeds = range(self.seeds) if isinstance(self.seeds, int) else self.seeds
        seeds = tuple(seeds)
        for seed in seeds:
            whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
            if not whole or not 0 <= seed < 2**32:
                raise InvalidArgumentError(
                    f"`seeds` must be ints in [0, 2**32), or how many. Received: {seed!r}."
                )
        if not seeds:
            raise InvalidArgumentError("`seeds` must hold at least one seed. Received none.")
        _distinct(seeds, "seeds")
        return tuple(int(seed) for seed in seeds)

    def _check_search(self) -> None:
        if self.search == "grid":
            if self.trials is not None:
                raise InvalidArgumentError(
                    "`trials` is for search='tpe'; a grid trains each of its cells once. "
                    f"Received: {self.trials!r}. Leave it out."
                )
            return
        validation.positive_int(self.trials, "trials")
        if len(self.values) != 2 or not self.values[0] < self.values[1]:
            raise InvalidArgumentError(
                "A search by 'tpe' needs a range: the lowest and the highest "
                f"{self.quantity}, such as (0.5, 0.95). Received: {list(self.values)}."
            )

    @property
    def quantity(self) -> str:
        return "sparsity" if self.thresholds is None else "threshold"

    @property
    def values(self) -> tuple[float, ...]:
        """The sparsities or thresholds; of a search, the lowest and the highest."""
        return self.sparsities if self.thresholds is None else self.thresholds

    @property
    def frequency(self) -> int:
        """Steps between mask updates."""
        return max(1, self.steps // _UPDATES)

    @property
    def pairs(self) -> list[tuple[int, int | None]]:
        """The (seed, fold) pairs, each of which has a dense run."""
        folds = [None] if self.folds is None else range(self.folds)
        return [(seed, fold) for seed in self.seeds for fold in folds]

    def epochs(self, images: int) -> tuple[int, int]:
        """Return (epochs, steps an epoch), which multiply to `steps`: about a pass over the images each.

        Example:
        >>> Plan(steps=4000, batch_size=64).epochs(1800)
        (160, 25)
        """
        whole = self.steps / max(1, images // self.batch_size)
        divisors = (n for n in range(1, self.steps + 1) if self.steps % n == 0)
        epochs = min(divisors, key=lambda n: abs(math.log(n / whole)))
        return epochs, self.steps // epochs

    def _schedule(self, value: float) -> Schedule:
        begin, end = round(self.begin * self.steps), round(self.end * self.steps)
        if self.quantity == "threshold":
            return Threshold(value, begin, end)
        return PolynomialDecay(value, begin, end)

    def prune(self, run: SweepRun) -> Prune | None:
        """Return the pruning callback of a run, or None for a dense one."""
        if run.dense:
            return None
        return Prune(
            self._schedule(run.requested),
            self.target,
            self.frequency,
            criterion=self.criterion(run.criterion),
            granularity=granularity.get(self.granularity),
            allocation=allocations.get(self.allocation),
            mode=modes.get(self.mode),
            verbose=0,
        )

    def criterion(self, name: str) -> criteria.Criterion:
        """Return the criterion of a name in tables."""
        return criteria.get(next(c for c in self.criteria if label(c) == name))

    def cells(self) -> list[Cell]:
        """Return what is to be done, dense runs first, then seed by seed."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        dense = [SweepRun(seed, fold, self.quantity) for seed, fold in self.pairs]
        for run in dense:
            yield Cell(str(run), (run,))
        if self.search == "tpe":
            for number in range(self.trials):
                yield Cell(f"candidate {number}", tuple(dense), candidate=True)
            return
        for seed, fold in self.pairs:
            for criterion in self.criteria:
                for value in self.values:
                    run = SweepRun(seed, fold, self.quantity, value, label(criterion))
                    yield Cell(str(run), (run,))

    def settings(self) -> dict[str, Any]:
        """Return what a study must agree in to be gone on with, in values that JSON keeps."""
        found = {
            f"{'thresholds' if self.quantity == 'threshold' else 'sparsities'}": list(self.values),
            "criteria": [label(c) for c in self.criteria],
            "seeds": list(self.seeds),
            "folds": self.folds,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "begin": float(self.begin),
            "end": float(self.end),
            "target": self.target if isinstance(self.target, str) else repr(self.target),
            "allocation": repr(allocations.get(self.allocation)),
            "mode": repr(modes.get(self.mode)),
            "granularity": repr(granularity.get(self.granularity)),
            "search": self.search,
            "metric": self.metric,
            "direction": self.direction,
            "seed": self.seed,
        }
        if self.search == "tpe":
            # What the search is after; a grid is judged afterwards, by any tolerance.
            found |= {"trials": self.trials, "tolerance": self.tolerance}
        return found
