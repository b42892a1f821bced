"""What `Shrink` inside training saves, and what the cut itself costs, as ratios within one run.

    python benchmarks/shrink_training.py [--quick] [--json OUT] [--markdown] [--only NAME ...] [--steps N]

Six equal GANs train in turns, batch by batch through Keras's own callbacks, as `fit` runs them:

* without `Shrink`, twice: the second says how far from 1 noise alone goes;
* with `Shrink` at a third of the steps: the generator, or both networks, to a quarter of their
  multiply-accumulates (MACs);
* the same networks cut before training begins, which is what a step should cost after the cut.

The step in which the cut falls and the next one, which traces the train function again, are timed apart
from the others; 'in all' is the time of every step, from the first, which traces too, to the last.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import _bench
import keras
import numpy as np
import shrink_latency as latency
import train_step as steps

import keras_ganprune as kgp
from keras_ganprune.applications import networks

SEED = 7
BUDGET = kgp.Budget(macs=0.25)
#: Steps after the start and after the cut that are left out of what is compared.
SETTLE = 5
TARGETS = {"generator": ["generator"], "both": ["generator", "discriminator"]}


# --- networks ---------------------------------------------------------------------------------------


def demo() -> tuple[keras.Model, keras.Model]:
    """The two networks of the demo for 28x28 images, twice as wide as there."""
    return networks.dcgan((28, 28, 1), channels=64)


def dcgan() -> tuple[keras.Model, keras.Model]:
    """A DCGAN for 32x32 colour images: 256-128-64 channels, and 64-128-256."""
    widths = (256, 128, 64)
    generator = latency.Setting("", 4, 3, widths, 4, 100).build(widths)
    layers = keras.layers
    discriminator = [keras.Input((32, 32, 3))]
    for width in reversed(widths):
        discriminator += [
            layers.Conv2D(width, 4, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
        ]
    return generator, keras.Sequential([*discriminator, layers.Flatten(), layers.Dense(1)])


@dataclass(frozen=True)
class Setting:
    """Networks, the size of a batch and how long they train."""

    name: str
    networks: Callable[[], tuple[keras.Model, keras.Model]]
    batch: int
    steps: int


SETTINGS = (Setting("demo 28x28x1", demo, 64, 240), Setting("DCGAN 32x32x3", dcgan, 64, 150))


# --- runs -------------------------------------------------------------------------------------------


class Run:
    """One GAN that trains some steps at a time, with or without `Shrink`.

    Args:
        setting: A `Setting`.
        at: Step of the cut: an int; 0 to cut before training; None for no cut.
        target: Names of the networks that are cut.

    Attributes:
        seconds: Of each step, with the work of the callbacks.
    """

    def __init__(self, setting: Setting, at: int | None = None, target: Sequence[str] = ()):
        keras.utils.set_random_seed(SEED)
        generator, discriminator = setting.networks()
        if at == 0:
            generator = kgp.shrink(generator, budget=BUDGET)
            if "discriminator" in target:
                discriminator = kgp.shrink(discriminator, budget=BUDGET)
        latent = generator.input_shape[1]
        self.model = kgp.GANModel(generator, discriminator, latent_dim=latent, seed=SEED)
        runner = steps.Steps(steps._compiled(self.model), steps._images(generator, setting.batch))
        self.batches = runner.batches
        self.shrink = kgp.Shrink(at, list(target), budget=BUDGET, verbose=0) if at else None
        own = [self.shrink] if self.shrink else []
        self.callbacks = keras.callbacks.CallbackList([kgp.NaNGuard(), *own], model=self.model)
        self.callbacks.on_train_begin()
        self.callbacks.on_epoch_begin(0)
        self.macs = [kgp.profile(n, latency=False).macs for n in self.networks]
        self.seconds: list[float] = []

    @property
    def networks(self) -> tuple[keras.Model, keras.Model]:
        return self.model.generator, self.model.discriminator

    def __call__(self) -> None:
        """Train one step."""
        done = len(self.seconds)
        begin = time.perf_counter()
        self.callbacks.on_train_batch_begin(done)
        logs = self.model.train_function(self.batches)  # a cut puts another function there
        float(next(iter(logs.values())))  # waits until the step is done
        self.callbacks.on_train_batch_end(done, logs)
        self.seconds.append(time.perf_counter() - begin)


def runs_of(setting: Setting, at: int) -> dict[str, Run]:
    """Return the GANs that train in turns."""
    runs = {"without": Run(setting), "without again": Run(setting)}
    for name, target in TARGETS.items():
        runs[name] = Run(setting, at, target)
        runs[f"{name} before"] = Run(setting, 0, target)
    return runs


def train(runs: dict[str, Run], count: int) -> None:
    """Train all of them, one step each in turn, every round in another order."""
    rng = np.random.default_rng(SEED)
    for _ in range(count):
        for name in rng.permutation(list(runs)):
            runs[name]()


# --- results --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """The measurement behind one row.

    Attributes:
        cut: Networks that are cut; 'none' for the control.
        before_ms, after_ms: Medians of a step.
        own: Step after the cut over step before it, of this run alone.
        before, after: Step over that of the run without `Shrink` at the same time.
        expected: `after`, if a step took as long as its multiply-accumulates.
        to_narrow: Step after the cut over that of the same networks cut before training.
        cut_seconds, trace_seconds: Time of the cut, with new batch statistics, and of the next step;
            each without the median step.
        total_seconds, total_without: Of all steps.
        pays_after: Steps after the cut that have saved what it and its trace cost.
    """

    setting: str
    batch: int
    cut: str
    macs: tuple[int, int]
    before_ms: float
    after_ms: float
    own: float
    before: _bench.Ratio
    after: _bench.Ratio
    expected: float
    to_narrow: _bench.Ratio | None
    cut_seconds: float | None
    trace_seconds: float | None
    total_seconds: float
    total_without: float
    pays_after: int | None
    steps: int
    at: int


def work(macs: Sequence[int]) -> int:
    """Return about how many multiply-accumulates a training step has for each sample.

    The generator runs once and is differentiated by its weights and its inputs: 3. The discriminator
    runs thrice; twice it is differentiated by both, for its own update, and once by its inputs: 8.
    """
    generator, discriminator = macs
    return 3 * generator + 8 * discriminator


def measure(setting: Setting, count: int) -> list[Result]:
    """Train the GANs of a setting in turns and compare them."""
    at = count // 3
    with steps._fresh_state():
        runs = runs_of(setting, at)
        train(runs, count)
        for name, target in TARGETS.items():
            _verify(runs[name], runs[f"{name} before"], target)
        rows = [("none", "without again", None)]
        rows += [(name, name, f"{name} before") for name in TARGETS]
        return [_result(setting, at, runs, *row) for row in rows]


def _verify(run: Run, narrow: Run, target: Sequence[str]) -> None:
    """Make sure that what ran as cut was cut, once, to what was cut before training."""
    if [event.name for event in run.shrink.events] != list(target):
        raise RuntimeError(f"These were cut: {run.shrink.events}.")
    for own, other in zip(run.networks, narrow.networks, strict=True):
        if latency.shapes_of(own) != latency.shapes_of(other):
            raise RuntimeError(f"'{own.name}' was cut to other widths than before training.")


def _result(
    setting: Setting, at: int, runs: dict[str, Run], cut: str, name: str, narrow: str | None
) -> Result:
    run, without = runs[name], runs["without"]
    # Step number `at` ends with the cut, and the next one traces.
    first, second = slice(SETTLE, at - 1), slice(at + SETTLE, None)
    seconds, others = run.seconds, without.seconds
    before, after = (statistics.median(seconds[part]) for part in (first, second))
    extra = (seconds[at - 1] - before, seconds[at] - after) if run.shrink else None
    to_none = _bench.ratio(seconds[second], others[second])
    saved = statistics.median(others[second]) * (1.0 - to_none.median)
    macs = tuple(kgp.profile(n, latency=False).macs for n in run.networks)
    return Result(
        setting.name,
        setting.batch,
        cut,
        macs,
        1e3 * before,
        1e3 * after,
        after / before,
        _bench.ratio(seconds[first], others[first]),
        to_none,
        work(macs) / work(without.macs),
        _bench.ratio(seconds[second], runs[narrow].seconds[second]) if narrow else None,
        extra[0] if extra else None,
        extra[1] if extra else None,
        sum(seconds),
        sum(others),
        round(sum(extra) / saved) if extra and saved > 0 else None,
        len(seconds),
        at,
    )


HEADER = (
    "GAN",
    "batch",
    "cut",
    "ms before",
    "ms after",
    "after / before",
    "to no cut, before [quartiles]",
    "to no cut, after [quartiles]",
    "by MACs",
    "to cut at the start [quartiles]",
    "cut s",
    "trace s",
    "steps",
    "in all s",
    "to no cut",
    "pays after",
)


def _row(result: Result) -> list[str]:
    dash = lambda value, text: "–" if value is None else text.format(value)  # noqa: E731
    return [
        result.setting,
        str(result.batch),
        result.cut,
        f"{result.before_ms:.1f}",
        f"{result.after_ms:.1f}",
        f"{result.own:.3f}",
        str(result.before),
        str(result.after),
        f"{result.expected:.3f}",
        dash(result.to_narrow, "{}"),
        dash(result.cut_seconds, "{:.2f}"),
        dash(result.trace_seconds, "{:.2f}"),
        f"{result.at} + {result.steps - result.at}",
        f"{result.total_seconds:.1f}",
        f"{result.total_seconds / result.total_without:.3f}",
        dash(result.pays_after, "{} steps"),
    ]


NOTES = (
    "All GANs of a setting train in turns, one step each, in a new random order each time, in one "
    "process. Row 'none' is a second run without `Shrink`: its distance from 1 is noise.",
    "'after / before' compares two times of day, so it has the load of the machine in it: row 'none' shows "
    "how much. 'to no cut' compares each step with that of the run without `Shrink` at the same time: median "
    "[quartiles].",
    "'by MACs': what the step after the cut would be if only multiply-accumulates cost time: 3 times the "
    "generator's and 8 times the discriminator's (one forward run of the one, three of the other, and "
    "their gradients).",
    "'to cut at the start': the step after the cut against that of the same networks shrunk before training.",
    "'cut s': choosing, building, proving (`shrink` compares outputs), exchanging networks and optimizer "
    "state, and new batch statistics. 'trace s': what the next step takes longer, since it is traced again.",
    "'in all' has every step, cut and traces included; what it comes to depends on how many steps follow. "
    "'pays after': steps after the cut that save what the cut and its trace cost.",
)


def main() -> None:
    """Train the GANs of the settings that are asked for and print one table."""
    parser = _bench.parser(__doc__)
    names = [setting.name for setting in SETTINGS]
    parser.add_argument("--only", nargs="+", choices=names, help="train these GANs only")
    parser.add_argument("--steps", type=int, help="training steps of each GAN, 45 at least")
    options = parser.parse_args()
    surroundings = _bench.environment()
    chosen = [s for s in SETTINGS if options.only is None or s.name in options.only]
    results = list(
        itertools.chain.from_iterable(
            measure(s, max(45, options.steps or (45 if options.quick else s.steps))) for s in chosen
        )
    )
    surroundings["load_average_at_end"] = _bench._load_average()
    _bench.publish(
        f"Training with `Shrink`, {BUDGET!r}",
        HEADER,
        [_row(result) for result in results],
        NOTES,
        [asdict(result) for result in results],
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
