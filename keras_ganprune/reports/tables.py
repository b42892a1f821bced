"""The tables of a report: cells as text, from the numbers of the runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_ganprune.metrics.confidence_intervals import Interval, mean_interval, paired_increase
from keras_ganprune.metrics.quality_report import METRICS as JUDGED
from keras_ganprune.reports.run import Run
from keras_ganprune.utils.tables import change, change_range

# Best read in this order; any other name comes behind.
ORDER = ("real", "dense", "pruned", "shrunk")
_BETTER = {"lower": " ↓", "higher": " ↑", "near 1": " (real: 1)", "none": " ↓"}


def _titles() -> dict[str, str]:
    found = {}
    for name, (words, better) in JUDGED.items():
        found[name] = words + _BETTER[better]
        if name == "kd":
            found["kd_error"] = f"{words}, standard error"
    return found | {"psnr": "PSNR, dB ↑", "ssim": "SSIM ↑"}


# Metric -> what people call it, with the direction that is better, in the order of the table.
METRICS = _titles()
# What a measurement says of itself.
_OF_ITSELF = {
    "samples": "{:,.0f} images",
    "real_samples": "{:,.0f} real ones",
    "manifold_samples": "precision to coverage of {:,.0f}",
    "extractor_accuracy": "extractor with an accuracy of {:.1%}",
}
_SIZES = {
    "parameters": "parameters",
    "nonzero": "not zero",
    "macs": "MACs",
    "bytes": "weights, bytes",
    "saved_bytes": "SavedModel, bytes",
    "gzip_bytes": "SavedModel, gzipped",
}


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of each is what the row is about."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def ordered(names: Iterable[str]) -> list[str]:
    """Return the known names first, in their order, then the others.

    Example:
    >>> ordered(["shrunk", "mine", "dense"])
    ['dense', 'shrunk', 'mine']
    """
    names = list(dict.fromkeys(names))
    return [n for n in ORDER if n in names] + [n for n in names if n not in ORDER]


def final_name(run: Run) -> str:
    """Return which samples are those of the run's end."""
    generated = [name for name in ordered(run.samples) if name not in ("real", "dense")]
    known = [name for name in generated if name in ORDER]
    return (known or generated or ["dense"])[-1]


