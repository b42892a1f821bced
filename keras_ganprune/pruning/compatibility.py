"""Which criterion, granularity, allocation, mode and schedule go together, and why others do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning import criteria, modes, schedules
from keras_ganprune.pruning import granularity as granularities
from keras_ganprune.pruning.allocation import Allocation, GlobalRanking, Uniform
from keras_ganprune.pruning.criteria import Criterion, Magnitude
from keras_ganprune.pruning.granularity import Channel, Granularity, Layer
from keras_ganprune.pruning.modes import Hard, Mode, Soft
from keras_ganprune.pruning.schedules import IterativeRewind, LayerwiseOrder, Schedule


@dataclass(frozen=True)
class Combination:
    """One choice from each family."""

    criterion: Criterion
    granularity: Granularity
    allocation: Allocation
    mode: Mode
    schedule: Schedule | None = None


# The docstrings of the rules are the first list of docs/combinations.md.


def _criterion(c: Combination) -> str | None:
    """A criterion must be able to score what the granularity removes, and where tensors are ranked
    together as they are, all its scores must be in one unit."""
    # Scores that are divided by a mean of their tensor compare, whatever their unit.
    raw = c.allocation.joint and getattr(c.allocation, "normalization", None) is None
    reason = c.criterion.conflict(c.granularity, raw)
    return reason and f"{c.criterion!r} cannot be used so: {reason}"


def _pattern(c: Combination) -> str | None:
    """A pattern such as 2:4 fixes how many weights of every tensor stay: there is nothing left for an
    allocation to spread or for a mode to exchange, and the schedule ends where the pattern does."""
    if not c.granularity.pattern:
        return None
    if not isinstance(c.allocation, Uniform):
        return (
            f"{c.granularity!r} fixes the share of every tensor, so there is nothing for "
            f"{c.allocation!r} to spread; use allocation='uniform'"
        )
    if c.allocation.minimum != 1:
        return (
            f"{c.granularity!r} fixes how many weights stay, so there is nothing for a `minimum` of "
            f"{c.allocation.minimum} to say; use allocation='uniform'"
        )
    if c.mode.regrows and c.mode.enforced:
        return (
            f"{c.mode!r} moves kept weights about in a tensor, which breaks the pattern of "
            f"{c.granularity!r}; use mode='hard' or 'soft'"
        )
    schedule = c.schedule
    if schedule is None:
        return None
    if schedule.quantity != "sparsity" or schedule.adaptive:
        return (
            f"{c.granularity!r} fixes how many weights stay, which {schedule!r} leaves open; use a "
            f"schedule that ends at sparsity {c.granularity.sparsity:g}"
        )
    if abs(schedule.final - c.granularity.sparsity) > 1e-9:
        return (
            f"{c.granularity!r} ends at sparsity {c.granularity.sparsity:g}, {schedule!r} at "
            f"{schedule.final:g}; give both the same"
        )
    return None


def _threshold(c: Combination) -> str | None:
    """A threshold leaves open how many weights stay: there is no total for an allocation to spread, nor
    a number for a mode to hold while it exchanges weights."""
    schedule = c.schedule
    if schedule is None or schedule.quantity != "threshold":
        return None
    if not isinstance(c.allocation, Uniform):
        return (
            f"{schedule!r} is a threshold for every tensor alike, so there is no total for "
            f"{c.allocation!r} to spread; use allocation='uniform'"
        )
    if c.mode.needs_budget:
        return (
            f"{c.mode!r} exchanges weights while their number stays, which a threshold leaves open; "
            "use a sparsity schedule, or mode='splice'"
        )
    return None


def _statistic(c: Combination) -> str | None:
    """A threshold that is a multiple of a statistic of the weights is in their unit: what is compared
    with it must be too."""
    if getattr(c.schedule, "statistic", None) is None:
        return None
    if not isinstance(c.criterion, Magnitude):
        return (
            f"{c.schedule!r} compares with a statistic of the weights, which the scores of {c.criterion!r} "
            "are not in units of; use 'magnitude'"
        )
    if isinstance(c.granularity, Channel):
        return (
            f"{c.schedule!r} compares with a statistic of single weights, but {c.granularity!r} has sums "
            "over whole channels; use 'unstructured' or a block"
        )
    return None


def _order(c: Combination) -> str | None:
    """An order of layers says the sparsity of every tensor itself, which leaves nothing to spread."""
    if isinstance(c.schedule, LayerwiseOrder) and not isinstance(c.allocation, Uniform):
        return (
            "LayerwiseOrder says the sparsity of every tensor itself, so there is nothing for "
            f"{c.allocation!r} to spread; use allocation='uniform'"
        )
    return None


def _falling(c: Combination) -> str | None:
    """Where the target falls again, the mode must let weights return."""
    if c.schedule is not None and c.schedule.rises_and_falls and not c.mode.regrows:
        return (
            f"{c.schedule!r} lets weights return, which {c.mode!r} never does; use mode='soft', 'rigl', "
            "'set' or 'splice'"
        )
    return None


def _held(c: Combination) -> str | None:
    """Rounds with a rewind train under a mask that only shrinks, and what is monitored must be the sparse
    network: both need a mode that holds its masks between updates."""
    if isinstance(c.schedule, IterativeRewind) and not isinstance(c.mode, Hard):
        return (
            f"rewound weights train under the mask of their round, not under {c.mode!r}; use 'hard'"
        )
    if c.schedule is not None and c.schedule.adaptive and not c.mode.enforced:
        return (
            f"between updates a {c.mode!r} network is not sparse, so what is monitored would be the "
            "dense network; use mode='hard', 'rigl', 'set' or 'splice'"
        )
    return None


def _blocks(c: Combination) -> str | None:
    """A residual block whose weights are all zero has no gradient, so none that is pruned can return."""
    if isinstance(c.granularity, Layer) and c.mode.regrows:
        return (
            f"a residual block that is masked as a whole has no gradient to return by, so {c.mode!r} is in "
            "vain; use 'hard'"
        )
    return None


def _cost(c: Combination) -> str | None:
    """A share of the network's cost says how many channels stay in all groups together: nothing is left for
    an exchange of channels, or for sparsities by layer."""
    quantity = c.granularity.of if isinstance(c.granularity, Channel) else "channels"
    if quantity == "channels":
        return None
    if not isinstance(c.mode, (Hard, Soft)):
        return f"{c.mode!r} exchanges channels of different cost; use mode='hard' or 'soft'"
    if not isinstance(c.allocation, (Uniform, GlobalRanking)):
        return (
            f"{c.allocation!r} spreads a share of the channels, not of the {quantity}; use "
            "allocation='uniform' or 'global_ranking'"
        )
    if c.schedule is not None and (
        c.schedule.quantity != "sparsity" or isinstance(c.schedule, LayerwiseOrder)
    ):
        return f"{c.schedule!r} says nothing of the {quantity} in all; use a sparsity schedule"
    return None


RULES: tuple[Callable[[Combination], str | None], ...] = (
    _criterion,
    _pattern,
    _threshold,
    _statistic,
    _order,
    _falling,
    _held,
    _blocks,
    _cost,
)


def conflict(combination: Combination) -> str | None:
    """Return why a combination cannot be used, or None if it can.

    Example:
    >>> conflict(get("fpgm", "unstructured", "uniform", "hard"))
    "GeometricMedian() cannot be used so: it compares whole channels; use the granularity 'channel'"
    """
    for rule in RULES:
        reason = rule(combination)
        if reason:
            return reason
    return None


def get(
    criterion: Any, granularity: Any, allocation: Any, mode: Any, schedule: Any = None
) -> Combination:
    """Return the combination for names, configs or instances.

    Example:
    >>> get("l2", "channel", "erk", "soft").granularity
    Channel(axis='out')
    """
    return Combination(
        criteria.get(criterion),
        granularities.get(granularity),
        allocations.get(allocation),
        modes.get(mode),
        None if schedule is None else schedules.get(schedule),
    )


def check(combination: Combination) -> None:
    """Raise `InvalidArgumentError` if a combination cannot be used."""
    reason = conflict(combination)
    if reason:
        raise InvalidArgumentError(f"These settings do not go together: {reason}.")
