"""What one mask update asked for and what came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class MaskRow:
    """One weight after an update; or, of coupled channels, one group of them.

    Attributes:
        kept, total: Weights, or channels.
        kept_units, units: Removable units: the same, or blocks, or channels.
    """

    path: str
    shape: tuple[int, ...]
    kept: int
    total: int
    kept_units: int
    units: int

    @property
    def sparsity(self) -> float:
        return 1.0 - self.kept / self.total


@dataclass(frozen=True)
class MaskReport:
    """What one update asked for and what came out.

    Attributes:
        quantity: 'sparsity' or 'threshold'.
        requested: The target, in units of `quantity`; of targets given tensor by tensor, the mean over
            all weights.
        rows: One `MaskRow` for each weight.
        newly_pruned: Int, weights that this update removed.
        regrown: Int, weights that it brought back.
        counted: What `kept` and `total` count: 'weights'; 'channels' or 'blocks' where these go as one.
        share: Of `Channel(of="macs")` and the like, the share of these that is cut; else None.
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
        return sum(row.kept for row in self.rows)

    @property
    def total(self) -> int:
        return sum(row.total for row in self.rows)

    @property
    def achieved(self) -> float:
        """Sparsity over all rows together, whatever the quantity asked for; or `share`."""
        return self.share if self.share is not None else 1.0 - self.kept / self.total

    def __iter__(self) -> Iterator[MaskRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        units = sum(row.units for row in self.rows)
        kept_units = sum(row.kept_units for row in self.rows)
        where = {"weights": "tensors", "channels": "groups"}.get(self.counted, "networks")
        text = (
            f"{self.quantity} {self.requested:g} requested, sparsity {self.achieved:.4f} achieved: "
            f"{self.kept:,} of {self.total:,} {self.counted} kept in {len(self.rows)} {where}"
        )
        if units != self.total:
            text += f" ({kept_units:,} of {units:,} units)"
        if self.regrown:
            text += f"; {self.regrown:,} {'weights ' if where != 'tensors' else ''}regrown"
        return text
