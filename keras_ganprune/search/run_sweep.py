"""`sweep`: find the sparsity by experiment, in a study that can be interrupted and shared."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.datasets import Images
from keras_ganprune.errors import InvalidArgumentError, PruningError
from keras_ganprune.metrics.confidence_intervals import relative_increase
from keras_ganprune.search.plan import Plan, SweepRun
from keras_ganprune.search.result import SweepResult
from keras_ganprune.search.storage import quiet
from keras_ganprune.search.study import Claim, Study, TakenAwayError
from keras_ganprune.search.trial import SettingError, Trainer
from keras_ganprune.utils import tables

_POLL_SECONDS = 1.0


def sweep(
    build: Callable[[int], keras.Model],
    images: Any,
    labels: Any = None,
    *,
    quality: Any,
    steps: int,
    batch_size: int,
    sparsities: Any = (0.5, 0.8, 0.9, 0.95),
    thresholds: Any = None,
    criteria: Any = ("magnitude",),
    seeds: Any = (0, 1, 2),
    folds: int | None = None,
    begin: float = 0.3,
    end: float = 0.65,
    target: Any = "generator",
    allocation: Any = "uniform",
    mode: Any = "hard",
    granularity: Any = "unstructured",
    callbacks: Callable[[SweepRun], list] | None = None,
    storage: Any = "sweep.db",
    name: str = "sweep",
    search: str = "grid",
    trials: int | None = None,
    metric: str = "fd",
    direction: str = "min",
    tolerance: float = 0.10,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    progress: bool = True,
) -> SweepResult:
    """Train at several sparsities, with several seeds, and compare with dense runs of the same seeds.

    Each run is a trial of an Optuna study in a database, written when it ends. Call `sweep` again with the
    same arguments to go on after an interruption: what has ended is not done again, what a killed
    process had begun is. Call it in several processes, or on several machines that reach one database
    server, to share the work: each trial is done by one of them.

    Runs of one seed (and fold) begin with the same weights and see the same batches. They are compared
    in pairs, so that what the seed does to both cancels out.

    Args:
        build: Function of a seed -> compiled model, a new one at each call: a `GANModel`, or any
            `keras.Model` with the target as an attribute.
        images: Array (n, ...), or `data.Images`, whose labels are taken too.
        labels: Array (n, ...) or None: class numbers or one-hot rows. They are trained with, unless the
            model is a `GANModel` without labels; folds have each class in the same share.
        quality: An `ImageQuality`, or a function (model, images, labels) -> dict of floats (or one
            float), which is given the images held out, or all of them without folds. With folds, an
            `ImageQuality` is made anew of the images held out.
        steps: Positive int, batches that each run trains on. Dense runs train as long.
        batch_size: Positive int.
        sparsities: Floats in (0, 1). Of search='tpe', the lowest and the highest.
        thresholds: Positive floats, instead of `sparsities`: weights below are pruned.
        criteria: Names, configs or `Criterion`s.
        seeds: Ints, or how many.
        folds: Int k for a cross-validation: each run trains on k - 1 of k parts of the images, and is
            judged by the other one. None to train on all of them.
        begin, end: Floats, 0 <= begin < end <= 1: the shares of the steps between which sparsity rises,
            along a `PolynomialDecay`, and masks change.
        target, allocation, mode, granularity: As for `Prune`; `target` by name, None for a classifier.
        callbacks: Function of a `SweepRun` -> list of more callbacks for its `fit`.
        storage: Path of a SQLite file, URL of a database, an Optuna storage, or None for memory only.
        name: Of the study in it.
        search: 'grid' trains every sparsity. 'tpe' looks for the highest sparsity within tolerance
            between two: each of `trials` trials chooses a sparsity (and criterion) by the results so far,
            and trains it with all seeds and folds. The objective is the achieved sparsity if the increase
            over dense is within tolerance, else minus the excess, so that anything within is better than
            anything that is not.
        trials: Positive int, of search='tpe'.
        metric: Which of the values of `quality` counts.
        direction: 'min' if it should be low, 'max' if high.
        tolerance: Float, for search='tpe'.
        seed: Int, of the folds, the search and the bootstrap.
        settings: dict of more that tells this sweep from others, such as the width of the network. All
            settings must be the same for a study to be gone on with; what a function does cannot be seen.
        retry_failed: Whether trials that failed are done once more.
        progress: Whether a line is printed for each trial that ends.

    Returns: A `SweepResult`.

    Raises:
        InvalidArgumentError: an argument breaks its rule, or the study exists with other settings.
        PruningError: all trials failed.
        MissingPackageError: Optuna, scipy or scikit-learn is not installed.

    Example:
    >>> def build(seed):
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> result = sweep(build, x, x.sum(axis=1, keepdims=True), target=None, steps=8, batch_size=8,
    ...     quality=lambda model, x, y: float(model.evaluate(x, y, verbose=0)),
    ...     metric="mse", sparsities=(0.5, 0.75), seeds=2, storage=None, progress=False)
    >>> [(row.criterion, row.requested, row.trials) for row in result.rows]
    [(None, None, 2), ('magnitude', 0.5, 2), ('magnitude', 0.75, 2)]

    References: [Optuna](https://arxiv.org/abs/1907.10902); TPE:
    [Bergstra et al.](https://papers.nips.cc/paper/4443), §4; what is within comes first:
    [Deb](https://doi.org/10.1016/S0045-7825(99)00389-8), §3.
    """
    if isinstance(images, Images):
        if labels is not None:
            raise InvalidArgumentError("`images` brings labels of its own; leave `labels` out.")
        images, labels = images.images, images.labels
    plan = Plan(
        steps=steps,
        batch_size=batch_size,
        sparsities=sparsities,
        thresholds=thresholds,
        criteria=criteria,
        seeds=seeds,
        folds=folds,
        begin=begin,
        end=end,
        target=target,
        allocation=allocation,
        mode=mode,
        granularity=granularity,
        search=search,
        trials=trials,
        metric=metric,
        direction=direction,
        tolerance=tolerance,
        seed=seed,
    )
    with quiet():
        trainer = Trainer(plan, build, images, labels, quality, callbacks)
        study = Study(storage, name)
        found = {**plan.settings(), **trainer.settings(), **_text_values(settings)}
        direct = "maximize" if search == "tpe" else f"{direction}imize"
        fresh = study.begin(found, plan.cells(), direct)
        if retry_failed:
            study.retry()
        _Sweep(plan, trainer, study, found, progress).go(fresh)
        result = SweepResult.of(study, found)
    if result.trials and len(result.failed) == len(result.trials):
        raise PruningError(
            f"All {len(result.failed)} trials of the sweep failed, the first with "
            f"{result.failed[0].error}"
        )
    return result


def _text_values(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    plain = (str, int, float, bool, type(None))
    return {str(k): v if isinstance(v, plain) else repr(v) for k, v in dict(settings or {}).items()}


class _Sweep:
    """The loop of one process: take a trial, do it, until none is left."""

    def __init__(self, plan: Plan, trainer: Trainer, study: Study, settings: dict, progress: bool):
        self.plan, self.trainer, self.study = plan, trainer, study
        self.settings = settings
        self.progress = progress
        self.took: list[float] = []  # seconds of each run of this process

    def go(self, fresh: bool) -> None:
        self._say_begin(fresh)
        waited = False
        while True:
            claim = self.study.claim()
            if claim is not None:
                self._do(claim)
                waited = False
                continue
            states = list(self.study.states().values())
            if not {"running", "waiting", "lost"} & set(states):
                break
            if not waited:
                self._say(f"{states.count('running')} trials are with other processes; waiting")
            waited = True
            # One of them may be killed, and its trial be left to this process.
            time.sleep(_POLL_SECONDS)
        self.study.tidy()

    def _do(self, claim: Claim) -> None:
        run = claim.cell.runs[0]
        try:
            with claim.beating():
                runs = self._runs(claim)
                for run in runs:
                    if run.pair not in claim.done:
                        started = time.perf_counter()
                        claim.record(run.pair, _planned(run) | self.trainer.run(run))
                        self.took.append(time.perf_counter() - started)
                        self._say_run(run, claim)
                claim.finish(self._value(claim, runs))
        except TakenAwayError:
            self._say_taken(run)
        except SettingError:
            claim.release()
            raise
        except Exception as error:  # whatever a model of the user's may raise
            text = f"{type(error).__name__}: {error}"
            self._say(f"{run}: failed: {text}")
            try:
                claim.fail(text, _planned(run) | {"seed": run.seed, "fold": run.fold})
            except TakenAwayError:
                self._say_taken(run)
        except BaseException:
            # Interrupted: left to whoever goes on.
            with contextlib.suppress(Exception):
                claim.release()
            raise

    def _runs(self, claim: Claim) -> list[SweepRun]:
        """Return the runs of a trial; of a search, with the sparsity that it has chosen."""
        if not claim.cell.candidate:
            return list(claim.cell.runs)
        quantity = self.plan.quantity
        value = claim.trial.suggest_float(quantity, *self.plan.values)
        names = list(self.settings["criteria"])
        criterion = names[0]
        if len(names) > 1:
            criterion = claim.trial.suggest_categorical("criterion", names)
        return [SweepRun(*run.pair, quantity, value, criterion) for run in claim.cell.runs]

    def _value(self, claim: Claim, runs: list[SweepRun]) -> float:
        """Return the value of a trial for Optuna."""
        outcomes = [claim.done[run.pair] for run in runs]
        found = [outcome["values"][self.plan.metric] for outcome in outcomes]
        if self.plan.search == "grid":
            return found[0]
        if not claim.cell.candidate:
            return float("-inf")  # it has chosen nothing, and is to be no example
        dense = self._dense()
        pairs = [
            (dense[run.pair], v) for v, run in zip(found, runs, strict=True) if run.pair in dense
        ]
        if not pairs:
            raise PruningError("no dense run of these seeds and folds ended well")
        excess = float(relative_increase(*zip(*pairs, strict=True), self.plan.direction))
        excess -= self.plan.tolerance
        sparsity = float(np.mean([outcome["achieved"] for outcome in outcomes]))
        return sparsity if excess <= 0 else -excess

    def _dense(self) -> dict[tuple, float]:
        trials = SweepResult.of(self.study, self.settings).trials
        return {
            t.run.pair: t.values[self.plan.metric] for t in trials if t.dense and t.error is None
        }

    # --- what is printed -------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if self.progress:
            print(f"sweep: {text.rstrip('.')}.", flush=True)

    def _say_taken(self, run: SweepRun) -> None:
        self._say(
            f"{run}: another process took this trial for lost, and has it now; what came out here is left out"
        )

    def _say_begin(self, fresh: bool) -> None:
        states = list(self.study.states().values())
        done = sum(state in ("done", "failed") for state in states)
        word = "new" if fresh else f"{done} of them have ended before"
        self._say(f"study '{self.study.name}' of {len(states)} trials, {word}")

    def _say_run(self, run: SweepRun, claim: Claim) -> None:
        if not self.progress:
            return
        outcome = claim.done[run.pair]
        value = outcome["values"][self.plan.metric]
        result = f"{self.plan.metric} {value:.4g}"
        if not run.dense:
            dense = self._dense().get(run.pair)
            if dense is not None:
                # What it is, not how much worse: up is up, whatever the direction.
                grown = float(relative_increase([dense], [value]))
                result += f" (dense {dense:.4g}, {tables.change(grown)})"
            result += f", achieved {outcome['achieved']:.4f}"
        states = self.study.states()
        ended = sum(state in ("done", "failed") for state in states.values())
        ended += claim.done.keys() >= {r.pair for r in claim.cell.runs}  # as this one will at once
        left = self._seconds_left(states, claim)
        self._say(
            f"{ended}/{len(states)}  {run}: {result}"
            + (f"; {_duration(left)} left" if left else "")
        )

    def _seconds_left(self, states: dict[str, str], claim: Claim) -> float:
        """Return how long the runs that are left take, at the pace of the last ones of this process."""
        left = sum(
            len(cell.runs)
            for name, cell in self.study.cells.items()
            if states[name] not in ("done", "failed") and name != claim.cell.name
        )
        left += len(claim.cell.runs) - len(claim.done)
        workers = max(1, list(states.values()).count("running"))
        return float(np.mean(self.took[-10:])) * left / workers


def _planned(run: SweepRun) -> dict[str, Any]:
    return {"criterion": run.criterion, "requested": run.requested}


def _duration(seconds: float) -> str:
    """Return a time to be read at a glance.

    Example:
    >>> _duration(42), _duration(600), _duration(9000)
    ('about 42 s', 'about 10 min', 'about 2.5 h')
    """
    if seconds < 120:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"
