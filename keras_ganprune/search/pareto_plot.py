"""The plot of a sweep: the metric against parameters and against multiply-accumulates."""

from __future__ import annotations

import math
import os
from typing import Any

from keras_ganprune.utils import palette, plotting, validation

_COSTS = {
    "nonzero": "nonzero parameters",
    "nonzero_macs": "multiply-accumulates with a nonzero weight",
}
_MARKERS = "osD^vPX"


def save(path: str | os.PathLike[str], result: Any, tolerance: float) -> None:
    """Plot a `SweepResult`: one panel per known cost, one colour per criterion."""
    rows = result.rows
    costs = [cost for cost in _COSTS if all(getattr(row, cost) is not None for row in rows)]
    figure = plotting.require_plotting().Figure(
        figsize=(6.4 * len(costs), 4.8), layout="constrained"
    )
    criteria = list(dict.fromkeys(row.criterion for row in rows if not row.dense))
    for panel, (axis, cost) in enumerate(
        zip(figure.subplots(1, len(costs), squeeze=False)[0], costs, strict=True)
    ):
        _band(axis, result, tolerance)
        front = result.pareto(cost)
        axis.plot(
            *([getattr(r, cost) for r in front], [r.mean for r in front]),
            color=palette.LIGHT.soft,
            lw=1.2,
            drawstyle="steps-post",
            zorder=1,
            label="Pareto front",
        )
        for number, criterion in enumerate([None, *criteria]):
            selected = [row for row in rows if row.criterion == criterion]
            _points(axis, selected, cost, number)
        axis.set(xscale="log", xlabel=_COSTS[cost])
        if min(r.mean for r in rows) > 0 and max(r.mean for r in rows) > 5 * min(
            r.mean for r in rows
        ):
            axis.set_yscale("log")
        _plain_ticks(axis)
        axis.grid(alpha=0.25, which="both", lw=0.5)
        if panel == 0:
            better = "lower" if result.direction == "min" else "higher"
            axis.set_ylabel(f"{result.metric} ({better} is better)")
            axis.legend(fontsize=8)
    plotting.save_figure(figure, path)


def _band(axis: Any, result: Any, tolerance: float) -> None:
    dense = [row for row in result.rows if row.dense]
    if not dense:
        return
    mean = dense[0].mean
    sign = validation.sign_of(result.direction)
    edge = mean + sign * tolerance * abs(mean)
    colour = palette.LIGHT.colour(2)
    axis.axhspan(*sorted((mean, edge)), color=colour, alpha=0.15, lw=0, zorder=0)
    axis.axhline(
        edge, color=colour, lw=1, ls="--", zorder=0, label=f"dense {sign * 100 * tolerance:+.3g} %"
    )


def _points(axis: Any, rows: list[Any], cost: str, number: int) -> None:
    if not rows:
        return
    dense = rows[0].dense
    colour = palette.LIGHT.ink if dense else palette.LIGHT.colour(number - 1)
    axis.errorbar(
        [getattr(row, cost) for row in rows],
        [row.mean for row in rows],
        yerr=[0.0 if math.isnan(row.deviation) else row.deviation for row in rows],
        fmt="*" if dense else _MARKERS[(number - 1) % len(_MARKERS)],
        ms=11 if dense else 6,
        color=colour,
        capsize=3,
        lw=1,
        zorder=3,
        label="dense" if dense else rows[0].criterion,
    )
    for row in rows:
        if not dense:
            axis.annotate(
                f"{row.sparsity:.3g}",
                (getattr(row, cost), row.mean),
                xytext=(6, 6),
                textcoords="offset points",
                fontsize=8,
                color=colour,
            )


def _plain_ticks(axis: Any) -> None:
    """Write few ticks, and numbers as 20k and 3M instead of powers of ten."""
    from matplotlib import ticker

    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    if axis.get_yscale() == "log":
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
