"""Several networks side by side: what they cost, and as a share of the first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.metrics.model_profile import Profile, profiles_of
from keras_ganprune.utils import tables


@dataclass(frozen=True)
class ComparisonRow:
    """One quantity of all models; None where it is not known."""

    quantity: str
    values: tuple[float | None, ...]

    @property
    def ratios(self) -> tuple[float | None, ...]:
        """The values as shares of the first."""
        first = self.values[0]
        return tuple(None if v is None or not first else v / first for v in self.values)


@dataclass(frozen=True)
class Comparison:
    """Profiles side by side: a column for each, with shares of the first; printable.

    Attributes:
        names: Of the columns.
        rows: A `ComparisonRow` for each quantity.
        uncounted: Layers whose multiply-accumulates are not known, of any model.
    """

    names: tuple[str, ...]
    rows: tuple[ComparisonRow, ...]
    uncounted: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ComparisonRow]:
        return iter(self.rows)

    def __getitem__(self, quantity: str) -> ComparisonRow:
        rows = {row.quantity: row for row in self.rows}
        if quantity not in rows:
            raise InvalidArgumentError(unknown_name("quantity", quantity, rows))
        return rows[quantity]

    def to_dicts(self) -> list[dict]:
        """Return a dict for each quantity: 'quantity', each name -> value, 'name / first' -> ratio."""
        first = self.names[0]
        return [
            {
                "quantity": row.quantity,
                **dict(zip(self.names, row.values, strict=True)),
                **{
                    f"{name} / {first}": ratio
                    for name, ratio in zip(self.names[1:], row.ratios[1:], strict=True)
                },
            }
            for row in self.rows
        ]

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first."""
        cells = [("", *self.names)]
        for row in self.rows:
            whole = all(v is None or isinstance(v, int) for v in row.values)
            found = []
            for place, (value, ratio) in enumerate(zip(row.values, row.ratios, strict=True)):
                cell = "–" if value is None else f"{value:,}" if whole else f"{value:.3g}"
                found.append(cell if not place or ratio is None else f"{cell} ({ratio:.2f}×)")
            cells.append((row.quantity, *found))
        return cells

    def notes(self) -> list[str]:
        if not self.uncounted:
            return []
        return [f"MACs are not counted of: {', '.join(self.uncounted)}"]

    def to_markdown(self) -> str:
        return "\n".join([tables.markdown(self.table()), *(f"\n{note}" for note in self.notes())])

    def __str__(self) -> str:
        return "\n".join([tables.text(self.table()), *self.notes()])

    __repr__ = __str__


def compare(profiles: Mapping[str, Profile]) -> Comparison:
    """Put profiles side by side; the first is what the others are shares of.

    Args:
        profiles: Dict, name of a column -> `Profile`. Times compare only if they were measured in one
            run, as `compare_models` does.

    Raises: InvalidArgumentError (a ValueError): there is none.

    Example:
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> one = profile(model, latency=False)
    >>> compare({"before": one, "after": one})["MACs"].ratios
    (1.0, 1.0)
    """
    found = list(profiles.values())
    if not found or not all(isinstance(each, Profile) for each in found):
        raise InvalidArgumentError(
            f"`profiles` must be a dict of name -> `Profile`, with one at least. Received: {profiles!r}."
        )
    quantities: dict[str, list[Any]] = {
        "parameters": [p.parameters for p in found],
        "not zero": [p.nonzero for p in found],
        "MACs": [p.macs for p in found],
        "weight bytes": [p.bytes for p in found],
        "SavedModel bytes": [p.saved_bytes for p in found],
    }
    for label, name in (("ms", "latency"), ("SavedModel ms", "saved_latency")):
        for batch in sorted({batch for p in found for batch in getattr(p, name)}):
            quantities[f"{label}, batch of {batch}"] = [getattr(p, name).get(batch) for p in found]
    rows = [ComparisonRow(quantity, tuple(values)) for quantity, values in quantities.items()]
    return Comparison(
        tuple(profiles),
        tuple(row for row in rows if any(v is not None for v in row.values)),
        tuple(dict.fromkeys(path for p in found for path in p.uncounted)),
    )


def compare_models(
    models: Mapping[str, keras.Model],
    *,
    batch_sizes: Sequence[int] = (1, 16),
    latency: bool = True,
    saved_models: Mapping[str, str | os.PathLike] | None = None,
    repeats: int = 30,
    inputs: Any = None,
) -> Comparison:
    """Profile models side by side; all are timed in turn, so that a busy machine is fair to them.

    Args:
        models: Dict, name -> built Keras model. The first is what the others are compared to. All take
            the same inputs.
        saved_models: Dict, name of a model -> folder that `export_saved_model` wrote of it.
        batch_sizes, latency, repeats, inputs: As for `profile`.

    Raises: As `profile`; also InvalidArgumentError, if a name in `saved_models` is not that of a model
        or models take other inputs.

    Example:
    >>> def net(units):
    ...     layers = [keras.layers.Dense(units), keras.layers.Dense(1)]
    ...     return keras.Sequential([keras.Input((8,)), *layers])
    >>> print(compare_models({"dense": net(32), "shrunk": net(8)}, latency=False))
                  dense       shrunk
    ────────────────────────────────
    parameters      321   81 (0.25×)
    not zero        288   72 (0.25×)
    MACs            288   72 (0.25×)
    weight bytes  1,284  324 (0.25×)
    """
    return compare(profiles_of(models, batch_sizes, latency, saved_models or {}, repeats, inputs))
