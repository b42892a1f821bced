"""The keys of slices, such as `x[..., :3]`."""

from __future__ import annotations

from typing import Any


def parts_by_axis(key: Any, rank: int) -> list[Any] | None:
    """Return the entries of a key: one per axis, and None for each new axis.

    Returns: A list without `...`; or None if the key has more than ints and slices.
    """
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    named = sum(part is not None and part is not Ellipsis for part in key)
    if not any(part is Ellipsis for part in key):
        key.append(Ellipsis)
    at = next(i for i, part in enumerate(key) if part is Ellipsis)
    key[at : at + 1] = [slice(None)] * (rank - named)
    plain = all(part is None or isinstance(part, (int, slice)) for part in key)
    return key if plain else None
