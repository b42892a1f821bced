"""A table that compares the costs of several models; the first model is the reference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.metrics.milliseconds import within_noise
from keras_ganprune.metrics.model_profile import Profile, profiles_of
from keras_ganprune.pruning.structured.counted_macs import CountedMacs
from keras_ganprune.utils import tables
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock


@dataclass(frozen=True)
class ComparisonRow:
    """One quantity of all models.

    Attributes:
        quantity: Name, such as 'MACs'.
        values: Tuple with one number per model; None where the quantity was not measured.

    Example:
    >>> ComparisonRow("MACs", (200, 50, None)).ratios
    (1.0, 0.25, None)
    """

    quantity: str
    values: tuple[float | None, ...]

    @property
    def ratios(self) -> tuple[float | None, ...]:
        """The values divided by the value of the first model; None where this is not possible.

        MACs have no ratio if layers of one of the two models are not counted.
        """
        first = self.values[0]
        if not first or _missing(first):
            return (None,) * len(self.values)
        return tuple(
            None if value is None or _missing(value) else value / first for value in self.values
        )


def _missing(value: Any) -> str:
    """Return the layers that are not counted in a value, as text."""
    return value.missing if isinstance(value, CountedMacs) else ""


@dataclass(frozen=True)
class Comparison(ShownInNotebooks):
    """A table with one column per model and one row per quantity.

    It can be iterated over (rows), indexed by the name of a quantity, and printed.

    Attributes:
        names: Tuple of str, names of the columns.
        rows: Tuple of `ComparisonRow`, one per quantity.
        uncounted: Tuple of str, layers of any model whose multiply-accumulates are not known.

    Example:
    >>> table = Comparison(("dense", "shrunk"), (ComparisonRow("MACs", (200, 50)),))
    >>> table["MACs"].values, table.to_dicts()[0]["shrunk / dense"]
    ((200, 50), 0.25)
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

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict per quantity, for a CSV file or a data frame.

        Its keys are 'quantity', the name of each model (value), and 'name / first' (ratio). If layers are not
        counted, 'not counted' has their names, by model, in the row of the MACs.
        """
        first = self.names[0]
        return [
            {
                "quantity": row.quantity,
                **dict(zip(self.names, row.values, strict=True)),
                **{
                    f"{name} / {first}": ratio
                    for name, ratio in zip(self.names[1:], row.ratios[1:], strict=True)
                },
                **self._not_counted(row),
            }
            for row in self.rows
        ]

    def _not_counted(self, row: ComparisonRow) -> dict[str, dict[str, str]]:
        found = {name: _missing(v) for name, v in zip(self.names, row.values, strict=True)}
        found = {name: text for name, text in found.items() if text}
        return {"not counted": found} if found else {}

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first."""
        lines: list[tuple[str, ...]] = [("", *self.names)]
        for row in self.rows:
            integers = all(v is None or isinstance(v, int) for v in row.values)
            cells = []
            for column, (value, ratio) in enumerate(zip(row.values, row.ratios, strict=True)):
                cell = "–" if value is None else f"{value:.3g}"
                if integers and value is not None:
                    cell = f"{int(value):,}{' + ?' if _missing(value) else ''}"
                noise = ", within noise" if within_noise(row.values[0], value) else ""
                cells.append(
                    cell if not column or ratio is None else f"{cell} ({ratio:.2f}×{noise})"
                )
            lines.append((row.quantity, *cells))
        return lines

    def notes(self) -> list[str]:
        """Return the lines below the table: what the numbers mean, and layers whose MACs are not counted."""
        columns: dict[str, list[str]] = {}
        for row in self.rows:
            for name, value in zip(self.names, row.values, strict=True):
                columns.setdefault(_missing(value), []).append(name)
        columns.pop("", None)
        lines = [
            f"MACs are not counted for: {missing}, in {', '.join(names)}"
            for missing, names in columns.items()
        ]
        if any(within_noise(row.values[0], value) for row in self.rows for value in row.values[1:]):
            lines.append("Within noise: the quartiles of the two times overlap.")
        return lines

    def to_markdown(self) -> str:
        """Return the table and its notes as Markdown."""
        return "\n".join([tables.markdown(self.table()), *(f"\n{note}" for note in self.notes())])

    def _blocks(self) -> list[Block]:
        return [TableBlock(self.table()), *self.notes()]

    def __str__(self) -> str:
        return "\n".join([tables.text(self.table()), *self.notes()])

    __repr__ = __str__


