"""The charts of a report: lines over the steps of training, as SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.run import PruneLog, Run
from keras_ganprune.reports.tables import METRICS, number
from keras_ganprune.utils import optional_imports, plotting

# Eight colours that the colour-blind tell apart (Okabe & Ito), and those of text and grid. In the page they
# become variables of the style sheet, which a dark page sets otherwise.
SERIES = (
    *("#0072b2", "#d55e00", "#009e73", "#aa4499"),
    *("#b8860b", "#3399cc", "#882255", "#555555"),
)
_INK, _GRID, _PAPER = "#24292e", "#d8dee4", "#fefefe"
VARIABLES = {
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES)},
    _INK: "var(--ink)",
    _GRID: "var(--line)",
}
_SIZE = (4.6, 2.9)  # inches; 72 units each


class _Chart:
    """One pair of axes, to draw lines in."""

    def __init__(self, xlabel: str, ylabel: str):
        self._library = optional_imports.require("matplotlib", "demo", "Charts")
        with self._library.rc_context(_STYLE):
            self.figure = plotting.require_plotting().Figure(figsize=_SIZE, layout="constrained")
            self.axes = self.figure.subplots()
        self.axes.set_xlabel(xlabel)
        self.axes.set_ylabel(ylabel)
        self.axes.grid(True)
        self.axes.spines[["top", "right"]].set_visible(False)
        self._labels: list[tuple[Any, str]] = []

    def line(self, x: Any, y: Any, label: str, colour: int | None, **how: Any) -> None:
        shade = _INK if colour is None else SERIES[colour % len(SERIES)]
        (made,) = self.axes.plot(x, y, color=shade, **how)
        if label:
            self._labels.append((made, label))

    def picture(self, name: str, title: str, alt: str) -> Picture:
        with self._library.rc_context(_STYLE):
            if self._labels:
                handles = [handle for handle, _ in self._labels]
                # Matplotlib leaves labels with an underscore in front out, and reads dollars as formulas.
                labels = [_short(label) for _, label in self._labels]
                columns = 1 if max(map(len, labels)) > 24 else 2
                legend = self.figure.legend(
                    handles, labels, loc="outside lower center", ncols=columns, frameon=False
                )
                for text in legend.get_texts():
                    text.set_parse_math(False)
            buffer = io.StringIO()
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            with warnings.catch_warnings():
                # Letters that Matplotlib's font lacks are drawn by the browser all the same.
                warnings.filterwarnings("ignore", "Glyph")
                self.figure.savefig(buffer, format="svg", metadata=nothing)
        return Picture(f"{name}.svg", buffer.getvalue().encode(), alt, title)


_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "keras-ganprune",
    "font.size": 9,
    "axes.linewidth": 0.8,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "figure.facecolor": _PAPER,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "lines.linewidth": 1.6,
}


def _short(label: str) -> str:
    label = " ".join("".join(c if c.isprintable() else " " for c in label).split())
    label = label if len(label) <= 40 else f"{label[:39]}…"
    return f"\u200b{label}" if label.startswith("_") else label


def _steps(run: Run) -> tuple[np.ndarray, str]:
    """Return where on the axis each epoch ends, and what the axis is."""
    epochs = np.arange(1, run.epochs + 1)
    if run.steps_per_epoch is None:
        return epochs, "epoch"
    return epochs * run.steps_per_epoch, "step"


def _last_step(run: Run) -> float:
    x, kind = _steps(run)
    done = [update.step for log in run.prunes.values() for update in log.updates]
    return max([*done, x[-1] if kind == "step" else 0])


def _logged(run: Run, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the places and values of a log, where it was measured."""
    x, _ = _steps(run)
    values = np.array([np.nan if v is None else v for v in run.history[key]], dtype="float64")
    there = np.isfinite(values)
    return x[there], values[there]


def _from_to(name: str, values: np.ndarray) -> str:
    return f"{name} from {number(values[0])} to {number(values[-1])}"


def _achieved(log: PruneLog, end: float) -> tuple[list, list]:
    steps = [0, *(u.step for u in log.updates), end]
    values = [0.0, *(u.achieved for u in log.updates), log.updates[-1].achieved]
    return steps, values


