"""How good pruned GANs are: every way to make a generator small, against dense, on real images.

    python benchmarks/quality.py                       # MNIST, then `quality_table.py` for the table
    python benchmarks/quality.py --data digits
    python benchmarks/quality.py --data elpv64 --rows "dense;structured 1/4 of the MACs, distilled"
    python benchmarks/quality.py --rows first --seeds 3

All variants of a seed branch from that seed's common dense phase and train as many steps as the dense run
to the end; the last weights count, and the exported and reloaded generator is evaluated. Each finished
run is appended to the CSV file at once: killed and started again, the command trains the missing runs.

Each row is a command of its own if `--rows` names it, so a long table is made piece by piece. A dense row of
4,000 steps takes this long on one core of an AMD EPYC (no AVX-512): MNIST 7 minutes, elpv64 12, photos32 10,
photos32_sngan 23, elpv64_sngan 36; other rows about as long, structured ones less. The two judges of a data
set are trained once, in minutes, and cached.

`--workers` trains several runs at a time: 1 on two cores; on a GPU about one a core, with
KERAS_BACKEND=jax, STEPS_AT_ONCE=40 and NVIDIA's MPS running, since a small GAN leaves most of it idle.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import multiprocessing
import os
import pathlib
import sys
import time
import traceback
import zlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any

import _bench
from _gan_recipes import LATER_FIELDS, Recipe, Variant
from _gan_runs import dense_phase, kept, prepare_process, run, run_floor

from keras_ganprune import PerLayer

FIELDS = (
    *("data", "variant", "seed", "steps", "recipe", "fd", "kd", "kd_error", "precision", "recall"),
    *("density", "coverage", "class_kl", "missing_classes", "sparsity", "parameters", "nonzero"),
    *("macs", "artefact", "samples", "real_samples", "extractor_accuracy"),
    *("seconds", "backend", "device", "keras", "commit", "fd_second"),
)
# Files that were begun before the second judge have no column for it.
FIELDS_BEFORE = FIELDS[:-1]

# The harder sets have widths at which a row takes about half an hour of one CPU core at most.
_CELLS = Recipe(
    data="elpv-64",
    channels=16,
    network="deep_dcgan",
    translation=0.125,
    brightness=0.2,
    rate=5e-4,
    samples=5_000,
)
_PHOTOS = Recipe(data="photos-32", network="deep_dcgan", translation=0.125, rate=5e-4)
# Hinge loss and spectral norm; the discriminator learns faster, in place of its more frequent steps.
_RESIDUAL = {
    **{"network": "sngan", "loss": "hinge", "rate": 2e-4, "discriminator_rate": 5e-4},
    **{"beta_1": 0.0, "beta_2": 0.9},
}

RECIPES = {
    "mnist": Recipe(translation=0.125, brightness=0.2),
    "digits": Recipe(data="digits", network="mlp", latent_dim=32, rate=5e-4, steps=2000),
    "elpv64": _CELLS,
    "elpv64_types": dataclasses.replace(_CELLS, conditional=True),
    "elpv64_sngan": dataclasses.replace(_CELLS, channels=8, **_RESIDUAL),
    "elpv64_sngan_types": dataclasses.replace(_CELLS, channels=8, conditional=True, **_RESIDUAL),
    "photos32": _PHOTOS,
    "photos32_sngan": dataclasses.replace(_PHOTOS, channels=16, **_RESIDUAL),
}

_GLOBAL = {"allocation": "global_ranking"}
_TAUGHT = {"distillation": {"output": 20.0}}


# The last kernel, small in the DCGAN, stays whole; the total is met by the others.
_SPARED = PerLayer({"re:(conv2d_transpose_1|dense_3)$": 0.0})


def _pruned(criterion: str, sparsity: float, **more: Any) -> Variant:
    name = f"{criterion} {sparsity:.0%}" + (", distilled" if "distillation" in more else "")
    settings = {"allocation": "global_ranking", "criterion": criterion}
    return Variant(name, sparsity, prune=settings, **more)


def _regularized(name: str, macs: str, **settings: Any) -> Variant:
    share = {"1/4": 0.25, "1/8": 0.125}[macs]
    shrink = {"criterion": "l2"} if name == "GroupLasso" else {}
    label = {"GroupLasso": "group lasso", "GrowingL2": "growing L2"}[name]
    return Variant(
        f"{label}, {macs} of the MACs",
        macs=share,
        cut_at=0.4,
        regularizers=((name, settings),),
        shrink=shrink,
    )


def _double_width_pruned(criterion: str, **more: Any) -> Variant:
    name = f"double width, {criterion} to the weights of dense" + (", distilled" if more else "")
    settings = {"allocation": "global_ranking", "criterion": criterion}
    return Variant(name, base=2.0, like_dense="weights", prune=settings, **more)


def _channels(criterion: str, share: float, **more: Any) -> Variant:
    """Return a row whose channels are masked by a schedule and removed at its end."""
    name = f"structured 1/{1 / share:.0f} of the MACs by {criterion}" + (
        ", distilled" if more else ""
    )
    settings = {"criterion": criterion, "granularity": "channel"}
    return Variant(name, masked=share, prune=settings, **more)


def _cut(name: str, share: float, **shrink: Any) -> Variant:
    """Return a row with a teacher whose channels `Shrink` chooses or refines in another way."""
    label = f"structured 1/{1 / share:.0f} of the MACs, distilled, {name}"
    return Variant(label, macs=share, shrink=shrink, **_TAUGHT)


# In order of importance: where time is short, the first ones are there.
VARIANTS = (
    Variant("dense"),
    _pruned("taylor", 0.8, **_TAUGHT),
    _pruned("taylor", 0.9, **_TAUGHT),
    _pruned("taylor", 0.95, **_TAUGHT),
    Variant("structured 1/4 of the MACs, distilled", macs=0.25, **_TAUGHT),
    Variant("structured 1/4 of the MACs", macs=0.25),
    _pruned("magnitude", 0.8),
    _pruned("magnitude", 0.9),
    _pruned("magnitude", 0.95),
    Variant("half width", width=0.5),
    Variant("quarter width", width=0.25),
    Variant("half width, distilled", width=0.5, **_TAUGHT),
    Variant("quarter width, distilled", width=0.25, **_TAUGHT),
    Variant("random 80%", 0.8, prune={"criterion": "random"}),
    _pruned("magnitude", 0.8, **_TAUGHT),
    _pruned("magnitude", 0.9, **_TAUGHT),
    _pruned("magnitude", 0.95, **_TAUGHT),
    _pruned("taylor", 0.9),
    Variant("uniform magnitude 80%", 0.8),
    Variant("uniform magnitude 90%", 0.9),
    _pruned("discriminator_saliency", 0.9),
    Variant("RigL 90%", 0.9, prune={"mode": "rigl", "allocation": _SPARED}),
    Variant("lottery rewind 80%", 0.8, prune=_GLOBAL, schedule="rewind"),
    Variant("both networks 80%", 0.8, prune=_GLOBAL, targets=("generator", "discriminator")),
    Variant("structured 1/2 of the MACs", macs=0.5),
    Variant("structured 1/8 of the MACs", macs=0.125),
    _regularized("GrowingL2", "1/4", delta=1.0),
    _regularized("GrowingL2", "1/8", delta=1.0),
    _regularized("GroupLasso", "1/4", strength=0.05),
    _regularized("GroupLasso", "1/8", strength=0.05),
    _pruned("magnitude", 0.5),
    _pruned("magnitude", 0.7),
    Variant("random 90%", 0.9, prune={"criterion": "random"}),
    Variant("untrained"),
    Variant("real images"),
    Variant("structured 1/12 of the MACs, distilled", macs=1 / 12, **_TAUGHT),
    Variant("narrow, 1/12 of the MACs, distilled", narrow=1 / 12, **_TAUGHT),
    Variant("structured 1/8 of the MACs, distilled", macs=1 / 8, **_TAUGHT),
    Variant("narrow, 1/8 of the MACs, distilled", narrow=1 / 8, **_TAUGHT),
    Variant("structured 1/16 of the MACs, distilled", macs=1 / 16, **_TAUGHT),
    Variant("narrow, 1/16 of the MACs, distilled", narrow=1 / 16, **_TAUGHT),
    Variant("double width", base=2.0),
    Variant("double width cut to the MACs of dense", base=2.0, like_dense="macs"),
    _double_width_pruned("taylor"),
    Variant(
        "double width cut to the MACs of dense, distilled", base=2.0, like_dense="macs", **_TAUGHT
    ),
    _double_width_pruned("taylor", **_TAUGHT),
    Variant("structured 1/4 of the MACs in 4 cuts, distilled", macs=0.25, cuts=4, **_TAUGHT),
    Variant("structured 1/4 of the MACs in 4 cuts", macs=0.25, cuts=4),
    Variant("structured 1/12 of the MACs in 4 cuts, distilled", macs=1 / 12, cuts=4, **_TAUGHT),
    _channels("taylor", 1 / 4, **_TAUGHT),
    _channels("taylor", 1 / 8, **_TAUGHT),
    _pruned("magnitude", 0.5, **_TAUGHT),
    _cut("singular values", 1 / 12, refine="singular_values"),
    _cut("latent sensitivity", 1 / 12, criterion="latent_sensitivity"),
    _cut("wanda", 1 / 12, criterion="wanda"),
    _cut("global ranking", 1 / 12, criterion="l2", allocation="global_ranking"),
)
FIRST = 14


def _work(kind: str, name: str, recipe: Recipe, variant: Variant | None, seed: int, folder: str):
    """Do one job in a process of its own; return the row, {} for a dense phase, or what went wrong."""
    prepare_process()
    try:
        if kind == "phase":
            dense_phase(recipe, seed, pathlib.Path(folder), variant.base)
            return {}
        if variant.label == "real images":
            row = run_floor(recipe)
        else:
            row = run(recipe, variant, seed, pathlib.Path(folder))
        return {"data": name, "recipe": _mark(recipe), **row, **_machine()}
    except Exception:
        return {"error": traceback.format_exc()}


def _machine() -> dict[str, str]:
    import keras

    found = _bench.environment()
    devices = found["devices"]
    gpu = [x for x in devices if "cpu" not in x.lower()]
    return {
        "backend": keras.backend.backend(),
        "device": gpu[0] if gpu else f"{found['cores']} cores {found['cpu']}",
        "keras": found["keras"],
        "commit": found["commit"],
    }


def _mark(recipe: Recipe) -> str:
    """Return what tells recipes apart."""
    defaults = {f.name: f.default for f in dataclasses.fields(recipe) if f.name in LATER_FIELDS}
    told = {
        k: v
        for k, v in dataclasses.asdict(recipe).items()
        if v != defaults.get(k, dataclasses.MISSING)
    }
    text = json.dumps(told, sort_keys=True)
    return f"{zlib.crc32(text.encode()):08x}"


def finished(path: pathlib.Path, name: str, recipe: Recipe) -> set[tuple[str, int]]:
    """Return the (variant, seed) pairs that a CSV file has.

    Raises:
        SystemExit: it has rows of another recipe, or other columns.
    """
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) not in (FIELDS, FIELDS_BEFORE):
            sys.exit(f"{path} has other columns. Move it away, or name another file with --csv.")
        rows = [row for row in reader if row["data"] == name]
    others = {row["recipe"] for row in rows} - {_mark(recipe)}
    if others:
        sys.exit(
            f"{path} has runs of another recipe ({', '.join(sorted(others))}, not {_mark(recipe)}): they "
            "are not comparable. Move it away, or name another file with --csv."
        )
    return {(row["variant"], int(row["seed"])) for row in rows}


def _append(path: pathlib.Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = FIELDS
    if not new:
        with path.open(newline="") as file:
            fields = next(csv.reader(file))
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields, extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        file.flush()
        os.fsync(file.fileno())


def _jobs(variants, seeds: int, done: set) -> Iterator[tuple[Variant, int]]:
    for variant in variants:
        for seed in range(1 if variant.label == "real images" else seeds):
            if (variant.label, seed) not in done:
                yield variant, seed


def main() -> None:
    arguments = _arguments()
    name, recipe = arguments.data, RECIPES[arguments.data]
    if arguments.steps:
        recipe = dataclasses.replace(recipe, steps=arguments.steps)
    if arguments.samples:
        recipe = dataclasses.replace(recipe, samples=arguments.samples)
    variants = {"all": VARIANTS, "first": VARIANTS[:FIRST]}.get(arguments.rows)
    if variants is None:
        wanted = [x.strip() for x in arguments.rows.split(";")]
        known = {variant.label: variant for variant in VARIANTS}
        if set(wanted) - set(known):
            sys.exit(f"Unknown rows {sorted(set(wanted) - set(known))}. Known: {'; '.join(known)}.")
        variants = [known[x] for x in wanted]
    done = finished(arguments.csv, name, recipe)
    jobs = list(_jobs(variants, arguments.seeds, done))
    folder = arguments.work / f"{name}_{_mark(recipe)}"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(done)} runs are done, {len(jobs)} to go; {recipe}", flush=True)
    _run_all(jobs, done, name, recipe, folder, arguments)


def _run_all(jobs, done, name, recipe, folder: pathlib.Path, arguments) -> None:
    """Run the jobs, each as soon as what it branches from, and its teacher, are there."""
    started = time.perf_counter()
    pool = ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn"))
    pending: dict[Any, tuple] = {}
    waiting = {seed: [v for v, s in jobs if s == seed] for seed in {s for _, s in jobs}}

    def submit(kind, variant, seed):
        job = pool.submit(_work, kind, name, recipe, variant, seed, str(folder))
        pending[job] = (kind, variant, seed)

    def ready(seed) -> None:
        """Submit what can run now."""
        later = []
        for variant in waiting[seed]:
            free = variant.from_scratch or variant.label in ("untrained", "real images")
            phase = kept(folder, seed, variant.base, "phase").exists()
            dense = kept(folder, seed, variant.base, "dense").exists()
            if (free or phase) and (dense or variant.distillation is None):
                submit("run", variant, seed)
            else:
                later.append(variant)
        waiting[seed] = later

    # One seed after the other, so that rows are paired whenever time is over.
    for seed in sorted(waiting):
        for first in (variant for variant in VARIANTS if variant.is_dense):
            mine = [variant for variant in waiting[seed] if variant.base == first.base]
            if mine and not kept(folder, seed, first.base, "phase").exists():
                submit("phase", first, seed)
            taught = any(variant.distillation for variant in mine)
            dense = kept(folder, seed, first.base, "dense").exists()
            if taught and not dense and first not in mine:
                # The teacher's weights are needed, whoever has its row.
                waiting[seed].insert(0, first)
        ready(seed)
    while pending:
        left = None if arguments.limit is None else arguments.limit - time.perf_counter() + started
        if left is not None and left <= 0:
            print(f"The time is over; {len(pending)} runs were not finished.", flush=True)
            for process in pool._processes.values():
                process.kill()
            os._exit(3)
        finished_jobs, _ = wait(pending, timeout=left, return_when=FIRST_COMPLETED)
        for job in finished_jobs:
            kind, variant, seed = pending.pop(job)
            row = job.result()
            label = variant.label if kind == "run" else f"the dense phase of width {variant.base:g}"
            if "error" in row:
                print(f"FAILED {label}, seed {seed}:\n{row['error']}", file=sys.stderr, flush=True)
                continue
            if kind == "run" and (label, seed) not in done:
                _append(arguments.csv, row)
                done.add((label, seed))
                print(
                    f"{time.perf_counter() - started:7.0f} s  {label}, seed {seed}: fd {row['fd']:.2f}, "
                    f"coverage {row['coverage']:.3f}",
                    flush=True,
                )
            ready(seed)
    pool.shutdown()


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=sorted(RECIPES), default="mnist")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", default="all", help="all, first, or labels with ; between them")
    parser.add_argument("--steps", type=int, default=None, help="another length, for a short try")
    parser.add_argument("--samples", type=int, default=None, help="images that are judged")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--csv", type=pathlib.Path, default=None, help="file that rows go to")
    parser.add_argument(
        "--work", type=pathlib.Path, default=_bench.ROOT / "runs", help="folder of what runs share"
    )
    parser.add_argument("--limit", type=float, default=None, help="seconds after which to stop")
    arguments = parser.parse_args()
    if arguments.csv is None:
        arguments.csv = _bench.ROOT / "benchmarks" / "results" / f"quality_{arguments.data}.csv"
    return arguments


if __name__ == "__main__":
    main()
