"""Durations as text."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration in rounded units.

    Example:
    >>> from keras_ganprune.utils.durations import duration
    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
