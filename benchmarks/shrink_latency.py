"""How fast and how small a shrunk generator is, as ratios within one run.

    python benchmarks/shrink_latency.py [--quick] [--json OUT] [--markdown] [--only NAME ...] [--rounds N]

DCGAN generators, cut to a quarter and to a sixteenth of their multiply-accumulates (MACs) by `shrink`.
All are exported by `export_saved_model`, loaded by TensorFlow alone and called through `serve`, in turns:

* shrunk against built narrow: the same layers made by hand with exactly the widths that `shrink` left,
  and random weights of their own. A shrunk network should be no slower than that;
* dense against shrunk: what there is to gain;
* dense against masked: the same channels masked (`Pruner`, granularity 'channel') but not cut out. A zero
  is multiplied like any other number, so nothing is to be gained;
* dense against a network with one channel in each layer: what no cut can exceed;
* two copies of one SavedModel: how far from 1 noise alone goes.

What is cut out is checked to be what is masked, and the narrow network to have the shapes of the shrunk.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _bench
import keras
import numpy as np
import tensorflow as tf

import keras_ganprune as kgp
from keras_ganprune.applications import networks

SEED = 7
BUDGETS = {"1/4": 1 / 4, "1/16": 1 / 16}
SPEEDUPS = {"1/4": 2.0, "1/16": 4.0}  # that are aimed at, at a batch of 16
#: Batch size -> calls in a block.
BATCHES = {1: 10, 16: 5}
ROUNDS = 200


# --- networks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A DCGAN generator: Dense to `base` x `base`, then a transposed convolution for each width.

    Attributes:
        base: Pixels along a side after the dense layer; each later layer doubles them.
        depth: Channels of an image.
        widths: Channels of the hidden layers, from the dense one on.
    """

    name: str
    base: int
    depth: int
    widths: tuple[int, ...]
    kernel: int
    latent: int

    def build(self, widths: Sequence[int]) -> keras.Model:
        """Return the generator with some widths, freshly made."""
        layers = keras.layers
        first, *others = widths
        upsample = {"strides": 2, "padding": "same"}
        stack = [
            keras.Input((self.latent,)),
            layers.Dense(self.base * self.base * first, use_bias=False),
            layers.Reshape((self.base, self.base, first)),
            layers.BatchNormalization(),
            layers.ReLU(),
        ]
        for width in others:
            stack += [
                layers.Conv2DTranspose(width, self.kernel, use_bias=False, **upsample),
                layers.BatchNormalization(),
                layers.ReLU(),
            ]
        last = layers.Conv2DTranspose(self.depth, self.kernel, activation="tanh", **upsample)
        return keras.Sequential([*stack, last])

    def dense(self) -> keras.Model:
        return self.build(self.widths)


class _Demo(Setting):
    """The generator of the demo, as it makes it."""

    def dense(self) -> keras.Model:
        return networks.dcgan((28, 28, 1), channels=64)[0]


SETTINGS = (
    Setting("DCGAN 64x64x3", 4, 3, (512, 256, 128, 64), 4, 100),
    _Demo("demo 28x28x1", 7, 1, (128, 64), 5, 64),
)


def widths_of(model: keras.Model) -> tuple[int, ...]:
    """Return the channels of the hidden layers: each has a batch normalisation."""
    kind = keras.layers.BatchNormalization
    return tuple(int(layer.gamma.shape[0]) for layer in model.layers if isinstance(layer, kind))


def shapes_of(model: keras.Model) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in model.weights]


def masked(setting: Setting, dense: keras.Model, small: keras.Model) -> keras.Model:
    """Return a copy of a generator in which what a smaller one lacks is masked."""
    model = keras.models.clone_model(dense)
    model.set_weights(dense.get_weights())
    pairs = zip(setting.widths, widths_of(small), strict=True)
    pruner = kgp.Pruner(model, granularity="channel")
    pruner.update(sparsity=[1.0 - left / full for full, left in pairs])
    z = np.random.default_rng(SEED).standard_normal((4, setting.latent)).astype("float32")
    cut = kgp.shrink(model)
    if shapes_of(cut) != shapes_of(small):
        raise RuntimeError("What is masked is not what is cut out.")
    outputs = [np.array(m(z, training=False)) for m in (model, small)]
    if np.max(np.abs(outputs[0] - outputs[1])) > 1e-4 * np.max(np.abs(outputs[0])):
        raise RuntimeError("The masked and the shrunk generator give different images.")
    return model


