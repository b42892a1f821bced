"""What a sensitivity analysis has found: a table, a heat map, an allocation."""

from __future__ import annotations

import glob
import itertools
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.pruning.allocation import PerLayer
from keras_ganprune.utils import plotting, tables

# What a network that gives no finite metric any more costs.
_RUINED = 1e300


@dataclass(frozen=True)
class SensitivityRow:
    """One layer at one sparsity.

    Attributes:
        path: Of the weight; of coupled channels, of the first weight that makes them.
        shape: Of the weight.
        size: Int, its weights; or, of coupled channels, its channels.
        requested, achieved: Floats, sparsities of this weight.
        value: Float, the metric with this weight pruned and all others as they are.
        increase: By how much it is worse than that of the model as it is; in the metric's own units.
    """

    path: str
    shape: tuple[int, ...]
    size: int
    requested: float
    achieved: float
    value: float
    increase: float


@dataclass(frozen=True)
class SensitivityReport:
    """What `sensitivity` returns; printable, and `to_dicts()` for a data frame.

    Attributes:
        rows: A `SensitivityRow` for each weight and sparsity.
        base: Float, the metric of the model as it is.
        before: dict, path -> sparsity that the weight had already.
        exact: Whether a unit is one weight (or channel), so that a total can be met to the unit.
        direction: 'min' or 'max'.

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
    direction: str = "min"

    @property
    def paths(self) -> list[str]:
        return list(self.before)

    @property
    def sparsities(self) -> list[float]:
        """The sparsities that were asked for."""
        return sorted({row.requested for row in self.rows})

    def _of(self, path: str) -> list[SensitivityRow]:
        return sorted((r for r in self.rows if r.path == path), key=lambda row: row.requested)

    # --- as a table ------------------------------------------------------------------------------

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first: how much worse the metric gets, layer by layer."""
        heads = [f"{sparsity:g}" for sparsity in self.sparsities]
        cells = [("layer", "shape", "size", *heads)]
        for path in self.paths:
            rows = self._of(path)
            shape = "×".join(str(n) for n in rows[0].shape)
            values = [f"{row.increase:+.4g}" for row in rows]
            cells.append((path, shape, f"{rows[0].size:,}", *values))
        return cells

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts, for a CSV file or a data frame."""
        return [dict(vars(row)) for row in self.rows]

    def to_markdown(self) -> str:
        """Return the table as markdown."""
        return tables.markdown(self.table())

    def __str__(self) -> str:
        text = tables.text(self.table())
        return f"{text}\nThe metric is {self.base:.4g}; in the table, how much worse it gets."

    __repr__ = __str__

    def save_heat_map(self, path: str | os.PathLike) -> None:
        """Draw how much worse the metric gets, a row for each layer and a column for each sparsity.

        Args:
            path: Where to, such as 'sensitivity.png'.

        Raises: MissingPackageError (an ImportError): matplotlib is not installed.
        """
        shown = np.array([[row.increase for row in self._of(p)] for p in self.paths])
        names = [f"{p}  ({self._of(p)[0].size:,})" for p in self.paths]
        figure = plotting.require_plotting().Figure(
            figsize=(
                2.2 + 0.075 * max(map(len, names)) + 0.9 * shown.shape[1],
                1.5 + 0.42 * len(shown),
            ),
            layout="constrained",
        )
        axis = figure.subplots()
        # The worst cells would leave all others white, so the colours go by the square root.
        worst = max(shown[np.isfinite(shown)].max(initial=0.0), 0.0)
        colours = np.sqrt(np.clip(shown, 0.0, worst))
        top = max(float(colours.max()), 1e-12)
        axis.imshow(colours, cmap="YlOrRd", vmin=0.0, vmax=top, aspect="auto")
        for (y, x), value in np.ndenumerate(shown):
            dark = colours[y, x] > 0.6 * top
            axis.text(
                *(x, y, f"{value:+.3g}"),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else "black",
            )
        axis.set_xticks(range(shown.shape[1]), [f"{s:g}" for s in self.sparsities])
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("sparsity of this layer alone")
        axis.set_title(f"how much worse than {self.base:.4g}", fontsize=10)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        figure.savefig(path, dpi=150)

    # --- as an allocation ------------------------------------------------------------------------

    def allocation(self, sparsity: float) -> PerLayer:
        """Return sparsities layer by layer that come to a total and cost the metric least, as measured.

            minimize sum_l increase_l(s_l)    subject to    sum_l n_l * s_l = s * sum_l n_l

        Each layer's measured points, with that of its present sparsity, are joined by the lower convex hull
        of (weights removed, increase), where an increase below zero, which is noise, counts as none.
        Weights are then removed where the next one costs least, until the total is reached; on convex
        curves that is the optimum. It is one as far as increases add up, which they do roughly, and
        nothing is said of training afterwards.

        Args:
            sparsity: Float in [0, 1), the total over the layers that were looked at.

        Returns: A `PerLayer`, for `Prune(..., allocation=...)` with this very total, and the `target` and
            `scope` of the report. In single weights (or channels) the total is exact.

        Raises:
            InvalidArgumentError: the total is above what was measured, or below what is pruned already.

        Reference: [Shoham & Gersho](https://doi.org/10.1109/29.90373), §III: allocation along convex hulls.
        """
        sparsity = mask_ops.validate_sparsity(sparsity)
        sizes = {path: self._of(path)[0].size for path in self.paths}
        total = sum(sizes.values())
        removed = {path: sizes[path] * self.before[path] for path in self.paths}
        most = {path: sizes[path] * self._of(path)[-1].achieved for path in self.paths}
        wanted = total - mask_ops.kept_count(total, sparsity) if self.exact else total * sparsity
        low, high = sum(removed.values()) / total, sum(most.values()) / total
        if not sum(removed.values()) - 0.5 <= wanted <= sum(most.values()) + 0.5:
            raise InvalidArgumentError(
                f"The total must be from {low:.4f}, what is pruned already, to {high:.4f}, the highest that "
                f"was measured in every layer. Received: {sparsity:g}. Measure at higher sparsities "
                "(`sensitivity(..., sparsities=...)`)."
            )
        left = wanted - sum(removed.values())
        pieces = [
            (slope, path, length) for path in self.paths for slope, length in self._hull(path)
        ]
        for _, same in itertools.groupby(sorted(pieces), key=lambda piece: piece[0]):
            # Of equal slopes all alike: what costs nothing shares.
            same = list(same)
            share = min(1.0, max(left, 0.0) / sum(length for *_, length in same))
            for _, path, length in same:
                removed[path] += share * length
                left -= share * length
        kept = {path: sizes[path] - removed[path] for path in self.paths}
        if self.exact:
            kept = _whole(kept, sizes, total - wanted)
            kept = _to_the_total(kept, sizes, total * (1.0 - sparsity))
        return PerLayer({glob.escape(path): 1.0 - kept[path] / sizes[path] for path in kept})

    def _hull(self, path: str) -> list[tuple[float, float]]:
        """Return the pieces (slope, length) of the lower convex hull over weights removed."""
        rows = self._of(path)
        points = [(rows[0].size * self.before[path], 0.0)]
        for row in rows:
            removed = row.size * row.achieved
            if removed > points[-1][0]:
                # A network that is ruined costs much, but a number.
                points.append((removed, min(max(row.increase, 0.0), _RUINED)))
        hull: list[tuple[float, float]] = []
        for point in points:
            while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
                hull.pop()
            hull.append(point)
        return [(_slope(a, b), b[0] - a[0]) for a, b in itertools.pairwise(hull)]


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _whole(kept: dict[str, float], sizes: dict[str, int], total: int) -> dict[str, int]:
    """Return whole numbers near to `kept` that add up to `total`, at least one of each."""
    found = {path: max(1, round(value)) for path, value in kept.items()}
    while (missing := total - sum(found.values())) != 0:
        step = 1 if missing > 0 else -1
        room = [p for p in found if (found[p] < sizes[p] if step > 0 else found[p] > 1)]
        if not room:
            return found
        path = max(room, key=lambda p: step * (kept[p] - found[p]))
        found[path] += step
    return found


def _to_the_total(kept: dict[str, int], sizes: dict[str, int], total: float) -> dict[str, float]:
    """Return `kept`, moved by less than is rounded away, so that it adds up to a total that is not whole."""
    rest = total - sum(kept.values())
    free = [path for path in kept if rest < 0 or kept[path] < sizes[path]]
    # Not all of it, since a half may be rounded up.
    move = 0.98 * rest / max(1, len(free))
    return {path: n + move if path in free else float(n) for path, n in kept.items()}
