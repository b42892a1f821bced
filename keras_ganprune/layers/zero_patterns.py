"""Which zeros of a kernel look as if they were pruned, and which ones layers have for other reasons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# A kernel looks pruned if it has at least so many zeros that count, and at least this share of them.
_MIN_ZEROS = 16
_MIN_SHARE = 0.05
# So few values decide nothing about signs or levels.
_MIN_OTHERS = 16
# A fixed table has at most so many magnitudes, and each of them at least twice on average.
_LEVELS = 64
# A kernel of 4-bit integers has at most so many magnitudes per channel.
_LEVELS_OF_INT4 = 8


def pruned_zeros(
    values: np.ndarray,
    initial: Callable[[], np.ndarray | None] = lambda: None,
    is_table: bool = False,
) -> int:
    """Return the number of zeros of a kernel that look as if they were pruned; 0 if there are few.

    Zeros do not count

    - where the initializer of the layer puts zeros,
    - in rows of an embedding table that are zero as a whole (padding, words without a vector),
    - in a kernel of zeros only,
    - if no other entry is negative, or none is positive: a clipped kernel, a filter bank, an interpolation,
    - if the other entries have few magnitudes: an identity, one-hot, Fourier, Sobel or int4 matrix.

    Args:
        values: Array, the kernel.
        initial: Function that returns the values that the initializer gives, or None if that is not known.
            It is called only if the other rules leave many zeros. Defaults to a function that returns None.
        is_table: Whether the kernel is an embedding table. Defaults to False.

    Example:
    >>> from keras_ganprune.layers.zero_patterns import pruned_zeros
    >>> kernel = np.triu(np.random.default_rng(0).normal(size=(6, 6)))
    >>> pruned_zeros(np.triu(kernel, 1)), pruned_zeros(np.abs(kernel)), pruned_zeros(np.eye(6))
    (21, 0, 0)
    """
    zero = np.equal(values, 0)
    if is_table:
        zero &= values.any(axis=-1, keepdims=True)
    if not _many(zero):
        return 0
    others = np.asarray(values[values != 0])
    if not others.size or _one_sided(others) or _is_fixed(values, others):
        return 0
    start = initial()
    if start is not None and start.shape == values.shape:
        zero &= start != 0
    return int(np.count_nonzero(zero)) if _many(zero) else 0


def _many(zero: np.ndarray) -> bool:
    return int(np.count_nonzero(zero)) >= max(_MIN_ZEROS, _MIN_SHARE * zero.size)


def _one_sided(others: np.ndarray) -> bool:
    return others.size >= _MIN_OTHERS and bool((others > 0).all() or (others < 0).all())


def _is_fixed(values: np.ndarray, others: np.ndarray) -> bool:
    """Return whether the values that are not zero have few magnitudes, in all or per channel."""
    if np.unique(np.abs(others)).size <= min(_LEVELS, others.size // 2):
        return True
    for axis in (-1, 0):
        lines = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)[:_LEVELS]
        levels = [
            np.unique(np.abs(line[line != 0])).size
            for line in lines
            if np.count_nonzero(line) > 2 * _LEVELS_OF_INT4
        ]
        if levels and max(levels) <= _LEVELS_OF_INT4:
            return True
    return False
