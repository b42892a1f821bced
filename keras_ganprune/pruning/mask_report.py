"""The report of one mask update: requested and achieved sparsity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock


@dataclass(frozen=True)
class MaskRow:
    """One ranking after an update: a weight, a group of coupled channels, or the blocks of a network.

    Attributes:
        path: Layer path and weight name.
        shape: Shape of the weight, or the number of channels or blocks.
        kept: Int, number of weights (or channels, or blocks) that are kept.
        total: Int, number of all of them.
        kept_units: Int, number of removable units of which any weight is kept.
        units: Int, number of all removable units.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="head")])
    >>> row = Pruner(model).update(sparsity=0.5).rows[0]
    >>> row.path, row.kept, row.sparsity
    ('head/kernel', 10, 0.5)
    """

    path: str
    shape: tuple[int, ...]
    kept: int
    total: int
    kept_units: int
    units: int

    @property
    def sparsity(self) -> float:
        """Pruned share of the weights (or channels, or blocks)."""
        return 1.0 - self.kept / self.total


@dataclass(frozen=True)
class MaskReport(ShownInNotebooks):
    """Requested and achieved sparsity of one mask update, with one row per ranking.

    Attributes:
        quantity: 'sparsity' or 'threshold', what was requested.
        requested: Float, the target. For a list of targets, their mean over all weights.
        rows: Tuple of `MaskRow`, one per weight (or per group of coupled channels).
        newly_pruned: Int, number of weights that this update pruned.
        regrown: Int, number of weights that it brought back.
        counted: What `kept` and `total` count: 'weights', 'channels' or 'blocks'.
        share: With `Channel(of="macs")` and the like, the removed share of this cost; otherwise None.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> report = Pruner(model).update(sparsity=0.52)
    >>> report.requested, report.achieved, report.newly_pruned
    (0.52, 0.5, 10)
    """

    quantity: str
    requested: float
    rows: tuple[MaskRow, ...]
    newly_pruned: int
    regrown: int = 0
    counted: str = "weights"
    share: float | None = None

    @property
    def kept(self) -> int:
        """Number of weights (or channels, or blocks) that are kept."""
        return sum(row.kept for row in self.rows)

    @property
    def total(self) -> int:
        """Number of all weights (or channels, or blocks)."""
        return sum(row.total for row in self.rows)

    @property
    def achieved(self) -> float:
        """Sparsity over all rows together, also if a threshold was requested; or `share`."""
        return self.share if self.share is not None else 1.0 - self.kept / self.total

    def __iter__(self) -> Iterator[MaskRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def _blocks(self) -> list[Block]:
        cells = [("weight", "shape", "kept", "total", "sparsity")]
        for row in self.rows:
            shape = "×".join(str(n) for n in row.shape)
            counts = f"{row.kept:,}", f"{row.total:,}", f"{row.sparsity:.4f}"
            cells.append((row.path, shape, *counts))
        return [str(self), TableBlock(cells)]

    def __str__(self) -> str:
        units = sum(row.units for row in self.rows)
        kept_units = sum(row.kept_units for row in self.rows)
        places = {"weights": "tensors", "channels": "groups"}.get(self.counted, "networks")
        text = (
            f"{self.quantity} {self.requested:g} requested, sparsity {self.achieved:.4f} achieved: "
            f"{self.kept:,} of {self.total:,} {self.counted} kept in {len(self.rows)} {places}"
        )
        if units != self.total:
            text += f" ({kept_units:,} of {units:,} units)"
        if self.regrown:
            text += f"; {self.regrown:,} {'weights ' if places != 'tensors' else ''}regrown"
        return text
