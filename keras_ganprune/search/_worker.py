"""The loop of one process of a sweep: claim a trial, train its runs, until no trial is left."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np

from keras_ganprune.errors import PruningError
from keras_ganprune.metrics.confidence_intervals import relative_increase
from keras_ganprune.search._progress import SweepProgress
from keras_ganprune.search.claim import Claim, TakenAwayError
from keras_ganprune.search.plan import SweepPlan
from keras_ganprune.search.result import SweepResult
from keras_ganprune.search.runs import SweepRun
from keras_ganprune.search.study import Study
from keras_ganprune.search.trial import SettingError, Trainer

_POLL_SECONDS = 1.0


class Worker:
    """Trains the trials of a study that this process claims.

    Args:
        plan: The `SweepPlan`.
        trainer: Trains and evaluates one run.
        study: The study, which has the cells of the plan.
        settings: Dict of all settings of the study.
        progress: Whether to print a line for each run that ends.
    """

    def __init__(
        self,
        plan: SweepPlan,
        trainer: Trainer,
        study: Study,
        settings: dict[str, Any],
        progress: bool,
    ):
        self.plan, self.trainer, self.study = plan, trainer, study
        self.settings = settings
        self.progress = SweepProgress(study, plan.metric, progress)

    def run(self, is_new: bool) -> None:
        """Train until every trial of the study has ended, here or in another process."""
        self.progress.begin(is_new)
        waiting = False
        while True:
            claim = self.study.claim()
            if claim is not None:
                self._train(claim)
                waiting = False
                continue
            states = list(self.study.states().values())
            if not {"running", "waiting", "lost"} & set(states):
                break
            if not waiting:
                self.progress.waiting(states.count("running"))
            waiting = True
            # If another process is killed, this process takes over its trial.
            time.sleep(_POLL_SECONDS)
        self.study.tidy()

    def _train(self, claim: Claim) -> None:
        """Train the runs of a claimed trial, and end it."""
        run = claim.cell.runs[0]
        try:
            with claim.beating():
                runs = self._runs(claim)
                for run in runs:
                    if run.pair not in claim.done:
                        started = time.perf_counter()
                        claim.record(
                            run.pair, _planned(run) | self.trainer.run(run, self.progress.of_run())
                        )
                        seconds = time.perf_counter() - started
                        dense = {} if run.dense else self._dense_values()
                        self.progress.run_ended(run, claim, seconds, dense)
                claim.finish(self._objective(claim, runs))
        except TakenAwayError:
            self.progress.taken_away(run)
        except SettingError:
            claim.release()
            raise
        except Exception as error:  # a user's model may raise anything
            text = f"{type(error).__name__}: {error}"
            self.progress.failed(run, text)
            try:
                claim.fail(text, _planned(run) | {"seed": run.seed, "fold": run.fold})
            except TakenAwayError:
                self.progress.taken_away(run)
        except BaseException:
            # After an interruption, another process or the next call repeats the trial.
            with contextlib.suppress(Exception):
                claim.release()
            raise

    def _runs(self, claim: Claim) -> list[SweepRun]:
        """Return the runs of a trial. In a search, the sampler chooses their sparsity."""
        if not claim.cell.candidate:
            return list(claim.cell.runs)
        quantity = self.plan.quantity
        low, high = self.plan.values
        value = claim.trial.suggest_float(quantity, low, high)
        names = list(self.settings["criteria"])
        criterion = names[0]
        if len(names) > 1:
            criterion = claim.trial.suggest_categorical("criterion", names)
        return [SweepRun(*run.pair, quantity, value, criterion) for run in claim.cell.runs]

    def _objective(self, claim: Claim, runs: list[SweepRun]) -> float:
        """Return the value of a trial for Optuna.

        For a grid it is the metric. For a search it is the achieved sparsity if the degradation against dense
        is within the tolerance. Otherwise it is the negative excess over the tolerance, so every feasible
        result is better than every infeasible result.
        """
        outcomes = [claim.done[run.pair] for run in runs]
        values = [outcome["values"][self.plan.metric] for outcome in outcomes]
        if self.plan.search == "grid":
            return values[0]
        if not claim.cell.candidate:
            return float("-inf")  # a dense run must not guide the sampler
        dense = self._dense_values()
        pairs = [
            (dense[run.pair], value)
            for value, run in zip(values, runs, strict=True)
            if run.pair in dense
        ]
        if not pairs:
            raise PruningError("no dense run with these seeds and folds succeeded")
        before, after = zip(*pairs, strict=True)
        excess = float(relative_increase(before, after, self.plan.direction)) - self.plan.tolerance
        sparsity = float(np.mean([outcome["achieved"] for outcome in outcomes]))
        return sparsity if excess <= 0 else -excess

    def _dense_values(self) -> dict[tuple[int, int | None], float]:
        """Return the metric of each dense run that succeeded, by seed and fold."""
        trials = SweepResult.of(self.study, self.settings).trials
        return {
            t.run.pair: t.values[self.plan.metric] for t in trials if t.dense and t.error is None
        }


def _planned(run: SweepRun) -> dict[str, Any]:
    return {"criterion": run.criterion, "requested": run.requested}
