"""What the numbers of a run mean, in two or three sentences for readers who did not make it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from keras_ganprune.metrics.confidence_intervals import Interval, mean_interval, paired_increase
from keras_ganprune.reports.run import MetricColumn, Run
from keras_ganprune.reports.tables.cells import number, percent
from keras_ganprune.reports.tables.comparison import signed
from keras_ganprune.reports.tables.measurements import fd_increase, final_name
from keras_ganprune.reports.tables.names import shown
from keras_ganprune.reports.tables.several_runs import seed_groups
from keras_ganprune.utils.tables import change_range

_OF_ONE_RUN = (
    " The interval has the noise of drawing samples; runs with other seeds show that of training."
)
# More runs than this have no sentence each.
_FEW = 4


def meaning(run: Run) -> list[str]:
    """Return the sentences on one run: what was removed, what it did to the quality, what it saves.

    Nothing is guessed: what was not measured is left out.

    Example:
    >>> quality = {"dense": ({"fd": 2.0}, {"fd": 2.2}), "pruned": ({"fd": 2.1}, {"fd": 2.1})}
    >>> images = {"dense": np.zeros((1, 4, 4, 1)), "pruned": np.zeros((1, 4, 4, 1))}
    >>> run = Run({"loss": [1.0]}, samples=images, quality=quality, equal_steps=True)
    >>> print(meaning(run)[0])
    The Fréchet distance (lower is better) of 'pruned' is equal to that of 'dense, equal steps'. The 95 %
    interval, -4.5% to +5.0%, includes 0: this is within the noise of the measurement. The interval has
    the noise of drawing samples; runs with other seeds show that of training.
    """
    sentences = [each for each in (*_removed(run), *_quality(run), *_saved(run)) if each]
    if sentences and not run.quality:
        sentences.append("The quality was not measured: judge by the pictures.")
    return sentences


def meaning_of_seeds(runs: Sequence[Run]) -> list[str]:
    """Return the sentences on several runs: for runs that differ only in the seed, the paired difference.

    Without such runs, a few runs have a sentence each on their quality.
    """
    sentences = []
    for group in seed_groups(runs):
        names = ", ".join(run.name for run in group)
        first = group[0]
        for name in _compared(first):
            if first.metrics:
                metric, column = next(iter(first.metrics.items()))
                pairs = [(r.mean("dense", metric), r.mean(name, metric)) for r in group]
                if any(a is None or b is None for a, b in pairs):
                    continue
                found = mean_interval([b - a for a, b in pairs])  # pyright: ignore
                text = _difference(found, column)
                what = column.title
            else:
                pairs = [(r.mean("dense", "fd"), r.mean(name, "fd")) for r in group]
                if any(a is None or b is None or a <= 0 for a, b in pairs):
                    continue
                found = paired_increase([a for a, _ in pairs], [b for _, b in pairs])  # pyright: ignore
                text = _increase(found)
                what = "Fréchet distance (lower is better)"
            sentences.append(
                f"Over {len(group)} seeds ({names}), the {what} of '{name}' is {text[0]} "
                f"'{shown(first, 'dense')}'. {text[1]}"
            )
    if not sentences and len(runs) <= _FEW:
        sentences = [f"{run.name}: {sentence}" for run in runs for sentence in _quality(run)]
    return sentences


def _removed(run: Run) -> list[str]:
    found = []
    for network in run.layers:
        share = percent(run.sparsity(network))
        found.append(f"{share} of the weights of '{network}' that have masks are zero")
    for network, groups in run.channels.items():
        before = sum(channels for _, channels, _ in groups)
        after = sum(channels for _, _, channels in groups)
        found.append(f"'{network}' has {after:,} of its {before:,} channels left")
    return [f"{'; '.join(found)}."] if found else []


def _compared(run: Run) -> list[str]:
    """Return the compressed networks, or the final samples."""
    if run.metrics:
        return [name for name in run.quality if name in run.sizes and name != "dense"]
    name = final_name(run)
    return [] if name == "dense" else [name]


def _quality(run: Run) -> list[str]:
    if run.metrics:
        return _metric(run)
    sentences = []
    for name in _compared(run):
        found = fd_increase(run, name)
        if found is not None:
            text, noise = _increase(found)
            sentences.append(
                f"The Fréchet distance (lower is better) of '{name}' is {text} "
                f"'{shown(run, 'dense')}'. {noise}{_OF_ONE_RUN if found.count > 1 else ''}"
            )
    return sentences


def _increase(found: Interval) -> tuple[str, str]:
    """Return a relative increase, where lower is better, and whether it is more than noise."""
    ends = change_range(found.low, found.high)
    return _compared_words(found.mean, f"{abs(found.mean):.1%}"), _noise(found, ends, True)


def _difference(found: Interval, column: MetricColumn) -> tuple[str, str]:
    """Return a difference in a metric of the run's own, and whether it is more than noise."""
    ends = f"{signed(found.low, column)} to {signed(found.high, column)}"
    size = f"{abs(found.mean):,.{column.digits}f}"
    return _compared_words(found.mean, size), _noise(found, ends, not column.higher_is_better)


def _compared_words(difference: float, size: str) -> str:
    """Return a difference in words; `size` is its text without a sign."""
    if not any(digit in size for digit in "123456789"):
        return "equal to that of"
    return f"{size} {'lower' if difference < 0 else 'higher'} than that of"


def _noise(found: Interval, ends: str, low_is_better: bool) -> str:
    if found.count == 1 or not math.isfinite(found.low + found.high):
        return "It was measured once, so it is not known whether this is more than noise."
    if found.low <= 0.0 <= found.high:
        return (
            f"The 95 % interval, {ends}, includes 0: this is within the noise of the measurement."
        )
    better = (found.mean < 0.0) == low_is_better
    return f"The 95 % interval, {ends}, does not include 0: {'better' if better else 'worse'}."


def _metric(run: Run) -> list[str]:
    metric, column = next(iter(run.metrics.items()))
    dense = [m[metric] for m in run.quality.get("dense", ()) if metric in m]
    parts, once = [], False
    for name in _compared(run):
        values = [m[metric] for m in run.quality[name] if metric in m]
        if not dense or not values:
            continue
        difference = fmean(values) - fmean(dense)
        words = _compared_words(difference, f"{abs(difference):,.{column.digits}f}")
        once = once or len(values) == 1
        parts.append(f"'{name}' is {words.removesuffix(' that of')} '{shown(run, 'dense')}'")
    if not parts:
        return []
    better = "higher" if column.higher_is_better else "lower"
    sentence = f"{column.title} ({better} is better): {'; '.join(parts)}."
    noise = "It was measured once: runs with other seeds show whether this is more than noise."
    return [f"{sentence} {noise}" if once else sentence]


def _saved(run: Run) -> list[str]:
    before = run.sizes.get("dense", {})
    parts = []
    for name in _compared(run):
        after = run.sizes.get(name, {})
        shares = [
            f"{after[key] / before[key]:.2f} of the {words}"
            for key, words in (("gzip_bytes", "gzipped bytes"), ("macs", "multiplications"))
            if before.get(key) and after.get(key) is not None
        ]
        if shares:
            parts.append(f"'{name}' needs {' and '.join(shares)}")
    total = number(before.get("parameters"))
    against = f" of '{shown(run, 'dense')}', which has {total} parameters" if total != "–" else ""
    return [f"{'; '.join(parts)}{against}."] if parts else []
