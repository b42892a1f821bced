"""The result of a sensitivity analysis: a table, a heat map, an allocation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.metrics.layer_sensitivity import _cheapest_removal
from keras_ganprune.pruning.allocation import PerLayer
from keras_ganprune.utils import plotting, tables, validation
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock
from keras_ganprune.utils.palette import LIGHT, mix


@dataclass(frozen=True)
class SensitivityRow:
    """The metric with one layer pruned at one sparsity.

    Attributes:
        path: Path of the weight; for coupled channels, of the first weight of the group.
        shape: Shape of the weight.
        size: Int, number of its weights; for coupled channels, number of channels.
        requested: Float, requested sparsity of this weight.
        achieved: Float, achieved sparsity of this weight.
        value: Float, the metric if only this weight is pruned.
        increase: Float, degradation against the unchanged model in the unit of the metric; positive is
            worse.

    Example:
    >>> row = SensitivityRow("a/kernel", (4, 5), 20, requested=0.5, achieved=0.5, value=1.1, increase=0.1)
    >>> row.path, row.increase
    ('a/kernel', 0.1)
    """

    path: str
    shape: tuple[int, ...]
    size: int
    requested: float
    achieved: float
    value: float
    increase: float


@dataclass(frozen=True)
class SensitivityReport(ShownInNotebooks):
    """The sensitivity of each layer. It can be printed; `to_dicts()` is for a data frame.

    Attributes:
        rows: Tuple of `SensitivityRow`, one per weight and sparsity.
        base: Float, the metric of the unchanged model.
        before: Dict, path -> sparsity of the weight before the analysis.
        exact: Bool, whether single weights (or channels) are pruned, so that a total sparsity can be met
            exactly. Defaults to True.
        direction: 'min' if a lower metric is better, 'max' if a higher one is. Defaults to 'min'.

    Example:
    >>> losses = {0.5: 0.1, 0.9: 0.6}
    >>> rows = [SensitivityRow("a/kernel", (4, 5), 20, s, s, 1 + x, x) for s, x in losses.items()]
    >>> print(SensitivityReport(tuple(rows), base=1.0, before={"a/kernel": 0.0}).to_markdown())
    | layer | shape | size | 0.5 | 0.9 |
    | --- | ---: | ---: | ---: | ---: |
    | a/kernel | 4×5 | 20 | +0.1 | +0.6 |
    """

    rows: tuple[SensitivityRow, ...]
    base: float
    before: dict[str, float]
    exact: bool = True
    direction: Literal["min", "max"] = "min"

    @property
    def paths(self) -> list[str]:
        """The paths of the weights."""
        return list(self.before)

    @property
    def sparsities(self) -> list[float]:
        """The requested sparsities, in ascending order."""
        return sorted({row.requested for row in self.rows})

    def _rows_of(self, path: str) -> list[SensitivityRow]:
        return sorted((r for r in self.rows if r.path == path), key=lambda row: row.requested)

    # --- as a table ------------------------------------------------------------------------------

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first: the degradation of the metric per layer and sparsity."""
        columns = [f"{sparsity:g}" for sparsity in self.sparsities]
        cells: list[tuple[str, ...]] = [("layer", "shape", "size", *columns)]
        for path in self.paths:
            rows = self._rows_of(path)
            shape = "×".join(str(n) for n in rows[0].shape)
            values = [f"{row.increase:+.4g}" for row in rows]
            cells.append((path, shape, f"{rows[0].size:,}", *values))
        return cells

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts, for a CSV file or a data frame."""
        return [dict(vars(row)) for row in self.rows]

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        return tables.markdown(self.table())

    def _blocks(self) -> list[Block]:
        return [TableBlock(self.table()), self._note()]

    def _note(self) -> str:
        return f"The metric is {self.base:.4g}; the table shows its degradation."

    def __str__(self) -> str:
        return f"{tables.text(self.table())}\n{self._note()}"

    __repr__ = __str__

    def save_heat_map(self, path: str | os.PathLike[str]) -> None:
        """Draw the degradation of the metric, with one row per layer and one column per sparsity.

        Args:
            path: Image file to write, such as 'sensitivity.png'.

        Raises:
            MissingPackageError: matplotlib is not installed.
            InvalidArgumentError: matplotlib does not know the ending of `path`.
            OutputError: The picture cannot be written, or the disk is full.
        """
        increases = np.array([[row.increase for row in self._rows_of(p)] for p in self.paths])
        names = [f"{p}  ({self._rows_of(p)[0].size:,})" for p in self.paths]
        figure = plotting.require_plotting().Figure(
            figsize=(
                2.2 + 0.075 * max(map(len, names)) + 0.9 * increases.shape[1],
                1.5 + 0.42 * len(increases),
            ),
            layout="constrained",
        )
        axis = figure.subplots()
        # The colours show the square root. Without it, all cells except the worst would be nearly white.
        worst = max(increases[np.isfinite(increases)].max(initial=0.0), 0.0)
        colours = np.sqrt(np.clip(increases, 0.0, worst))
        top = max(float(colours.max()), 1e-12)
        shades = [
            [mix(LIGHT.paper, LIGHT.series[1], float(shade) / top) for shade in row]
            for row in np.nan_to_num(colours)
        ]
        axis.imshow(np.array(shades, dtype="uint8"), aspect="auto")
        for (y, x), value in np.ndenumerate(increases):
            dark = colours[y, x] > 0.8 * top
            axis.text(
                *(x, y, f"{value:+.3g}"),
                ha="center",
                va="center",
                fontsize=9,
                color=LIGHT.paper if dark else LIGHT.ink,
            )
        axis.set_xticks(range(increases.shape[1]), [f"{s:g}" for s in self.sparsities])
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("sparsity of this layer alone")
        title = f"degradation: darker is worse (unchanged model: {self.base:.4g})"
        axis.set_title(title, fontsize=10)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        plotting.save_figure(figure, path)

    # --- as an allocation ------------------------------------------------------------------------

    def allocation(self, sparsity: float) -> PerLayer:
        """Return the sparsities per layer that have a given total and degrade the metric least.

            minimize sum_l increase_l(s_l)    subject to    sum_l n_l * s_l = s * sum_l n_l

        The measured points of each layer, and its present sparsity, are joined by the lower convex hull of
        (weights removed, increase); an increase below zero is noise and counts as zero. Weights are then
        removed where the hull is flattest, until the total is reached. This is optimal if the curves are
        convex and if the increases of the layers add up. Both are roughly true. Training after pruning is not
        taken into account.

        Args:
            sparsity: Float in [0, 1), total sparsity over the measured layers.

        Returns:
            A `PerLayer` for `Prune(..., allocation=...)`; use it with the same total, `target` and `scope`.
            If single weights (or channels) are pruned, the total is met exactly.

        Raises:
            InvalidArgumentError: The total is above the measured sparsities, or below the present one.

        Reference: [Shoham & Gersho](https://doi.org/10.1109/29.90373), §III: allocation along convex hulls.
        """
        sparsity = validation.validate_sparsity(sparsity)
        rows = {path: self._rows_of(path) for path in self.paths}
        sizes = {path: rows[path][0].size for path in rows}
        total = sum(sizes.values())
        present = {path: sizes[path] * self.before[path] for path in rows}
        highest = {path: sizes[path] * rows[path][-1].achieved for path in rows}
        number = total - mask_ops.kept_count(total, sparsity) if self.exact else total * sparsity
        if not sum(present.values()) - 0.5 <= number <= sum(highest.values()) + 0.5:
            low, high = sum(present.values()) / total, sum(highest.values()) / total
            raise InvalidArgumentError(
                f"The total must be from {low:.4f}, the present sparsity, to {high:.4f}, the highest "
                f"measured sparsity of all layers. Received: {sparsity:g}. For a higher total, measure "
                "higher sparsities (`sensitivity(..., sparsities=...)`)."
            )
        curves = {
            path: [(row.size * row.achieved, row.increase) for row in rows[path]] for path in rows
        }
        removed = _cheapest_removal.cheapest_removal(
            curves, present, number - sum(present.values())
        )
        kept: dict[str, float] = {path: sizes[path] - removed[path] for path in rows}
        if self.exact:
            counts = _cheapest_removal.whole_numbers(kept, sizes, round(total - number))
            kept = _cheapest_removal.moved_to_total(counts, sizes, total * (1.0 - sparsity))
        return PerLayer({path: 1.0 - kept[path] / sizes[path] for path in kept})