def number(value: float | None) -> str:
    """Return a number that people can read.

    Example:
    >>> number(1234567), number(0.012345), number(None)
    ('1,234,567', '0.0123', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}"


def interval(found: Interval | None) -> str:
    """Return a mean with half the width of its interval, which has two digits up to 35, and then one.

    Example:
    >>> interval(Interval(6.12, 5.90, 6.34, 5)), interval(Interval(6.12, math.nan, math.nan, 1))
    ('6.12 ± 0.22', '6.12')

    Reference: [Review of particle physics](https://pdg.lbl.gov), introduction, §5.3.
    """
    if found is None:
        return "–"
    if found.count == 1 or not found.half > 0:
        return number(found.mean)
    exponent = math.floor(math.log10(found.half))
    digits = max(0, -exponent + (found.half / 10.0**exponent < 3.55))
    return f"{found.mean:,.{digits}f} ± {found.half:,.{digits}f}"


def measured(run: Run, name: str, metric: str) -> Interval | None:
    """Return the mean and interval of a metric over the measurements of one name."""
    values = [m[metric] for m in run.quality.get(name, ()) if metric in m]
    return mean_interval(values) if values else None


def fd_increase(run: Run, name: str) -> Interval | None:
    """Return the relative increase of the Fréchet distance against 'dense', over its measurements.

    Pair by pair, where there are as many of both; else of the means.
    """
    dense, other = (
        [m["fd"] for m in run.quality.get(key, ()) if "fd" in m] for key in ("dense", name)
    )
    if name in ("dense", "real") or not dense or not other or min(dense) <= 0:
        return None
    if len(dense) == len(other):
        return paired_increase(dense, other)
    return paired_increase([sum(dense) / len(dense)], [sum(other) / len(other)])


def quality(run: Run) -> Table | None:
    """Return the metrics of each name, with intervals where they were measured several times."""
    # The floor comes last: what people compare are generators.
    names = sorted(ordered(run.quality), key=lambda name: name == "real")
    found = {metric for each in run.quality.values() for one in each for metric in one}
    found -= set(_OF_ITSELF)
    if not found:
        return None
    metrics = [m for m in METRICS if m in found] + sorted(found - set(METRICS))
    rows = [
        (METRICS.get(m, m.replace("_", " ")), *(interval(measured(run, n, m)) for n in names))
        for m in metrics
    ]
    note = "↓ lower is better, ↑ higher is better."
    counts = {len(each) for each in run.quality.values()}
    if max(counts) > 1:
        many = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
        note += (
            f" Means of {many} measurements with other latent vectors, ± half the 95 % interval "
            "(Student). That is the noise of drawing samples from this one run; how another run "
            "would come out only runs with other seeds can tell."
        )
    else:
        note += " Measured once: give several measurements, or compare several runs, for intervals."
    note += _of_itself(run)
    if "real" in names:
        note += " 'real' is what held-out real images come to: no generator can be asked for more."
    for name in names:
        grown = fd_increase(run, name)
        if grown is not None:
            note += f" Fréchet distance of {name} against dense: {_with_ends(grown)}."
    return Table("Quality", ("", *names), tuple(rows), note)


def _of_itself(run: Run) -> str:
    """Return a sentence on how the measurements were made, of what they say themselves."""
    told = []
    for key, words in _OF_ITSELF.items():
        values = {m[key] for each in run.quality.values() for m in each if key in m}
        if values:
            told.append(" to ".join(words.format(v) for v in sorted({min(values), max(values)})))
    return f" Judged: {', '.join(told)}." if told else ""


def _with_ends(found: Interval) -> str:
    if found.count == 1:
        return change(found.mean)
    return (
        f"{change(found.mean)} (95 % interval {change_range(found.low, found.high)}, "
        f"{found.count} pairs)"
    )


def sizes(run: Run) -> Table | None:
    """Return what each network costs, and as a share of the first."""
    names = ordered([*run.sizes, *run.latency])
    rows = []
    for key, label in _SIZES.items():
        _add(rows, label, [run.sizes.get(name, {}).get(key) for name in names])
    for what in dict.fromkeys(w for name in names for w in run.latency.get(name, {})):
        _add(rows, f"ms: {what}", [run.latency.get(name, {}).get(what) for name in names])
    if not rows:
        return None
    note = (
        "In brackets: as a share of the first column. MACs: multiply-accumulates of one sample. Masked "
        "weights are multiplied all the same, so MACs and times only fall where a network was shrunk."
    )
    return Table("Size and speed", ("", *names), tuple(rows), note)


def _add(rows: list, label: str, values: list[float | None]) -> None:
    if all(value is None for value in values):
        return
    first, cells = values[0], []
    for place, value in enumerate(values):
        share = f" ({value / first:.2f}×)" if place and first and value is not None else ""
        cells.append(number(value) + share)
    rows.append((label, *cells))


def layers(run: Run, network: str) -> Table:
    """Return the sparsity of each masked weight: asked for, and what came out."""
    rows = [
        (
            f"{row.layer}/{row.weight}",
            f"{row.sparsity:.4f}",
            "–" if row.requested is None else f"{row.requested:.4f}",
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
    if all(row[2] == "–" for row in rows):
        rows = [row[:2] + row[3:] for row in rows]
        header = header[:2] + header[3:]
    return Table(f"Sparsity of the {network}", header, tuple(rows))


def _requested(run: Run, network: str) -> str:
    log = run.prunes.get(network)
    if log is None or log.quantity != "sparsity" or log.of != "weights" or not log.updates:
        return "–"
    return f"{log.updates[-1].requested:.4f}"


def channels(run: Run, network: str) -> Table:
    """Return how many channels each layer had, and has left."""
    rows = [(path, f"{1 - a / b:.4f}", str(b), str(a)) for path, b, a in run.channels[network]]
    header = ("made by", "cut", "before", "after")
    return Table(f"Channels of the {network}", header, tuple(rows))


def updates(run: Run) -> list[str]:
    """Return a sentence for each schedule: what it asked for, and what came out."""
    found = []
    for name, log in run.prunes.items():
        if not log.updates:
            found.append(f"{name}: no mask update.")
            continue
        first, last = log.updates[0], log.updates[-1]
        asked = (
            f"|w| < {last.requested:g}" if log.quantity == "threshold" else f"{last.requested:.4f}"
        )
        of = "" if log.of == "weights" else f" of the {log.of}"
        rule = f"{log.schedule}: " if log.schedule else ""
        found.append(
            f"{name}: {rule}{len(log.updates)} mask updates from step {first.step:,} to {last.step:,}; "
            f"requested {asked}, achieved sparsity {last.achieved:.4f}{of}."
        )
    return found


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list) and value and not any(isinstance(v, (list, dict)) for v in value):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def about(run: Run) -> Table:
    """Return the settings of a run and where it ran."""
    facts = [("data", run.data), ("seed", run.seed), ("steps", run.steps)]
    facts += [("training, seconds", None if run.seconds is None else round(run.seconds, 1))]
    facts += sorted(run.settings.items())
    facts += [("extractor", run.extractor), ("hardware", run.hardware), ("written", run.created)]
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    rows = [(str(k), _text(v)) for k, v in [*facts, ("versions", versions)] if v not in ("", None)]
    return Table("Settings", ("setting", "value"), tuple(rows))


# --- several runs --------------------------------------------------------------------------------


def differing(runs: Sequence[Run]) -> Table | None:
    """Return the settings in which runs differ, a column for each run."""
    facts = [{"data": r.data, "seed": r.seed, "steps": r.steps, **r.settings} for r in runs]
    keys = [k for k in dict.fromkeys(k for f in facts for k in f)]
    rows = [
        (str(key), *(_text(f.get(key)) for f in facts))
        for key in keys
        if len({_text(f.get(key)) for f in facts}) > 1
    ]
    if not rows:
        return None
    return Table("What differs", ("setting", *(r.name for r in runs)), tuple(rows))


def overview(runs: Sequence[Run]) -> Table:
    """Return a row for each run: sparsity, quality against dense, size and speed at its end."""
    columns: dict[str, Any] = {
        "FD dense ↓": lambda r, n: interval(measured(r, "dense", "fd")),
        "FD ↓": lambda r, n: interval(measured(r, n, "fd")),
        "FD against dense": lambda r, n: _mean_change(fd_increase(r, n)),
        "coverage ↑": lambda r, n: interval(measured(r, n, "coverage")),
        "recall ↑": lambda r, n: interval(measured(r, n, "recall")),
    }
    for network in dict.fromkeys(network for run in runs for network in run.layers):
        columns[f"sparsity, {network}"] = lambda r, n, network=network: (
            percent(r.sparsity(network)) if network in r.layers else "–"
        )
    for network in dict.fromkeys(network for run in runs for network in run.channels):
        columns[f"channels cut, {network}"] = lambda r, n, network=network: _cut(r, network)
    for key, title in (
        ("nonzero", "not zero"),
        ("macs", "MACs"),
        ("gzip_bytes", "gzipped bytes"),
    ):
        columns[title] = lambda r, n, key=key: number(r.sizes.get(n, {}).get(key))
    for what in dict.fromkeys(w for r in runs for times in r.latency.values() for w in times):
        columns[f"ms: {what}"] = lambda r, n, what=what: number(r.latency.get(n, {}).get(what))
    rows = [[run.name, final_name(run)] for run in runs]
    header = ["run", "at its end"]
    for title, value in columns.items():
        cells = [value(run, row[1]) for run, row in zip(runs, rows, strict=True)]
        if any(cell != "–" for cell in cells):
            header.append(title)
            for row, cell in zip(rows, cells, strict=True):
                row.append(cell)
    notes = ["FD: Fréchet distance, ± half its 95 % interval."] if "FD ↓" in header else []
    if len({run.extractor for run in runs if run.quality}) > 1:
        notes.append("The runs were judged by different extractors: their FD do not compare.")
    if any(run.layers for run in runs):
        notes.append("Sparsity: the share of the masked weights that is zero.")
    note = " ".join(notes)
    return Table("Side by side", tuple(header), tuple(tuple(row) for row in rows), note)


def _cut(run: Run, network: str) -> str:
    groups = run.channels.get(network, ())
    before = sum(before for _, before, _ in groups)
    return percent(1.0 - sum(after for _, _, after in groups) / before) if before else "–"


def _mean_change(found: Interval | None) -> str:
    return "–" if found is None else change(found.mean)


def paired(runs: Sequence[Run]) -> Table | None:
    """Return, of runs that differ in nothing but the seed, the increase of the Fréchet distance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        settings = {key: value for key, value in run.settings.items() if key != "seed"}
        key = json.dumps([run.data, run.steps, run.extractor, settings], sort_keys=True)
        groups.setdefault(key, []).append(run)
    rows = []
    for group in groups.values():
        seeds = [run.seed for run in group]
        if len(group) < 2 or None in seeds or len(set(map(str, seeds))) < len(seeds):
            continue
        names = [n for n in ordered(n for r in group for n in r.quality) if n not in ORDER[:2]]
        for name in names:
            pairs = [(r.mean("dense", "fd"), r.mean(name, "fd")) for r in group]
            if any(a is None or b is None or a <= 0 for a, b in pairs):
                continue
            before, after = zip(*pairs, strict=True)
            found = paired_increase(before, after)
            rows.append(
                (
                    f"{name}: {', '.join(r.name for r in group)}",
                    str(found.count),
                    number(mean_interval(before).mean),
                    number(mean_interval(after).mean),
                    change(found.mean),
                    change_range(found.low, found.high),
                )
            )
    if not rows:
        return None
    note = (
        "Runs that differ in the seed only. The increase is that of the mean over the seeds, "
        "mean(pruned) / mean(dense) − 1; its interval draws the seeds again (paired percentile "
        "bootstrap). With fewer than about five seeds such an interval is too narrow."
    )
    header = ("runs", "seeds", "FD dense", "FD", "increase", "95 % interval")
    return Table("Paired over seeds", header, tuple(rows), note)
