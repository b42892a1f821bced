"""The study of a sweep: which trials are done, which one is next, and who is at work on what."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from keras_ganprune.errors import FileFormatError, InvalidArgumentError
from keras_ganprune.search.plan import Cell
from keras_ganprune.search.storage import BEAT_SECONDS, open_storage, optuna

# Told from other threads of this process, and from an older process of the same number.
_TOKEN = secrets.token_hex(8)
_PLAN_SECONDS = 30


@functools.cache
def _place() -> str:
    """Return what tells apart computers, and containers on them, each with processes of its own."""
    found = [socket.gethostname()]
    with contextlib.suppress(OSError):
        found.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
    with contextlib.suppress(OSError):
        found.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(found)


def _gone(worker: dict[str, Any] | None) -> bool:
    """Return whether a worker is known to be dead: a process of this computer that is no more."""
    if not worker or worker["place"] != _place():
        return False
    if worker["pid"] == os.getpid():
        return worker["token"] != _TOKEN
    if os.name == "nt":  # there, signal 0 would end it
        return False
    try:
        os.kill(worker["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


class TakenAwayError(Exception):
    """Another process has taken this trial for lost, and ended it."""


class Claim:
    """A trial that this process has, and no other.

    Attributes:
        cell: What is to be done.
        trial: The `optuna.Trial`.
        done: dict, (seed, fold) -> what a run that is finished has come to.
    """

    def __init__(self, study: Study, cell: Cell, trial: Any):
        self._study = study
        self.cell = cell
        self.trial = trial
        self.done = finished_runs(trial)

    def record(self, pair: tuple[int, int | None], outcome: dict[str, Any]) -> None:
        """Keep what a run has come to, at once."""
        self.done[pair] = outcome
        with _unless_taken():
            self.trial.set_user_attr(_run_key(pair), outcome)

    def finish(self, value: float) -> None:
        """End the trial with its value."""
        self._end(optuna().trial.TrialState.COMPLETE, [value])

    def fail(self, text: str, run: dict[str, Any]) -> None:
        """End the trial with what went wrong, in which run; it is not tried again unasked."""
        with _unless_taken():
            self.trial.set_user_attr("failed_run", run)
            self.trial.set_user_attr("error", text)
        self._end(optuna().trial.TrialState.FAIL)

    def release(self) -> None:
        """Give the trial up: it is done anew by whoever comes next, without runs that are finished."""
        # A trial that failed without an error counts as one that was never begun.
        self._end(optuna().trial.TrialState.FAIL)

    def _end(self, state: Any, values: list[float] | None = None) -> None:
        with _unless_taken():
            self._study.storage.set_trial_state_values(self.trial._trial_id, state, values)

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Within the context, tell the storage again and again that this process is alive."""
        storage, number = self._study.storage, self.trial._trial_id
        stop = threading.Event()

        def beat():
            while not stop.wait(BEAT_SECONDS):
                # A database that is out of reach for a moment is no reason to lose the run.
                with contextlib.suppress(Exception):
                    storage.record_heartbeat(number)

        thread = threading.Thread(target=beat, daemon=True)
        if self._study.beats:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if self._study.beats:
                thread.join()


@contextlib.contextmanager
def _unless_taken() -> Iterator[None]:
    """Say in this package's words that a trial has ended already."""
    try:
        yield
    except RuntimeError as error:  # Optuna's `UpdateFinishedTrialError`; once a plain one
        raise TakenAwayError from error


