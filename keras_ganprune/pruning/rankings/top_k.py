"""The highest-scored units within a budget, over one or several tensors, in plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_ganprune.layers import mask_ops


def best(
    scores: np.ndarray,
    budget: int,
    sizes: np.ndarray | None = None,
    edges: Sequence[int] = (),
    floors: Sequence[int] = (),
) -> np.ndarray:
    """Return a bool array: the units with the highest scores, within a budget.

    Args:
        scores: Flat array, one score per unit, higher = keep; a unit with -inf is never kept.
        budget: Int, number of units to keep; with `sizes`, number of weights.
        sizes: Number of weights in each unit, or None to count units. The units kept are a prefix of the
            ranking: the prefix whose number of weights is nearest to the budget. Defaults to None.
        edges: Index in `scores` at which each tensor after the first begins. Defaults to ().
        floors: Least number of units that are kept of each tensor. Defaults to ().

    Example:
    >>> best(np.array([3.0, 1.0, 2.0, 0.5]), 2, edges=[3], floors=[1, 1])
    array([ True, False, False,  True])
    """
    # A single tensor needs no floor of one unit: a budget of units is at least one. A budget of weights
    # may be nearest to no unit at all.
    if len(floors) > 1 or max(floors, default=0) > 1 or sizes is not None:
        scores = _with_floors(scores, edges, floors)
    finite = scores != -np.inf
    if sizes is None:
        keep = mask_ops.top_k_mask(scores, min(budget, scores.size))
        return np.logical_and(keep, finite, out=keep)
    order = np.argsort(-scores, kind="stable")
    filled = np.cumsum(sizes[order])
    count = int(np.searchsorted(filled, budget, side="right"))
    if count < len(order):
        over = filled[count] - budget
        under = budget - (filled[count - 1] if count else 0)
        count += int(over < under)
    keep = np.zeros(scores.shape, dtype=bool)
    keep[order[: max(count, int(np.count_nonzero(scores == np.inf)))]] = True
    return keep & finite


def rounded(
    kept: np.ndarray,
    scores: np.ndarray,
    step: int | None,
    possible: np.ndarray | None = None,
    floor: int = 1,
) -> np.ndarray:
    """Return the kept units, with their number rounded to the nearest multiple of `step`, or to all.

    Args:
        kept: Bool array, the units that would be kept.
        scores: Score of each unit, higher = keep.
        step: Positive int, or None for any number.
        possible: Bool array, the units that can be kept; None for all. Defaults to None.
        floor: Least number of units that are kept. Defaults to 1.

    Example:
    >>> rounded(np.array([True, True, True, False]), np.array([3.0, 1.0, 2.0, 0.0]), 2)
    array([ True,  True,  True,  True])
    """
    if step is None:
        return kept
    possible = np.ones_like(kept) if possible is None else possible | kept
    count = max(round(np.count_nonzero(kept) / step), -(-floor // step)) * step
    count = min(count, int(np.count_nonzero(possible)))
    if count <= np.count_nonzero(kept):
        return best(np.where(kept, scores, -np.inf), count)
    # A unit that is pruned already has the score -inf, but may have to be kept again.
    others = np.nan_to_num(scores, neginf=float(np.finfo(np.float64).min))
    return best(np.where(kept, np.inf, np.where(possible, others, -np.inf)), count)


def _with_floors(scores: np.ndarray, edges: Sequence[int], floors: Sequence[int]) -> np.ndarray:
    if not floors:
        return scores
    raised = np.array(scores, dtype=np.result_type(scores.dtype, np.float32))
    starts = [0, *edges]
    for start, end, floor in zip(starts, [*edges, scores.size], floors, strict=True):
        part = raised[start:end]
        part[mask_ops.top_k_mask(part, min(floor, part.size)) & (part != -np.inf)] = np.inf
    return raised