def sparsity(run: Run) -> Picture | None:
    """Return the sparsity that was asked for and that came out, over the steps."""
    logs = {name: log for name, log in run.prunes.items() if log.updates}
    if not logs:
        return None
    chart = _Chart("step", "sparsity")
    told, asked = [], False
    for i, (name, log) in enumerate(logs.items()):
        of = "" if log.of == "weights" else f" ({log.of})"
        chart.line(*_achieved(log, _last_step(run)), f"{name}{of}", i, drawstyle="steps-post")
        if log.quantity == "sparsity":
            steps, values = [u.step for u in log.updates], [u.requested for u in log.updates]
            # Over the other line, which it mostly meets.
            chart.line(
                steps, values, "" if asked else "requested", None, linestyle=":", linewidth=1.1
            )
            asked = True
        told.append(
            f"{name} reaches {log.updates[-1].achieved:.4f} at step {log.updates[-1].step:,}"
        )
    chart.axes.set_ylim(-0.02, 1.02)
    alt = f"Sparsity over the steps of '{run.name}': {'; '.join(told)}"
    return chart.picture("sparsity", "Sparsity", alt)


def _group(run: Run, name: str, title: str, ylabel: str, keys: Sequence[str]) -> Picture | None:
    lines = {key: _logged(run, key) for key in keys}
    lines = {key: line for key, line in lines.items() if len(line[0])}
    if not lines:
        return None
    chart = _Chart(_steps(run)[1], ylabel)
    for i, (key, (x, y)) in enumerate(lines.items()):
        # A line by itself has the title's name.
        label = key.replace("_", " ") if len(keys) > 1 else ""
        chart.line(x, y, label, i, marker="." if len(x) < 30 else None)
    told = "; ".join(_from_to(key.replace("_", " "), y) for key, (_, y) in lines.items())
    return chart.picture(name, title, f"{title} of '{run.name}' over training: {told}")


def training(run: Run) -> list[Picture]:
    """Return the charts of one run: sparsity, losses, accuracies, and each metric that was watched."""
    keys = list(run.history)
    found = [
        sparsity(run),
        _group(run, "losses", "Losses", "loss", [k for k in keys if "loss" in k]),
        _group(run, "accuracy", "Discriminator", "accuracy", [k for k in keys if "accuracy" in k]),
        *(
            _group(run, f"log-{i}", METRICS[key], METRICS[key], [key])
            for i, key in enumerate(METRICS)
            if key in keys
        ),
    ]
    return [picture for picture in found if picture is not None]


def together(runs: Sequence[Run]) -> list[Picture]:
    """Return the charts of several runs: a line for each in one pair of axes."""
    found = []
    shown = runs[: len(SERIES)]
    logged = [run for run in shown if any(log.updates for log in run.prunes.values())]
    if logged:
        chart = _Chart("step", "sparsity")
        for i, run in enumerate(shown):
            for log in run.prunes.values():
                if log.updates:
                    label = run.name if log is next(iter(run.prunes.values())) else ""
                    chart.line(*_achieved(log, _last_step(run)), label, i, drawstyle="steps-post")
        chart.axes.set_ylim(-0.02, 1.02)
        names = ", ".join(run.name for run in logged)
        found.append(chart.picture("sparsity", "Sparsity", f"Sparsity over the steps of {names}"))
    kinds = {_steps(run)[1] for run in shown}
    for key in ("generator_loss", "discriminator_loss", "loss", *METRICS):
        lines = [(i, run) for i, run in enumerate(shown) if key in run.history]
        if len(lines) < 2 or len(kinds) > 1:
            continue
        title = METRICS.get(key, key.replace("_", " "))
        chart = _Chart(*kinds, title)
        told = []
        for i, run in lines:
            x, y = _logged(run, key)
            chart.line(x, y, run.name, i, marker="." if len(x) < 30 else None)
            told += [_from_to(run.name, y)] if len(y) else []
        found.append(chart.picture(key.replace("_", "-"), title, f"{title}: {'; '.join(told)}"))
    return found


# --- into the page -------------------------------------------------------------------------------

_NAMESPACE = re.compile(r"^\{[^}]*\}")
_DROPPED = {"metadata", "style"}


def element(picture: Picture, prefix: str) -> ElementTree.Element:
    """Return an SVG picture as an element of the page.

    Args:
        picture: A `Picture` of this module.
        prefix: Text that no other picture of the page has, to keep the names in it apart.
    """
    root = ElementTree.fromstring(picture.data)
    for parent in list(root.iter()):
        for child in list(parent):
            if _NAMESPACE.sub("", child.tag) in _DROPPED:
                parent.remove(child)
    for each in root.iter():
        each.tag = _NAMESPACE.sub("", each.tag)
        for key, value in list(each.attrib.items()):
            del each.attrib[key]
            name = _NAMESPACE.sub("", key)
            if name == "id":
                value = prefix + value
            elif name == "href":
                value = value.replace("#", f"#{prefix}", 1)
            value = value.replace("url(#", f"url(#{prefix}")
            for colour, variable in VARIABLES.items():
                value = value.replace(colour, variable)
            each.set(name, value.replace(_PAPER, "none"))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", picture.alt)
    return root
