"""One mask update at 80 % sparsity: time against TFMOT, linearity and peak memory.

    python benchmarks/mask_update.py [--quick] [--json OUT] [--markdown] [--sizes N ...]

Ours is all of `Pruner.update(sparsity=0.8)` on the kernel of a Dense layer: the check for NaN, the
selection, the new mask, the zeroing of the weights and the report. TFMOT is only its mask computation
(`Pruning._update_mask`) on the same weights, eagerly and as a `tf.function`; the faster one counts.
Cases:

* first: normally distributed weights, nothing pruned yet;
* later: 70 % pruned already, as in the middle of a schedule;
* constant: every weight is equal, so that everything is a tie.

Memory is what the update adds to the resident set at its peak, in multiples of the weight tensor; the
weights and their mask are there before. Every size and case has a process of its own for time, and
another one, which runs only our update, for memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _bench
import keras
import numpy as np
import tensorflow as tf

import keras_ganprune as kgp

SPARSITY = 0.8
EARLIER = 0.7  # what is pruned before the update, in the case 'later'
CASES = ("first", "later", "constant")
SIZES = (1_000_000, 10_000_000, 100_000_000)
COLUMNS = 1000
SEED = 7
#: Beyond this size TFMOT takes half a minute a run: it runs once, and is not warmed up.
LARGE = 10_000_000

NOTES = (
    "ours: all of `Pruner.update`. TFMOT: its mask computation alone, the faster of eager and "
    "`tf.function` (named), neither counting the assignment nor the masking; this favours TFMOT. "
    "Times are medians (minimum) of runs in turns; beyond 10 M TFMOT runs once in each mode. Targets: "
    "10 M at least 4x as fast, ns a weight about the same from 1 M to 100 M.",
    "peak: growth of the resident set during one update, as a multiple of the weight tensor, target at "
    "most 3; 'with weight and mask' adds those two (1.25). It is the kernel's high-water mark "
    "(/proc/self/status VmHWM, reset before the update through /proc/self/clear_refs; where that is not "
    "possible ru_maxrss, which also counts earlier peaks), so it includes TensorFlow's memory as "
    "well as NumPy's. At 1 M (4 MB) the allocator's own reserves blur it.",
)


@dataclass(frozen=True)
class Result:
    """The measurements behind one row."""

    size: int
    case: str
    ours_s: float
    ours_min_s: float
    tfmot_s: float
    tfmot_min_s: float
    tfmot_mode: str
    speedup: float
    ns_per_weight: float
    peak: float
    peak_method: str
    runs: int


# --- the two updates --------------------------------------------------------------------------------


class Ours:
    """Our whole update, which can be put back to where it started."""

    def __init__(self, size: int, case: str):
        layer = keras.layers.Dense(COLUMNS, use_bias=False, kernel_initializer="zeros")
        layer.build((None, size // COLUMNS))
        self.kernel = layer.kernel
        self.kernel.assign(_values(size, case))
        self.pruner = kgp.Pruner(layer)
        if case == "later":
            self.pruner.update(sparsity=EARLIER)
        self.mask = self.pruner.weights[0].mask

    def remember(self) -> None:
        """Keep the state that `restore` returns to."""
        self.before = np.array(self.kernel), np.array(self.mask)

    def restore(self) -> None:
        """Undo the update."""
        self.kernel.assign(self.before[0])
        self.mask.assign(self.before[1])

    def update(self) -> None:
        """The update that is measured."""
        report = self.pruner.update(sparsity=SPARSITY)
        wanted = round(report.total * (1 - SPARSITY))
        if report.kept != wanted:
            raise RuntimeError(f"{report.kept} weights were kept, not {wanted}.")


def _values(size: int, case: str) -> np.ndarray:
    shape = (size // COLUMNS, COLUMNS)
    if case == "constant":
        return np.full(shape, 0.5, dtype=np.float32)
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)


def _tfmot_mask(weights: tf.Tensor) -> Callable[[], Any]:
    """Return a function that computes TFMOT's mask for `weights` and waits for it."""
    from tensorflow_model_optimization.python.core.sparsity.keras import (
        pruning_impl,
        pruning_schedule,
    )

    pruning = pruning_impl.Pruning(
        training_step_fn=lambda: tf.constant(1, tf.int64),
        pruning_vars=[],
        pruning_schedule=pruning_schedule.ConstantSparsity(SPARSITY, 0),
        block_size=(1, 1),
        block_pooling_type="AVG",
    )
    return lambda: pruning._update_mask(weights)


