"""`Milliseconds`: a median time that knows its quartiles, so that noise can be told from a difference."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


class Milliseconds(float):
    """A median time per call, which is a float, with the quartiles of the measured calls.

    Args:
        median: Float, the median in milliseconds.
        low, high: Floats, lower and upper quartile in milliseconds.

    Example:
    >>> time = Milliseconds.of([0.002, 0.001, 0.003])
    >>> time, time.quartiles
    (2.0, (1.5, 2.5))
    """

    quartiles: tuple[float, float]

    def __new__(cls, median: float, low: float, high: float) -> Milliseconds:
        """Return the number; a float is made by `__new__`."""
        self = super().__new__(cls, median)
        self.quartiles = (low, high)
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        # For `copy` and `pickle`.
        return float(self), *self.quartiles

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Milliseconds:
        """Return the median and the quartiles of measured seconds."""
        times = [1000.0 * time for time in seconds]
        if len(times) == 1:
            return cls(times[0], times[0], times[0])
        low, median, high = statistics.quantiles(times, n=4, method="inclusive")
        return cls(median, low, high)


def within_noise(one: Any, other: Any) -> bool:
    """Return whether two times differ by no more than noise: their quartiles overlap.

    It is False where the quartiles are not known.

    Example:
    >>> within_noise(Milliseconds(2.0, 1.5, 2.5), Milliseconds(2.1, 2.0, 2.2)), within_noise(2.0, 2.1)
    (True, False)
    """
    if not isinstance(one, Milliseconds) or not isinstance(other, Milliseconds):
        return False
    (low, high), (other_low, other_high) = one.quartiles, other.quartiles
    return low <= other_high and other_low <= high
