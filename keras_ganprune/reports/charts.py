"""The line charts of a report over the steps of training, as SVG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.run import PruneLog, Run
from keras_ganprune.reports.tables.cells import number
from keras_ganprune.reports.tables.measurements import METRICS
from keras_ganprune.utils import optional_imports, plotting
from keras_ganprune.utils.palette import LIGHT

_SIZE = (4.6, 2.9)  # inches; 72 units each
_LONGEST_LABEL = 40
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "keras-ganprune",
    "font.size": 9,
    "axes.linewidth": 0.8,
    "axes.edgecolor": LIGHT.ink,
    "axes.labelcolor": LIGHT.ink,
    "axes.facecolor": "none",
    "figure.facecolor": LIGHT.paper,
    "grid.color": LIGHT.line,
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT.ink,
    "ytick.color": LIGHT.ink,
    "text.color": LIGHT.ink,
    "lines.linewidth": 1.6,
}


class _Chart:
    """One pair of axes with lines."""

    def __init__(self, xlabel: str, ylabel: str):
        self._matplotlib = optional_imports.require("matplotlib", "demo", "Charts")
        with self._matplotlib.rc_context(_STYLE):
            self.figure = plotting.require_plotting().Figure(figsize=_SIZE, layout="constrained")
            self.axes = self.figure.subplots()
        self.axes.set_xlabel(xlabel)
        self.axes.set_ylabel(ylabel)
        self.axes.grid(True)
        self.axes.spines[["top", "right"]].set_visible(False)
        self._labels: list[tuple[Any, str]] = []

    def line(self, x: Any, y: Any, label: str, colour: str, **style: Any) -> None:
        """Draw a line. A line without a label is not in the legend."""
        (line,) = self.axes.plot(x, y, color=colour, **style)
        if label:
            self._labels.append((line, label))

    def picture(self, name: str, title: str, alt: str) -> Picture:
        """Return the chart as an SVG picture."""
        with self._matplotlib.rc_context(_STYLE):
            if self._labels:
                self._draw_legend()
            buffer = io.StringIO()
            # These entries are left out, so that the same run always gives the same file.
            metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            with warnings.catch_warnings():
                # Matplotlib's font may lack a letter. The browser draws the text with its own font.
                warnings.filterwarnings("ignore", "Glyph")
                self.figure.savefig(buffer, format="svg", metadata=metadata)
        return Picture(f"{name}.svg", buffer.getvalue().encode(), alt, title)

    def _draw_legend(self) -> None:
        labels = [_legend_label(label) for _, label in self._labels]
        legend = self.figure.legend(
            [line for line, _ in self._labels],
            labels,
            loc="outside lower center",
            ncols=1 if max(map(len, labels)) > 24 else 2,
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a dollar sign is not a formula


def _legend_label(label: str) -> str:
    label = " ".join("".join(c if c.isprintable() else " " for c in label).split())
    label = label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
    # Matplotlib leaves out labels that begin with an underscore.
    return f"\u200b{label}" if label.startswith("_") else label


def _epoch_ends(run: Run) -> tuple[np.ndarray, str]:
    """Return the x coordinate of the end of each epoch, and the unit of the x axis."""
    epochs = np.arange(1, run.epochs + 1)
    if run.steps_per_epoch is None:
        return epochs, "epoch"
    return epochs * run.steps_per_epoch, "step"


def _last_step(run: Run) -> float:
    x, unit = _epoch_ends(run)
    steps = [update.step for log in run.prunes.values() for update in log.updates]
    return max([*steps, x[-1] if unit == "step" else 0])


def _logged(run: Run, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the x coordinates and the values of a log, without epochs that were not measured."""
    x, _ = _epoch_ends(run)
    values = np.array([np.nan if v is None else v for v in run.history[key]], dtype="float64")
    finite = np.isfinite(values)
    return x[finite], values[finite]


def _first_and_last(name: str, values: np.ndarray) -> str:
    return f"{name} from {number(values[0])} to {number(values[-1])}"


def _marker(x: np.ndarray) -> str | None:
    return "." if len(x) < 30 else None


def _achieved(log: PruneLog, end: float) -> tuple[list[float], list[float]]:
    steps = [0, *(update.step for update in log.updates), end]
    values = [update.achieved for update in log.updates]
    return steps, [0.0, *values, values[-1]]