def candidates(setting: Setting) -> dict[str, keras.Model]:
    """Return the generators that are compared, by name."""
    keras.utils.set_random_seed(SEED)
    dense = setting.dense()
    if shapes_of(dense) != shapes_of(setting.build(setting.widths)):
        raise RuntimeError(f"The widths of '{setting.name}' are not those of its network.")
    models = {"dense": dense}
    for name, share in BUDGETS.items():
        small = kgp.shrink(dense, budget=kgp.Budget(macs=share))
        narrow = setting.build(widths_of(small))
        if shapes_of(narrow) != shapes_of(small):
            raise RuntimeError(f"The narrow network is not as wide as the shrunk one at {name}.")
        models |= {
            f"masked {name}": masked(setting, dense, small),
            f"shrunk {name}": small,
            f"narrow {name}": narrow,
        }
    models["one channel"] = setting.build([1] * len(setting.widths))
    return models


# --- sizes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """What one generator costs, on paper and on disk."""

    setting: str
    model: str
    widths: tuple[int, ...]
    macs: int
    parameters: int
    nonzero: int
    bytes: int
    gzip_bytes: int


def export(setting: Setting, models: Mapping[str, keras.Model], folder: Path) -> list[Size]:
    """Write every generator as a SavedModel under its name."""
    sizes = []
    for name, model in models.items():
        report = kgp.export_saved_model(model, folder / name.replace("/", "_"))
        sizes.append(
            Size(
                setting.name,
                name,
                widths_of(model),
                kgp.profile(model, latency=False).macs,
                report.parameters,
                report.nonzero_parameters,
                report.bytes,
                report.gzip_bytes,
            )
        )
    return sizes


def size_row(size: Size, dense: Size) -> list[str]:
    def share(name: str) -> str:
        value, whole = getattr(size, name), getattr(dense, name)
        return f"{value:,}" if size is dense else f"{value:,} ({value / whole:.3f})"

    return [
        size.setting,
        size.model,
        "-".join(map(str, size.widths)),
        *map(share, ("macs", "parameters", "nonzero", "bytes", "gzip_bytes")),
    ]


SIZE_HEADER = ("generator", "model", "channels", "MACs", "parameters", "not zero", "bytes", "gzip")


# --- latency ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """The measurement behind one row."""

    setting: str
    batch: int
    comparison: str
    over_ms: float
    under_ms: float
    over_min_ms: float
    under_min_ms: float
    ratio: _bench.Ratio
    target: str
    rounds: int
    steps: int


def served(folder: Path, name: str, z: tf.Tensor) -> Callable[[int], None]:
    """Return a function that calls the endpoint of a SavedModel a number of times."""
    loaded = tf.saved_model.load(str(folder / name.replace("/", "_")))

    def run(count: int, loaded: Any = loaded) -> None:  # its functions hold its variables weakly
        for _ in range(count):
            loaded.serve(z).numpy()

    return run


def shuffled(
    running: Mapping[str, Callable[[int], Any]], rounds: int, steps: int
) -> dict[str, list[float]]:
    """Time candidates as `_bench.interleave`, each round in another order.

    A large network leaves a cold cache to what runs behind it; so nobody is always behind the same one.
    """
    rng = np.random.default_rng(SEED)
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds):
        order = rng.permutation(list(running))
        for name, (time,) in _bench.interleave({n: running[n] for n in order}, 1, steps).items():
            seconds[name].append(time)
    return seconds


def _comparisons(batch: int) -> list[tuple[str, str, str, str]]:
    """Return rows (what is compared, the first, the second, what is aimed at)."""
    rows = []
    for name in BUDGETS:
        speedup = f">= {SPEEDUPS[name]:.2f}" if batch == 16 else ""
        shrunk = f"shrunk {name}"
        rows += [
            (f"{name}: shrunk / built narrow", shrunk, f"narrow {name}", "1.00 ± 0.03"),
            (f"{name}: dense / shrunk", "dense", shrunk, speedup),
            (f"{name}: dense / masked", "dense", f"masked {name}", ""),
            (f"{name}: control, shrunk / shrunk", f"{shrunk} again", shrunk, ""),
        ]
    control = ("control, dense / dense", "dense again", "dense", "")
    return [*rows, control, ("dense / one channel each", "dense", "one channel", "")]


