"""Channels by what they cost: a sparsity that is a share of the MACs, parameters or bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_ganprune.pruning.allocation import Allocation
from keras_ganprune.pruning.rankings.channels import GroupPart
from keras_ganprune.pruning.structured.budget import Budget, fit
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import Groups


def _networks(
    everything: Sequence[Groups], costs: Sequence[Costs]
) -> Iterator[tuple[Groups, Costs, slice]]:
    """Yield the groups of each network, their costs, and where they are among all parts."""
    begun = 0
    for groups, own in zip(everything, costs, strict=True):
        yield groups, own, slice(begun, begun + len(groups))
        begun += len(groups)


def choose(
    parts: Sequence[GroupPart],
    everything: Sequence[Groups],
    costs: Sequence[Costs],
    scores: Sequence[np.ndarray],
    budget: Budget,
    allocation: Allocation,
    round_to: int | None,
    regrows: bool,
) -> list[np.ndarray]:
    """Return which units of each part stay, so that every network costs what the budget says.

    Args:
        parts: The groups of all networks, network by network.
        everything, costs: The groups and costs of each network.
        scores: Of the units of each part.
        regrows: Whether units that are pruned may stay again.
    """
    alive = [np.ones(p.group.size, dtype=bool) if regrows else p.alive() for p in parts]
    lowest: Any = np.finfo(np.float64).min  # pruned units score -inf, for which there is no mean
    chosen: list[np.ndarray] = []
    for groups, own_costs, own in _networks(everything, costs):
        chosen += fit(
            groups,
            [np.nan_to_num(s, neginf=lowest) for s in scores[own]],
            budget,
            ranking="global" if allocation.joint else "uniform",
            minimum=allocation.minimum,
            round_to=round_to,
            costs=own_costs,
            alive=alive[own],
        )
    return chosen


def cut(
    parts: Sequence[GroupPart],
    everything: Sequence[Groups],
    costs: Sequence[Costs],
    masks: Sequence[np.ndarray],
    quantity: str,
) -> float:
    """Return the share of all networks' cost that masks take away."""
    keeps = [part.alive_in(masks) for part in parts]
    left = sum(own.of(quantity, keeps[part]) for _, own, part in _networks(everything, costs))
    return 1.0 - left / sum(own.of(quantity) for own in costs)
