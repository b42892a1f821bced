"""What one mask update is to reach, ranking by ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.pruning.allocation import Tensor, Uniform
from keras_ganprune.pruning.compatibility import Combination


@dataclass(frozen=True)
class Target:
    """What one ranking is to reach: a budget, a threshold or a pattern's sparsity.

    Attributes:
        members: Numbers of the tensors that are ranked together.
        budget: Units to keep, or weights if `in_weights`; None with a threshold or a pattern.
        wanted: What the budget would be without a floor.
        threshold: Units with lower scores go.
        pattern: Sparsity of a pattern such as 2:4.
    """

    members: tuple[int, ...]
    budget: int | None = None
    in_weights: bool = False
    wanted: int | None = None
    threshold: float | None = None
    pattern: float | None = None


def make_targets(
    tensors: Sequence[Tensor],
    settings: Combination,
    *,
    sparsity: Any,
    threshold: Any,
    final: float | None,
) -> list[Target]:
    """Return the targets for a sparsity or a threshold, or for a list with one for each tensor.

    Raises:
        InvalidArgumentError: a value is out of range, or the settings leave nothing for it to say.
    """
    if (sparsity is None) == (threshold is None):
        raise InvalidArgumentError(
            "Give exactly one of `sparsity` and `threshold`. "
            f"Received: sparsity={sparsity}, threshold={threshold}."
        )
    quantity = "sparsity" if threshold is None else "threshold"
    value = sparsity if threshold is None else threshold
    check = mask_ops.validate_sparsity if quantity == "sparsity" else _validate_threshold
    each = isinstance(value, (list, tuple, np.ndarray))
    if each and len(value) != len(tensors):
        raise InvalidArgumentError(
            f"`{quantity}` as a list must have one entry for each of the {len(tensors)} "
            f"pruned weights. Received {len(value)}."
        )
    values = [check(v) for v in value] if each else [check(value)] * len(tensors)
    allocation, mode = settings.allocation, settings.mode
    if quantity == "threshold":
        if not isinstance(allocation, Uniform) or mode.needs_budget:
            raise InvalidArgumentError(
                "A `threshold` is for every tensor by itself and leaves open how many weights stay. "
                f"Received: {allocation!r}, {mode!r}. Use `sparsity`, or "
                "allocation='uniform' and mode='hard', 'soft' or 'splice'."
            )
        return [Target((i,), threshold=v) for i, v in enumerate(values)]
    if settings.granularity.pattern:
        return [Target((i,), pattern=v) for i, v in enumerate(values)]
    if each:
        if not isinstance(allocation, Uniform):
            raise InvalidArgumentError(
                f"A list of sparsities leaves nothing for {allocation!r} to spread. "
                "Use allocation='uniform'."
            )
        alone = [allocation.rankings([t], v, v)[0] for t, v in zip(tensors, values, strict=True)]
        rankings = [replace(r, members=(i,)) for i, r in enumerate(alone)]
    else:
        rankings = allocation.rankings(tensors, values[0], values[0] if final is None else final)
    return [
        Target(r.members, r.keep, r.in_weights, r.keep if r.wanted is None else r.wanted)
        for r in rankings
    ]


def _validate_threshold(threshold: Any) -> float:
    if (
        isinstance(threshold, bool)
        or not isinstance(threshold, (int, float, np.number))
        or not 0 <= threshold < np.inf
    ):
        raise InvalidArgumentError(
            f"`threshold` must be a finite, non-negative number. Received: {threshold!r}."
        )
    return float(threshold)
