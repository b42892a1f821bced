"""The sparsity of a model, weight by weight."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.computed_kernels import (
    effective_kernel,
    has_lora,
    integer_mode,
    owner_of,
)
from keras_ganprune.layers.covered_kernels import MaskCoverage, coverage
from keras_ganprune.layers.initial_values import initial_values
from keras_ganprune.layers.prunable import pruned_names, weight_variable
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import (
    MaskedWeight,
    check_layer,
    masked_weights,
    prunable_candidates,
)
from keras_ganprune.layers.unmasked_zeros import unmasked_zeros, warn_of_unmasked_zeros
from keras_ganprune.layers.zero_patterns import pruned_zeros
from keras_ganprune.utils import tables
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock


@dataclass(frozen=True)
class SparsityRow:
    """The sparsity of one weight.

    Attributes:
        layer: Path of the layer.
        weight: Attribute name of the weight, such as 'kernel'.
        shape: Shape of the weight.
        kept: Int, number of entries that the mask keeps. Without a mask, the number that are not zero.
        nonzero: Int, number of entries that are not zero.
        total: Int, number of entries.
        masked: Whether the weight has a mask.
        pruned_nonzero: Int, number of entries that the mask prunes although they are not zero.
        unmasked_zeros: Int, number of zeros that look as if they were pruned, but have a mask that keeps all.

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
    masked: bool = True
    pruned_nonzero: int = 0
    unmasked_zeros: int = 0

    @property
    def sparsity(self) -> float:
        """Share of the entries that the mask prunes. Without a mask, the share of zeros."""
        return 1.0 - self.kept / self.total

    @property
    def path(self) -> str:
        """Path of the weight, such as 'encoder/conv/kernel'."""
        return f"{self.layer}/{self.weight}"


