"""Numbers that depend on the sizes of inputs, found from the numbers of several traces with other sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Size:
    """An int that depends on unknown sizes: a sum of terms, and a shift.

    Attributes:
        terms: Pairs (numbers of the sizes that are multiplied, factor). Each term is rounded down.
        shift: Int that is added.

    Example:
    >>> half_plus_one = Size((((0,), Fraction(1, 2)),), 1)
    >>> half_plus_one.value([7])
    4
    """

    terms: tuple[tuple[tuple[int, ...], Fraction], ...]
    shift: int = 0

    def value(self, sizes: Sequence[int]) -> int:
        """Return the number for some sizes."""
        return self.shift + sum(
            math.floor(factor * math.prod(sizes[k] for k in parts)) for parts, factor in self.terms
        )

    @property
    def used(self) -> set[int]:
        """The numbers of the sizes that it depends on."""
        return {k for parts, _ in self.terms for k in parts}


@dataclass(frozen=True)
class Scalar:
    """A float that depends on an unknown size: `factor * size ** power`.

    Attributes:
        size: The `Size`.
        factor: Float.
        power: Float, such as -0.5 for 1 / sqrt(n).
    """

    size: Size
    factor: float
    power: float

    @property
    def used(self) -> set[int]:
        """The numbers of the sizes that it depends on."""
        return self.size.used


def solve(values: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> Any:
    """Return the `Size` or `Scalar` that several traces have shown, or None.

    Args:
        values: The number in the first trace, and in one trace for each size that has changed there.
        sizes: Pairs (size in the first trace, size in the trace where it has changed).
    """
    first, changed = values[0], [k for k, v in enumerate(values[1:]) if v != values[0]]
    if not all(isinstance(v, int) for v in values):
        return _scalar(values, sizes, changed)
    product = math.prod(sizes[k][0] for k in changed)
    if all(values[1 + k] * sizes[k][0] == first * sizes[k][1] for k in changed):
        return Size(((tuple(changed), Fraction(first, product)),))
    if len(changed) == 1:
        (k,) = changed
        old, new = sizes[k]
        if values[1 + k] * old**2 == first * new**2:
            return Size((((k, k), Fraction(first, old**2)),))
    terms = []
    for k in changed:
        slope = Fraction(values[1 + k] - first, sizes[k][1] - sizes[k][0])
        terms.append(((k,), slope))
    found = Size(tuple(terms))
    found = Size(found.terms, first - found.value([old for old, _ in sizes]))
    return found if _shows(found, values, sizes) else None


def _shows(size: Size, values: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> bool:
    """Return whether a size gives the numbers of all traces."""
    base = [old for old, _ in sizes]
    for k, value in enumerate(values):
        now = base if not k else [*base[: k - 1], sizes[k - 1][1], *base[k:]]
        if size.value(now) != value:
            return False
    return True


def _scalar(
    values: Sequence[Any], sizes: Sequence[tuple[int, int]], changed: list[int]
) -> Scalar | None:
    if len(changed) != 1:
        return None
    (k,) = changed
    old, new = sizes[k]
    for power in (1.0, -1.0, 0.5, -0.5, 2.0, -2.0):
        factor = float(values[0]) / old**power
        if math.isclose(factor * new**power, float(values[1 + k]), rel_tol=1e-6):
            return Scalar(Size((((k,), Fraction(1)),)), factor, power)
    return None
