"""Whether budgets in latency are met, on a second measurement that knows nothing of the first.

    python benchmarks/latency_budget.py [--quick] [--markdown OUT] [--only NAME ...]

A DCGAN generator (64x64), a multilayer perceptron and a residual classifier are cut by
`shrink(budget=Budget(latency=..., runtime=...))` in ONNX Runtime and LiteRT. Then `export` writes the dense
and the smaller network, and a new process loads both files four times and runs them in random turns, with
one thread, for one sample:

* second: median of time / time of the dense network, without the time that other programs take (the smaller
  one of wall and CPU time). The budget is met if it is within 10 % of the request;
* wall: the same of wall times, which other programs on the machine disturb;
* MACs: the share of the MACs that this took, which a budget in MACs would have had to guess.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import _bench

RUNTIMES = {"onnx": ".onnx", "litert": ".tflite"}
BUDGETS = (0.5, 0.25)
TOLERANCE = 0.1


def networks() -> dict[str, Any]:
    """Return name -> function that builds a network."""
    import keras

    from keras_ganprune.applications.residual_classifier import residual_classifier

    layers = keras.layers

    def generator() -> keras.Model:
        stack = [keras.Input((100,)), layers.Dense(4 * 4 * 256), layers.Reshape((4, 4, 256))]
        for width in (128, 64, 32):
            stack += [layers.BatchNormalization(), layers.ReLU()]
            stack += [layers.Conv2DTranspose(width, 4, strides=2, padding="same")]
        stack += [layers.BatchNormalization(), layers.ReLU()]
        stack += [layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh")]
        return keras.Sequential(stack)

    def perceptron(inputs: int, *widths: int) -> keras.Model:
        hidden = [layers.Dense(width, "relu") for width in widths]
        return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(10)])

    return {
        "DCGAN generator 64x64": generator,
        "MLP": lambda: perceptron(256, 384, 384, 256),
        # 8 MB of weights, each used once: the time is that of reading them, and falls at once where a cut
        # network fits into the cache.
        "MLP beyond the cache": lambda: perceptron(784, 1024, 1024, 512),
        "residual classifier": lambda: residual_classifier((32, 32, 3), 10, width=2.0),
    }


def cut(name: str, runtime: str, share: float) -> dict[str, Any]:
    """Return the row of one network, one runtime and one budget."""
    import keras

    import keras_ganprune as kgp
    from keras_ganprune.pruning.shrink_model import shrink_with_cuts

    keras.utils.set_random_seed(0)
    dense = networks()[name]()
    budget = kgp.Budget(latency=share, runtime=runtime)
    begin = time.perf_counter()
    try:
        shrunk = shrink_with_cuts(dense, budget=budget)
    except kgp.PruningError as error:  # the floor is above the budget
        floor = re.search(r"a budget above ([0-9.]+[0-9])", str(error))
        if floor is None:
            raise
        return {"network": name, "runtime": runtime, "requested": share, "floor": floor[1]}
    seconds = time.perf_counter() - begin
    first = shrunk.latency
    assert first is not None  # noqa: S101  (of a latency there is one)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on widths
        paths = []
        for title, network in (("dense", dense), ("small", shrunk.model)):
            report = kgp.export(network, f"{folder}/{title}", runtime, latency=False)
            paths.append(str(report.path))
        second = json.loads(
            subprocess.run(
                [sys.executable, __file__, "--second", *paths],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": str(_bench.ROOT)},
            ).stdout.splitlines()[-1]
        )
    widths = [int(keep.sum()) for keep in shrunk.keeps]
    return {
        "network": name,
        "runtime": runtime,
        "requested": share,
        "first": first.share,
        "macs": first.macs,
        "seconds": seconds,
        "widths": "-".join(map(str, widths)),
        **second,
    }


def second(dense: str, small: str) -> dict[str, float]:
    """Return the times of two files, in this process."""
    import numpy as np

    from keras_ganprune.exporters.opened_file import OpenedFile
    from keras_ganprune.utils.turns import in_turns

    walls, cpus = [], []
    for load in range(4):
        runs = [OpenedFile.at(Path(path), threads=1).call(1, seed=1) for path in (dense, small)]
        found = in_turns(runs, load + 10, 1.0, 100)
        walls.append(found[0])
        cpus.append(found[1])
    wall, cpu = np.concatenate(walls, axis=1), np.concatenate(cpus, axis=1)
    times = np.minimum(wall, cpu)
    ratios = times[1] / times[0]
    low, high = np.percentile(ratios, (25, 75))
    return {
        "second": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
        "wall": float(np.median(wall[1] / wall[0])),
        "dense_ms": float(np.median(times[0]) * 1e3),
        "small_ms": float(np.median(times[1]) * 1e3),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| network | runtime | requested | first measurement | second [quartiles] | wall | met within 10 % "
        "| dense ms | after ms | MACs | widths | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "floor" in row:
            lines.append(
                f"| {row['network']} | {row['runtime']} | {row['requested']:g} "
                f"| refused: the floor is {row['floor']} {'| ' * 9}|"
            )
            continue
        met = abs(row["second"] / row["requested"] - 1.0) <= TOLERANCE
        lines.append(
            f"| {row['network']} | {row['runtime']} | {row['requested']:g} | {row['first']:.3f} "
            f"| {row['second']:.3f} [{row['low']:.3f}, {row['high']:.3f}] | {row['wall']:.3f} "
            f"| {'yes' if met else 'NO'} | {row['dense_ms']:.3g} | {row['small_ms']:.3g} "
            f"| {row['macs']:.3f} | {row['widths']} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="One budget only.")
    parser.add_argument("--only", nargs="*", default=None, help="Networks. Defaults to all.")
    parser.add_argument("--markdown", default=None, help="File to write. Defaults to none.")
    parser.add_argument("--second", nargs=2, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.second:
        print(json.dumps(second(*arguments.second)))
        return
    rows = []
    for name in arguments.only or networks():
        for runtime in RUNTIMES:
            for share in BUDGETS[:1] if arguments.quick else BUDGETS:
                rows.append(cut(name, runtime, share))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
                if arguments.markdown:
                    text = f"## Budgets in latency: are they met?\n\n{table(rows)}\n"
                    Path(arguments.markdown).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
