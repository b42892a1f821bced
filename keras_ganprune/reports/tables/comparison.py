"""The table of a run with metrics of its own: one row per network or baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from keras_ganprune.metrics.confidence_intervals import mean_interval
from keras_ganprune.metrics.milliseconds import within_noise
from keras_ganprune.reports.run import MetricColumn, Run
from keras_ganprune.reports.tables.cells import NOTHING, Table, number
from keras_ganprune.reports.tables.measurements import latency
from keras_ganprune.reports.tables.names import shown

#: Size -> heading, in the order of the columns.
_COSTS = {"nonzero": "not zero", "macs": "MACs", "gzip_bytes": "bytes, gzipped"}


def comparison(run: Run) -> Table | None:
    """Return one row per network or baseline: its metrics, its distance to 'dense', its costs.

    Returns:
        The table, or None if the run has no metrics of its own.

    Example:
    >>> from keras_ganprune.reports.run import record_run
    >>> quality = {"dense": {"psnr": 30.0}, "80 % sparse": {"psnr": 29.9}, "bicubic": {"psnr": 27.0}}
    >>> run = record_run(history={"loss": [1.0]}, samples={"dense": np.zeros((1, 4, 4, 1))},
    ...     quality=quality, metrics={"psnr": ("PSNR, dB", True, 1)}, sizes={"dense": {"macs": 2000}})
    >>> for row in comparison(run).rows:
    ...     print(row)
    ('dense', '30.0', '', '2,000')
    ('80 % sparse', '29.9', '-0.1', '–')
    ('bicubic', '27.0', '-3.0', '–')
    """
    if not run.metrics:
        return None
    first = next(iter(run.metrics))
    costs = {
        key: words for key, words in _COSTS.items() if any(key in run.sizes[n] for n in run.sizes)
    }
    timed = list(dict.fromkeys(label for times in run.latency.values() for label in times))
    columns = list(run.metrics.items())
    header = ["", columns[0][1].heading, f"against {shown(run, 'dense')}"]
    header += [column.heading for _, column in columns[1:]]
    header += [*costs.values(), *(f"ms, {label}" for label in timed)]
    rows = []
    for name in run.quality:
        sizes = run.sizes.get(name, {})
        row = [shown(run, name), measured(run, name, first), _distance(run, name, first)]
        row += [measured(run, name, key) for key, _ in columns[1:]]
        row += [number(sizes.get(key)) for key in costs]
        row += [_time(run, name, label) for label in timed]
        rows.append(tuple(row))
    return Table("Results", tuple(header), tuple(rows), _note(run))


def _time(run: Run, name: str, label: str) -> str:
    """Return the cell of a latency, which says whether it differs from that of 'dense' by noise only."""
    time, dense = latency(run, name, label), latency(run, "dense", label)
    noise = " (within noise)" if name != "dense" and within_noise(dense, time) else ""
    return f"{number(time)}{noise}"


def measured(run: Run, name: str, metric: str) -> str:
    """Return the cell of a metric."""
    value = run.mean(name, metric)
    return NOTHING if value is None else f"{value:,.{run.metrics[metric].digits}f}"


def _distance(run: Run, name: str, metric: str) -> str:
    """Return by how much a metric differs from that of the dense network."""
    dense, value = run.mean("dense", metric), run.mean(name, metric)
    if name == "dense" or dense is None or value is None:
        return ""
    return signed(value - dense, run.metrics[metric])


def signed(difference: float, column: MetricColumn) -> str:
    """Return a difference with its sign.

    Example:
    >>> signed(-0.061, MetricColumn("PSNR, dB", True, 2)), signed(-0.001, MetricColumn("AUC", True, 2))
    ('-0.06', '0.00')
    """
    if not math.isfinite(difference):
        return NOTHING
    text = f"{difference:+.{column.digits}f}"
    return text if float(text) else text[1:]


def paired_differences(groups: Sequence[Sequence[Run]]) -> Table | None:
    """Return the differences to 'dense' in the deciding metric, or None without groups.

    Args:
        groups: Runs that differ only in the seed.
    """
    rows = []
    for group in groups:
        for name in dict.fromkeys(name for run in group for name in run.sizes):
            row = _paired_row(group, name) if name != "dense" else None
            if row is not None:
                rows.append(row)
    if not rows:
        return None
    note = "Means over runs that differ only in the seed. The interval of the difference is paired (Student)."
    header = ("runs", "metric", "seeds", "dense", "value", "difference", "95 % interval")
    return Table("Paired over seeds", header, tuple(rows), note)


def _paired_row(group: Sequence[Run], name: str) -> tuple[str, ...] | None:
    metric, column = next(iter(group[0].metrics.items()))
    dense, ours = ([run.mean(key, metric) for run in group] for key in ("dense", name))
    pairs = [(a, b) for a, b in zip(dense, ours, strict=True) if a is not None and b is not None]
    if len(pairs) < len(group):
        return None
    found = mean_interval([b - a for a, b in pairs])
    means = [fmean(values) for values in zip(*pairs, strict=True)]
    return (
        f"{name}: {', '.join(run.name for run in group)}",
        column.heading,
        str(found.count),
        *(f"{mean:,.{column.digits}f}" for mean in means),
        signed(found.mean, column),
        f"{signed(found.low, column)} to {signed(found.high, column)}",
    )


def _note(run: Run) -> str:
    sentences = [
        "↓ lower is better, ↑ higher is better.",
        "Measured on held-out data, with the exported and reloaded networks.",
    ]
    if "dense" in run.quality and run.equal_steps:
        sentences.append(
            f"'{shown(run, 'dense')}' is the dense network, trained on without pruning for as many steps as "
            "the others."
        )
    labels = {label for times in run.latency.values() for label in times}
    if any("within noise" in _time(run, name, label) for name in run.quality for label in labels):
        sentences.append("Within noise: the quartiles of the two times overlap.")
    if any("macs" in sizes for sizes in run.sizes.values()):
        sentences.append(
            "MACs: multiply-accumulates per sample. Masked weights are still multiplied, so only a cut "
            "lowers them."
        )
    if any(name not in run.sizes for name in run.quality):
        names = ", ".join(f"'{name}'" for name in run.quality if name not in run.sizes)
        sentences.append(f"No network of this run: {names}.")
    if "source" in run.settings:
        licence, citation = run.settings.get("licence"), run.settings.get("citation")
        sentences.append(f"Data: {run.settings['source']}. Licence: {licence}. {citation}.")
    return " ".join(sentence.replace("..", ".") for sentence in sentences)