class Study:
    """A study in a database, whose trials are the cells of a plan.

    A cell is *done* once a trial of it is complete, and *failed* if the last one raised an error. A trial
    that another process was killed in is failed without an error text, and the cell gets a new trial.
    Of several waiting trials of a cell only the first one is ever claimed, so that it does no harm if two
    processes make one at the same time.

    Args:
        storage: As for `open_storage`.
        name: Of the study.
    """

    def __init__(self, storage: Any, name: str):
        if not isinstance(name, str) or not name:
            raise InvalidArgumentError(f"`name` must be a non-empty text. Received: {name!r}.")
        self.name = name
        self.storage = open_storage(storage)
        interval = getattr(self.storage, "get_heartbeat_interval", lambda: None)
        self.beats = interval() is not None

    # --- the plan --------------------------------------------------------------------------------

    def begin(self, settings: dict[str, Any], cells: Sequence[Cell], direction: str) -> bool:
        """Make the study, or go on with it; return whether it is new.

        Raises:
            InvalidArgumentError: it exists with other settings.
            FileFormatError: it exists, but no sweep has made it.
        """
        self.cells = {cell.name: cell for cell in cells}
        settings = json.loads(json.dumps(settings))
        try:
            self.study = optuna().create_study(
                storage=self.storage, study_name=self.name, direction=direction
            )
            fresh = True
        except optuna().exceptions.DuplicatedStudyError:
            self.study = optuna().load_study(storage=self.storage, study_name=self.name)
            fresh = False
        if not fresh:
            self._wait_for_plan()
        kept = self.study.user_attrs.get("settings")
        if kept is None and self.study.get_trials(deepcopy=False):
            raise FileFormatError(
                f"The study '{self.name}' was not made by a sweep. Choose another `name`."
            )
        if kept is None:
            self.study.set_user_attr("settings", settings)
        elif kept != settings:
            raise InvalidArgumentError(_difference(self.name, kept, settings))
        if not self.study.user_attrs.get("planned"):
            there = {trial.user_attrs.get("cell") for trial in self._trials()}
            for cell in cells:
                if cell.name not in there:
                    self._add(cell)
            self.study.set_user_attr("planned", True)
        return fresh

    def _wait_for_plan(self) -> None:
        """Give the process that has made the study the time to write down what is to be done."""
        ends = time.monotonic() + _PLAN_SECONDS
        while not self.study.user_attrs.get("planned") and time.monotonic() < ends:
            trials = self._trials()
            if trials and "cell" not in trials[0].user_attrs:
                return  # of something else
            time.sleep(0.2)

    def load(self) -> dict[str, Any]:
        """Open a study that exists, and return its settings.

        Raises:
            FileFormatError: there is none of that name, or no sweep has made it.
        """
        try:
            self.study = optuna().load_study(storage=self.storage, study_name=self.name)
        except KeyError as error:
            known = sorted(optuna().get_all_study_names(self.storage))
            raise FileFormatError(
                f"The storage has no study '{self.name}'. It has: {', '.join(known) or 'none'}."
            ) from error
        settings = self.study.user_attrs.get("settings")
        if settings is None:
            raise FileFormatError(f"The study '{self.name}' was not made by a sweep.")
        return settings

    def _add(self, cell: Cell, older: Any = None) -> None:
        """Add a waiting trial for a cell, with all that an older one of it has come to."""
        params, distributions = ({}, {}) if cell.candidate else _parameters(cell, self.cells)
        attributes: dict[str, Any] = {"cell": cell.name}
        if older is not None and cell.candidate:
            params, distributions = older.params, older.distributions
        if older is not None:
            kept = {_run_key(pair): found for pair, found in finished_runs(older).items()}
            attributes |= kept
        self.study.add_trial(
            optuna().trial.create_trial(
                state=optuna().trial.TrialState.WAITING,
                params=params,
                distributions=distributions,
                user_attrs=attributes,
            )
        )

    # --- who does what ---------------------------------------------------------------------------

    def _trials(self) -> list[Any]:
        return self.study.get_trials(deepcopy=False)

    def _by_cell(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {name: [] for name in self.cells}
        for trial in self._trials():
            if trial.user_attrs.get("cell") in found:
                found[trial.user_attrs["cell"]].append(trial)
        return found

    def states(self) -> dict[str, str]:
        """Return for each cell 'done', 'failed', 'running', 'waiting' or 'lost'."""
        return {name: _state(trials) for name, trials in self._by_cell().items()}

    def retry(self) -> None:
        """Let cells that failed be done once more."""
        for name, trials in self._by_cell().items():
            if _state(trials) == "failed":
                self._add(self.cells[name], _best_of(trials))

    def bury(self) -> None:
        """Give up the trials of workers that are dead."""
        states = optuna().trial.TrialState
        for trial in self._trials():
            if trial.state == states.RUNNING and _gone(trial.user_attrs.get("worker")):
                with contextlib.suppress(RuntimeError):
                    self.storage.set_trial_state_values(trial._trial_id, states.FAIL)
        if self.beats:
            optuna().storages.fail_stale_trials(self.study)

    def claim(self) -> Claim | None:
        """Return the next trial for this process, or None if there is none (now)."""
        self.bury()
        by_cell = self._by_cell()
        lost = {name: trials for name, trials in by_cell.items() if _state(trials) == "lost"}
        for name, trials in lost.items():
            self._add(self.cells[name], _best_of(trials))
        if lost:
            by_cell = self._by_cell()
        states = {name: _state(trials) for name, trials in by_cell.items()}
        # A search compares with the dense runs, so all of them come first.
        dense = [n for n, cell in self.cells.items() if not cell.candidate and cell.runs[0].dense]
        hold = any(states[name] in ("running", "waiting", "lost") for name in dense)
        for name, cell in self.cells.items():
            if states[name] != "waiting" or (cell.candidate and hold):
                continue
            first = next(t for t in by_cell[name] if not t.state.is_finished())
            if self._take(first):
                self.study.sampler = self._sampler(first.number)
                trial = optuna().trial.Trial(self.study, first._trial_id)
                worker = {"place": _place(), "pid": os.getpid(), "token": _TOKEN}
                trial.set_user_attr("worker", worker)
                return Claim(self, cell, trial)
        return None

    def _take(self, trial: Any) -> bool:
        """Return whether this process, and no other, has got a waiting trial."""
        # Private touch: Optuna's `ask` does this too, but makes a new trial where none is waiting.
        if self.beats:
            # Before, so that there is no moment in which a trial runs and was never heard of.
            self.storage.record_heartbeat(trial._trial_id)
        try:
            return self.storage.set_trial_state_values(
                trial._trial_id, optuna().trial.TrialState.RUNNING
            )
        except RuntimeError:
            return False

    def _sampler(self, number: int) -> Any:
        """Return the sampler of a trial: seeded by its number, so that a resumed search is the same."""
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
        """Return (name of the cell, trial) for each cell that is done or failed: one trial of each."""
        by_cell: dict[str, list[Any]] = {}
        for trial in self._trials():
            if "cell" in trial.user_attrs:
                by_cell.setdefault(trial.user_attrs["cell"], []).append(trial)
        found = []
        for name, trials in by_cell.items():
            ended = [t for t in trials if _ended(t)]
            complete = [t for t in ended if t.state == optuna().trial.TrialState.COMPLETE]
            if ended:
                found.append((name, complete[0] if complete else ended[-1]))
        return found

    def tidy(self) -> None:
        """Give up waiting trials of cells that are done."""
        states = optuna().trial.TrialState
        for trials in self._by_cell().values():
            if _state(trials) != "done":
                continue
            for trial in trials:
                if trial.state == states.WAITING:
                    with contextlib.suppress(RuntimeError):
                        self.storage.set_trial_state_values(trial._trial_id, states.FAIL)


def _ended(trial: Any) -> bool:
    """Return whether a trial is complete, or failed by an error of its own."""
    states = optuna().trial.TrialState
    return trial.state == states.COMPLETE or (
        trial.state == states.FAIL and "error" in trial.user_attrs
    )


def _state(trials: Sequence[Any]) -> str:
    states = optuna().trial.TrialState
    there = {trial.state for trial in trials}
    if states.COMPLETE in there:
        return "done"
    if states.RUNNING in there:
        return "running"
    if states.WAITING in there:
        return "waiting"
    return "failed" if any(_ended(trial) for trial in trials) else "lost"


def _best_of(trials: Sequence[Any]) -> Any:
    """Return the trial that came furthest, of those that were lost; None if there is none."""
    return max(trials, key=lambda t: (len(finished_runs(t)), len(t.params)), default=None)


def _run_key(pair: tuple[int, int | None]) -> str:
    seed, fold = pair
    return f"run {seed}" if fold is None else f"run {seed} {fold}"


def finished_runs(trial: Any) -> dict[tuple[int, int | None], dict[str, Any]]:
    """Return what each run of a trial that is finished has come to, by seed and fold."""
    found = {}
    for key, outcome in trial.user_attrs.items():
        if key.startswith("run "):
            seed, *fold = (int(part) for part in key.split()[1:])
            found[(seed, fold[0] if fold else None)] = outcome
    return found


def _parameters(cell: Cell, cells: dict[str, Cell]) -> tuple[dict, dict]:
    """Return the parameters of a planned trial, for whoever looks at the study with Optuna's tools."""
    distributions = optuna().distributions
    runs = [run for each in cells.values() for run in each.runs]
    names = sorted({run.criterion for run in runs if run.criterion is not None})
    run = cell.runs[0]
    # Always the same ranges, whatever the cell, as Optuna asks for.
    highest = max(r.seed for r in runs)
    found: dict[str, tuple[Any, Any]] = {
        "seed": (run.seed, distributions.IntDistribution(0, highest))
    }
    if run.fold is not None:
        folds = max(r.fold for r in runs)
        found["fold"] = (run.fold, distributions.IntDistribution(0, folds))
    if names and not run.dense:
        found["criterion"] = (run.criterion, distributions.CategoricalDistribution(names))
        top = max(r.requested or 0.0 for r in runs)
        found[run.quantity] = (run.requested, distributions.FloatDistribution(0.0, top))
    return (
        {name: value for name, (value, _) in found.items()},
        {name: distribution for name, (_, distribution) in found.items()},
    )


def _difference(name: str, kept: dict[str, Any], given: dict[str, Any]) -> str:
    lines = [
        f"  {key}: {kept.get(key)!r} there, {given.get(key)!r} now"
        for key in sorted({*kept, *given})
        if kept.get(key) != given.get(key)
    ]
    return (
        f"The study '{name}' exists with other settings:\n" + "\n".join(lines) + "\n"
        "Choose another `name` (or storage) for these settings, or give the old ones to go on with it."
    )
