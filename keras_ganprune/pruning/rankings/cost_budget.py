"""Channels by their cost: a sparsity that is a share of the MACs, parameters or bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_ganprune.pruning.allocation import Allocation
from keras_ganprune.pruning.rankings.channels import ChannelRanking
from keras_ganprune.pruning.structured.budget import Budget, fit
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import Groups


def _networks(
    groups_of_models: Sequence[Groups], costs: Sequence[Costs]
) -> Iterator[tuple[Groups, Costs, slice]]:
    """Yield the groups and costs of each network, and the slice of its groups among all rankings."""
    start = 0
    for groups, groups_costs in zip(groups_of_models, costs, strict=True):
        yield groups, groups_costs, slice(start, start + len(groups))
        start += len(groups)


def choose(
    rankings: Sequence[ChannelRanking],
    groups_of_models: Sequence[Groups],
    costs: Sequence[Costs],
    scores: Sequence[np.ndarray],
    budget: Budget,
    allocation: Allocation,
    round_to: int | None,
    may_return: bool,
) -> list[np.ndarray]:
    """Return the kept channels of each group, so that the cost of every network meets the budget.

    Args:
        rankings: The rankings of all networks, network by network.
        groups_of_models: The groups of each network.
        costs: The costs of each network.
        scores: The scores of the channels of each ranking.
        budget: The cost that each network may have.
        allocation: Decides whether groups are compared, and the minimum of each.
        round_to: The number of kept channels of a group is a multiple of this; None for any number.
        may_return: Whether a channel that is pruned now may be kept again.
    """
    alive = [np.ones(r.group.size, dtype=bool) if may_return else r.alive() for r in rankings]
    lowest: Any = np.finfo(np.float64).min  # pruned channels score -inf, which has no mean
    keeps: list[np.ndarray] = []
    for groups, groups_costs, members in _networks(groups_of_models, costs):
        keeps += fit(
            groups,
            [np.nan_to_num(s, neginf=lowest) for s in scores[members]],
            budget,
            ranking="global" if allocation.joint else "uniform",
            minimum=allocation.minimum,
            round_to=round_to,
            costs=groups_costs,
            alive=alive[members],
        )
    return keeps


def removed_share(
    rankings: Sequence[ChannelRanking],
    groups_of_models: Sequence[Groups],
    costs: Sequence[Costs],
    masks_now: Sequence[np.ndarray],
    quantity: str,
) -> float:
    """Return the share of the cost of all networks that masks remove.

    Args:
        rankings: The rankings of all networks, network by network.
        groups_of_models: The groups of each network.
        costs: The costs of each network.
        masks_now: One mask per weight of the pruner.
        quantity: 'macs', 'parameters' or 'bytes'.
    """
    keeps = [ranking.alive_in(masks_now) for ranking in rankings]
    left = sum(
        groups_costs.of(quantity, keeps[members])
        for _, groups_costs, members in _networks(groups_of_models, costs)
    )
    return 1.0 - left / sum(groups_costs.of(quantity) for groups_costs in costs)
