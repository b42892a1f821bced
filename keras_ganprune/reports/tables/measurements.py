"""Names and order of samples and metrics, and the means of measurements."""

from __future__ import annotations

from collections.abc import Iterable

from keras_ganprune.metrics.confidence_intervals import Interval, mean_interval, paired_increase
from keras_ganprune.metrics.milliseconds import Milliseconds
from keras_ganprune.metrics.quality_report import METRICS as QUALITY_METRICS
from keras_ganprune.reports.run import Run

# Samples in this order; samples with another name follow.
ORDER = ("real", "dense", "pruned", "shrunk")
_DIRECTION = {"lower": " ↓", "higher": " ↑", "near 1": " (real: 1)", "none": " ↓"}


def _titles() -> dict[str, str]:
    titles = {}
    for name, (words, better) in QUALITY_METRICS.items():
        titles[name] = words + _DIRECTION[better]
        if name == "kd":
            titles["kd_error"] = f"{words}, standard error"
    return titles | {"psnr": "PSNR, dB ↑", "ssim": "SSIM ↑"}


# Metric -> title with the better direction, in the order of tables.
METRICS = _titles()


def ordered(names: Iterable[str]) -> list[str]:
    """Return names without duplicates, the names of `ORDER` first.

    Example:
    >>> ordered(["shrunk", "mine", "dense"])
    ['dense', 'shrunk', 'mine']
    """
    names = list(dict.fromkeys(names))
    return [n for n in ORDER if n in names] + [n for n in names if n not in ORDER]


def final_name(run: Run) -> str:
    """Return the name of the samples that the final generator made.

    Of a run with several compressed networks and no samples, it is the first of them.
    """
    if not run.samples:
        return next((name for name in run.sizes if name != "dense"), "dense")
    generated = [name for name in ordered(run.samples) if name not in ("real", "dense")]
    known = [name for name in generated if name in ORDER]
    return (known or generated or ["dense"])[-1]


def measured(run: Run, name: str, metric: str) -> Interval | None:
    """Return the mean and the interval of a metric over the measurements of `name`, or None."""
    values = [m[metric] for m in run.quality.get(name, ()) if metric in m]
    return mean_interval(values) if values else None


def latency(run: Run, name: str, label: str) -> float | None:
    """Return a latency in milliseconds, with its quartiles where they are known, or None."""
    time = run.latency.get(name, {}).get(label)
    quartiles = run.latency_quartiles.get(name, {}).get(label)
    return time if time is None or quartiles is None else Milliseconds(time, *quartiles)


def fd_increase(run: Run, name: str) -> Interval | None:
    """Return the relative increase of the Fréchet distance of `name` against 'dense', or None.

    If both have equally many measurements, the i-th measurements form a pair. Otherwise the means are
    compared.
    """
    dense, other = (
        [m["fd"] for m in run.quality.get(key, ()) if "fd" in m] for key in ("dense", name)
    )
    if name in ("dense", "real") or not dense or not other or min(dense) <= 0:
        return None
    if len(dense) == len(other):
        return paired_increase(dense, other)
    return paired_increase([sum(dense) / len(dense)], [sum(other) / len(other)])
