"""The tables that compare several runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from keras_ganprune.metrics.confidence_intervals import Interval, mean_interval, paired_increase
from keras_ganprune.reports.run import Run
from keras_ganprune.reports.tables.cells import NOTHING, Table, interval, number, percent
from keras_ganprune.reports.tables.comparison import measured as measured_text
from keras_ganprune.reports.tables.comparison import paired_differences
from keras_ganprune.reports.tables.measurements import (
    fd_increase,
    final_name,
    latency,
    measured,
    ordered,
)
from keras_ganprune.reports.tables.names import shown
from keras_ganprune.reports.tables.one_run import setting
from keras_ganprune.utils.tables import change, change_range

# More runs than this have a row each instead of a column.
_SIDE_BY_SIDE = 4
# Returns the cell of a run, from the run and the name of its final samples.
_Column = Callable[[Run, str], str]


def differing(runs: Sequence[Run]) -> Table | None:
    """Return the settings in which runs differ, one column per run, or None if all settings are equal."""
    facts = [
        {"data": run.data, "seed": run.seed, "steps": run.steps, **run.settings} for run in runs
    ]
    rows = []
    for key in dict.fromkeys(key for settings in facts for key in settings):
        cells = [setting(settings.get(key)) for settings in facts]
        if len(set(cells)) > 1:
            rows.append((str(key), *cells))
    if not rows:
        return None
    return Table("What differs", ("setting", *(run.name for run in runs)), tuple(rows))


def overview(runs: Sequence[Run]) -> Table:
    """Return sparsity, quality against dense, size and speed of each run at its end.

    Few runs have a column each, more runs a row each.
    """
    rows = [[run.name, final_name(run)] for run in runs]
    header = ["run", "at its end"]
    for title, cell in _columns(runs).items():
        cells = [cell(run, row[1]) for run, row in zip(runs, rows, strict=True)]
        if any(text != NOTHING for text in cells):
            header.append(title)
            for row, text in zip(rows, cells, strict=True):
                row.append(text)
    notes = []
    if "FD ↓" in header:
        notes.append("FD: Fréchet distance, ± half its 95 % interval.")
    if len({run.extractor for run in runs if run.quality}) > 1:
        notes.append(
            "The runs were measured with different feature extractors, so their FD are not comparable."
        )
    if any(run.layers for run in runs):
        notes.append("Sparsity: the share of the masked weights that is zero.")
    cells = [tuple(header), *map(tuple, rows)]
    if len(runs) <= _SIDE_BY_SIDE:  # one column per run is narrower than one per quantity
        cells = list(zip(*cells, strict=True))
    return Table("Side by side", cells[0], tuple(cells[1:]), " ".join(notes))


def _columns(runs: Sequence[Run]) -> dict[str, _Column]:
    """Return the columns of the overview by title."""
    dense = _dense(runs)
    columns: dict[str, _Column] = {
        f"FD {dense} ↓": lambda run, name: interval(measured(run, "dense", "fd")),
        "FD ↓": lambda run, name: interval(measured(run, name, "fd")),
        f"FD against {dense}": lambda run, name: _mean_change(fd_increase(run, name)),
        "coverage ↑": lambda run, name: interval(measured(run, name, "coverage")),
        "recall ↑": lambda run, name: interval(measured(run, name, "recall")),
    }
    if all(run.metrics for run in runs):
        columns = {}
    for metric, column in {m: c for run in runs for m, c in run.metrics.items()}.items():
        columns[column.heading] = _metric_column(metric)
    for network in dict.fromkeys(network for run in runs for network in run.layers):
        columns[f"sparsity, {network}"] = _sparsity_column(network)
    for network in dict.fromkeys(network for run in runs for network in run.channels):
        columns[f"channels cut, {network}"] = _channels_column(network)
    for key, title in (
        ("nonzero", "not zero"),
        ("macs", "MACs"),
        ("gzip_bytes", "gzipped bytes"),
    ):
        columns[title] = _size_column(key)
    timed = (label for run in runs for times in run.latency.values() for label in times)
    for label in dict.fromkeys(timed):
        columns[f"ms: {label}"] = _latency_column(label)
    return columns


def _dense(runs: Sequence[Run]) -> str:
    """Return what 'dense' is in all runs."""
    names = {shown(run, "dense") for run in runs}
    return names.pop() if len(names) == 1 else "dense"


def _metric_column(metric: str) -> _Column:
    return lambda run, name: measured_text(run, name, metric) if metric in run.metrics else NOTHING


def _sparsity_column(network: str) -> _Column:
    def cell(run: Run, name: str) -> str:
        return percent(run.sparsity(network)) if network in run.layers else NOTHING

    return cell


def _channels_column(network: str) -> _Column:
    def cell(run: Run, name: str) -> str:
        groups = run.channels.get(network, ())
        before = sum(group[1] for group in groups)
        after = sum(group[2] for group in groups)
        return percent(1.0 - after / before) if before else NOTHING

    return cell


def _size_column(key: str) -> _Column:
    return lambda run, name: number(run.sizes.get(name, {}).get(key))


def _latency_column(label: str) -> _Column:
    return lambda run, name: number(latency(run, name, label))


def _mean_change(increase: Interval | None) -> str:
    return NOTHING if increase is None else change(increase.mean)


def paired(runs: Sequence[Run]) -> Table | None:
    """Return the increase of the Fréchet distance over runs that differ only in the seed, or None.

    For runs with metrics of their own, it is the difference of the deciding metric.
    """
    if any(run.metrics for run in runs):
        return paired_differences(seed_groups([run for run in runs if run.metrics]))
    rows = []
    for group in seed_groups(runs):
        names = ordered(name for run in group for name in run.quality)
        for name in names:
            row = None if name in ("real", "dense") else _paired_row(group, name)
            if row is not None:
                rows.append(row)
    if not rows:
        return None
    note = (
        "Runs that differ only in the seed. The increase compares the means over the seeds: "
        "mean(pruned) / mean(dense) − 1; its interval resamples the seeds (paired percentile "
        "bootstrap). With fewer than about five seeds, such an interval is too narrow."
    )
    header = ("runs", "seeds", f"FD {_dense(runs)}", "FD", "increase", "95 % interval")
    return Table("Paired over seeds", header, tuple(rows), note)


def seed_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Return groups of at least two runs with equal settings and different, known seeds."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        settings = {key: value for key, value in run.settings.items() if key != "seed"}
        key = json.dumps([run.data, run.steps, run.extractor, settings], sort_keys=True)
        groups.setdefault(key, []).append(run)
    return [
        group
        for group in groups.values()
        if len(group) > 1
        and all(run.seed is not None for run in group)
        and len({str(run.seed) for run in group}) == len(group)
    ]


def _paired_row(group: Sequence[Run], name: str) -> tuple[str, ...] | None:
    """Return the row of one group and one name of samples, or None if a distance is missing."""
    dense, other = [], []
    for run in group:
        before, after = run.mean("dense", "fd"), run.mean(name, "fd")
        if before is None or after is None or before <= 0:
            return None
        dense.append(before)
        other.append(after)
    increase = paired_increase(dense, other)
    return (
        f"{name}: {', '.join(run.name for run in group)}",
        str(increase.count),
        number(mean_interval(dense).mean),
        number(mean_interval(other).mean),
        change(increase.mean),
        change_range(increase.low, increase.high),
    )
