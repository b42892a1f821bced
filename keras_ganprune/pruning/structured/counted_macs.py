"""A number of multiply-accumulates that knows which layers it leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# (path, class name) of a layer whose MACs are not known.
Layer = tuple[str, str]


class CountedMacs(int):
    """Multiply-accumulates per sample, with the layers that are not counted. It computes like an int.

    Printed, it names the layers, so that a number that is too small is never shown alone.

    Args:
        counted: Int, MACs of all layers for which they are known.
        uncounted: Pairs (path, class name) of the other layers. Defaults to ().

    Attributes:
        uncounted: The same, as a tuple.

    Example:
    >>> from keras_ganprune.pruning.structured.counted_macs import CountedMacs
    >>> CountedMacs(1234), CountedMacs(1234, [("body/mix", "Mix")])
    (1234, 1234 + MACs of 1 layer that is not counted: 'body/mix' (Mix))
    """

    uncounted: tuple[Layer, ...]

    def __new__(cls, counted: int, uncounted: Iterable[Layer] = ()) -> CountedMacs:
        """Return the number; an int is made by `__new__`."""
        self = super().__new__(cls, counted)
        self.uncounted = tuple(uncounted)
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        # For `copy` and `pickle`.
        return int(self), self.uncounted

    @classmethod
    def of_rows(cls, rows: Iterable[Any]) -> CountedMacs:
        """Return the sum over rows with `layer`, `kind` and `macs`; `macs` is None where it is not known."""
        rows = list(rows)
        unknown = [(row.layer, row.kind) for row in rows if row.macs is None]
        return cls(sum(row.macs or 0 for row in rows), unknown)

    @property
    def missing(self) -> str:
        """The layers that are not counted as text; '' if there are none."""
        named = ", ".join(f"'{path}' ({kind})" for path, kind in self.uncounted[:3])
        more = len(self.uncounted) - 3
        return f"{named} and {more} others" if more > 0 else named

    def __format__(self, spec: str) -> str:
        number = format(int(self), spec)
        if not self.uncounted:
            return number
        count = len(self.uncounted)
        layers = "1 layer that is" if count == 1 else f"{count} layers that are"
        return f"{number} + MACs of {layers} not counted: {self.missing}"

    def __str__(self) -> str:
        return format(self, "")

    def __repr__(self) -> str:
        return format(self, "")
