"""The lines that a sweep prints, with an estimate of the time left."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.metrics.confidence_intervals import relative_increase
from keras_ganprune.search.claim import Claim
from keras_ganprune.search.runs import SweepRun
from keras_ganprune.search.study import Study
from keras_ganprune.utils import tables
from keras_ganprune.utils.durations import duration

_BEGIN = "sweep: "


class SweepProgress:
    """Prints the progress of one process.

    Args:
        study: The study.
        metric: Name of the metric that is printed.
        enabled: Whether to print at all.
    """

    def __init__(self, study: Study, metric: str, enabled: bool):
        self.study = study
        self.metric = metric
        self.enabled = enabled
        self.seconds: list[float] = []  # one duration per run that this process has trained

    def begin(self, is_new: bool) -> None:
        """Print the number of trials, and how many of them ended in an earlier call."""
        states = list(self.study.states().values())
        ended = sum(state in ("done", "failed") for state in states)
        status = "new" if is_new else f"resumed, {ended} of them have ended"
        self._print(f"study '{self.study.name}' of {len(states)} trials, {status}")

    def waiting(self, running: int) -> None:
        """Print that other processes work on all remaining trials."""
        self._print(f"waiting for {running} trials that other processes run")

    def failed(self, run: SweepRun, error: str) -> None:
        """Print the error of a run."""
        self._print(f"{run}: failed: {error}")

    def taken_away(self, run: SweepRun) -> None:
        """Print that another process has taken over a trial of this one."""
        self._print(
            f"{run}: another process considered this trial lost and has taken it over; "
            "the result of this process is discarded"
        )

    def run_ended(
        self,
        run: SweepRun,
        claim: Claim,
        seconds: float,
        dense: Mapping[tuple[int, int | None], float],
    ) -> None:
        """Print the result of a run, its change against dense, and the time left."""
        self.seconds.append(seconds)
        if not self.enabled:
            return
        outcome = claim.done[run.pair]
        value = outcome["values"][self.metric]
        result = f"{self.metric} {value:.4g}"
        if not run.dense:
            if run.pair in dense:
                # The signed change of the value: + means that the value rose, also if a lower value is
                # better.
                change = float(relative_increase([dense[run.pair]], [value]))
                result += f" (dense {dense[run.pair]:.4g}, {tables.change(change)})"
            result += f", achieved {outcome['achieved']:.4f}"
        states = self.study.states()
        ended = sum(state in ("done", "failed") for state in states.values())
        # The trial of this run ends right after its last run.
        ended += claim.done.keys() >= {r.pair for r in claim.cell.runs}
        left = self._seconds_left(states, claim)
        time_left = f"; about {duration(left)} left" if left else ""
        self._print(f"{ended}/{len(states)}  {run}: {result}{time_left}")

    def _seconds_left(self, states: dict[str, str], claim: Claim) -> float:
        """Return an estimate of the time left, from the last runs of this process."""
        runs = sum(
            len(cell.runs)
            for name, cell in self.study.cells.items()
            if states[name] not in ("done", "failed") and name != claim.cell.name
        )
        runs += len(claim.cell.runs) - len(claim.done)
        workers = max(1, list(states.values()).count("running"))
        return float(np.mean(self.seconds[-10:])) * runs / workers

    def of_run(self) -> RunProgress:
        """Return what shows how far one run is."""
        return RunProgress(self.enabled, _BEGIN)

    def _print(self, text: str) -> None:
        RunProgress(self.enabled, _BEGIN).say(text.rstrip("."))
