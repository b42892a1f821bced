"""How the time of strip, shrink, save and load grows with the number of layers, as ratios in one run.

    python benchmarks/many_layers.py [--quick] [--json OUT] [--markdown] [--layers N ...]

Networks of Dense layers with 16 units, as a Sequential and as a functional model, half of their channels
pruned. Each call is timed for all numbers of layers in turns. The ratio is the time per layer over that of
the smallest network: 1 for work that grows with the layers, 10 for work that grows with their square from 50
to 500 layers. `keras.saving.load_model` is timed, too, on the same network without masks: it builds a
Sequential again for each layer that it adds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _bench
import keras

import keras_ganprune as kgp

SIZES = (50, 100, 200, 500)
ROUNDS = 3
UNITS = 16
#: Keras's own call on a Sequential takes minutes beyond this number.
LARGEST_OF_KERAS = 200

NOTES = (
    "ms a layer: median of the rounds, for the smallest network. The other columns are ms a layer over that.",
    "Keras's own `load_model` reads the same network without masks. A dash: not measured, it takes minutes.",
)


@dataclass(frozen=True)
class Result:
    """One row: a call on one kind of network.

    Attributes:
        network: 'Sequential' or 'functional'.
        call: Name of the call.
        seconds: Number of layers -> median seconds.
    """

    network: str
    call: str
    seconds: dict[int, float]


# --- networks and calls -----------------------------------------------------------------------------


def build(network: str, number: int) -> keras.Model:
    """Return a network with some layers."""
    layers = [keras.layers.Dense(UNITS, activation="relu") for _ in range(number)]
    if network == "Sequential":
        return keras.Sequential([keras.Input((UNITS,)), *layers])
    x = inputs = keras.Input((UNITS,))
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def pruned(network: str, number: int) -> keras.Model:
    """Return such a network with half of its channels pruned."""
    model = build(network, number)
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    return model


def calls(network: str, number: int, folder: Path) -> dict[str, Callable[[], Any]]:
    """Return the calls that are timed, by name."""
    model, plain = pruned(network, number), build(network, number)
    ours, keras_only = (
        folder / f"{network}_{number}.keras",
        folder / f"plain_{network}_{number}.keras",
    )
    model.save(ours)
    plain.save(keras_only)
    found: dict[str, Callable[[], Any]] = {
        "strip_pruning": lambda: kgp.strip_pruning(model),
        "shrink": lambda: kgp.shrink(model),
        "model.save": lambda: model.save(ours),
        "kgp.load_model": lambda: kgp.load_model(ours),
    }
    if network == "functional" or number <= LARGEST_OF_KERAS:
        found["keras.saving.load_model"] = lambda: keras.saving.load_model(keras_only)
    return found


# --- the measurement --------------------------------------------------------------------------------


def measure(network: str, sizes: tuple[int, ...], rounds: int, folder: Path) -> list[Result]:
    """Time all calls for all numbers of layers, in turns."""
    candidates = {number: calls(network, number, folder) for number in sizes}
    seconds: dict[str, dict[int, list[float]]] = {}
    for _ in range(rounds):
        for number in sizes:
            for name, call in candidates[number].items():
                begin = time.perf_counter()
                call()
                taken = seconds.setdefault(name, {}).setdefault(number, [])
                taken.append(time.perf_counter() - begin)
    return [
        Result(network, name, {number: statistics.median(taken) for number, taken in of.items()})
        for name, of in seconds.items()
    ]


def _row(result: Result, sizes: tuple[int, ...]) -> list[str]:
    each = {number: seconds / number for number, seconds in result.seconds.items()}
    least = each[sizes[0]]
    ratios = [f"{each[n] / least:.2f}" if n in each else "–" for n in sizes[1:]]
    return [result.network, f"`{result.call}`", f"{1e3 * least:.1f}", *ratios]


def main() -> None:
    """Measure both kinds of networks and print one table."""
    parser: argparse.ArgumentParser = _bench.parser(__doc__ or "")
    parser.add_argument("--layers", nargs="+", type=int, help="numbers of layers, from 1 on")
    options = parser.parse_args()
    if any(number < 1 for number in options.layers or ()):
        parser.error(f"--layers takes numbers from 1 on. Received: {options.layers}.")
    surroundings = _bench.environment()
    sizes = tuple(sorted(options.layers or (SIZES[:2] if options.quick else SIZES)))
    rounds = 1 if options.quick else ROUNDS
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        results = [
            result
            for network in ("Sequential", "functional")
            for result in measure(network, sizes, rounds, Path(folder))
        ]
    _bench.publish(
        f"Time per layer, over that of {sizes[0]} layers",
        ["network", "call", f"ms a layer at {sizes[0]}", *(f"{n} layers" for n in sizes[1:])],
        [_row(result, sizes) for result in results],
        NOTES,
        [asdict(result) for result in results],
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
