"""A GAN step under each regularizer, as a ratio to the plain step in one run.

    python benchmarks/regularizers.py [--quick] [--json OUT] [--markdown] [--only NAME ...]

Each candidate is the compiled train function of the same `GANModel`: plain, twice, and with a regularizer of
both networks (slimming: of the generator, whose discriminator has no batch normalization). All candidates
of a setting run in turns in one process; the ratio is the median over all rounds, with quartiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import _bench
import keras
import train_step
from train_step import Comparison, Setting, Steps

import keras_ganprune as kgp

BOTH = ["generator", "discriminator"]
GROWING = {"sparsity": 0.5, "target": BOTH, "verbose": 0}
REGULARIZERS: dict[str, Callable[[], Any]] = {
    "group lasso": lambda: kgp.GroupLasso(0.05, BOTH, verbose=0),
    "slimming": lambda: kgp.NetworkSlimming(0.05, "generator", verbose=0),
    "growing L2, channels": lambda: kgp.GrowingL2(**GROWING),
    "growing L2, weights": lambda: kgp.GrowingL2(granularity="unstructured", **GROWING),
}


class Capture(keras.callbacks.Callback):
    """Keeps the train function of a running `fit`, which is plain again when `fit` has ended."""

    function: Any = None

    def on_train_batch_end(self, batch, logs=None):
        self.function = self.model.train_function


def regularized(make: Callable[[], Any]) -> Callable[[Callable, int], Steps]:
    """Return the candidate whose steps run under a regularizer."""

    def candidate(networks: Callable, batch: int) -> Steps:
        steps = train_step.dense(networks, batch)
        model, capture = steps.model, Capture()
        images = train_step._images(model.generator, batch)
        model.fit(images, batch_size=batch, verbose=0, callbacks=[make(), capture])
        model.train_function = capture.function
        return steps

    return candidate


def _setting(name: str, networks: Callable, batch: int, skip: tuple[str, ...] = ()) -> Setting:
    found = {n: regularized(make) for n, make in REGULARIZERS.items() if n not in skip}
    rows = [Comparison(f"{n} / plain", n, "dense") for n in found]
    rows.append(Comparison("control: plain / plain", "dense again", "dense"))
    plain = {"dense": train_step.dense, "dense again": train_step.dense}
    return Setting(name, networks, batch, {**plain, **found}, tuple(rows), 2)


SETTINGS = (
    _setting("MLP", train_step.mlp, 32, ("slimming",)),
    _setting("DCGAN", train_step.dcgan, 64),
)
NOTES = (
    "A ratio is the median over rounds [quartiles] of paired blocks of 5 steps. The control row compares two "
    "equal models: a distance from 1 within its quartiles is noise.",
    "A regularizer reads and writes each weight of its networks once more per step, whatever the batch size. "
    "So it costs most where the step does little else: a fully connected GAN at a small batch.",
)


def main() -> None:
    """Run the settings and print one table."""
    parser = _bench.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=["MLP", "DCGAN"], help="these networks only")
    options = parser.parse_args()
    surroundings = _bench.environment()
    chosen = [s for s in SETTINGS if options.only is None or s.name in options.only]
    results = list(
        itertools.chain.from_iterable(train_step.measure(s, options.quick) for s in chosen)
    )
    _bench.publish(
        "GAN step under a regularizer",
        train_step.HEADER[:-1],
        [train_step._row(result)[:-1] for result in results],
        NOTES,
        [asdict(result) for result in results],
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
