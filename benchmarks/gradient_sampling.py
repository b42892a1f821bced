"""What gradient criteria cost: outside the batches that they sample, and in them.

    python benchmarks/gradient_sampling.py [--quick] [--json OUT] [--markdown] [--only NAME ...]

Two equal GANs train in turns, batch by batch through Keras's own callbacks, as `fit` runs them: one is
pruned by magnitude, the other by a criterion that needs gradients. Each has masks of 80 % already, made
by its own criterion. Compared are

* batches in which no gradient is sampled: the same step, and the callback's work beside it;
* batches in which one is: 'taylor' adds up what the optimizers are given anyway, 'discriminator_saliency'
  runs both networks once more, forwards and backwards.

All candidates of a row run in turns in one process, after compilation and warm-up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import _bench
import keras
import numpy as np
import train_step as steps

import keras_ganprune as kgp

SPARSITY = 0.8
# The masks are made at step 2; the update after that is further away than any benchmark.
SCHEDULE = kgp.Linear(SPARSITY, begin_step=2, end_step=10**9, initial_sparsity=SPARSITY)
FAR = 10**8


class Batches:
    """Runs batches of one model with a `Prune` callback, without the start and end of `fit`.

    Args:
        networks, batch: As for `train_step.dense`.
        criterion: Of the generator.
        sampled: Whether every batch is a sampled one, once the masks are made.
    """

    def __init__(self, networks: Callable, batch: int, criterion: Any, sampled: bool = False):
        self.runner = steps.dense(networks, batch)
        self.model = self.runner.model
        self.prune = kgp.Prune(SCHEDULE, "generator", FAR, criterion=criterion, verbose=0)
        self.callbacks = keras.callbacks.CallbackList([self.prune], model=self.model)
        self.model.make_train_function(force=True)
        self.callbacks.on_train_begin()
        self.callbacks.on_epoch_begin(0)
        self.done = 0
        self.sampled_batches = 0
        self(8)  # beyond the update, with its sampled batches
        if not self.prune.updates:
            raise RuntimeError(f"{criterion!r} made no masks.")
        if sampled:
            self.prune._run.samples_next = lambda: True
        self.sampled_batches = 0

    def __call__(self, count: int) -> None:
        for _ in range(count):
            self.callbacks.on_train_batch_begin(self.done)
            sampler = self.prune._targets.sampler
            self.sampled_batches += sampler is not None and sampler.active
            logs = self.model.train_function(self.runner.batches)
            self.callbacks.on_train_batch_end(self.done, logs)
            self.done += 1
        float(next(iter(logs.values())))  # waits until the last step is done


CRITERIA = {
    "magnitude": "magnitude",
    "magnitude again": "magnitude",
    "taylor": "taylor",
    "discriminator_saliency": "discriminator_saliency",
}
SAMPLED = {"taylor, sampled": "taylor", "saliency, sampled": "discriminator_saliency"}
ROWS = (
    ("control: magnitude / magnitude", "magnitude again", "magnitude", None),
    ("taylor, batches not sampled / magnitude", "taylor", "magnitude", 1.02),
    (
        "discriminator_saliency, batches not sampled / magnitude",
        "discriminator_saliency",
        "magnitude",
        1.02,
    ),
    ("taylor, sampled batches / magnitude", "taylor, sampled", "magnitude", None),
    ("discriminator_saliency, sampled batches / magnitude", "saliency, sampled", "magnitude", None),
)
SETTINGS = (("MLP", steps.mlp, 32, 60), ("DCGAN", steps.dcgan, 64, 30))


@dataclass(frozen=True)
class Result:
    """The measurement behind one row."""

    setting: str
    batch: int
    comparison: str
    over_ms: float
    under_ms: float
    ratio: _bench.Ratio
    target: float | None
    rounds: int


def measure(name: str, networks: Callable, batch: int, rounds: int, quick: bool) -> list[Result]:
    """Run the candidates of a setting in turns and compare them."""
    rounds, block = (2, 2) if quick else (rounds, 5)
    with steps._fresh_state():
        running = {key: Batches(networks, batch, c) for key, c in CRITERIA.items()}
        running |= {key: Batches(networks, batch, c, sampled=True) for key, c in SAMPLED.items()}
        for run in running.values():
            run(2 * block)
        seconds = _bench.interleave(running, rounds, block)
        for key, run in running.items():
            wanted = run.done - 8 if key in SAMPLED else 0
            if run.sampled_batches != wanted:
                raise RuntimeError(f"'{key}': {run.sampled_batches} batches were sampled.")
            if abs(run.prune.pruner.sparsity - SPARSITY) > 1e-3:
                raise RuntimeError(f"'{key}' ran at sparsity {run.prune.pruner.sparsity}.")
    return [
        Result(
            name,
            batch,
            comparison,
            1e3 * float(np.median(seconds[over])),
            1e3 * float(np.median(seconds[under])),
            _bench.ratio(seconds[over], seconds[under]),
            target,
            rounds,
        )
        for comparison, over, under, target in ROWS
    ]


def main() -> None:
    """Run the settings that are asked for and print one table."""
    parser = _bench.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=[s[0] for s in SETTINGS])
    options = parser.parse_args()
    surroundings = _bench.environment()
    results = list(
        itertools.chain.from_iterable(
            measure(*setting, options.quick)
            for setting in SETTINGS
            if options.only is None or setting[0] in options.only
        )
    )
    _bench.publish(
        "Gradient criteria: cost of a batch",
        ["GAN", "batch", "compared", "first ms", "second ms", "ratio [quartiles]", "target"],
        [
            [
                r.setting,
                str(r.batch),
                r.comparison,
                f"{r.over_ms:.2f}",
                f"{r.under_ms:.2f}",
                str(r.ratio),
                "" if r.target is None else f"<= {r.target:.2f}",
            ]
            for r in results
        ],
        [
            "A ratio is the median over rounds [quartiles] of paired blocks of 5 batches, callbacks "
            "included. The control row compares two equal runs: what is within its quartiles is noise.",
            "Each criterion samples 8 batches before an update; all other batches are 'not sampled'.",
        ],
        [asdict(r) for r in results],
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
