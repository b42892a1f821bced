"""The study of a sweep: the state of its trials, the next trial, and the process that works on each trial."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

from keras_ganprune.errors import FileFormatError, InvalidArgumentError
from keras_ganprune.search._sealed import damaged, reading
from keras_ganprune.search._worker_identity import is_dead, this_worker
from keras_ganprune.search.claim import Claim, finished_runs, run_key
from keras_ganprune.search.runs import Cell
from keras_ganprune.search.storage import open_storage, optuna
from keras_ganprune.utils.checksums import of_json

_PLAN_SECONDS = 30


class Study:
    """A study in a database, whose trials are the cells of a plan.

    A cell is *done* once one of its trials is complete, and *failed* if its last trial raised an error. If
    a process is killed during a trial, the trial is marked as failed without an error text, and the cell
    gets a new trial. A process claims only the first waiting trial of a cell. So nothing is trained twice if
    two processes both add a trial.

    Args:
        storage: As for `open_storage`.
        name: Name of the study.
    """

    def __init__(self, storage: Any, name: str):
        if not isinstance(name, str) or not name:
            raise InvalidArgumentError(f"`name` must be a non-empty str. Received: {name!r}.")
        self.name = name
        self.storage = open_storage(storage)
        interval = getattr(self.storage, "get_heartbeat_interval", lambda: None)
        self.beats = interval() is not None

    # --- the plan --------------------------------------------------------------------------------

    def begin(self, settings: dict[str, Any], cells: Sequence[Cell], direction: str) -> bool:
        """Create or resume the study; return whether it is new.

        Raises:
            InvalidArgumentError: The study exists with other settings.
            FileFormatError: The study exists, but no sweep has created it, or it is damaged.
        """
        self.cells = {cell.name: cell for cell in cells}
        with reading():
            return self._begin(json.loads(json.dumps(settings)), cells, direction)

    def _begin(self, settings: dict[str, Any], cells: Sequence[Cell], direction: str) -> bool:
        try:
            self.study = optuna().create_study(
                storage=self.storage, study_name=self.name, direction=direction
            )
            is_new = True
        except optuna().exceptions.DuplicatedStudyError:
            self.study = optuna().load_study(storage=self.storage, study_name=self.name)
            is_new = False
        if not is_new:
            self._wait_for_plan()
        stored = self.study.user_attrs.get("settings")
        if stored is None and self.study.get_trials(deepcopy=False):
            raise FileFormatError(
                f"No sweep has created the study '{self.name}'. Choose another `name`."
            )
        if stored is None:
            self.study.set_user_attr("settings", settings)
        else:
            self._check_plan(stored)
        if stored not in (None, settings):
            raise InvalidArgumentError(_difference(self.name, stored, settings))
        if not self.study.user_attrs.get("planned"):
            planned = {trial.user_attrs.get("cell") for trial in self._trials()}
            for cell in cells:
                if cell.name not in planned:
                    self._add(cell)
            names = [cell.name for cell in cells]
            self.study.set_user_attr(
                "planned", {"cells": names, "checksum": of_json([settings, names])}
            )
        return is_new

    def _check_plan(self, settings: Any) -> None:
        """Raise `FileFormatError` if the settings or trials of the study are not those that were planned."""
        plan = self.study.user_attrs.get("planned")
        if not isinstance(plan, dict):
            return  # not planned yet, or by version 0.1
        if plan.get("checksum") != of_json([settings, plan.get("cells")]):
            raise damaged("its settings differ from their checksum")
        present = {trial.user_attrs.get("cell") for trial in self._trials()}
        missing = [name for name in plan["cells"] if name not in present]
        if missing:
            raise damaged(f"{len(missing)} trials are missing, such as '{missing[0]}'")

    def _wait_for_plan(self) -> None:
        """Wait until the process that created the study has added its trials."""
        ends = time.monotonic() + _PLAN_SECONDS
        while not self.study.user_attrs.get("planned") and time.monotonic() < ends:
            trials = self._trials()
            if trials and "cell" not in trials[0].user_attrs:
                return  # no sweep has created the study
            time.sleep(0.2)

    def load(self) -> dict[str, Any]:
        """Open an existing study, and return its settings.

        Raises:
            FileFormatError: There is no study with this name, no sweep has created it, or it is damaged.
        """
        with reading():
            return self._load()

    def _load(self) -> dict[str, Any]:
        try:
            self.study = optuna().load_study(storage=self.storage, study_name=self.name)
        except KeyError as error:
            known = sorted(optuna().get_all_study_names(self.storage))
            raise FileFormatError(
                f"The storage has no study '{self.name}'. Its studies: {', '.join(known) or '(none)'}."
            ) from error
        settings = self.study.user_attrs.get("settings")
        if settings is None:
            raise FileFormatError(
                f"No sweep has created the study '{self.name}'. Choose another `name`."
            )
        self._check_plan(settings)
        return settings

    def _add(self, cell: Cell, older: Any = None) -> None:
        """Add a waiting trial for a cell, with the outcomes of an older trial of that cell."""
        params, distributions = ({}, {}) if cell.candidate else _parameters(cell, self.cells)
        attributes: dict[str, Any] = {"cell": cell.name}
        if older is not None and cell.candidate:
            params, distributions = older.params, older.distributions
        if older is not None:
            keys = [run_key(pair) for pair in finished_runs(older)]
            attributes |= {key: older.user_attrs[key] for key in keys}
        self.study.add_trial(
            optuna().trial.create_trial(
                state=optuna().trial.TrialState.WAITING,
                params=params,
                distributions=distributions,
                user_attrs=attributes,
            )
        )

    # --- claims -------------------------------------------------------------------------------

    def _trials(self) -> list[Any]:
        with reading():
            return self.study.get_trials(deepcopy=False)

    def _by_cell(self) -> dict[str, list[Any]]:
        by_cell: dict[str, list[Any]] = {name: [] for name in self.cells}
        for trial in self._trials():
            if trial.user_attrs.get("cell") in by_cell:
                by_cell[trial.user_attrs["cell"]].append(trial)
        return by_cell

    def states(self) -> dict[str, str]:
        """Return the state of each cell: 'done', 'failed', 'running', 'waiting' or 'lost'."""
        return {name: _state(trials) for name, trials in self._by_cell().items()}

    def retry(self) -> None:
        """Add a new trial for each cell that failed."""
        for name, trials in self._by_cell().items():
            if _state(trials) == "failed":
                self._add(self.cells[name], _best_of(trials))

    def release_dead_workers(self) -> None:
        """Mark the running trials of dead workers as failed, without an error text."""
        states = optuna().trial.TrialState
        for trial in self._trials():
            if trial.state == states.RUNNING and is_dead(trial.user_attrs.get("worker")):
                with contextlib.suppress(RuntimeError):
                    self.storage.set_trial_state_values(trial._trial_id, states.FAIL)
        if self.beats:
            optuna().storages.fail_stale_trials(self.study)

    def claim(self) -> Claim | None:
        """Return the next trial for this process, or None if no trial is waiting now."""
        self.release_dead_workers()
        by_cell = self._by_cell()
        lost = {name: trials for name, trials in by_cell.items() if _state(trials) == "lost"}
        for name, trials in lost.items():
            self._add(self.cells[name], _best_of(trials))
        if lost:
            by_cell = self._by_cell()
        states = {name: _state(trials) for name, trials in by_cell.items()}
        # The candidates of a search are compared with the dense runs, so they start after all dense runs.
        dense = [n for n, cell in self.cells.items() if not cell.candidate and cell.runs[0].dense]
        dense_left = any(states[name] in ("running", "waiting", "lost") for name in dense)
        for name, cell in self.cells.items():
            if states[name] != "waiting" or (cell.candidate and dense_left):
                continue
            first = next(t for t in by_cell[name] if not t.state.is_finished())
            if self._take(first):
                self.study.sampler = self._sampler(first.number)
                trial = optuna().trial.Trial(self.study, first._trial_id)
                trial.set_user_attr("worker", this_worker())
                return Claim(self.storage, self.beats, cell, trial)
        return None

    def _take(self, trial: Any) -> bool:
        """Try to claim a waiting trial; return whether this process succeeded."""
        # Uses a private attribute of Optuna. Its public `ask` claims a trial too, but adds a new trial if no
        # trial is waiting.
        if self.beats:
            # Recorded before the claim, so that a running trial always has a heartbeat.
            self.storage.record_heartbeat(trial._trial_id)
        try:
            return self.storage.set_trial_state_values(
                trial._trial_id, optuna().trial.TrialState.RUNNING
            )
        except RuntimeError:
            return False

    def _sampler(self, number: int) -> Any:
        """Return the sampler of a trial, seeded by its number: a resumed search makes the same choices."""
        samplers = optuna().samplers
        candidates = sum(cell.candidate for cell in self.cells.values())
        if not candidates:
            return samplers.RandomSampler(seed=0)
        dense = len(self.cells) - candidates
        seed = self.study.user_attrs["settings"]["seed"]
        return samplers.TPESampler(
            n_startup_trials=dense + max(3, min(10, candidates // 4)), seed=(seed + number) % 2**32
        )

    def finished(self) -> list[tuple[str, Any]]:
        """Return (name of the cell, trial) for each cell that is done or failed, one trial per cell."""
        by_cell: dict[str, list[Any]] = {}
        for trial in self._trials():
            if "cell" in trial.user_attrs:
                by_cell.setdefault(trial.user_attrs["cell"], []).append(trial)
        results = []
        for name, trials in by_cell.items():
            ended = [t for t in trials if _ended(t)]
            complete = [t for t in ended if t.state == optuna().trial.TrialState.COMPLETE]
            if ended:
                results.append((name, complete[0] if complete else ended[-1]))
        return results

    def tidy(self) -> None:
        """Mark waiting trials of cells that are done as failed."""
        states = optuna().trial.TrialState
        for trials in self._by_cell().values():
            if _state(trials) != "done":
                continue
            for trial in trials:
                if trial.state == states.WAITING:
                    with contextlib.suppress(RuntimeError):
                        self.storage.set_trial_state_values(trial._trial_id, states.FAIL)


def _ended(trial: Any) -> bool:
    """Return whether a trial is complete, or has failed with an error."""
    states = optuna().trial.TrialState
    return trial.state == states.COMPLETE or (
        trial.state == states.FAIL and "error" in trial.user_attrs
    )


def _state(trials: Sequence[Any]) -> str:
    states = optuna().trial.TrialState
    present = {trial.state for trial in trials}
    if states.COMPLETE in present:
        return "done"
    if states.RUNNING in present:
        return "running"
    if states.WAITING in present:
        return "waiting"
    return "failed" if any(_ended(trial) for trial in trials) else "lost"


def _best_of(trials: Sequence[Any]) -> Any:
    """Return the trial with the most finished runs, or None if there is no trial."""
    return max(trials, key=lambda t: (len(finished_runs(t)), len(t.params)), default=None)


def _parameters(cell: Cell, cells: dict[str, Cell]) -> tuple[dict, dict]:
    """Return the parameters of a planned trial, to be shown by Optuna's tools."""
    distributions = optuna().distributions
    runs = [run for planned in cells.values() for run in planned.runs]
    names = sorted({run.criterion for run in runs if run.criterion is not None})
    run = cell.runs[0]
    # Optuna needs the same ranges for all cells.
    highest = max(r.seed for r in runs)
    parameters: dict[str, tuple[Any, Any]] = {
        "seed": (run.seed, distributions.IntDistribution(0, highest))
    }
    if run.fold is not None:
        folds = max(r.fold or 0 for r in runs)
        parameters["fold"] = (run.fold, distributions.IntDistribution(0, folds))
    if names and not run.dense:
        parameters["criterion"] = (run.criterion, distributions.CategoricalDistribution(names))
        top = max(r.requested or 0.0 for r in runs)
        parameters[run.quantity] = (run.requested, distributions.FloatDistribution(0.0, top))
    return (
        {name: value for name, (value, _) in parameters.items()},
        {name: distribution for name, (_, distribution) in parameters.items()},
    )


def _difference(name: str, stored: dict[str, Any], given: dict[str, Any]) -> str:
    lines = [
        f"  {key}: {stored.get(key)!r} in the study, {given.get(key)!r} now"
        for key in sorted({*stored, *given})
        if stored.get(key) != given.get(key)
    ]
    return (
        f"The study '{name}' exists with other settings:\n" + "\n".join(lines) + "\n"
        "Choose another `name` (or storage) for these settings, or pass the old settings to resume it."
    )