def compare(profiles: Mapping[str, Profile]) -> Comparison:
    """Put profiles into one table; the first profile is the reference for the ratios.

    Args:
        profiles: Dict, name of a column -> `Profile`. Latencies are only comparable if they were measured
            together, as `compare_models` does.

    Returns:
        A `Comparison`.

    Raises:
        InvalidArgumentError: `profiles` is empty, or a value is not a `Profile`.

    Example:
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> result = profile(model, latency=False)
    >>> compare({"before": result, "after": result})["MACs"].ratios
    (1.0, 1.0)
    """
    columns = list(profiles.values()) if isinstance(profiles, Mapping) else []
    if not columns or not all(isinstance(column, Profile) for column in columns):
        raise InvalidArgumentError(
            "`profiles` must be a dict of name -> `Profile` with at least one entry. Received: "
            f"{profiles!r}. Write for example `compare({{'dense': profile(model)}})`."
        )
    quantities: dict[str, list[float | None]] = {
        "parameters": [p.parameters for p in columns],
        "not zero": [p.nonzero for p in columns],
        "MACs": [p.macs for p in columns],
        "weight bytes": [p.bytes for p in columns],
        "SavedModel bytes": [p.saved_bytes for p in columns],
    }
    for label, name in (("ms", "latency"), ("SavedModel ms", "saved_latency")):
        for batch in sorted({batch for p in columns for batch in getattr(p, name)}):
            quantities[f"{label}, batch of {batch}"] = [
                getattr(p, name).get(batch) for p in columns
            ]
    rows = [ComparisonRow(quantity, tuple(values)) for quantity, values in quantities.items()]
    return Comparison(
        tuple(profiles),
        tuple(row for row in rows if any(v is not None for v in row.values)),
        tuple(dict.fromkeys(path for p in columns for path in p.uncounted)),
    )


def compare_models(
    models: Mapping[str, keras.Model],
    *,
    batch_sizes: int | Sequence[int] = (1, 16),
    latency: bool = True,
    saved_models: Mapping[str, str | os.PathLike[str]] | None = None,
    repeats: int | None = None,
    inputs: Any = None,
) -> Comparison:
    """Profile several models and put the results into one table.

    The models are timed in turns, so that other load on the machine affects all of them alike.

    Args:
        models: Dict, name -> built Keras model. The first model is the reference for the ratios. All
            models must take the same inputs if they are timed.
        batch_sizes: Positive int or ints, the batch sizes that are timed. Defaults to (1, 16).
        latency: Whether the models are timed. Defaults to True.
        saved_models: Dict, name of a model -> folder that `export_saved_model` wrote for it. Defaults to
            None.
        repeats: Positive int, number of timings per batch size. Defaults to None: 30, or fewer if 30
            take more than about 5 seconds per model.
        inputs: Structure of `keras.Input`s, for subclassed models with several inputs. Defaults to None.

    Returns:
        A `Comparison`.

    Raises:
        ArgumentTypeError: A model is not a Keras model.
        UnbuiltModelError: A model has no weights yet.
        InvalidArgumentError: A model is a `GANModel`, a model has unknown input sizes and `latency` is True,
            the models take different inputs, `saved_models` has a name that is not in `models`, or
            `batch_sizes` or `repeats` is invalid.
        FileFormatError: A folder in `saved_models` is not a SavedModel of this package.

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
    saved = {} if saved_models is None else saved_models
    return compare(profiles_of(models, batch_sizes, latency, saved, repeats, inputs))
