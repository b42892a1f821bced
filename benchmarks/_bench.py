"""What the benchmark scripts share: interleaved timing, ratios, the environment, tables.

Nothing here asserts a timing: a benchmark reports ratios, and a person decides.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the checkout that the script stands in, installed or not
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "tf_keras",
    "tensorflow-model-optimization",
    "jax",
    "torch",
)


# --- timing ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ratio:
    """How many times as long one candidate takes as another, over many paired measurements."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    of_minima: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interleave(
    candidates: Mapping[str, Callable[[int], Any]], rounds: int, steps: int
) -> dict[str, list[float]]:
    """Time the candidates in turns; return seconds a step, one entry for each round.

    A round runs one block of `steps` steps of every candidate, one block after the other, so that a
    busy neighbour or a change of clock speed hits all of them alike. Each round starts with another
    candidate, so that none always runs behind the same one.

    Args:
        candidates: name -> function that runs a number of steps and returns when they are done.
        rounds: Positive int.
        steps: Positive int, steps a block.
    """
    names = list(candidates)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        start = index % len(names)
        for name in names[start:] + names[:start]:
            begin = time.perf_counter()
            candidates[name](steps)
            seconds[name].append((time.perf_counter() - begin) / steps)
    return seconds


def ratio(over: Sequence[float], under: Sequence[float], group: int = 1) -> Ratio:
    """Return the ratio of two interleaved series, paired by round.

    Args:
        over, under: Seconds a step, as `interleave` returns them.
        group: Positive int, rounds that are averaged before they are compared. For a candidate
            whose steps do not all cost the same, a group is one full cycle of them.
    """
    top, bottom = _averages(over, group), _averages(under, group)
    pairs = sorted(a / b for a, b in zip(top, bottom, strict=True))
    low, middle, high = _quartiles(pairs)
    return Ratio(middle, low, high, min(top) / min(bottom))


def _averages(values: Sequence[float], group: int) -> list[float]:
    whole = len(values) - len(values) % group
    return [statistics.fmean(values[i : i + group]) for i in range(0, whole, group)]


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


# --- environment -----------------------------------------------------------------------------------


def environment() -> dict[str, Any]:
    """Return the hardware, versions and thread settings that the numbers belong to."""
    import keras

    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "load_average_at_start": _load_average(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        **_BACKENDS[keras.backend.backend()](),
        "thread_environment": {
            key: os.environ[key]
            for key in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
            if key in os.environ
        },
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "commit": _commit(),
    }


def _tensorflow() -> dict[str, Any]:
    import tensorflow as tf

    return {
        "devices": [device.device_type for device in tf.config.list_physical_devices()],
        "tf_threads_intra_inter": [
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
        ],
    }


def _jax() -> dict[str, Any]:
    import jax

    return {"devices": [device.device_kind for device in jax.devices()]}


def _torch() -> dict[str, Any]:
    import torch

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"devices": cuda or ["CPU"], "torch_threads": torch.get_num_threads()}


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    return named.get("model name", platform.machine())


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _load_average() -> list[float] | None:
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# --- output ----------------------------------------------------------------------------------------


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="few rounds; to see that it works")
    made.add_argument("--json", metavar="OUT", type=Path, help="also write everything to this file")
    made.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return made


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], markdown: bool) -> str:
    """Return rows as aligned text or as a Markdown table."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    edge, gap = ("| ", " | ") if markdown else ("", "  ")
    lines = [
        (
            edge + gap.join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + edge[::-1]
        ).rstrip()
        for row in cells
    ]
    rule = gap.replace(" ", "-") if markdown else gap
    lines.insert(
        1, edge.replace(" ", "-") + rule.join("-" * w for w in widths) + edge[::-1].strip()
    )
    if markdown:
        lines[1] = lines[1][:-1] + "-|"
    return "\n".join(lines)


def publish(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    notes: Sequence[str],
    results: Sequence[Any],
    surroundings: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    """Print the table, what it means and where it was measured; write the JSON file if asked."""
    print(f"{'## ' if options.markdown else ''}{title}\n")
    print(table(header, rows, options.markdown))
    bullet = "- " if options.markdown else "* "
    print("\n" + "\n".join(bullet + note for note in notes) + "\n")
    for key, value in surroundings.items():
        print(f"{bullet if options.markdown else ''}{key}: {value}")
    if options.json:
        document = {
            "title": title,
            "environment": surroundings,
            "notes": list(notes),
            "results": [r if isinstance(r, dict) else asdict(r) for r in results],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
