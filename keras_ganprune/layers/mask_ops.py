"""Pure functions on NumPy arrays that choose which entries are kept. In a mask, True = keep."""

from __future__ import annotations

import numpy as np

from keras_ganprune.errors import DivergedError, InvalidArgumentError
from keras_ganprune.utils.validation import validate_sparsity

# Ties are broken by index. They are read in chunks, so that a constant tensor needs no large index array.
_TIE_CHUNK = 1 << 20


def kept_count(size: int, sparsity: float) -> int:
    """Return how many entries of a tensor are kept: max(1, round_half_even(n * (1 - s))).

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


def check_finite(array: np.ndarray, name: str) -> None:
    """Raise `DivergedError` if `array` has a NaN or an infinity.

    Args:
        array: Array to check.
        name: Name of the array, for the error.
    """
    # If the sum is finite, so is every entry. Unlike `isfinite`, the sum needs no array of flags.
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.sum(array, dtype=np.float64))
    if not np.isfinite(total) and not np.isfinite(array).all():
        raise diverged(name, int(array.size - np.count_nonzero(np.isfinite(array))))


def diverged(name: str, bad: int) -> DivergedError:
    """Return the error for an array with `bad` values that are NaN or infinite."""
    return DivergedError(
        f"{name} has {bad} value(s) that are NaN or infinite, so no mask can be chosen from it. "
        "The masks are unchanged. Training has diverged: lower the learning rate, or "
        "restore the last checkpoint."
    )


def top_k_mask(scores: np.ndarray, keep: int) -> np.ndarray:
    """Return a bool mask of exactly `keep` entries: the highest scores, ties by lower index.

    It takes linear time (a selection, not a sort) and about twice the memory of `scores`.

    Args:
        scores: Array of any shape, higher = keep. It may contain -inf, but not NaN.
        keep: Int in [0, scores.size].

    Returns:
        Bool array of the shape of `scores`, True = keep.

    Raises:
        InvalidArgumentError: `keep` is outside [0, scores.size].

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
    # Entries that are equal to the minimum are left out first: all pruned entries score -inf (or zero), and
    # `partition` is many times slower if most entries are equal.
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
    """Return True where `scores >= threshold`: units below it are pruned, units equal to it are kept.

    Example:
    >>> threshold_mask(np.array([0.6, 1.5]), 1.0)
    array([False,  True])
    """
    return np.asarray(scores) >= threshold


def sparsity(mask: np.ndarray) -> float:
    """Return the fraction of False entries of a mask, or of zeros in an array.

    Example:
    >>> sparsity(np.array([True, False, False, False]))
    0.75
    """
    mask = np.asarray(mask)
    return float(1.0 - np.count_nonzero(mask) / mask.size)