# --- children: one measurement, printed as JSON -----------------------------------------------------


def time_updates(size: int, case: str, runs: int) -> dict[str, list[float]]:
    """Return seconds of each run of our update, of TFMOT's eager one and of its `tf.function`."""
    ours = Ours(size, case)
    ours.remember()
    eager = _tfmot_mask(tf.constant(ours.before[0]))
    graph = tf.function(eager)
    candidates = {"ours": ours.update, "eager": eager, "tf.function": graph}
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    if size <= LARGE:
        for tfmot in (eager, graph):
            tfmot()
    ours.update()  # warm-up
    for index in range(runs):
        ours.restore()
        for name, update in candidates.items():
            if name == "ours" or size <= LARGE or index == 0:
                seconds[name].append(_seconds(update))
    return seconds


def _seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def measure_memory(size: int, case: str) -> dict[str, Any]:
    """Return how far one update of ours raises the resident set, in bytes."""
    Ours(COLUMNS * 10, case).update()  # libraries and thread pools are loaded before
    ours = Ours(size, case)
    gc.collect()
    before = _resident()
    if _reset_peak():
        ours.update()
        return {"bytes": _status("VmHWM") - before, "method": "VmHWM"}
    ours.update()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"bytes": peak - before, "method": "ru_maxrss"}


def _resident() -> int:
    return _status("VmRSS")


def _status(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}.")


def _reset_peak() -> bool:
    """Set the high-water mark of the resident set back to what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _status("VmHWM") < _resident() * 1.01 + 2**20


# --- the parent -------------------------------------------------------------------------------------


def _child(*arguments: Any) -> dict[str, Any]:
    """Run this script for one measurement in a process of its own."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(size: int, case: str, quick: bool) -> Result:
    """Measure one size and case in two processes of their own."""
    runs = 2 if quick else {1_000_000: 25, 10_000_000: 9}.get(size, 3)
    seconds = _child("time", size, case, runs)
    memory = _child("memory", size, case, 1)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    mode = min(("eager", "tf.function"), key=medians.__getitem__)
    return Result(
        size,
        case,
        medians["ours"],
        min(seconds["ours"]),
        medians[mode],
        min(seconds[mode]),
        mode,
        medians[mode] / medians["ours"],
        1e9 * medians["ours"] / size,
        memory["bytes"] / (4 * size),
        memory["method"],
        runs,
    )


def _row(result: Result) -> list[str]:
    return [
        f"{result.size / 1e6:g} M",
        result.case,
        f"{1e3 * result.ours_s:.1f} ({1e3 * result.ours_min_s:.1f})",
        f"{1e3 * result.tfmot_s:.1f} ({1e3 * result.tfmot_min_s:.1f})",
        result.tfmot_mode,
        f"{result.speedup:.1f}x",
        f"{result.ns_per_weight:.1f}",
        f"{result.peak:.2f}",
        f"{result.peak + 1.25:.2f}",
    ]


def main() -> None:
    """Measure all sizes and cases and print one table."""
    parser = _bench.parser(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, help="weights, multiples of 1000")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, size, case, runs = options.child
        arguments = (int(size), case, int(runs)) if kind == "time" else (int(size), case)
        print(json.dumps((time_updates if kind == "time" else measure_memory)(*arguments)))
        return
    if any(size < COLUMNS or size % COLUMNS for size in options.sizes or ()):
        parser.error(f"--sizes takes multiples of {COLUMNS}. Received: {options.sizes}.")
    surroundings = _bench.environment()
    sizes = options.sizes or (SIZES[:2] if options.quick else SIZES)
    results = [measure(size, case, options.quick) for size in sizes for case in CASES]
    _bench.publish(
        "One mask update at 80 %",
        [
            "weights",
            "case",
            "ours ms (min)",
            "TFMOT ms (min)",
            "TFMOT as",
            "faster by",
            "ns a weight",
            "peak",
            "with weight and mask",
        ],
        [_row(result) for result in results],
        NOTES,
        [asdict(result) for result in results],
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
