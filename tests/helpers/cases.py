"""Parametrized tests of which some cases run by default, and all under `-m full`."""

import pytest


def cases(default, names, values, ids=None, **kwargs):
    """Parametrize a test, as `pytest.mark.parametrize` does; all but the default cases are `full`.

    Args:
        default: Int, the number of first cases that run by default; or a tuple of the ids or values that do.
        names: As for `parametrize`.
        values: As for `parametrize`.
        ids: As for `parametrize`.
    """
    values = list(values)
    several = not isinstance(names, str) or "," in names
    labels = list(ids) if isinstance(ids, (list, tuple)) else [None] * len(values)
    rows = []
    for number, (value, label) in enumerate(zip(values, labels, strict=True)):
        if isinstance(default, int):
            chosen = number < default
        else:
            chosen = any(d is value or d == value for d in (*default,)) or label in default
        marks = () if chosen else pytest.mark.full
        rows.append(pytest.param(*(value if several else (value,)), marks=marks))
    return pytest.mark.parametrize(names, rows, ids=ids, **kwargs)
