"""Every application: dense, sparse, smaller, and built small with the same teacher, in pairs over seeds.

    python benchmarks/applications.py                      # 3 seeds of all applications: hours
    python benchmarks/applications.py --only denoising     # one of them
    python benchmarks/applications.py --quick              # minutes; to see that it works
    python benchmarks/applications.py --table              # only the table of the rows that are there
    python benchmarks/applications.py --table --pages      # and those of README.md and docs/results.md

All networks of a seed go on from that seed's dense training for equally many steps, and the exported and
reloaded network is measured on held-out data. Each finished row is appended to a file of JSON lines at once:
killed and started again, the command trains the missing rows.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import _bench

RESULTS = pathlib.Path(__file__).parent / "results"
ROWS = ("dense", "80 %", "90 %", "¼ MACs", "narrow")
_SHARE = 0.25


def _variants(dense: Any, folder: pathlib.Path) -> dict[str, Callable[[], Any]]:
    """Return row -> function that trains its network."""
    from keras_ganprune.applications import branches

    return {
        "dense": lambda: branches.trained_on(dense),
        "80 %": lambda: branches.sparse(dense, 0.8, folder),
        "90 %": lambda: branches.sparse(dense, 0.9, folder),
        "¼ MACs": lambda: branches.small(dense, _SHARE, folder),
        "narrow": lambda: branches.narrow(dense, _SHARE),
    }


def rows_of(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the finished rows. An incomplete last line, of a killed run, is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _append(path: pathlib.Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" if text and not text.endswith("\n") else "")
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def run(name: str, seed: int, quick: bool, path: pathlib.Path, work: pathlib.Path) -> None:
    """Train and measure the missing rows of one application and seed."""
    from keras_ganprune.applications import catalog
    from keras_ganprune.applications.dense_training import DenseTraining, Plan
    from keras_ganprune.applications.measured_networks import measure

    done = {(row["application"], row["row"]) for row in rows_of(path) if row["seed"] == seed}
    missing = [row for row in ROWS if (name, row) not in done]
    if not missing:
        return
    cls = catalog.get(name)
    application = cls(cls.options_class(seed=seed, quick=quick))
    data = application.data()
    baselines = application.baselines(data) if seed == 0 else {}
    for title, metrics in baselines.items():
        if (name, title) not in done:
            _append(path, {"application": name, "seed": seed, "row": title, "metrics": metrics})
    state = work / f"{name}-{seed}"
    state.mkdir(parents=True, exist_ok=True)
    dense = DenseTraining(application, data, Plan.of(application, data), state)
    for row in missing:
        started = time.perf_counter()
        branch = _variants(dense, state)[row]()
        with tempfile.TemporaryDirectory() as folder:
            found = measure(application, branch, data, pathlib.Path(folder))
        _append(
            path,
            {
                "application": name,
                "seed": seed,
                "row": row,
                "metrics": found.metrics,
                "parameters": found.costs.parameters,
                "nonzero": found.costs.nonzero,
                "macs": int(found.costs.macs),
                "gzip_bytes": found.exported and found.exported.gzip_bytes,
                "steps": sum(dense.plan.steps),
                "seconds": round(time.perf_counter() - started, 1),
                "notes": list(branch.notes),
            },
        )
        print(f"{name}, seed {seed}, {row}: {found.metrics}", flush=True)
    shutil.rmtree(state)


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and one line per application, by its deciding metric.

    Differences are paired by seed, with their 95 % interval (Student).
    """
    from keras_ganprune.applications import catalog

    header = ["application", "judged by", "has to beat", "dense", "80 % sparse", "90 % sparse"]
    header += ["¼ of the MACs", "built narrow, same teacher", "¼ against narrow"]
    lines = []
    for name in dict.fromkeys(row["application"] for row in rows):
        cls = catalog.get(name)
        metric, column = next(iter(cls.metrics.items()))
        values: dict[str, dict[int, float]] = {}
        for row in rows:
            if row["application"] == name and metric in row["metrics"]:
                values.setdefault(row["row"], {})[row["seed"]] = row["metrics"][metric]
        arrow = "↑" if column.higher_is_better else "↓"
        others = [
            f"{title} {of_seed[0]:.{column.digits}f}"
            for title, of_seed in values.items()
            if title not in ROWS and 0 in of_seed
        ]
        line = [name, f"{column.title} {arrow}", "; ".join(others) or "–"]
        line.append(_mean(list(values.get("dense", {}).values()), column.digits))
        for row in ROWS[1:]:
            line.append(_difference(values.get(row), values.get("dense"), column.digits))
        line.append(_difference(values.get("¼ MACs"), values.get("narrow"), column.digits))
        lines.append(line)
    return header, lines


