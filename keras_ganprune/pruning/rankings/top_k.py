"""Which units stay: one ranking over one or several tensors, in plain arrays."""

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
        scores: Flat array, one score a unit, higher = keep; -inf never stays.
        budget: Int, how many units stay; with `sizes`, how many weights.
        sizes: Weights in each unit where they differ, or None. The number of weights kept is then the
            one nearest to the budget that a prefix of the ranking can have.
        edges: Where each tensor after the first begins in `scores`.
        floors: Least number of units that stay of each tensor, whatever the ranking says.

    Example:
    >>> best(np.array([3.0, 1.0, 2.0, 0.5]), 2, edges=[3], floors=[1, 1])
    array([ True, False, False,  True])
    """
    # A single unit of a single tensor needs no floor: a number of units is never less than one. A number
    # of weights may be nearest to none of them.
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
    """Return the units that stay if their number is to be a multiple of `step`: the nearest one, or all.

    Args:
        kept: Bool array, the units that would stay.
        scores: One for each, higher = keep.
        step: Int, or None for any number.
        possible: Bool array, the units that can stay; None for all.
        floor: Least number of units that stay.

    Example:
    >>> rounded(np.array([True, True, True, False]), np.array([3.0, 1.0, 2.0, 0.0]), 2)
    array([ True,  True,  True,  True])
    """
    if step is None:
        return kept
    possible = np.ones_like(kept) if possible is None else possible | kept
    count = max(round(np.count_nonzero(kept) / step), -(-floor // step)) * step
    count = min(count, np.count_nonzero(possible))
    if count <= np.count_nonzero(kept):
        return best(np.where(kept, scores, -np.inf), count)
    # What is pruned already scores -inf, and yet may have to come back.
    others = np.nan_to_num(scores, neginf=np.finfo(np.float64).min)
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
