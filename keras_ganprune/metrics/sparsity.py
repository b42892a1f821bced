"""How sparse a model is, weight by weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import keras
import numpy as np

from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import masked_weights


@dataclass(frozen=True)
class SparsityRow:
    """One weight: where it is, how many of its entries the mask keeps, how many are not zero."""

    layer: str
    weight: str
    shape: tuple[int, ...]
    kept: int
    nonzero: int
    total: int

    @property
    def sparsity(self) -> float:
        """Share of the entries that the mask prunes."""
        return 1.0 - self.kept / self.total


@dataclass(frozen=True)
class SparsityReport:
    """A table of `SparsityRow`s; iterable, printable, and `to_dicts()` for a data frame.

    Attributes:
        rows: One row for each masked weight.
        parameters: Int, all parameters of the model, masked or not.
        nonzero_parameters: Int, those that are not zero.
    """

    rows: tuple[SparsityRow, ...]
    parameters: int
    nonzero_parameters: int

    @property
    def kept(self) -> int:
        return sum(row.kept for row in self.rows)

    @property
    def total(self) -> int:
        return sum(row.total for row in self.rows)

    @property
    def sparsity(self) -> float:
        """Sparsity over all masked weights together; 0 if there are none."""
        return 1.0 - self.kept / self.total if self.rows else 0.0

    def __iter__(self) -> Iterator[SparsityRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dicts(self) -> list[dict]:
        """Return the rows as dicts, for a CSV file or a data frame."""
        return [
            {
                "layer": row.layer,
                "weight": row.weight,
                "shape": row.shape,
                "kept": row.kept,
                "nonzero": row.nonzero,
                "total": row.total,
                "sparsity": row.sparsity,
            }
            for row in self.rows
        ]

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first and total last."""
        cells = [("layer", "weight", "shape", "kept", "total", "sparsity")]
        for row in self.rows:
            shape = "×".join(str(n) for n in row.shape)
            cells.append(
                (
                    row.layer,
                    row.weight,
                    shape,
                    f"{row.kept:,}",
                    f"{row.total:,}",
                    f"{row.sparsity:.4f}",
                )
            )
        cells.append(("total", "", "", f"{self.kept:,}", f"{self.total:,}", f"{self.sparsity:.4f}"))
        return cells

    def to_markdown(self) -> str:
        header, *body = self.table()
        lines = [header, ("---", "---", "---", "---:", "---:", "---:"), *body]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def __str__(self) -> str:
        cells = self.table()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = []
        for row in cells:
            left = [c.ljust(w) for c, w in zip(row[:3], widths[:3], strict=True)]
            right = [c.rjust(w) for c, w in zip(row[3:], widths[3:], strict=True)]
            lines.append("  ".join(left + right).rstrip())
        rule = "─" * max(len(line) for line in lines)
        lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        lines.append(
            f"{self.nonzero_parameters:,} of {self.parameters:,} parameters of the model are not zero."
        )
        return "\n".join(lines)

    __repr__ = __str__


def sparsity_report(model: keras.layers.Layer) -> SparsityReport:
    """Return how sparse every masked weight of a model is; a shared weight is counted once.

    Args:
        model: A Keras model or layer; a `GANModel` reports both networks.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="head")])
    >>> _ = Pruner(model).update(sparsity=0.5)
    >>> report = sparsity_report(model)
    >>> [(row.layer, row.kept, row.total) for row in report]
    [('head', 10, 20)]
    """
    rows = []
    for weight in masked_weights(model):
        mask = to_numpy(weight.mask)
        rows.append(
            SparsityRow(
                weight.layer_path,
                weight.name,
                tuple(mask.shape),
                int(np.count_nonzero(mask)),
                int(np.count_nonzero(to_numpy(weight.variable))),
                int(mask.size),
            )
        )
    return SparsityReport(tuple(rows), *count_parameters(model.weights))


def count_parameters(weights: Iterable[keras.Variable]) -> tuple[int, int]:
    """Return how many parameters some weights are, each counted once, and how many of these are not zero.

    Example:
    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> count_parameters(layer.weights)  # the bias begins at zero
    (8, 6)
    """
    unique = {id(w): w for w in weights}.values()
    sizes = [math.prod(w.shape) for w in unique]
    return sum(sizes), sum(int(np.count_nonzero(to_numpy(w))) for w in unique)
