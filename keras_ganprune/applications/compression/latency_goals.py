"""Compression to a latency: a share of the multiply-accumulates is found for it, and corrected at the cut.

`Prune` masks channels by counted costs, for hundreds of steps. So the latency is measured three times: before
the training, to find the share that the masks go to; at the cut, as the criterion has chosen other widths
than were measured; and at the end, for the report. Shares are noted in the folder: a killed compression goes
on with the same ones, although a measurement never gives the same number twice.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, cast

import attrs
import numpy as np

from keras_ganprune.applications.compression.least_kept import least_of_a_group
from keras_ganprune.applications.compression.task import Task
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.pruning import _shrink_timed as timed
from keras_ganprune.pruning.achieved_latency import measured
from keras_ganprune.pruning.granularity import Channel
from keras_ganprune.pruning.shrink_model import shrink_with_cuts
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.groups import channel_groups

# Masks whose latency is this near to the budget are cut as they are.
_NEAR = 0.06
_SECONDS, _LOADS = 1.0, 3


def check_one_network(task: Task, subject: Any) -> None:
    """Raise if a latency is requested for several networks."""
    if task.latency is not None and len(subject.networks) > 1:
        names = [name for name, _ in subject.networks]
        raise InvalidArgumentError(
            f"A latency is that of one network. Received: {task.latency!r} for {names}. Leave `target` out: "
            "the generator is what is shipped. Or give `Budget(macs=...)`, which is for each of them."
        )


def resolved(task: Task, trainer: Any) -> Task:
    """Return a task whose value is the share of the multiply-accumulates at which a latency is met.

    Raises:
        InvalidArgumentError: The latency cannot be met.
    """
    if task.latency is None or task.kind != "budget":
        return task
    name = f"{task.key} of {task.latency!r}"
    found = trainer.folder.get(name)
    if found is None:
        ((_, network),) = trainer.subject.networks
        groups = channel_groups(network)
        scores = [np.arange(group.size, dtype="float64") for group in groups]
        round_to = getattr(task.granularity, "round_to", None)
        with trainer.progress.doing(f"{task}: measuring"), _noted():
            keeps, latency = timed.timed_units(groups, scores, task.latency, round_to=round_to)
        best = timed.widths(task.latency, round_to)[0]
        counts = [int(keep.sum()) for keep in keeps if not keep.all()]
        follows = best is not None and all(count % best == 0 for count in counts)
        found = {
            "share": round(float(latency.macs or 1.0), 6),
            "round_to": best if follows else None,
        }
        trainer.folder.put(name, found)
    options: dict[str, Any] = {"aggregate": getattr(task.granularity, "aggregate", "sum")}
    units = Channel(of="macs", round_to=found["round_to"], **options)
    task = attrs.evolve(task, value=found["share"], granularity=units)
    groups = [channel_groups(network) for _, network in trainer.subject.networks]
    return attrs.evolve(task, minimum=least_of_a_group(task, groups))


def cut_arguments(trainer: Any, task: Task, trainee: Any) -> dict[str, Any]:
    """Return the arguments of `Shrink` that correct a cut by measurement; {} to cut the masks as they are."""
    if task.latency is None:
        return {}
    name = f"{task.key} cut"
    share = trainer.folder.get(name)
    if share is None:
        ((_, network),) = trainee.parts()
        dense = timed.dense_run(channel_groups(network), task.latency)
        small = shrink_with_cuts(network, verify=False).model
        by_masks = measured(
            task.latency, dense, timed.opened(small, task.latency), seconds=_SECONDS, loads=_LOADS
        )
        gap = abs(by_masks.share / task.latency.fraction - 1.0)
        share = 0.0
        if gap > _NEAR:
            with _noted():
                cut = shrink_with_cuts(
                    network, budget=task.latency, dense=dense, verify=False, **cut_choice(task)
                )
            share = round(float(cut.latency.macs or 0.0), 6) if cut.latency else 0.0
        trainer.folder.put(name, share)
    return {"budget": Budget(macs=share), **cut_choice(task)} if share else {}


def cut_choice(task: Task) -> dict[str, Any]:
    """Return how channels are chosen at a corrected cut. Masked channels, which are zero, go first."""
    round_to = getattr(task.granularity, "round_to", None)
    return {"allocation": task.allocation, "granularity": Channel(round_to=round_to)}


def achieved(trainer: Any, task: Task, network: Any) -> float:
    """Return the latency of a trained network, as a share of the dense one."""
    budget = cast(Budget, task.latency)
    ((_, dense),) = trainer.subject.networks
    runs = timed.dense_run(channel_groups(dense), budget), timed.opened(network, budget)
    return measured(budget, *runs, seconds=_SECONDS, loads=_LOADS).share


@contextlib.contextmanager
def _noted() -> Iterator[None]:
    """Within the context, no warning says that the latency is missed: the result says it at the end."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The budget, .* is missed by", PruningWarning)
        yield
