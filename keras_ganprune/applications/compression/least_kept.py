"""How many channels every group keeps at least when a network is compressed to a budget."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np

from keras_ganprune.applications.compression.task import Task
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.pruning.structured import budget as budgets
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import Groups

# Share of its channels that every group keeps, beside that of equal widths.
_LEAST = 0.25


def least_of_a_group(goal: Task, groups_of_networks: list[Groups]) -> int | float:
    """Return the share of its channels that every group keeps, or 1 channel if the budget needs that.

    A ranking over the whole network may leave a layer with one channel, through which nothing passes. At the
    same width everywhere, a group keeps the square root of the share of the multiply-accumulates.
    """
    least = round(_LEAST * goal.value**0.5, 6)
    round_to = getattr(goal.granularity, "round_to", None)
    for groups in groups_of_networks:
        costs = Costs(groups)
        scores = [np.arange(group.size, dtype="float64") for group in groups]
        limit = goal.value * costs.of(goal.quantity)
        missed = []
        for minimum in (1, least):
            try:
                with missed_silently():
                    keeps = budgets.fit(
                        groups,
                        scores,
                        {goal.quantity: goal.value},
                        minimum=minimum,
                        round_to=round_to,
                        costs=costs,
                    )
            except InvalidArgumentError:
                return 1
            missed.append(abs(costs.of(goal.quantity, keeps) - limit))
        if missed[1] > max(missed[0], budgets.TOLERANCE * limit):
            return 1
    return least


@contextlib.contextmanager
def missed_silently() -> Iterator[None]:
    """Within the context, no warning says that a budget is missed: small networks miss those on the way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The budget, .* is missed by", PruningWarning)
        yield
