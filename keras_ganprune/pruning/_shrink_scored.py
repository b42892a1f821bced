"""Which channels stay, according to the scores of a criterion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning import compatibility
from keras_ganprune.pruning._shrink_timed import Run, timed_units
from keras_ganprune.pruning.achieved_latency import AchievedLatency
from keras_ganprune.pruning.compatibility import Combination
from keras_ganprune.pruning.criteria import Criterion
from keras_ganprune.pruning.granularity import Channel
from keras_ganprune.pruning.rankings import top_k
from keras_ganprune.pruning.rankings.channels import channel_rankings
from keras_ganprune.pruning.rankings.targets import make_targets
from keras_ganprune.pruning.structured.budget import Budget, fit, get
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.utils.validation import validate_sparsity


def best_units(
    groups: Groups,
    criterion: Any,
    granularity: Any,
    allocation: Any,
    sparsity: float | None,
    budget: Budget | None,
    limits: Any,
    calibration: Any = None,
    dense: Run | None = None,
) -> tuple[list[np.ndarray], AchievedLatency | None]:
    """Return for each group a bool array of the units that stay: those with the highest scores.

    Exactly one of `sparsity` and `budget` is given. The arguments are those of `shrink`; `calibration` are
    its `inputs`, for a criterion that measures the network.

    Args:
        dense: Runs the network that a latency is a share of. Defaults to None: that of the groups.

    Returns:
        The arrays, and what was measured for a latency; None for any other request.

    Raises:
        InvalidArgumentError: The settings cannot be used by `shrink`, or the budget cannot be met.
    """
    settings = compatibility.get(criterion, granularity, allocation, "hard")
    channel = _check_settings(settings, groups)
    measured, networks = settings.criterion, [groups.graph.model]
    weights, rankings = channel_rankings([groups], measured, channel, _no_mask)
    needed = measured.needs_calibration
    inputs = [_calibration(calibration, measured, networks[0])] if needed else None
    known = measured.evidence(networks, weights, [None] * len(weights), inputs)
    scores = [ranking.scores(False, known) for ranking in rankings]
    allocation = settings.allocation.with_scores(scores)
    settings = replace(settings, allocation=allocation)
    if sparsity is not None and channel.of != "channels":
        budget = get({channel.of: 1.0 - validate_sparsity(sparsity)})
    if budget is not None:
        rules: dict[str, Any] = {
            "ranking": allocation.budget_ranking,
            "minimum": allocation.minimum,
            "round_to": channel.round_to,
            "limits": limits,
        }
        if budget.is_measured:
            return timed_units(groups, scores, budget, dense=dense, **rules)
        return fit(groups, scores, budget, **rules), None
    tensors = [ranking.tensor for ranking in rankings]
    allocation.check(tensors, sparsity)
    targets = make_targets(tensors, settings, sparsity=sparsity, threshold=None, final=None)
    keeps: list[Any] = [None] * len(rankings)
    for target in targets:
        ranked = [allocation.normalize(scores[i]) for i in target.members]
        edges = np.cumsum([len(s) for s in ranked])[:-1].tolist()
        floors = [allocation.floor(len(s)) for s in ranked]
        count = cast(int, target.budget)  # None only for a threshold or a pattern
        best = top_k.best(np.concatenate(ranked), count, None, edges, floors)
        for i, units, floor in zip(target.members, np.split(best, edges), floors, strict=True):
            keeps[i] = top_k.rounded(units, scores[i], channel.round_to, None, floor)
    return keeps, None


def _calibration(inputs: Any, criterion: Criterion, network: Any) -> Any:
    """Return the inputs on which the criterion measures the network."""
    arrays = keras.tree.flatten(inputs)
    if inputs is None or any(isinstance(x, keras.KerasTensor) for x in arrays):
        raise InvalidArgumentError(
            f"{criterion!r} measures '{network.name}' on calibration inputs. Pass `inputs=`, an array of "
            f"inputs of the network, such as 256 samples of the training data. Received: {inputs!r}."
        )
    return inputs


def _no_mask(variable: keras.Variable) -> np.ndarray:
    """Return a mask that keeps everything."""
    return np.ones(tuple(variable.shape), dtype=bool)


def _check_settings(settings: Combination, groups: Groups) -> Channel:
    """Return the granularity, or raise if the settings cannot choose channels here."""
    compatibility.check(settings)
    granularity = settings.granularity
    if not isinstance(granularity, Channel) or not granularity.coupled:
        raise InvalidArgumentError(
            "`shrink` removes whole channels from all layers that share them; `granularity` must be "
            f"'channel' or a coupled `Channel`. Received: {granularity!r}."
        )
    if settings.criterion.needs_gradient:
        raise InvalidArgumentError(
            f"`shrink` sees no data, so it has no gradients for {settings.criterion!r}. Prune with this "
            "criterion in `fit` (`Prune(..., granularity='channel')`) and then shrink the masked model, "
            "or use a criterion that scores weights alone, such as 'magnitude'."
        )
    if not len(groups):
        raise InvalidArgumentError(
            f"'{groups.graph.model.name}' has no channels that could be removed:\n{groups!r}"
        )
    return granularity
