"""A table, and the text of numbers and intervals in its cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_ganprune.metrics.confidence_intervals import Interval

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """Rows of cells. The first cell of a row names its subject.

    Attributes:
        title: Title, or caption.
        header: One cell per column.
        rows: Tuple of rows, each with one cell per column.
        note: Sentences below the table, or ''.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def number(value: float | None) -> str:
    """Return a number with three digits, or a large number with separators.

    Example:
    >>> number(1234567), number(0.012345), number(None)
    ('1,234,567', '0.0123', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction as a percentage.

    Example:
    >>> percent(0.8), percent(None)
    ('80.0%', '–')
    """
    return NOTHING if value is None else f"{value:.{digits}%}"


def interval(value: Interval | None) -> str:
    """Return a mean ± half the width of its interval. The half width has one or two significant digits.

    Example:
    >>> interval(Interval(6.12, 5.90, 6.34, 5)), interval(Interval(6.12, math.nan, math.nan, 1))
    ('6.12 ± 0.22', '6.12')

    Reference: [Review of particle physics](https://pdg.lbl.gov), introduction, §5.3: two digits up to 35,
    then one.
    """
    if value is None:
        return NOTHING
    if value.count == 1 or not value.half > 0:
        return number(value.mean)
    exponent = math.floor(math.log10(value.half))
    digits = max(0, -exponent + (value.half / 10.0**exponent < 3.55))
    return f"{value.mean:,.{digits}f} ± {value.half:,.{digits}f}"