def _mean(values: list[float], digits: int, sign: str = "") -> str:
    """Return a mean ± half its interval."""
    from keras_ganprune.metrics import mean_interval

    if not values:
        return "–"
    found = mean_interval(values)
    text = f"{round(found.mean, digits) or 0.0:{sign}.{digits}f}"  # no "-0.000"
    return f"{text} ± {found.half:.{digits}f}" if found.count > 1 else text


def _difference(ours: dict[int, float] | None, theirs: dict[int, float] | None, digits: int) -> str:
    """Return the mean difference over the seeds that both have."""
    if not ours or not theirs:
        return "–"
    return _mean([ours[seed] - theirs[seed] for seed in ours if seed in theirs], digits, "+")


BEGIN, END = "<!-- benchmarks/applications.py -->", "<!-- end -->"


def short_table(rows: list[dict[str, Any]]) -> str:
    """Return the table of the README: means, and how much the smaller networks differ from dense."""
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row["application"], set()).add(row["seed"])
    lines = []
    for line in table(rows)[1]:
        name, metric, beat, dense, sparse, _, small = line[:7]
        cells = (
            [dense, sparse, small]
            if len(seeds[name]) == 1
            else [cell.partition(" ±")[0] for cell in (dense, sparse, small)]
        )
        first = beat.partition("; ")[0]
        lines.append([name, metric, first, *cells, str(len(seeds[name]))])
    header = [
        "application",
        "judged by",
        "has to beat",
        "dense",
        "80 % sparse",
        "¼ of the MACs",
        "seeds",
    ]
    return _bench.table(header, lines, markdown=True)


def _write_pages(rows: list[dict[str, Any]]) -> None:
    """Renew the table in README.md and in docs/results.md."""
    for page in (_bench.ROOT / "README.md", _bench.ROOT / "docs" / "results.md"):
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        text = f"{before}{BEGIN}\n{short_table(rows)}\n{END}{after}"
        page.write_text(text, encoding="utf-8")


def _page(rows: list[dict[str, Any]], surroundings: dict[str, Any]) -> str:
    header, lines = table(rows)
    seeds = sorted({row["seed"] for row in rows})
    notes = [
        f"Seeds: {', '.join(map(str, seeds))}. 'dense' is the dense network, trained for as many steps as "
        "the others. The other networks: the difference to it, paired by seed, ± half the 95 % interval "
        "(Student).",
        "All are exported, reloaded and measured on held-out data.",
        "'built narrow' has a quarter of the MACs from the start, and the dense network as its teacher.",
        *(f"{key}: {value}" for key, value in surroundings.items()),
    ]
    text = _bench.table(header, lines, markdown=True)
    return f"# Applications\n\n{text}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _jobs(names: list[str], seeds: int) -> Iterator[tuple[str, int]]:
    """Yield (application, seed), all applications of a seed first."""
    for seed in range(seeds):
        for name in names:
            yield name, seed


def main() -> None:
    from keras_ganprune.applications import catalog

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=catalog.names(), default=catalog.names())
    parser.add_argument("--seeds", type=int, default=None, help="Defaults to 3, or 1 with --quick.")
    parser.add_argument("--quick", action="store_true", help="small data and networks, one seed")
    parser.add_argument("--table", action="store_true", help="train nothing, write the table")
    parser.add_argument(
        "--pages", action="store_true", help="renew the tables of README.md and docs/results.md"
    )
    parser.add_argument("--rows", type=pathlib.Path, help="file of JSON lines")
    options = parser.parse_args()
    name = "applications_quick" if options.quick else "applications"
    path = options.rows or RESULTS / f"{name}.jsonl"
    work = path.with_name(f"{path.stem}_unfinished")
    failed = []
    seeds = options.seeds or (1 if options.quick else 3)
    for application, seed in [] if options.table else _jobs(options.only, seeds):
        try:
            run(application, seed, options.quick, path, work)
        except Exception as error:  # the other applications go on
            failed.append(f"{application}, seed {seed}: {type(error).__name__}: {error}")
            print(failed[-1], file=sys.stderr, flush=True)
    page = _page(rows_of(path), _bench.environment())
    path.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)
    if options.pages:
        _write_pages(rows_of(path))
    if failed:
        sys.exit("\n".join(failed))
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