def measure(setting: Setting, rounds: int, quick: bool) -> tuple[list[Size], list[Result]]:
    """Export the generators of a setting, load them, run them in turns and compare."""
    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sizes = export(setting, candidates(setting), folder)
        results = []
        for batch, steps in BATCHES.items():
            steps = 1 if quick else steps
            z = tf.random.stateless_normal((batch, setting.latent), (SEED, 0))
            names = [size.model for size in sizes]
            twice = ["dense", *(f"shrunk {name}" for name in BUDGETS)]
            running = {name: served(folder, name, z) for name in names}
            running |= {f"{name} again": served(folder, name, z) for name in twice}
            for run in running.values():
                run(2 if quick else 2 * steps)
            seconds = shuffled(running, rounds, steps)
            results += [_result(setting, batch, row, seconds, steps) for row in _comparisons(batch)]
    return sizes, results


def _result(
    setting: Setting,
    batch: int,
    row: tuple[str, str, str, str],
    seconds: Mapping[str, list[float]],
    steps: int,
) -> Result:
    comparison, first, second, target = row
    over, under = seconds[first], seconds[second]
    return Result(
        setting.name,
        batch,
        comparison,
        1e3 * float(np.median(over)),
        1e3 * float(np.median(under)),
        1e3 * min(over),
        1e3 * min(under),
        _bench.ratio(over, under),
        target,
        len(over),
        steps,
    )


def _row(result: Result) -> list[str]:
    return [
        result.setting,
        str(result.batch),
        result.comparison,
        f"{result.over_ms:.2f} ({result.over_min_ms:.2f})",
        f"{result.under_ms:.2f} ({result.under_min_ms:.2f})",
        str(result.ratio),
        f"{result.ratio.of_minima:.3f}",
        result.target,
    ]


HEADER = (
    "generator",
    "batch",
    "compared",
    "first ms (min)",
    "second ms (min)",
    "ratio [quartiles]",
    "of minima",
    "target",
)


def _notes(rounds: int) -> list[str]:
    return [
        f"A ratio is the median over {rounds} rounds [quartiles] of paired blocks of "
        f"{' and '.join(map(str, BATCHES.values()))} calls (batch 1 and 16), in a new random order for each "
        "round; above 1, the second is faster. Control rows compare two copies of one SavedModel, each "
        "loaded by itself: a distance from 1 within theirs is noise.",
        "The masked generator has the same channels masked that the shrunk one lacks; both give the same "
        "images. The narrow one has the layers and shapes of the shrunk one, and its own random weights.",
        "'one channel each': the same layers with a single channel, that is, what is left when there is "
        "next to nothing to multiply: calls, the latent vector, and the pixels of every layer.",
        "All timings are of `tf.saved_model.load(path).serve` and the copy of its output to NumPy, after "
        "warm-up, with TensorFlow's own thread settings.",
    ]


def main() -> None:
    """Run the settings that are asked for; print a table of sizes and one of times."""
    parser = _bench.parser(__doc__)
    names = [setting.name for setting in SETTINGS]
    parser.add_argument("--only", nargs="+", choices=names, help="run these generators only")
    parser.add_argument("--rounds", type=int, help=f"rounds of each batch size, default {ROUNDS}")
    options = parser.parse_args()
    surroundings = _bench.environment()
    rounds = options.rounds or (2 if options.quick else ROUNDS)
    chosen = [s for s in SETTINGS if options.only is None or s.name in options.only]
    measured = [measure(setting, rounds, options.quick) for setting in chosen]
    surroundings["load_average_at_end"] = _bench._load_average()
    heading = "## " if options.markdown else ""
    print(f"{heading}Shrunk generators: size (and as a share of the dense one)\n")
    rows = [size_row(size, sizes[0]) for sizes, _ in measured for size in sizes]
    print(_bench.table(SIZE_HEADER, rows, options.markdown) + "\n")
    results = list(itertools.chain.from_iterable(results for _, results in measured))
    _bench.publish(
        "Shrunk generators: latency of the SavedModel",
        HEADER,
        [_row(result) for result in results],
        _notes(rounds),
        [*(asdict(size) for sizes, _ in measured for size in sizes), *map(asdict, results)],
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
