"""A trial of a study that one process has claimed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from keras_ganprune.search._sealed import damaged, opened, sealed
from keras_ganprune.search.runs import Cell
from keras_ganprune.search.storage import BEAT_SECONDS, optuna


class TakenAwayError(Exception):
    """Another process considered this trial lost, and has taken it over."""


class Claim:
    """A trial that belongs to this process alone.

    Args:
        storage: The Optuna storage.
        beats: Whether the storage records heartbeats.
        cell: The cell of the trial.
        trial: The `optuna.Trial`.

    Attributes:
        done: Dict, (seed, fold) -> outcome of a run that has ended.
    """

    def __init__(self, storage: Any, beats: bool, cell: Cell, trial: Any):
        self._storage, self._beats = storage, beats
        self.cell = cell
        self.trial = trial
        self.done = finished_runs(trial)

    def record(self, pair: tuple[int, int | None], outcome: dict[str, Any]) -> None:
        """Write the outcome of a run to the storage immediately."""
        self.done[pair] = outcome
        key = run_key(pair)
        with _unless_taken():
            self.trial.set_user_attr(key, sealed(_place(self.trial, key), outcome))

    def finish(self, value: float) -> None:
        """End the trial with its value."""
        with _unless_taken():
            self.trial.set_user_attr("runs", sorted(run_key(pair) for pair in self.done))
        self._end(optuna().trial.TrialState.COMPLETE, [value])

    def fail(self, text: str, run: dict[str, Any]) -> None:
        """End the trial with an error. It is repeated only with `retry_failed`."""
        with _unless_taken():
            record = sealed(_place(self.trial, text), run)
            self.trial.set_user_attr("failed_run", record)
            self.trial.set_user_attr("error", text)
        self._end(optuna().trial.TrialState.FAIL)

    def release(self) -> None:
        """Release the trial. The next process repeats it, except for the runs that have ended."""
        # A trial that failed without an error counts as not started.
        self._end(optuna().trial.TrialState.FAIL)

    def _end(self, state: Any, values: list[float] | None = None) -> None:
        with _unless_taken():
            self._storage.set_trial_state_values(self.trial._trial_id, state, values)

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Within the context, record a heartbeat in the storage at regular intervals."""
        storage, number = self._storage, self.trial._trial_id
        stop = threading.Event()

        def beat():
            while not stop.wait(BEAT_SECONDS):
                # The run continues if the database cannot be reached for a moment.
                with contextlib.suppress(Exception):
                    storage.record_heartbeat(number)

        thread = threading.Thread(target=beat, daemon=True)
        if self._beats:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if self._beats:
                thread.join()


@contextlib.contextmanager
def _unless_taken() -> Iterator[None]:
    """Raise `TakenAwayError` where Optuna reports that the trial has already ended."""
    try:
        yield
    except RuntimeError as error:  # Optuna's `UpdateFinishedTrialError`; once a plain one
        raise TakenAwayError from error


def run_key(pair: tuple[int, int | None]) -> str:
    """Return the name of the attribute that holds the outcome of a run."""
    seed, fold = pair
    return f"run {seed}" if fold is None else f"run {seed} {fold}"


def _place(trial: Any, key: str) -> str:
    return f"{trial.user_attrs.get('cell')}: {key}"


def finished_runs(trial: Any) -> dict[tuple[int, int | None], dict[str, Any]]:
    """Return the outcome of each run of a trial that has ended, by seed and fold.

    Raises:
        FileFormatError: An outcome is damaged or missing.
    """
    outcomes = {}
    for key, outcome in trial.user_attrs.items():
        if key.startswith("run "):
            seed, *fold = (int(part) for part in key.split()[1:])
            outcomes[(seed, fold[0] if fold else None)] = opened(_place(trial, key), outcome)
    missing = set(trial.user_attrs.get("runs", ())) - {run_key(pair) for pair in outcomes}
    complete = getattr(trial, "state", None) == optuna().trial.TrialState.COMPLETE
    if missing or (complete and not outcomes):
        raise damaged(f"runs of '{trial.user_attrs.get('cell')}' are missing")
    return outcomes


def failed_run(trial: Any) -> dict[str, Any] | None:
    """Return the run in which a trial failed, with the text of its error; None if it did not fail.

    Raises:
        FileFormatError: The record is damaged.
    """
    text = trial.user_attrs.get("error")
    if text is None:
        return None
    run = opened(_place(trial, text), trial.user_attrs.get("failed_run"))
    return {**run, "error": text}
