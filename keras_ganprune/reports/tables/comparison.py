"""The table of a run with metrics of its own: one row per network or baseline."""

from __future__ import annotations

import math

from keras_ganprune.reports.run import MetricColumn, Run
from keras_ganprune.reports.tables.cells import NOTHING, Table, number

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
    header = ["", columns[0][1].heading, "against dense"]
    header += [column.heading for _, column in columns[1:]]
    header += [*costs.values(), *(f"ms, {label}" for label in timed)]
    rows = []
    for name in run.quality:
        sizes, times = run.sizes.get(name, {}), run.latency.get(name, {})
        row = [name, measured(run, name, first), _distance(run, name, first)]
        row += [measured(run, name, key) for key, _ in columns[1:]]
        row += [number(sizes.get(key)) for key in costs]
        row += [number(times.get(label)) for label in timed]
        rows.append(tuple(row))
    return Table("Results", tuple(header), tuple(rows), _note(run))


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


def _note(run: Run) -> str:
    sentences = [
        "↓ lower is better, ↑ higher is better.",
        "Measured on held-out data, with the exported and reloaded networks.",
    ]
    if "dense" in run.quality:
        sentences.append(
            "'dense' is the dense network, trained on for as many steps as the others."
        )
    if any(name not in run.sizes for name in run.quality):
        names = ", ".join(f"'{name}'" for name in run.quality if name not in run.sizes)
        sentences.append(f"No network of this run: {names}.")
    if "source" in run.settings:
        licence, citation = run.settings.get("licence"), run.settings.get("citation")
        sentences.append(f"Data: {run.settings['source']}. Licence: {licence}. {citation}.")
    return " ".join(sentence.replace("..", ".") for sentence in sentences)
