"""Which units are kept at one mask update: scores, the mode's choice, floors and rounding."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers import device_topk
from keras_ganprune.pruning import modes
from keras_ganprune.pruning.criteria import Magnitude
from keras_ganprune.pruning.granularity import Unstructured
from keras_ganprune.pruning.rankings import top_k
from keras_ganprune.pruning.rankings.base import Ranking
from keras_ganprune.pruning.rankings.targets import Target
from keras_ganprune.pruning.rankings.weights import WeightRanking
from keras_ganprune.pruning.settings import PruningSettings


def choose_all_units(
    rankings: Sequence[Any],
    targets: Sequence[Target],
    settings: PruningSettings,
    seed: tuple[int, int],
    gradients: Sequence[Any],
    growth: Sequence[Any],
    progress: float,
) -> list[np.ndarray]:
    """Return the kept units of each ranking.

    Args:
        rankings: All rankings of the pruner.
        targets: The targets; each ranking is in one of them.
        settings: Criterion, granularity, allocation and mode.
        seed: Seed of the mode and number of the update, for modes that draw at random.
        gradients: As for `choose_units`.
        growth: As for `choose_units`.
        progress: As for `choose_units`.
    """
    units: list[Any] = [None] * len(rankings)
    for number, target in enumerate(targets):
        members = [rankings[i] for i in target.members]
        draw = np.random.default_rng((*seed, number)).random
        keeps = choose_units(
            members,
            target,
            settings,
            gradients=gradients,
            growth=growth,
            progress=progress,
            draw=draw,
        )
        for index, keep in zip(target.members, keeps, strict=True):
            units[index] = keep
    return units


def choose_units(
    rankings: Sequence[Ranking],
    target: Target,
    settings: PruningSettings,
    *,
    gradients: Sequence[Any],
    growth: Sequence[Any],
    progress: float,
    draw: Callable[[int], np.ndarray],
) -> list[np.ndarray]:
    """Return the kept units of each ranking of one target; for a pattern, the mask of the weight.

    Args:
        rankings: The rankings that share the target.
        target: Their target.
        settings: Criterion, granularity, allocation and mode.
        gradients: One array per weight of the pruner, for the criterion; None where it needs no gradient.
        growth: One array per weight, for the mode; None where it needs no gradient.
        progress: Float in [0, 1], the progress of the schedule.
        draw: Function from a size to random numbers in [0, 1).

    Raises:
        DivergedError: A weight is NaN or infinite.
        InvalidArgumentError: The criterion returns unusable scores.
    """
    on_device = _select_on_device(rankings, target, settings)
    if on_device is not None:
        return [on_device]
    allocation, mode = settings.allocation, settings.mode
    scores = _join([allocation.normalize(r.scores(mode.collects, gradients)) for r in rankings])
    if target.pattern is not None and isinstance(rankings[0], WeightRanking):
        return [rankings[0].pattern_mask(scores, target.pattern, mode.regrows)]
    growth_scores = None
    if mode.needs_gradient:
        growth_scores = _join([allocation.normalize(r.growth(growth)) for r in rankings])
    sizes = np.concatenate([r.unit_sizes for r in rankings]) if target.in_weights else None
    edges = np.cumsum([r.tensor.units for r in rankings])[:-1].tolist()
    floors = [r.floor(allocation) for r in rankings]
    best_score = float(np.max(scores))  # before the mode writes into the scores
    choice = modes.Choice(
        scores=scores,
        kept=_join([r.alive() for r in rankings]),
        best=lambda s, budget: top_k.best(s, budget, sizes, edges, floors),
        top=lambda s, budget: top_k.best(s, budget, sizes),
        budget=target.budget,
        threshold=target.threshold,
        size_of=lambda k: int(np.count_nonzero(k) if sizes is None else sizes[k].sum()),
        growth=growth_scores,
        progress=progress,
        draw=draw,
    )
    keep = mode.choose(choice)
    if target.threshold is not None and np.count_nonzero(keep) < floors[0]:
        _warn_of_floor(rankings[0], target.threshold, best_score, keep, floors[0])
        keep = choice.top(np.where(keep, np.inf, scores), floors[0])
    return [
        ranking.rounded(units, unit_scores, floor, mode.regrows)
        for ranking, units, unit_scores, floor in zip(
            rankings, np.split(keep, edges), np.split(scores, edges), floors, strict=True
        )
    ]


def _select_on_device(
    rankings: Sequence[Ranking], target: Target, settings: PruningSettings
) -> np.ndarray | None:
    """Return the kept weights of one large weight on an accelerator, or None in all other cases."""
    is_plain = (
        len(rankings) == 1
        and target.budget is not None
        and settings.criterion == Magnitude()
        and settings.granularity == Unstructured()
        and type(settings.mode) is modes.Hard
    )
    if not is_plain or target.budget is None:
        return None
    weight = rankings[0].first
    if not device_topk.worth_it(weight.variable):
        return None
    return device_topk.largest(weight.variable, weight.mask, target.budget).reshape(-1)


def _warn_of_floor(
    ranking: Ranking, threshold: float, best_score: float, keep: np.ndarray, floor: int
) -> None:
    """Warn that a threshold would keep fewer units than the allocation allows."""
    path = ranking.tensor.path
    if floor == 1:
        text = (
            f"Threshold {threshold:g} is above every score of '{path}', and would empty it; its largest "
            f"unit ({best_score:.3g}) is kept. "
        )
    else:
        text = (
            f"Threshold {threshold:g} would keep {np.count_nonzero(keep)} units of '{path}', and `minimum` "
            f"keeps {floor}. "
        )
    fix = "Lower the threshold, or leave the layer out of `scope`."
    # At the line that called `Pruner.update`.
    warnings.warn(text + fix, PruningWarning, stacklevel=5)


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
