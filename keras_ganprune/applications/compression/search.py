"""The trainings of one compression: dense, the goal, and what the tolerance makes necessary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from keras_ganprune.applications.compression import latency_goals
from keras_ganprune.applications.compression.judge import Judge, measured
from keras_ganprune.applications.compression.task import Task
from keras_ganprune.applications.compression.training import (
    CannotCutError,
    Trained,
    Trainer,
    cost,
)
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.pruning._shrink_timed import TOLERANCE as LATENCY_TOLERANCE
from keras_ganprune.pruning.mask_state import sparsity_of
from keras_ganprune.pruning.structured.budget import TOLERANCE, Budget
from keras_ganprune.training.snapshot import TrainingState

# What stays grows by this factor from one candidate to the next, up to this share.
_FACTOR, _MOST = 1.25, 0.9


@attrs.define(eq=False)
class Found:
    """The result of a search.

    Attributes:
        task: What was done.
        trained: Its training.
        baseline: Numbers of the dense network that was trained on.
        after: Numbers of the result.
        achieved: Sparsity, or share that stays.
        trials: One dict per training.
    """

    task: Task
    trained: Trained
    baseline: dict[str, float]
    after: dict[str, float]
    achieved: float
    trials: list[dict[str, Any]]


class Search:
    """Trains and measures, and keeps the last result that held.

    Args:
        trainer: Runs the trainings.
        judge: Measures.
        tolerance: As for `compress`.
    """

    def __init__(self, trainer: Trainer, judge: Judge, tolerance: float | None):
        self.trainer = trainer
        self.judge = judge
        self.tolerance = tolerance
        self.trials: list[dict[str, Any]] = []
        self.baseline: dict[str, float] = {}
        self.best: Found | None = None
        self._best_state: TrainingState | None = None

    def dense(self, given: Any) -> None:
        """Set the numbers of the dense network that was trained on."""
        if given is not None and given is not False:
            self.baseline = _given(given, self.judge, self.trainer.plan.steps)
        if self.baseline or given is False:
            return
        self.trainer.progress.plan(self.trainer.plan.steps)
        trained = self.trainer.run(Task("dense"))
        self.baseline = self._numbers(Task("dense"), trained)
        self._note("dense", self.baseline, True)

    def attempt(self, task: Task) -> bool:
        """Train a task and measure it; return whether it holds."""
        task = latency_goals.resolved(task, self.trainer)
        self.trainer.progress.plan(self.trainer.plan.steps)
        trained, task = self._trained(task)
        numbers = self._numbers(task, trained)
        holds = self._holds(numbers)
        achieved = achieved_by(self.trainer, task, trained)
        self._note(str(task), numbers, holds, achieved)
        if holds:
            self.best = Found(task, trained, self.baseline, numbers, achieved, self.trials)
            if not self.trainer.subject.has_copies:
                # The next training would be of the same model.
                self._best_state = TrainingState(self.trainer.subject.model)
        return holds

    def go_back(self) -> None:
        """Put a model that could not be copied back into the last state that held."""
        if self._best_state is not None:
            self._best_state.restore()

    def _trained(self, task: Task) -> tuple[Trained, Task]:
        """Train a task, or the next best one where a part of the recipe cannot be used."""
        trainer = self.trainer
        task = attrs.evolve(task, criterion=trainer.criterion_for(task))
        try:
            return trainer.run(task), task
        except UnsupportedLayerError as error:
            if task.criterion != "taylor":
                raise
            trainer.criterion = "magnitude"
            trainer.notes.append(
                f"The criterion 'taylor' cannot be used here, so 'magnitude' was. {_first(error)}"
            )
            return self._trained(task)
        except CannotCutError as error:
            trainer.notes.append(
                "Channels cannot be cut out of this model, so weights were masked: the network is sparse, "
                f"and as fast as before. {_first(error)}"
            )
            return self._trained(Task("sparsity", 1.0 - task.value))

    def _numbers(self, task: Task, trained: Trained) -> dict[str, float]:
        name = f"{task.key} numbers"
        numbers = self.trainer.folder.get(name)
        if numbers is None:
            network = trained.trainee.network()
            numbers = measured(self.judge, network, self.trainer.progress, str(task))
            self.trainer.folder.put(name, numbers)
        elif numbers:
            self.judge.name = next(iter(numbers))
        return numbers

    def _holds(self, numbers: Mapping[str, float]) -> bool:
        if self.tolerance is None or self.judge.name is None:
            return True
        name = self.judge.name
        return self.judge.within(numbers[name], self.baseline[name], self.tolerance)

    def _note(
        self, title: str, numbers: Mapping[str, float], holds: bool, achieved: float | None = None
    ) -> None:
        self.trials.append(
            {
                "task": title,
                **numbers,
                **({} if achieved is None else {"achieved": achieved}),
                "holds": holds,
            }
        )
        first = "".join(f", {name} {value:.4g}" for name, value in list(numbers.items())[:1])
        missed = "" if holds else ", outside the tolerance"
        left = self.trainer.progress.left
        left = f"; about {left}" if left else ""
        self.trainer.progress.say(f"{title}: trained{first}{missed}{left}")


def run(
    trainer: Trainer, goal: Task, judge: Judge, tolerance: float | None, baseline: Any
) -> Found:
    """Train to the request; with a tolerance, search for the most that holds.

    Raises:
        InvalidArgumentError: Nothing holds, or the given baseline lacks the deciding metric.
    """
    search = Search(trainer, judge, tolerance)
    search.dense(baseline)
    if tolerance is not None and not search.baseline:
        raise InvalidArgumentError(
            "`tolerance` compares with the dense model that is trained on. Received: baseline=False. Leave "
            "`baseline` out, or pass the numbers."
        )
    if search.attempt(goal) and search.best is not None:
        return search.best
    tasks = candidates(goal)
    low, high = 0, len(tasks)  # all before `low` missed, all from `high` on are taken to hold
    while low < high:
        middle = (low + high) // 2
        if search.attempt(tasks[middle]):
            high = middle
        else:
            low = middle + 1
    if search.best is None:
        raise InvalidArgumentError(_nothing_holds(search, goal))
    search.go_back()
    return search.best


def candidates(goal: Task) -> list[Task]:
    """Return the tasks between a goal and the dense network, the hardest one first.

    Example:
    >>> from keras_ganprune.applications.compression.search import candidates
    >>> from keras_ganprune.applications.compression.training import Task
    >>> [round(task.value, 3) for task in candidates(Task("budget", 0.5, "macs"))]
    [0.625, 0.781]
    """
    stays = 1.0 - goal.value if goal.kind == "sparsity" else goal.value
    tasks = []
    while stays * _FACTOR <= _MOST:
        stays *= _FACTOR
        value = round(1.0 - stays if goal.kind == "sparsity" else stays, 6)
        latency = None
        if goal.latency is not None:
            latency = Budget(**{**goal.latency.get_config(), "latency": value})
        tasks.append(attrs.evolve(goal, value=value, latency=latency))
    return tasks


def achieved_by(trainer: Trainer, task: Task, trained: Trained) -> float:
    """Return the sparsity of a trained model, or the share of the quantity that it has left."""
    networks = [network for _, network in trained.trainee.parts()]
    if task.kind == "sparsity":
        return sparsity_of(*networks)
    if task.latency is not None:
        return latency_goals.achieved(trainer, task, networks[0])
    return cost(*networks, quantity=task.quantity) / trainer.dense_cost(task.quantity)


def missed(found: Found) -> list[str]:
    """Return the note that a budget is missed by more than 2 % (a latency: 10 %), or []."""
    task = found.task
    if task.latency is not None:
        target = task.latency.fraction
        if abs(found.achieved - target) <= LATENCY_TOLERANCE * target:
            return []
        return [f"The network has {found.achieved:.4f} of the latency, not {target:.4g}."]
    if task.kind != "budget" or abs(found.achieved - task.value) <= TOLERANCE * task.value:
        return []
    return [
        f"The nearest network of whole channels has {found.achieved:.4f} of the {task.quantity}, not "
        f"{task.value:.4g}."
    ]


def _given(given: Any, judge: Judge, steps: int) -> dict[str, float]:
    theirs = getattr(given, "steps", steps)
    if theirs != steps:
        raise InvalidArgumentError(
            f"`baseline` must be of a dense model that was trained on for as many steps: {steps:,} here. "
            f"Received: a result of {theirs:,} steps. Give both calls the same `epochs` and `batch_size`, "
            "or leave `baseline` out, and the dense model is trained."
        )
    numbers = dict(getattr(given, "baseline", given))
    if judge.judges and judge.name not in numbers:
        raise InvalidArgumentError(
            f"`baseline` must have the deciding metric '{judge.name}'. Received: {sorted(numbers)}. Leave it "
            "out, and the dense model is trained."
        )
    return {name: float(value) for name, value in numbers.items()}


def _nothing_holds(search: Search, goal: Task) -> str:
    name = search.judge.name or ""
    rows = [row for row in search.trials if row["task"] != "dense"]  # a given baseline has no row
    tried = ", ".join(f"{row['task']}: {row[name]:.4g}" for row in rows)
    return (
        f"Nothing is within the tolerance of {search.tolerance:.4g}: dense of equal steps has "
        f"{name} = {search.baseline[name]:.4g}. Tried: {tried}. Train for more `epochs`, allow a larger "
        "`tolerance`, or check that the metric does not vary more than that by chance."
    )


def _first(error: BaseException) -> str:
    """Return the first sentences of an error, without its advice."""
    return re.split(r"(?<=\.) (?=[A-Z])", str(error))[0]
