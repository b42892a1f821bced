"""The settings of a sweep: sparsities or thresholds × criteria × seeds × folds, and a dense run per pair."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import attrs
import keras

from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning import compatibility, criteria, granularity, modes
from keras_ganprune.pruning.schedules import PolynomialDecay, Schedule, Threshold
from keras_ganprune.search.runs import Cell, SweepRun
from keras_ganprune.utils import annotated, validation

SEARCHES = ("grid", "tpe")
# Mask updates of a run between its first and its last step, as in the demo.
_UPDATES = 60
_MOST_SEEDS = 10_000


# --- converters of the fields ------------------------------------------------------


def _sequence(values: Any, name: str) -> tuple[Any, ...]:
    """Return one number or several as a tuple."""
    if validation.is_number(values):
        values = [values]
    validation.check_ordered(values, name)
    received = values
    values = tuple(validation.entries(values) or ())
    if not values or isinstance(values[0], str):
        raise InvalidArgumentError(
            f"`{name}` must be a sequence of numbers. Received: {received!r}."
        )
    return values


def _sparsities(values: Any) -> tuple[float, ...]:
    values = _sequence(values, "sparsities")
    sparsities = tuple(validation.validate_sparsity(value, "sparsities") for value in values)
    if 0.0 in sparsities:
        raise InvalidArgumentError(
            "`sparsities` must be above 0, because a sweep always trains dense runs for comparison. "
            f"Received: {values!r}. Leave out the 0."
        )
    return sparsities


def _thresholds(values: Any) -> tuple[float, ...]:
    values = _sequence(values, "thresholds")
    rule = "positive, finite numbers"
    return tuple(validation.positive(value, "thresholds", rule) for value in values)


def _criteria(values: Any) -> tuple[Any, ...]:
    validation.check_ordered(values, "criteria")
    single = isinstance(values, (str, dict, criteria.Criterion))
    several = None if single else validation.entries(values)
    values = (values,) if several is None else tuple(several)
    if not values:
        raise InvalidArgumentError("`criteria` must contain at least one criterion. Received: [].")
    _check_distinct([label(criterion) for criterion in values], "criteria")
    return values


def _seeds(values: Any) -> tuple[int, ...]:
    validation.check_ordered(values, "seeds")
    if validation.is_int(values) and values > _MOST_SEEDS:
        raise InvalidArgumentError(
            f"`seeds` must be at most {_MOST_SEEDS} seeds, or a list of them. Received: {values!r}. For one "
            f"seed of this value pass [{values!r}]."
        )
    several = list(range(values)) if validation.is_int(values) else validation.entries(values)
    values = (values,) if several is None else tuple(several)
    for seed in values:
        if not validation.is_int(seed) or not 0 <= seed < 2**32:
            raise InvalidArgumentError(
                f"`seeds` must be ints in [0, 2**32), or their number. Received: {seed!r}."
            )
    if not values:
        raise InvalidArgumentError("`seeds` must contain at least one seed. Received: [].")
    _check_distinct(values, "seeds")
    return tuple(int(seed) for seed in values)


def checked_tolerance(value: Any) -> float:
    """Return a relative degradation against dense, as a float."""
    return validation.non_negative(
        value, "tolerance", "a non-negative fraction, such as 0.1 for 10 %"
    )


def _check_distinct(values: Sequence[Any], name: str) -> None:
    if len(set(values)) != len(values):
        raise InvalidArgumentError(f"`{name}` must not repeat a value. Received: {list(values)}.")


def label(criterion: Any) -> str:
    """Return the name of a criterion in tables: the name that the user wrote, or its repr."""
    return criterion if isinstance(criterion, str) else repr(criteria.get(criterion))


@attrs.frozen(kw_only=True)
class SweepPlan:
    """The settings of a sweep: which runs it trains, and how it compares them.

    Args:
        steps: Positive int, number of batches that each run trains on, also each dense run.
        batch_size: Positive int, images per batch.
        sparsities: Floats in (0, 1), the final sparsities. With `search="tpe"`, the lowest and the highest
            sparsity. Defaults to `(0.5, 0.8, 0.9, 0.95)`.
        thresholds: Positive floats, instead of `sparsities`: weights with a lower score are pruned.
            Defaults to None.
        criteria: Criteria, each as a name, a config or an instance. Defaults to `("magnitude",)`.
        seeds: Ints, or their number. Defaults to `(0, 1, 2)`.
        folds: Int k for a cross-validation with k folds: each run trains on k - 1 folds and is evaluated on
            the remaining fold. Defaults to None: each run trains on all images.
        begin, end: Floats, `0 <= begin < end <= 1`: fractions of the steps between which a
            `PolynomialDecay` raises the sparsity. Default to 0.3 and 0.65.
        target: Attribute name of the network to prune, a list of names, or None for the whole model.
            Defaults to 'generator'.
        allocation, mode, granularity: As for `Prune`. Default to 'uniform', 'hard', 'unstructured'.
        search: 'grid' trains every sparsity. 'tpe' searches for the highest sparsity within `tolerance`:
            each of `trials` trials chooses a sparsity (and a criterion) from the results so far, and
            trains it with all seeds and folds. Defaults to 'grid'.
        trials: Positive int, number of trials for `search="tpe"`. Defaults to None.
        metric: Name of the value that is compared, among the values that `quality` returns. Defaults to 'fd'.
        direction: 'min' if a lower value is better, 'max' if a higher value is better. Defaults to 'min'.
        tolerance: Float, maximum relative degradation against dense for `search="tpe"`. Defaults to 0.1.
        seed: Int, seed of the folds, the search and the bootstrap. Defaults to 0.

    Raises:
        InvalidArgumentError: A value is outside its range or has the wrong type, a value is repeated,
            `trials` is missing for `search="tpe"` or given for a grid, or the criteria, allocation, mode and
            granularity are not compatible.

    Example:
    >>> plan = SweepPlan(sparsities=(0.5, 0.9), seeds=(0, 1), steps=100, batch_size=8)
    >>> [cell.name for cell in plan.cells()][:3]
    ['dense, seed 0', 'dense, seed 1', 'magnitude, sparsity 0.5, seed 0']
    """

    steps: int = attrs.field(converter=lambda v: validation.positive_int(v, "steps"))
    batch_size: int = attrs.field(converter=lambda v: validation.positive_int(v, "batch_size"))
    sparsities: Sequence[float] | float = (0.5, 0.8, 0.9, 0.95)
    thresholds: Sequence[float] | float | None = attrs.field(
        default=None, converter=attrs.converters.optional(_thresholds)
    )
    criteria: Any = attrs.field(default=("magnitude",), converter=_criteria)
    seeds: Any = attrs.field(default=(0, 1, 2), converter=_seeds)
    folds: int | None = None
    begin: float = 0.3
    end: float = 0.65
    target: str | Sequence[str] | None = "generator"
    allocation: Any = "uniform"
    mode: Any = "hard"
    granularity: Any = "unstructured"
    search: Literal["grid", "tpe"] = "grid"
    trials: int | None = None
    metric: str = "fd"
    direction: Literal["min", "max"] = "min"
    tolerance: float = attrs.field(default=0.10, converter=checked_tolerance)
    seed: int = 0

    def __attrs_post_init__(self):
        if self.target is not None and not isinstance(self.target, keras.layers.Layer):
            annotated.check_field(SweepPlan, "target", self.target)
        for name in ("begin", "end", "metric", "seed"):
            annotated.check_field(SweepPlan, name, getattr(self, name))
        validation.non_negative_int(self.seed, "seed")
        if self.folds is not None:
            validation.int_at_least(self.folds, "folds", 2)
        if isinstance(self.target, keras.layers.Layer):
            raise InvalidArgumentError(
                "`target` must be the attribute name of a network, a list of names, or None for the whole "
                f"model, because every run builds a new network. Received: {self.target!r}."
            )
        if not validation.is_member(self.search, SEARCHES):
            raise InvalidArgumentError(unknown_name("search", self.search, SEARCHES))
        validation.sign_of(self.direction)
        if self.thresholds is None:
            object.__setattr__(self, "sparsities", _sparsities(self.sparsities))
        _check_distinct(self.values, "sparsities" if self.thresholds is None else "thresholds")
        self._check_trials()
        self._check_steps()
        self._check_compatibility()

    def _check_trials(self) -> None:
        if self.search == "grid":
            if self.trials is not None:
                raise InvalidArgumentError(
                    "`trials` is only valid with search='tpe'; a grid trains each of its cells once. "
                    f"Received: {self.trials!r}. Leave it out."
                )
            return
        validation.positive_int(self.trials, "trials")
        if len(self.values) != 2 or not self.values[0] < self.values[1]:
            raise InvalidArgumentError(
                "search='tpe' needs a range: the lowest and the highest "
                f"{self.quantity}, such as (0.5, 0.95). Received: {list(self.values)}."
            )

    def _check_steps(self) -> None:
        if not 0.0 <= self.begin < self.end <= 1.0:
            raise InvalidArgumentError(
                "`begin` and `end` must be fractions of the steps, 0 <= begin < end <= 1. "
                f"Received: {self.begin!r} and {self.end!r}."
            )
        if round(self.begin * self.steps) >= round(self.end * self.steps):
            raise InvalidArgumentError(
                f"Pruning must last at least one step. Received: no step between the fractions "
                f"{self.begin:g} and {self.end:g} of {self.steps} `steps`. Increase `steps`."
            )

    def _check_compatibility(self) -> None:
        """Raise an error for settings that are not compatible, before anything is trained."""
        for criterion in self.criteria:
            schedule = self._schedule(self.values[-1])
            compatibility.check(
                compatibility.get(criterion, self.granularity, self.allocation, self.mode, schedule)
            )

    @property
    def quantity(self) -> str:
        """The requested quantity: 'sparsity' or 'threshold'."""
        return "sparsity" if self.thresholds is None else "threshold"

    @property
    def values(self) -> tuple[float, ...]:
        """The sparsities or thresholds; for a search, the lowest and the highest value."""
        values = self.sparsities if self.thresholds is None else self.thresholds
        return cast(tuple[float, ...], values)  # the converters return tuples

    @property
    def frequency(self) -> int:
        """Number of steps between mask updates."""
        return max(1, self.steps // _UPDATES)

    @property
    def pairs(self) -> list[tuple[int, int | None]]:
        """The (seed, fold) pairs, each of which has a dense run."""
        folds: Sequence[int | None] = [None] if self.folds is None else range(self.folds)
        return [(seed, fold) for seed in self.seeds for fold in folds]

    def epochs(self, images: int) -> tuple[int, int]:
        """Return (epochs, steps per epoch), whose product is `steps`.

        An epoch is about one pass over the images.

        Args:
            images: Int, number of training images.

        Example:
        >>> SweepPlan(steps=4000, batch_size=64).epochs(1800)
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
        if run.requested is None or run.criterion is None:
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
        """Return the criterion whose name in tables is `name`."""
        return criteria.get(next(c for c in self.criteria if label(c) == name))

    def cells(self) -> list[Cell]:
        """Return all cells: dense runs first, then seed by seed."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        dense = [SweepRun(seed, fold, self.quantity) for seed, fold in self.pairs]
        for run in dense:
            yield Cell(str(run), (run,))
        if self.search == "tpe":
            for number in range(self.trials or 0):
                yield Cell(f"candidate {number}", tuple(dense), candidate=True)
            return
        for seed, fold in self.pairs:
            for criterion in self.criteria:
                for value in self.values:
                    run = SweepRun(seed, fold, self.quantity, value, label(criterion))
                    yield Cell(str(run), (run,))

    def settings(self) -> dict[str, Any]:
        """Return the settings that must be equal for a study to be resumed, as JSON values."""
        settings = {
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
            # A grid can be evaluated with any tolerance afterwards.
            settings |= {"trials": self.trials, "tolerance": self.tolerance}
        return settings
