"""Channels by their cost: a sparsity that is a share of the MACs, parameters or bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.pruning.allocation import Allocation
from keras_ganprune.pruning.rankings.channels import ChannelRanking
from keras_ganprune.pruning.structured.budget import TOLERANCE, Budget, fit
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
    final: float | None = None,
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
        final: Share of the cost that stays at the end of the schedule. If the chosen channels are too few or
            too coarse to meet it later, channels that it needs stay, too. Defaults to None: not known.
    """
    alive = [np.ones(r.group.size, dtype=bool) if may_return else r.alive() for r in rankings]
    lowest: Any = np.finfo(np.float64).min  # pruned channels score -inf, which has no mean
    keeps: list[np.ndarray] = []
    for groups, groups_costs, members in _networks(groups_of_models, costs):

        def fitted(
            fraction: float,
            left: Sequence[np.ndarray],
            groups: Groups = groups,
            groups_costs: Costs = groups_costs,
            members: slice = members,
        ) -> list[np.ndarray]:
            return fit(
                groups,
                [np.nan_to_num(s, neginf=lowest) for s in scores[members]],
                {budget.quantity: fraction},
                ranking=allocation.budget_ranking,
                minimum=allocation.minimum,
                round_to=round_to,
                costs=groups_costs,
                alive=left,
            )

        now = fitted(budget.fraction, alive[members])
        if final is not None and 0.0 < final < budget.fraction and not may_return:
            now = _without_dead_end(now, alive[members], final, fitted, groups_costs, budget)
        keeps += now
    return keeps


def _without_dead_end(
    now: list[np.ndarray],
    alive: Sequence[np.ndarray],
    final: float,
    fitted: Callable[[float, Sequence[np.ndarray]], list[np.ndarray]],
    costs: Costs,
    budget: Budget,
) -> list[np.ndarray]:
    """Return the kept channels, and those that the end of the schedule needs if it would be missed.

    Small groups that cost much, such as the heads of attention, are ranked high and are left for the last. If
    by then all small channels are gone, one more head is too much.
    """
    target = final * costs.of(budget.quantity)

    def gap(keeps: list[np.ndarray]) -> float:
        return abs(costs.of(budget.quantity, keeps) - target)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The budget, .* is missed by", PruningWarning)
        try:
            later = gap(fitted(final, now))
        except InvalidArgumentError:
            later = float("inf")  # what is left is too little for the budget
        if later <= TOLERANCE * target:
            return now
        end = fitted(final, alive)
    # Coarse channels may miss the end in any case: then as near as they can.
    return [one | other for one, other in zip(now, end, strict=True)] if gap(end) < later else now


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
