"""The sparsity of a model, weight by weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.layers.unmasked_zeros import warn_of_unmasked_zeros
from keras_ganprune.utils import tables


@dataclass(frozen=True)
class SparsityRow:
    """The sparsity of one weight.

    Attributes:
        layer: Path of the layer.
        weight: Attribute name of the weight, such as 'kernel'.
        shape: Shape of the weight.
        kept: Int, number of entries that the mask keeps.
        nonzero: Int, number of entries that are not zero.
        total: Int, number of entries.

    Example:
    >>> SparsityRow("head", "kernel", (4, 5), kept=5, nonzero=5, total=20).sparsity
    0.75
    """

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
    """The sparsity of all masked weights of a model. It can be iterated over (rows) and printed.

    Attributes:
        rows: Tuple with one `SparsityRow` per masked weight.
        parameters: Int, number of parameters of the model, masked or not.
        nonzero_parameters: Int, number of parameters that are not zero.

    Example:
    >>> rows = (SparsityRow("head", "kernel", (4, 5), kept=5, nonzero=5, total=20),)
    >>> print(SparsityReport(rows, parameters=25, nonzero_parameters=5))
    layer  weight  shape  kept  total  sparsity
    ───────────────────────────────────────────
    head   kernel  4×5       5     20    0.7500
    ───────────────────────────────────────────
    total                    5     20    0.7500
    5 of 25 parameters of the model are not zero.
    """

    rows: tuple[SparsityRow, ...]
    parameters: int
    nonzero_parameters: int

    @property
    def kept(self) -> int:
        """Number of entries that the masks keep."""
        return sum(row.kept for row in self.rows)

    @property
    def total(self) -> int:
        """Number of entries of all masked weights."""
        return sum(row.total for row in self.rows)

    @property
    def sparsity(self) -> float:
        """Sparsity over all masked weights together; 0 if there are none."""
        return 1.0 - self.kept / self.total if self.rows else 0.0

    def __iter__(self) -> Iterator[SparsityRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dicts(self) -> list[dict[str, Any]]:
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
        """Return the table as Markdown."""
        return tables.markdown(self.table(), left=3)

    def __str__(self) -> str:
        table = tables.text(self.table(), left=3, total=True)
        nonzero, parameters = self.nonzero_parameters, self.parameters
        return f"{table}\n{nonzero:,} of {parameters:,} parameters of the model are not zero."

    __repr__ = __str__


def sparsity_report(model: keras.layers.Layer) -> SparsityReport:
    """Return the sparsity of every masked weight of a model.

        sparsity = 1 - kept / total

    A sparsity is in [0, 1); higher means fewer weights. Kept entries are counted in the masks; nonzero
    entries are counted in the weights. A shared weight is counted once.

    Args:
        model: A Keras model or layer. For a `GANModel` the report has both networks.

    Returns:
        A `SparsityReport`.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="head")])
    >>> _ = Pruner(model).update(sparsity=0.5)
    >>> report = sparsity_report(model)
    >>> [(row.layer, row.kept, row.total) for row in report]
    [('head', 10, 20)]
    """
    rows = []
    warn_of_unmasked_zeros(masked_weights(model))
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
    """Return the number of parameters in weights, and the number of nonzero parameters.

    Args:
        weights: Variables; a variable that occurs twice is counted once.

    Returns:
        Pair of ints (parameters, parameters that are not zero).

    Example:
    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> count_parameters(layer.weights)  # the bias starts at zero
    (8, 6)
    """
    unique = {id(w): w for w in weights}.values()
    sizes = [math.prod(w.shape) for w in unique]
    return sum(sizes), sum(int(np.count_nonzero(to_numpy(w))) for w in unique)
