"""The tables of one run."""

from __future__ import annotations

import json
from typing import Any

from keras_ganprune.metrics.confidence_intervals import Interval
from keras_ganprune.metrics.milliseconds import within_noise
from keras_ganprune.reports.run import Run
from keras_ganprune.reports.tables.cells import NOTHING, Table, interval, number
from keras_ganprune.reports.tables.measurements import (
    METRICS,
    fd_increase,
    latency,
    measured,
    ordered,
)
from keras_ganprune.reports.tables.names import shown
from keras_ganprune.utils.tables import change, change_range

# Entries of a measurement that describe how it was made.
_CONDITIONS = {
    "samples": "{:,.0f} images",
    "real_samples": "{:,.0f} real images",
    "manifold_samples": "precision to coverage with {:,.0f} images",
    "extractor_accuracy": "a feature extractor with an accuracy of {:.1%}",
}
_SIZES = {
    "parameters": "parameters",
    "nonzero": "not zero",
    "macs": "MACs",
    "bytes": "weights, bytes",
    "saved_bytes": "SavedModel, bytes",
    "gzip_bytes": "SavedModel, gzipped",
}
_SIZES_NOTE = (
    "In brackets: as a share of the first column. A parameter is stored once. MACs (multiply-accumulates per "
    "sample) count each place where it is used, so a convolution has few parameters and many MACs. Masked "
    "weights are still multiplied: MACs and times fall only where a network was shrunk."
)


def quality(run: Run) -> Table | None:
    """Return the metrics of each name, with intervals where there are several measurements.

    A run with metrics of its own has the table `comparison` instead.
    """
    if run.metrics:
        return None
    # 'real' comes last: readers compare the generators.
    names = sorted(ordered(run.quality), key=lambda name: name == "real")
    logged = {metric for reports in run.quality.values() for report in reports for metric in report}
    logged -= set(_CONDITIONS)
    if not logged:
        return None
    metrics = [m for m in METRICS if m in logged] + sorted(logged - set(METRICS))
    rows = [
        (METRICS.get(m, m.replace("_", " ")), *(interval(measured(run, n, m)) for n in names))
        for m in metrics
    ]
    header = ("", *(shown(run, name) for name in names))
    return Table("Quality", header, tuple(rows), _quality_note(run, names))


def _quality_note(run: Run, names: list[str]) -> str:
    sentences = ["↓ lower is better, ↑ higher is better."]
    counts = {len(measurements) for measurements in run.quality.values()}
    if max(counts) > 1:
        count = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
        sentences.append(
            f"Means of {count} measurements with different latent vectors, ± half the 95 % interval "
            "(Student). The interval covers the noise of drawing samples from this run. Only runs with "
            "different seeds show the noise of training."
        )
    else:
        sentences.append(
            "Measured once. For intervals, pass several measurements or compare several runs."
        )
    sentences += _conditions(run)
    if "real" in names:
        sentences.append("'real' is the value of held-out real images, the best possible value.")
    for name in names:
        increase = fd_increase(run, name)
        if increase is not None:
            dense = shown(run, "dense")
            sentences.append(f"Fréchet distance of {name} against {dense}: {_with_ends(increase)}.")
    return " ".join(sentences)


def _conditions(run: Run) -> list[str]:
    """Return a sentence about how the measurements were made, or [] if it is not known."""
    parts = []
    for key, words in _CONDITIONS.items():
        values = {m[key] for reports in run.quality.values() for m in reports if key in m}
        if values:
            ends = sorted({min(values), max(values)})
            parts.append(" to ".join(words.format(value) for value in ends))
    return [f"Measured with {', '.join(parts)}."] if parts else []


def _with_ends(increase: Interval) -> str:
    if increase.count == 1:
        return change(increase.mean)
    ends = change_range(increase.low, increase.high)
    return f"{change(increase.mean)} (95 % interval {ends}, {increase.count} pairs)"


def sizes(run: Run) -> Table | None:
    """Return the cost of each network, also as a share of the cost of the first network."""
    names = ordered([*run.sizes, *run.latency])
    values: dict[str, list[float | None]] = {
        label: [run.sizes.get(name, {}).get(key) for name in names] for key, label in _SIZES.items()
    }
    for timed in dict.fromkeys(t for name in names for t in run.latency.get(name, {})):
        values[f"ms: {timed}"] = [latency(run, name, timed) for name in names]
    rows = [
        (label, *_with_shares(row))
        for label, row in values.items()
        if any(value is not None for value in row)
    ]
    if not rows:
        return None
    noise = " Within noise: the quartiles of the two times overlap."
    note = _SIZES_NOTE + (
        noise if any("within noise" in cell for row in rows for cell in row) else ""
    )
    header = ("", *(shown(run, name) for name in names))
    return Table("Size and speed", header, tuple(rows), note)


