"""Pure functions on NumPy arrays: which entries stay. True always means keep."""

from __future__ import annotations

import numpy as np

from keras_ganprune.errors import DivergedError, InvalidArgumentError

# Ties are broken by index; reading them in pieces keeps the index array small for a constant tensor.
_TIE_CHUNK = 1 << 20


def validate_sparsity(value: float, name: str = "sparsity") -> float:
    """Return `value` as a float if it is a sparsity, a fraction in [0, 1).

    Raises:
        InvalidArgumentError: `value` is not a number in [0, 1).

    Example:
    >>> validate_sparsity(0.8)
    0.8
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidArgumentError(
            f"`{name}` must be a fraction in [0, 1). Received: {value!r} "
            f"(of type {type(value).__name__})."
        )
    if not 0.0 <= value < 1.0:
        fix = ""
        if 1.0 < value <= 100.0:
            fix = (
                f" For {value:g} %, pass {value / 100:g}."
                if value < 100
                else " At least one weight of a tensor is always kept; pass for example 0.99."
            )
        elif value == 1.0:
            fix = " At least one weight of a tensor is always kept; pass for example 0.99."
        raise InvalidArgumentError(
            f"`{name}` must be a fraction in [0, 1). Received: {value!r}.{fix}"
        )
    return float(value)


def kept_count(size: int, sparsity: float) -> int:
    """Return how many of `size` entries are kept: max(1, round_half_even(n * (1 - s))).

    Args:
        size: Positive int, number of entries n.
        sparsity: Float in [0, 1).

    Example:
    >>> kept_count(5, 0.5), kept_count(3, 0.5), kept_count(10, 0.9)
    (2, 2, 1)
    """
    sparsity = validate_sparsity(sparsity)
    # Python's `round` is half-to-even.
    return max(1, round(size * (1.0 - sparsity)))


def check_finite(array: np.ndarray, what: str) -> None:
    """Raise `DivergedError` if `array` has a NaN or an infinity.

    The sum of an array is finite only if every entry is, and needs no array of flags.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.sum(array, dtype=np.float64))
    if not np.isfinite(total) and not np.isfinite(array).all():
        raise diverged(what, int(array.size - np.count_nonzero(np.isfinite(array))))


def diverged(what: str, bad: int) -> DivergedError:
    """Return the error for something to choose a mask from with `bad` values that are not finite."""
    return DivergedError(
        f"{what} has {bad} value(s) that are NaN or infinite, so no mask can be chosen from it; "
        "the masks are left as they were. Training has diverged: lower the learning rate, or "
        "restore the last checkpoint."
    )


def top_k_mask(scores: np.ndarray, keep: int) -> np.ndarray:
    """Return a bool mask of exactly `keep` entries: the highest scores, ties by lower index.

    Linear time (a selection, not a sort) and about twice the size of `scores` in memory.

    Args:
        scores: Array of any shape, higher = keep. May hold -inf, not NaN.
        keep: Int in [0, scores.size].

    Returns: Bool array of the shape of `scores`, True = keep.

    Example:
    >>> top_k_mask(np.array([1.0, 3.0, 3.0, 3.0]), 2)
    array([False,  True,  True, False])
    """
    scores = np.asarray(scores)
    if not 0 <= keep <= scores.size:
        raise InvalidArgumentError(f"`keep` must be in [0, {scores.size}]. Received: {keep}.")
    if keep == scores.size:
        return np.ones(scores.shape, dtype=bool)
    if keep == 0:
        return np.zeros(scores.shape, dtype=bool)
    flat = scores.reshape(-1)
    # Entries tied at the minimum are set aside first. Pruned ones all score -inf (or zero), and a
    # selection among mostly equal entries takes many times as long.
    threshold = flat.min()
    mask = flat > threshold
    above = int(np.count_nonzero(mask))
    if above > keep:
        work = flat[mask]
        work.partition(above - keep)
        threshold = work[above - keep]
        del work
        np.greater(flat, threshold, out=mask)
    missing = keep - int(np.count_nonzero(mask))
    for start in range(0, flat.size, _TIE_CHUNK):
        if missing == 0:
            break
        ties = np.flatnonzero(flat[start : start + _TIE_CHUNK] == threshold)[:missing]
        mask[start + ties] = True
        missing -= ties.size
    return mask.reshape(scores.shape)


def threshold_mask(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return True where `scores >= threshold`: a unit below it is pruned, one equal to it is kept.

    Example:
    >>> threshold_mask(np.array([0.6, 1.5]), 1.0)
    array([False,  True])
    """
    return np.asarray(scores) >= threshold


def sparsity(mask: np.ndarray) -> float:
    """Return the share of False entries of a mask (or of zeros in an array).

    Example:
    >>> sparsity(np.array([True, False, False, False]))
    0.75
    """
    mask = np.asarray(mask)
    return float(1.0 - np.count_nonzero(mask) / mask.size)
