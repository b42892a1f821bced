"""Make the table and the picture of `quality.py` from its CSV file.

    python benchmarks/quality_table.py                # benchmarks/results/quality_mnist.csv
    python benchmarks/quality_table.py --data digits
    python benchmarks/quality_table.py --csv benchmarks/results/quality_mnist_cpu.csv

Writes the Markdown table beside the CSV file and, for a file with the usual name, docs/quality_mnist.png.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
from collections import defaultdict

import _bench
import numpy as np
from quality import VARIANTS

from keras_ganprune.metrics import paired_increase
from keras_ganprune.utils import plotting, tables

_DISTILLED = ", distilled"
BEGIN, END = "<!-- benchmarks/quality_table.py -->", "<!-- end -->"
BEGIN_SMALL = "<!-- benchmarks/quality_table.py: quality_mnist_cpu -->"
# From what is best to what is worst at all, then as they are run.
ORDER = ("real images", "untrained", *(v.label for v in VARIANTS if v.label != "untrained"))


def read(path: pathlib.Path) -> dict[str, dict[int, dict[str, str]]]:
    """Return the rows of each variant by seed."""
    rows: dict[str, dict[int, dict[str, str]]] = defaultdict(dict)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            rows[row["variant"]][int(row["seed"])] = row
    return rows


def values(runs: dict[int, dict[str, str]], name: str, seeds) -> list[float]:
    return [float(runs[s][name]) for s in seeds]


def increase(rows, label: str):
    """Return the `paired_increase` of the Fréchet distance over dense, or None where there are no pairs."""
    seeds = sorted(set(rows[label]) & set(rows["dense"]))
    if label in ("dense", "real images") or not seeds:
        return None
    return paired_increase(values(rows["dense"], "fd", seeds), values(rows[label], "fd", seeds))


def _interval(found) -> str:
    text = f"{found.mean:+.0%}"
    return text + (f" [{found.low:+.0%}, {found.high:+.0%}]" if found.count > 1 else "")


def lines(rows) -> list[tuple[str, ...]]:
    """Return the cells of the table."""
    head = ("generator", "seeds", "weights", "MACs", "Fréchet distance", "increase [95 %]")
    cells = [(*head, "kernel distance", "coverage", "class KL")]
    for label in dict.fromkeys(ORDER):
        runs = rows.get(label)
        if not runs:
            continue
        seeds = sorted(runs)
        found = increase(rows, label)
        text = "" if found is None else _interval(found)
        first = runs[seeds[0]]
        cells.append(
            (
                label,
                str(len(seeds)),
                f"{int(np.mean(values(runs, 'nonzero', seeds))):,}" if first["nonzero"] else "",
                f"{int(first['macs']):,}" if first["macs"] else "",
                _spread(values(runs, "fd", seeds), 2),
                text,
                _spread(values(runs, "kd", seeds), 3),
                _spread(values(runs, "coverage", seeds), 3),
                _spread(values(runs, "class_kl", seeds), 3),
            )
        )
    return cells


def _spread(numbers: list[float], digits: int) -> str:
    mean, deviation = _mean_sd(numbers)
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if len(numbers) > 1 else "")


# What is compared at equal MACs, with the same teacher and the same steps.
SMALL = {
    share: (f"structured {share} of the MACs, distilled", f"narrow, {share} of the MACs, distilled")
    for share in ("1/8", "1/12", "1/16")
}


def small_table(rows) -> str:
    """Return the table of structured pruning against networks that are built narrow."""
    head = ("share of the MACs", "structured, taught", "over dense [95 %]", "narrow, taught")
    cells = [(*head, "over dense [95 %]", "structured over narrow [95 %]", "seeds")]
    for share, labels in SMALL.items():
        if not all(rows.get(label) for label in labels):
            continue
        structured, narrow = (rows[label] for label in labels)
        seeds = sorted(set(structured) & set(narrow) & set(rows["dense"]))
        if not seeds:
            continue
        cut, built = (values(runs, "fd", seeds) for runs in (structured, narrow))
        dense = values(rows["dense"], "fd", seeds)
        macs = float(rows["dense"][seeds[0]]["macs"])
        actual = [values(runs, "macs", seeds)[0] / macs for runs in (structured, narrow)]
        cells.append(
            (
                f"{share} ({actual[0]:.4f}, narrow {actual[1]:.4f})",
                _spread(cut, 2),
                _interval(paired_increase(dense, cut)),
                _spread(built, 2),
                _interval(paired_increase(dense, built)),
                _interval(paired_increase(built, cut)),
                str(len(seeds)),
            )
        )
    return tables.markdown(cells)


def agreement(rows) -> str:
    """Return what a second judge says: rank correlation of both Fréchet distances over the runs."""
    from scipy.stats import spearmanr

    runs = [row for seeds in rows.values() for row in seeds.values() if row.get("fd_second")]
    if len(runs) < 4:
        return ""
    found = spearmanr(*([float(row[name]) for row in runs] for name in ("fd", "fd_second")))
    return (
        f"A second judge, the code of an autoencoder of another seed, ranks the Fréchet distances of "
        f"{len(runs)} runs with a Spearman correlation of {found.statistic:.3f} to the first."
    )


def draw(rows, path: pathlib.Path) -> None:
    """Draw quality (mean ± standard deviation) against the weights that are left, and against the work."""
    from matplotlib import ticker

    picture = plotting.require_plotting().Figure(figsize=(10.5, 4.2), layout="constrained")
    left, right = picture.subplots(1, 2)
    families = {
        "taylor, distilled": ("taylor", True),
        "magnitude, distilled": ("magnitude", True),
        "magnitude": ("magnitude", False),
        "structured, distilled": ("structured", True),
        "structured": ("structured", False),
        "built narrow": ("width", False),
        "random masks": ("random", False),
        "built narrow, distilled": ("width", True),
    }
    for number, (name, (word, distilled)) in enumerate(families.items()):
        chosen = [
            label
            for label in rows
            if word in label.removesuffix(_DISTILLED).split()
            and not label.startswith("double")
            and label.endswith(_DISTILLED) == distilled
            and not label.startswith("uniform")
        ]
        for axis, cost in ((left, "nonzero"), (right, "macs")):
            if axis is right and word not in ("structured", "width"):
                continue
            points = []
            for label in chosen:
                runs = rows[label]
                distances = values(runs, "fd", sorted(runs))
                points.append((np.mean(values(runs, cost, sorted(runs))), *_mean_sd(distances)))
            points.sort(key=lambda p: p[0])
            if not points:
                continue
            axis.errorbar(
                [p[0] for p in points],
                [p[1] for p in points],
                [p[2] for p in points],
                label=name,
                color=f"C{number}",
                marker="o",
                ms=4,
                lw=1.2,
                capsize=2,
            )
    dense, spread = _mean_sd(values(rows["dense"], "fd", sorted(rows["dense"])))
    for axis, cost, words in (
        (left, "nonzero", "weights that are not zero"),
        (right, "macs", "multiply-accumulates of an image"),
    ):
        cost_of_dense = float(next(iter(rows["dense"].values()))[cost])
        axis.errorbar(
            [cost_of_dense],
            [dense],
            [spread],
            color="black",
            marker="s",
            ms=5,
            capsize=2,
            label="dense",
        )
        axis.axhline(dense, color="black", lw=0.7, ls=":")
        axis.set_xscale("log")
        axis.set(xlabel=words, ylabel="Fréchet distance (lower is better)")
        # Random masks at 90 % are far above, and would press everything else together.
        axis.set_ylim(0, 3.2 * dense)
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1e3:,.0f} k")
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    picture.savefig(path, dpi=140)


def _mean_sd(numbers: list[float]) -> tuple[float, float]:
    return float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0


SHOWN_ROWS = {
    "dense": "dense",
    "taylor 80%, distilled": "80 % of the weights pruned",
    "taylor 90%, distilled": "90 % pruned",
    "taylor 95%, distilled": "95 % pruned",
    "structured 1/4 of the MACs, distilled": "channels cut to a quarter of the MACs",
    "half width": "built at half the width",
    "quarter width": "built at a quarter of the width",
    "random 80%": "80 % pruned at random",
    "real images": "real images",
}


def shown_table(rows) -> str:
    """Return the table of docs/results.md."""
    head = ("DCGAN generator, MNIST", "weights", "MACs", "Fréchet distance", "over dense [95 %]")
    cells = [(*head, "coverage")]
    for label, words in SHOWN_ROWS.items():
        found = [line for line in lines(rows)[1:] if line[0] == label]
        if found:
            _, _, weights, macs, distance, over, _, coverage, _ = found[0]
            cells.append((words, weights, macs, distance, over, coverage))
    return tables.markdown(cells)


def write_page(table: str, begin: str, path: pathlib.Path) -> None:
    """Put a table between its two marks in docs/results.md."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(begin)
    _, after = rest.split(END, 1)
    path.write_text(f"{before}{begin}\n{table}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--csv", type=pathlib.Path, default=None)
    parser.add_argument("--picture", type=pathlib.Path, default=None)
    parser.add_argument(
        "--page", action="store_true", help="also renew the table of docs/results.md"
    )
    arguments = parser.parse_args()
    results = _bench.ROOT / "benchmarks" / "results"
    path = arguments.csv or results / f"quality_{arguments.data}.csv"
    rows = read(path)
    table = tables.markdown(lines(rows))
    some = next(iter(rows["dense"].values()))
    runs = [row for seeds in rows.values() for row in seeds.values() if row["backend"]]
    machines = {f"Keras {r['keras']} on {r['backend']}, {r['device']}" for r in runs}
    note = (
        f"`python benchmarks/quality.py --data {arguments.data}`, then `quality_table.py`: "
        f"{some['steps']} steps a run, {some['samples']} exported images against "
        f"{some['real_samples']} held-out ones, features of a classifier of accuracy "
        f"{float(some['extractor_accuracy']):.1%}; mean ± standard deviation of the seeds; increase: of "
        "the mean over the seeds against that of their dense runs, with its paired bootstrap interval. "
        + ", ".join(sorted(machines))
        + "."
    )
    apart = _on_other_machines(rows)
    if apart:
        note += f" {apart} runs were trained on another machine than the dense run of their seed."
    small = small_table(rows)
    if small.count("\n") > 1:
        table += f"\n\n{small}"
    note += f"\n\n{agreement(rows)}" if agreement(rows) else ""
    path.with_suffix(".md").write_text(f"{table}\n\n{note}\n", encoding="utf-8")
    print(table, note, sep="\n\n")
    if arguments.page:
        page = _bench.ROOT / "docs" / "results.md"
        if path.stem == "quality_mnist":
            write_page(shown_table(rows), BEGIN, page)
        else:
            write_page(small, BEGIN_SMALL, page)
    if arguments.picture or path.stem == f"quality_{arguments.data}":
        draw(rows, arguments.picture or _bench.ROOT / "docs" / f"quality_{arguments.data}.png")


def _on_other_machines(rows) -> int:
    """Return the number of runs whose dense run was made on another device."""
    dense = rows["dense"]
    return sum(
        row["device"] != dense[seed]["device"]
        for label, runs in rows.items()
        if label not in ("untrained", "real images")
        for seed, row in runs.items()
        if seed in dense
    )


if __name__ == "__main__":
    main()