def sparsity(run: Run) -> Picture | None:
    """Return the requested and the achieved sparsity over the steps, or None without mask updates."""
    logs = {name: log for name, log in run.prunes.items() if log.updates}
    if not logs:
        return None
    chart = _Chart("step", "sparsity")
    ends, has_label = [], False
    for i, (name, log) in enumerate(logs.items()):
        of = "" if log.of == "weights" else f" ({log.of})"
        steps, achieved = _achieved(log, _last_step(run))
        chart.line(steps, achieved, f"{name}{of}", LIGHT.colour(i), drawstyle="steps-post")
        if log.quantity == "sparsity":
            steps = [update.step for update in log.updates]
            requested = [update.requested for update in log.updates]
            # Dotted and thin, because it mostly covers the line of the achieved sparsity.
            label = "" if has_label else "requested"
            chart.line(steps, requested, label, LIGHT.ink, linestyle=":", linewidth=1.1)
            has_label = True
        last = log.updates[-1]
        ends.append(f"{name} reaches {last.achieved:.4f} at step {last.step:,}")
    chart.axes.set_ylim(-0.02, 1.02)
    alt = f"Sparsity over the steps of '{run.name}': {'; '.join(ends)}"
    return chart.picture("sparsity", "Sparsity", alt)


def _logs(run: Run, name: str, title: str, ylabel: str, keys: Sequence[str]) -> Picture | None:
    """Return a chart of some logs of a run, or None if nothing was measured."""
    lines = {key: _logged(run, key) for key in keys}
    lines = {key: line for key, line in lines.items() if len(line[0])}
    if not lines:
        return None
    chart = _Chart(_epoch_ends(run)[1], ylabel)
    for i, (key, (x, y)) in enumerate(lines.items()):
        # A single line is described by the title.
        label = key.replace("_", " ") if len(keys) > 1 else ""
        chart.line(x, y, label, LIGHT.colour(i), marker=_marker(x))
    ends = "; ".join(_first_and_last(key.replace("_", " "), y) for key, (_, y) in lines.items())
    return chart.picture(name, title, f"{title} of '{run.name}' over training: {ends}")


def training(run: Run) -> list[Picture]:
    """Return the charts of one run: sparsity, losses, accuracies, and each metric of its logs."""
    keys = list(run.history)
    charts = [
        sparsity(run),
        _logs(run, "losses", "Losses", "loss", [k for k in keys if "loss" in k]),
        _logs(run, "accuracy", "Discriminator", "accuracy", [k for k in keys if "accuracy" in k]),
        *(
            _logs(run, f"log-{i}", METRICS[key], METRICS[key], [key])
            for i, key in enumerate(METRICS)
            if key in keys
        ),
    ]
    return [chart for chart in charts if chart is not None]


def together(runs: Sequence[Run]) -> list[Picture]:
    """Return the charts of several runs, one line per run, for as many runs as there are colours."""
    shown = runs[: len(LIGHT.series)]
    charts = [_sparsity_together(shown)]
    units = {_epoch_ends(run)[1] for run in shown}
    if len(units) == 1:
        (unit,) = units
        keys = ("generator_loss", "discriminator_loss", "loss", *METRICS)
        charts += [_log_together(shown, key, unit) for key in keys]
    return [chart for chart in charts if chart is not None]


def _sparsity_together(runs: Sequence[Run]) -> Picture | None:
    pruned = [run for run in runs if any(log.updates for log in run.prunes.values())]
    if not pruned:
        return None
    chart = _Chart("step", "sparsity")
    for i, run in enumerate(runs):
        for log in run.prunes.values():
            if log.updates:
                label = run.name if log is next(iter(run.prunes.values())) else ""
                steps, achieved = _achieved(log, _last_step(run))
                chart.line(steps, achieved, label, LIGHT.colour(i), drawstyle="steps-post")
    chart.axes.set_ylim(-0.02, 1.02)
    names = ", ".join(run.name for run in pruned)
    return chart.picture("sparsity", "Sparsity", f"Sparsity over the steps of {names}")


def _log_together(runs: Sequence[Run], key: str, unit: str) -> Picture | None:
    lines = [(i, run) for i, run in enumerate(runs) if key in run.history]
    if len(lines) < 2:
        return None
    title = METRICS.get(key, key.replace("_", " "))
    chart = _Chart(unit, title)
    ends = []
    for i, run in lines:
        x, y = _logged(run, key)
        chart.line(x, y, run.name, LIGHT.colour(i), marker=_marker(x))
        ends += [_first_and_last(run.name, y)] if len(y) else []
    return chart.picture(key.replace("_", "-"), title, f"{title}: {'; '.join(ends)}")
