"""The result of a repair: the error of each layer, before and after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keras_ganprune.utils import tables
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock


@dataclass(frozen=True)
class RepairRow:
    """The outputs of one layer against those of the dense network, before its activation.

    Outputs that no kept weight contributes to do not count: they belong to removed channels.

    Attributes:
        path: Path of the layer in the model.
        kept: Int, number of its kept weights, with the bias.
        total: Int, number of its weights.
        before: Float, ||y - y_dense|| / ||y_dense|| before the repair of this layer. The layers in front of
            it are repaired already.
        after: Float, the same after the repair.

    Example:
    >>> from keras_ganprune.pruning.one_shot import RepairRow
    >>> RepairRow("a", kept=10, total=20, before=0.4, after=0.1).after
    0.1
    """

    path: str
    kept: int
    total: int
    before: float
    after: float


@dataclass(frozen=True, repr=False)
class RepairReport(ShownInNotebooks):
    """What `repair` did. It can be printed; `to_dicts()` is for a data frame.

    Attributes:
        rows: Tuple of `RepairRow`, one per layer, in the order of the calls.
        before: Float, ||output - dense output|| / ||dense output|| of the whole network before the repair.
        after: Float, the same after the repair.
        samples: Int, number of samples that were used.
        statistics: Int, number of `BatchNormalization` layers with new statistics. Defaults to 0.
        left_out: Tuple of the paths of layers that stay as they are: not linear in their weights (such as
            LoRA), or called inside a compiled function. Defaults to ().

    Example:
    >>> row = kgp.pruning.one_shot.RepairRow("a", kept=10, total=20, before=0.4, after=0.1)
    >>> print(kgp.RepairReport((row,), before=0.4, after=0.1, samples=64).to_markdown())
    | layer | kept | error before | error after |
    | --- | ---: | ---: | ---: |
    | a | 10 of 20 | 0.4000 | 0.1000 |
    | output |  | 0.4000 | 0.1000 |
    """

    rows: tuple[RepairRow, ...]
    before: float
    after: float
    samples: int
    statistics: int = 0
    left_out: tuple[str, ...] = field(default=())

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first; the last row is the output of the whole network."""
        cells = [("layer", "kept", "error before", "error after")]
        for row in self.rows:
            kept = f"{row.kept:,} of {row.total:,}"
            cells.append((row.path, kept, f"{row.before:.4f}", f"{row.after:.4f}"))
        return [*cells, ("output", "", f"{self.before:.4f}", f"{self.after:.4f}")]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts, for a CSV file or a data frame."""
        return [dict(vars(row)) for row in self.rows]

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        return tables.markdown(self.table())

    def _notes(self) -> list[str]:
        notes = [
            f"Error: ||y - y_dense|| / ||y_dense|| on {self.samples:,} samples, before the activation. "
            "Removed channels do not count."
        ]
        if self.statistics:
            layers = "layer has" if self.statistics == 1 else "layers have"
            notes.append(f"{self.statistics} BatchNormalization {layers} new statistics.")
        if self.left_out:
            notes.append(
                "Not repaired, since their outputs are not linear in their weights or they are called in a "
                f"compiled function: {', '.join(self.left_out)}."
            )
        return notes

    def _blocks(self) -> list[Block]:
        return [TableBlock(self.table(), total=True), *self._notes()]

    def __str__(self) -> str:
        return "\n".join([tables.text(self.table(), total=True), *self._notes()])

    def __repr__(self) -> str:
        return (
            f"<RepairReport of {len(self.rows)} layers, {self.samples:,} samples: error of the output "
            f"{self.before:.4f} -> {self.after:.4f}>"
        )
