"""Which criterion, granularity, allocation, mode and schedule are compatible, and why others are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning import criteria, modes, schedules
from keras_ganprune.pruning import granularity as granularities
from keras_ganprune.pruning.allocation import (
    Allocation,
    AllocationLike,
    GlobalRanking,
    Isomorphic,
    Uniform,
)
from keras_ganprune.pruning.criteria import Criterion, CriterionLike, Magnitude
from keras_ganprune.pruning.granularity import Channel, Granularity, GranularityLike, Layer
from keras_ganprune.pruning.modes import Hard, Mode, ModeLike, Soft
from keras_ganprune.pruning.schedules import (
    IterativeRewind,
    LayerwiseOrder,
    Schedule,
    ScheduleLike,
)


@dataclass(frozen=True)
class Combination:
    """One member of each family.

    Attributes:
        criterion: Scores the weights.
        granularity: Groups the weights into units.
        allocation: Distributes the sparsity over tensors.
        mode: Chooses which units are kept.
        schedule: Sets the target, or None if it is set by hand.
    """

    criterion: Criterion
    granularity: Granularity
    allocation: Allocation
    mode: Mode
    schedule: Schedule | None = None


# Each rule returns why a combination cannot be used, or None. A reason ends with the fix, after a
# semicolon. docs/make_combinations.py copies the docstrings into docs/combinations.md.


def _criterion_has_scores(c: Combination) -> str | None:
    """The criterion must have a score for the units of the granularity. If raw scores of different tensors
    are compared, they must all have the same unit."""
    # Scores that are divided by the mean of their tensor are comparable.
    raw = c.allocation.joint and getattr(c.allocation, "normalization", None) is None
    reason = c.criterion.conflict(c.granularity, raw)
    return reason and f"{c.criterion!r} does not support these settings: {reason}"


def _pattern_fixes_counts(c: Combination) -> str | None:
    """A pattern such as 2:4 fixes how many weights of each tensor are kept. So the allocation must be
    'uniform', the mode must be 'hard' or 'soft', and the schedule must end at the sparsity of the pattern."""
    if not c.granularity.pattern:
        return None
    if not isinstance(c.allocation, Uniform):
        return (
            f"{c.granularity!r} fixes the sparsity of every tensor, which {c.allocation!r} would change; use "
            "allocation='uniform'"
        )
    if c.allocation.minimum != 1:
        return (
            f"{c.granularity!r} fixes how many weights are kept, so a `minimum` of {c.allocation.minimum} "
            "would have no effect; use allocation='uniform'"
        )
    if c.mode.regrows and c.mode.enforced:
        return (
            f"{c.mode!r} moves kept weights within a tensor, which breaks the pattern of "
            f"{c.granularity!r}; use mode='hard' or 'soft'"
        )
    schedule = c.schedule
    if schedule is None:
        return None
    if schedule.quantity != "sparsity" or schedule.adaptive:
        return (
            f"{c.granularity!r} fixes the final sparsity, which {schedule!r} does not set; use a schedule "
            f"that ends at sparsity {c.granularity.sparsity:g}"
        )
    if abs(schedule.final - c.granularity.sparsity) > 1e-9:
        return (
            f"{c.granularity!r} ends at sparsity {c.granularity.sparsity:g}, but {schedule!r} ends at "
            f"{schedule.final:g}; use the same final sparsity in both"
        )
    return None


def _threshold_sets_no_total(c: Combination) -> str | None:
    """A threshold does not set how many weights are kept. So the allocation must be 'uniform', and a mode
    that exchanges a fixed number of weights cannot be used."""
    schedule = c.schedule
    if schedule is None or schedule.quantity != "threshold":
        return None
    if not isinstance(c.allocation, Uniform):
        return (
            f"{schedule!r} is a threshold for each tensor, so {c.allocation!r} has no total to distribute; "
            "use allocation='uniform'"
        )
    if c.mode.needs_budget:
        return (
            f"{c.mode!r} exchanges weights and keeps their number, which a threshold does not set; use a "
            "sparsity schedule, or mode='splice'"
        )
    return None


def _statistic_has_unit_of_weights(c: Combination) -> str | None:
    """A threshold that is a multiple of a statistic has the unit of the weights. It can only be compared with
    scores of this unit."""
    if getattr(c.schedule, "statistic", None) is None:
        return None
    if not isinstance(c.criterion, Magnitude):
        return (
            f"{c.schedule!r} is a multiple of a statistic of the weights, but the scores of {c.criterion!r} "
            "have another unit; use 'magnitude'"
        )
    if isinstance(c.granularity, Channel):
        return (
            f"{c.schedule!r} is a multiple of a statistic of single weights, but the scores of "
            f"{c.granularity!r} are sums over whole channels; use 'unstructured' or a block"
        )
    return None


def _layer_order_sets_sparsities(c: Combination) -> str | None:
    """`LayerwiseOrder` sets the sparsity of each tensor. So the allocation must be 'uniform'."""
    if isinstance(c.schedule, LayerwiseOrder) and not isinstance(c.allocation, Uniform):
        return (
            f"LayerwiseOrder sets the sparsity of each tensor, which {c.allocation!r} would change; use "
            "allocation='uniform'"
        )
    return None


def _falling_target_needs_regrowth(c: Combination) -> str | None:
    """If the target falls at some step, the mode must let weights return."""
    if c.schedule is not None and c.schedule.rises_and_falls and not c.mode.regrows:
        return (
            f"{c.schedule!r} needs weights to return, but with {c.mode!r} they never return; use "
            "mode='soft', 'rigl', 'set' or 'splice'"
        )
    return None


def _masks_must_hold(c: Combination) -> str | None:
    """`IterativeRewind` trains under masks that only lose weights, so the mode must be 'hard'.
    `AdaptiveSparsity` monitors the sparse network, so the mode must hold the masks between updates."""
    if isinstance(c.schedule, IterativeRewind) and not isinstance(c.mode, Hard):
        return (
            "the rewound weights of IterativeRewind train under the fixed mask of their round, which "
            f"{c.mode!r} would change; use mode='hard'"
        )
    if c.schedule is not None and c.schedule.adaptive and not c.mode.enforced:
        return (
            f"between updates a network with {c.mode!r} is not sparse, so {c.schedule!r} would monitor the "
            "dense network; use mode='hard', 'rigl', 'set' or 'splice'"
        )
    return None


def _blocks_cannot_return(c: Combination) -> str | None:
    """A residual block whose weights are all zero has no gradient, so a pruned block cannot return."""
    if isinstance(c.granularity, Layer) and c.mode.regrows:
        return (
            f"a pruned residual block has no gradient, so with {c.mode!r} it could never return; use "
            "mode='hard'"
        )
    return None


def _cost_share_sets_a_total(c: Combination) -> str | None:
    """A share of the network's MACs, parameters or bytes sets one total over all groups of channels. So
    the mode cannot exchange channels, and neither allocation nor schedule can set sparsities by layer."""
    quantity = c.granularity.of if isinstance(c.granularity, Channel) else "channels"
    if quantity == "channels":
        return None
    if not isinstance(c.mode, (Hard, Soft)):
        return f"{c.mode!r} exchanges channels of different cost; use mode='hard' or 'soft'"
    if not isinstance(c.allocation, (Uniform, GlobalRanking, Isomorphic)):
        return (
            f"{c.allocation!r} distributes a share of the channels, not of the {quantity}; use "
            "allocation='uniform', 'isomorphic' or 'global_ranking'"
        )
    if c.schedule is not None and (
        c.schedule.quantity != "sparsity" or isinstance(c.schedule, LayerwiseOrder)
    ):
        return f"{c.schedule!r} sets no total of the {quantity}; use a sparsity schedule"
    return None


RULES: tuple[Callable[[Combination], str | None], ...] = (
    _criterion_has_scores,
    _pattern_fixes_counts,
    _threshold_sets_no_total,
    _statistic_has_unit_of_weights,
    _layer_order_sets_sparsities,
    _falling_target_needs_regrowth,
    _masks_must_hold,
    _blocks_cannot_return,
    _cost_share_sets_a_total,
)


def conflict(combination: Combination) -> str | None:
    """Return why a combination cannot be used, or None if it can.

    Example:
    >>> print(conflict(get("fpgm", "unstructured", "uniform", "hard")))
    GeometricMedian() does not support these settings: it compares whole channels; use ...
    """
    for rule in RULES:
        reason = rule(combination)
        if reason:
            return reason
    return None


def get(
    criterion: CriterionLike | str,
    granularity: GranularityLike,
    allocation: AllocationLike | str,
    mode: ModeLike | str,
    schedule: ScheduleLike | None = None,
) -> Combination:
    """Return the combination of names, configs or instances.

    Args:
        criterion: As for `criteria.get`.
        granularity: As for `granularity.get`.
        allocation: As for `allocation.get`.
        mode: As for `modes.get`.
        schedule: As for `schedules.get`, or None.

    Raises:
        InvalidArgumentError: One of them is unknown. Whether they are compatible is not checked.
        ArgumentTypeError: One of them has another type.

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
        raise InvalidArgumentError(f"These settings are not compatible: {reason}.")
