"""The target of each ranking at one mask update: a budget, a threshold or a pattern's sparsity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.allocation import Tensor, Uniform
from keras_ganprune.pruning.compatibility import Combination
from keras_ganprune.utils import validation

# One number for all tensors, or one per tensor.
Value = float | Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Target:
    """The target of the tensors that are ranked together. One of the three numbers is not None.

    Attributes:
        members: Indices of the tensors.
        budget: Number of units to keep, or of weights if `in_weights`.
        in_weights: Whether the budget counts weights, because units differ in size.
        wanted: The budget before the minimum of each tensor raised it.
        threshold: Units with a lower score are pruned.
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
    sparsity: Value | None,
    threshold: Value | None,
    final: float | None,
) -> list[Target]:
    """Return the targets for a sparsity or a threshold.

    Args:
        tensors: The tensors, in the order of the rankings.
        settings: Allocation, granularity and mode decide how the value is spread.
        sparsity: Fraction in [0, 1), or a list with one per tensor; None with a threshold.
        threshold: Non-negative float, or a list with one per tensor; None with a sparsity.
        final: Sparsity at the end of the schedule; None for `sparsity`.

    Raises:
        InvalidArgumentError: Not exactly one of `sparsity` and `threshold` is given.
        InvalidArgumentError: A value is out of range, or a list has the wrong length.
        InvalidArgumentError: The allocation or the mode cannot be combined with such a value.
    """
    quantity, values = _values(tensors, sparsity, threshold)
    allocation = settings.allocation
    if quantity == "threshold":
        if not isinstance(allocation, Uniform) or settings.mode.needs_budget:
            raise InvalidArgumentError(
                "A `threshold` applies to each tensor by itself and leaves open how many weights are kept. "
                f"Received: {allocation!r}, {settings.mode!r}. Use `sparsity`, or "
                "allocation='uniform' and mode='hard', 'soft' or 'splice'."
            )
        return [Target((i,), threshold=value) for i, value in enumerate(values)]
    if settings.granularity.pattern:
        return [Target((i,), pattern=value) for i, value in enumerate(values)]
    if _is_list(sparsity):
        if not isinstance(allocation, Uniform):
            raise InvalidArgumentError(
                f"A list of sparsities leaves nothing for {allocation!r} to spread. "
                "Use allocation='uniform'."
            )
        rankings = [
            replace(allocation.rankings([tensor], value, value)[0], members=(i,))
            for i, (tensor, value) in enumerate(zip(tensors, values, strict=True))
        ]
    else:
        rankings = allocation.rankings(tensors, values[0], values[0] if final is None else final)
    return [
        Target(r.members, r.keep, r.in_weights, r.keep if r.wanted is None else r.wanted)
        for r in rankings
    ]


def _is_list(value: Value | None) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _values(
    tensors: Sequence[Tensor], sparsity: Value | None, threshold: Value | None
) -> tuple[str, list[float]]:
    """Return which quantity is given, and its checked value for each tensor."""
    if (sparsity is None) == (threshold is None):
        raise InvalidArgumentError(
            "Give exactly one of `sparsity` and `threshold`. "
            f"Received: sparsity={sparsity}, threshold={threshold}."
        )
    quantity = "sparsity" if threshold is None else "threshold"
    check = _CHECKS[quantity]
    value = sparsity if threshold is None else threshold
    if not _is_list(value):
        return quantity, [check(value)] * len(tensors)
    value = cast(Sequence[float], value)
    if len(value) != len(tensors):
        raise InvalidArgumentError(
            f"`{quantity}` as a list must have one entry for each of the {len(tensors)} "
            f"pruned weights. Received {len(value)}."
        )
    return quantity, [check(v) for v in value]


def _validate_threshold(threshold: object) -> float:
    return validation.non_negative(threshold, "threshold", "a finite, non-negative number")


_CHECKS: dict[str, Callable[[Any], float]] = {
    "sparsity": validation.validate_sparsity,
    "threshold": _validate_threshold,
}