def _with_shares(values: list[float | None]) -> list[str]:
    first, *others = values
    cells = [number(first)]
    for value in others:
        noise = ", within noise" if within_noise(first, value) else ""
        share = f" ({value / first:.2f}×{noise})" if first and value is not None else ""
        cells.append(number(value) + share)
    return cells


def layers(run: Run, network: str) -> Table:
    """Return the requested and achieved sparsity of each masked weight of a network."""
    rows = [
        (
            f"{row.layer}/{row.weight}",
            f"{row.sparsity:.4f}",
            NOTHING if row.requested is None else f"{row.requested:.4f}",
            f"{row.kept:,}",
            f"{row.total:,}",
            "×".join(map(str, row.shape)),
        )
        for row in run.layers[network]
    ]
    kept = sum(row.kept for row in run.layers[network])
    total = sum(row.total for row in run.layers[network])
    share = f"{1 - kept / total:.4f}"
    rows.append(("all", share, _requested(run, network), f"{kept:,}", f"{total:,}", ""))
    header = ("weight", "sparsity", "requested", "kept", "of", "shape")
    if all(row[2] == NOTHING for row in rows):
        without = tuple(row[:2] + row[3:] for row in rows)
        return Table(f"Sparsity of the {network}", header[:2] + header[3:], without)
    return Table(f"Sparsity of the {network}", header, tuple(rows))


def _requested(run: Run, network: str) -> str:
    log = run.prunes.get(network)
    if log is None or log.quantity != "sparsity" or log.of != "weights" or not log.updates:
        return NOTHING
    return f"{log.updates[-1].requested:.4f}"


def channels(run: Run, network: str) -> Table:
    """Return the number of channels of each layer, before and after the channels were cut out."""
    rows = [(path, f"{1 - a / b:.4f}", str(b), str(a)) for path, b, a in run.channels[network]]
    header = ("made by", "cut", "before", "after")
    return Table(f"Channels of the {network}", header, tuple(rows))


def updates(run: Run) -> list[str]:
    """Return one sentence per schedule: its mask updates, requested and achieved sparsity."""
    sentences = []
    for name, log in run.prunes.items():
        if not log.updates:
            sentences.append(f"{name}: no mask update.")
            continue
        first, last = log.updates[0], log.updates[-1]
        is_threshold = log.quantity == "threshold"
        requested = f"|w| < {last.requested:g}" if is_threshold else f"{last.requested:.4f}"
        of = "" if log.of == "weights" else f" of the {log.of}"
        rule = f"{log.schedule}: " if log.schedule else ""
        sentences.append(
            f"{name}: {rule}{len(log.updates)} mask updates from step {first.step:,} to {last.step:,}; "
            f"requested {requested}, achieved sparsity {last.achieved:.4f}{of}."
        )
    return sentences


def setting(value: Any) -> str:
    """Return a setting as text.

    Example:
    >>> setting([1, 2]), setting(True), setting(None)
    ('1, 2', 'true', '–')
    """
    if value is None:
        return NOTHING
    if isinstance(value, list) and value and not any(isinstance(v, (list, dict)) for v in value):
        return ", ".join(map(setting, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def extractor_text(run: Run) -> str:
    """Return what judged the quality, as a sentence; '' if no feature extractor did."""
    if not run.extractor:
        return ""
    return (
        f"The quality was judged by the feature extractor with the fingerprint {run.extractor[:8]}. "
        "Distances from an extractor with another fingerprint are not comparable."
    )


def about(run: Run) -> Table:
    """Return the settings of a run and where it ran."""
    facts: list[tuple[str, Any]] = [
        ("data", run.data),
        ("seed", run.seed),
        ("steps", run.steps),
        ("training, seconds", None if run.seconds is None else round(run.seconds, 1)),
        *sorted(run.settings.items()),
        ("feature extractor", extractor_text(run)),
        ("hardware", run.hardware),
        ("written", run.created),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
    ]
    rows = [(str(name), setting(value)) for name, value in facts if value not in ("", None)]
    return Table("Settings", ("setting", "value"), tuple(rows))