@dataclass(frozen=True)
class SparsityReport(ShownInNotebooks):
    """The sparsity of a model, weight by weight. It can be iterated over (rows) and printed.

    Attributes:
        rows: Tuple with one `SparsityRow` per masked weight. A kernel without a mask has a row if it looks
            pruned, or if the model has no masks at all.
        parameters: Int, number of parameters of the model, masked or not.
        nonzero_parameters: Int, number of parameters that are not zero.
        coverage: `MaskCoverage` of the model, or None.

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
    coverage: MaskCoverage | None = None

    @property
    def kept(self) -> int:
        """Number of entries that the masks keep; of weights without a mask, those that are not zero."""
        return sum(row.kept for row in self.rows)

    @property
    def total(self) -> int:
        """Number of entries of all weights in the rows."""
        return sum(row.total for row in self.rows)

    @property
    def sparsity(self) -> float:
        """Sparsity over all rows together; 0 if there are none."""
        return 1.0 - self.kept / self.total if self.rows else 0.0

    @property
    def masked(self) -> bool:
        """Whether any weight has a mask."""
        return any(row.masked for row in self.rows)

    @property
    def disagreements(self) -> tuple[SparsityRow, ...]:
        """Rows whose mask and weight disagree about which entries are pruned."""
        return tuple(row for row in self.rows if row.pruned_nonzero or row.unmasked_zeros)

    def __iter__(self) -> Iterator[SparsityRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts, for a CSV file or a data frame."""
        return [{**vars(row), "sparsity": row.sparsity} for row in self.rows]

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first and total last."""
        cells = [("layer", "weight", "shape", "kept", "total", "sparsity")]
        for row in self.rows:
            shape = "×".join(str(n) for n in row.shape)
            without = " (no mask)" if self.masked and not row.masked else ""
            cells.append(
                (
                    row.layer,
                    f"{row.weight}{without}",
                    shape,
                    f"{row.kept:,}",
                    f"{row.total:,}",
                    f"{row.sparsity:.4f}",
                )
            )
        cells.append(("total", "", "", f"{self.kept:,}", f"{self.total:,}", f"{self.sparsity:.4f}"))
        return cells

    def warnings(self) -> list[str]:
        """Return the lines above the table: masks and weights that disagree, and how to mend it."""
        lines = []
        written = [row for row in self.rows if row.pruned_nonzero]
        if written:
            count = sum(row.pruned_nonzero for row in written)
            pruned = sum(row.total - row.kept for row in written)
            lines.append(
                f"Masks and weights disagree: {count:,} of {pruned:,} pruned entries are not zero, in "
                f"{_named(written)}. Call `kgp.apply_masks(model)` to set them to zero."
            )
        unmasked = [row for row in self.rows if row.unmasked_zeros]
        if unmasked:
            count, total = (
                sum(getattr(r, n) for r in unmasked) for n in ("unmasked_zeros", "total")
            )
            lines.append(
                f"Masks and weights disagree: {count:,} of {total:,} entries are exactly zero, but their "
                f"masks keep all, in {_named(unmasked)}. Call `kgp.masks_from_zeros(model)` to mask them."
            )
        return lines

    def notes(self) -> list[str]:
        """Return the lines below the table: zeros of the whole model, and kernels that cannot be masked."""
        lines = []
        if self.rows and not self.masked:
            lines.append("No weight has a mask, so `kept` counts the entries that are not zero.")
        nonzero, parameters = self.nonzero_parameters, self.parameters
        lines.append(f"{nonzero:,} of {parameters:,} parameters of the model are not zero.")
        return lines + (self.coverage.lines() if self.coverage is not None else [])

    def to_markdown(self) -> str:
        """Return the table as Markdown, below a line on masks and weights that disagree."""
        table = tables.markdown(self.table(), left=3)
        uncovered = self.coverage.lines() if self.coverage is not None else []
        return "\n\n".join([*self.warnings(), table, *uncovered])

    def _blocks(self) -> list[Block]:
        return [*self.warnings(), TableBlock(self.table(), left=3, total=True), *self.notes()]

    def __str__(self) -> str:
        table = tables.text(self.table(), left=3, total=True)
        return "\n".join([*self.warnings(), table, *self.notes()])

    __repr__ = __str__


def _named(rows: Sequence[SparsityRow]) -> str:
    """Return the paths of the first rows as text."""
    named = ", ".join(f"'{row.path}'" for row in rows[:3])
    return f"{named} and {len(rows) - 3} others" if len(rows) > 3 else named


def sparsity_report(model: keras.layers.Layer) -> SparsityReport:
    """Return the sparsity of every masked weight of a model, and say where masks and weights disagree.

        sparsity = 1 - kept / total

    A sparsity is in [0, 1); higher means fewer weights. Kept entries are counted in the masks; nonzero
    entries are counted in the values that the layers compute with, also under LoRA and quantization. A shared
    weight is counted once. In a model without masks, such as a stripped one, the zeros are counted.

    Args:
        model: A Keras model or layer. For a `GANModel` the report has both networks.

    Returns:
        A `SparsityReport`. If masks and weights disagree, this is its first line.

    Raises:
        ArgumentTypeError: `model` is not a Keras 3 model or layer.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="head")])
    >>> _ = Pruner(model).update(sparsity=0.5)
    >>> report = sparsity_report(model)
    >>> [(row.layer, row.kept, row.total) for row in report]
    [('head', 10, 20)]
    """
    check_layer(model)
    weights = masked_weights(model)
    warn_of_unmasked_zeros(weights)
    rows = [_masked_row(weight) for weight in weights]
    packed: dict[int, SparsityRow] = {}
    seen = {id(weight.variable) for weight in weights}
    for path, layer in prunable_candidates(model):
        for name in pruned_names(layer) if layer.built else ():
            variable = weight_variable(layer, name)
            mode = integer_mode(owner_of(layer, name)[0])
            if id(variable) in seen or (variable is None and mode is None):
                continue
            seen.add(id(variable))
            values = effective_kernel(layer, name)
            row = _plain_row(path, name, values)
            initial = functools.partial(initial_values, layer, name)
            if (
                mode is not None
                or not weights
                or pruned_zeros(values, initial, name.endswith("embeddings"))
            ):
                rows.append(row)
            if mode == "int4":
                packed[id(variable)] = row
    return SparsityReport(tuple(rows), *_count(model.weights, packed), coverage([model]))


def _masked_row(weight: MaskedWeight) -> SparsityRow:
    mask = to_numpy(weight.mask)
    owner, _ = owner_of(weight.layer, weight.name)
    # LoRA adds to the stored kernel.
    if has_lora(owner):
        values = effective_kernel(weight.layer, weight.name)
    else:
        values = to_numpy(weight.variable)
    is_kernel = weight.name in weight.layer.pruned_weight_names
    store = weight.layer.pruning_masks
    return SparsityRow(
        weight.layer_path,
        weight.name,
        tuple(mask.shape),
        int(np.count_nonzero(mask)),
        int(np.count_nonzero(values)),
        int(mask.size),
        pruned_nonzero=int(np.count_nonzero(values[~mask])),
        unmasked_zeros=unmasked_zeros(store, weight.name, values) if is_kernel else 0,
    )


def _plain_row(path: str, name: str, values: np.ndarray) -> SparsityRow:
    """Return the row of a kernel without a mask."""
    nonzero = int(np.count_nonzero(values))
    return SparsityRow(path, name, tuple(values.shape), nonzero, nonzero, values.size, masked=False)


def _count(weights: Iterable[keras.Variable], packed: Mapping[int, SparsityRow]) -> tuple[int, int]:
    """Return the number of parameters, and of nonzero ones. A packed variable holds two in each byte."""
    unique = {id(w): w for w in weights}
    total, nonzero = count_parameters(w for key, w in unique.items() if key not in packed)
    rows = [row for key, row in packed.items() if key in unique]
    return total + sum(row.total for row in rows), nonzero + sum(row.nonzero for row in rows)


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
