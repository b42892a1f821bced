"""A whole `fit` with `Prune` against the dense one, on the Keras backend that is set, as a ratio.

    KERAS_BACKEND=jax python benchmarks/backend_step.py [--quick] [--json OUT] [--markdown]
        [--batch N ...] [--weights N]

Equal GANs train in turns, in blocks of one `fit` each: dense, dense again (the control), and pruned to
80 % with `Prune` among the callbacks, which looks at every step and updates the masks every 100. So what
the callback costs on the host counts as well as what the masks cost in the step.

The second table is one update of the masks of a single large kernel: chosen on the host, and on the
device as `Pruner` does for large kernels on an accelerator.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import _bench
import keras
import numpy as np

import keras_ganprune as kgp
from keras_ganprune.applications import networks
from keras_ganprune.layers import device_topk, mask_ops
from keras_ganprune.layers.tensors import to_numpy

SEED = 7
SPARSITY = 0.8


@dataclass(frozen=True)
class Result:
    """One row: milliseconds of both, and their ratio."""

    what: str
    size: int
    first_ms: float
    second_ms: float
    ratio: _bench.Ratio


def gan(channels: int) -> kgp.GANModel:
    keras.utils.set_random_seed(SEED)
    pair = networks.dcgan((28, 28, 1), channels=channels)
    made = kgp.GANModel(*pair, latent_dim=pair[0].input_shape[-1], seed=SEED)
    made.compile(keras.optimizers.Adam(1e-4, 0.5), keras.optimizers.Adam(1e-4, 0.5))
    return made


def runner(model: kgp.GANModel, images: np.ndarray, batch: int, pruned: bool):
    callbacks = []
    if pruned:
        targets = ["generator", "discriminator"]
        callbacks = [kgp.Prune(kgp.ConstantSparsity(SPARSITY), targets, 100, verbose=0)]

    def run(steps: int) -> None:
        model.fit(images[: steps * batch], batch_size=batch, verbose=0, callbacks=callbacks)

    return run


def steps(batch: int, channels: int, rounds: int, block: int) -> list[Result]:
    images = np.random.default_rng(SEED).uniform(-1, 1, (block * batch, 28, 28, 1))
    images = images.astype("float32")
    candidates = {
        name: runner(gan(channels), images, batch, name == "pruned")
        for name in ("dense", "control", "pruned")
    }
    for run in candidates.values():
        run(block)
        run(block)
    seconds = _bench.interleave(candidates, rounds, block)
    return [
        Result(
            f"{name} / dense",
            batch,
            *(1e3 * statistics.median(seconds[n]) for n in (name, "dense")),
            _bench.ratio(seconds[name], seconds["dense"]),
        )
        for name in ("pruned", "control")
    ]


def update(weights: int, rounds: int) -> Result:
    values = np.random.default_rng(SEED).standard_normal(weights, dtype="float32")
    weight = keras.Variable(values.reshape(1024, -1), trainable=False, dtype="float32")
    mask = keras.Variable(np.ones(weight.shape, bool), trainable=False, dtype="bool")
    keep = mask_ops.kept_count(weights, SPARSITY)

    def on_host(times: int) -> None:
        for _ in range(times):
            mask.assign(mask_ops.top_k_mask(np.abs(to_numpy(weight)), keep))

    def on_device(times: int) -> None:
        for _ in range(times):
            mask.assign(np.ones(weight.shape, bool))
            mask.assign(device_topk.largest(weight, mask, keep))

    candidates = {"device": on_device, "host": on_host}
    for run in candidates.values():
        run(1)
    seconds = _bench.interleave(candidates, rounds, 1)
    middle = (1e3 * statistics.median(seconds[name]) for name in ("device", "host"))
    return Result(
        "chosen on the device / on the host",
        weights,
        *middle,
        _bench.ratio(seconds["device"], seconds["host"]),
    )


def main() -> None:
    parser = _bench.parser(__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--weights", type=int, default=10 * 1024**2, help="a multiple of 1024")
    options = parser.parse_args()
    surroundings = _bench.environment()
    rounds, block = (3, 10) if options.quick else (15, 30)
    begin = time.perf_counter()
    results = [r for b in options.batch for r in steps(b, options.channels, rounds, block)]
    results.append(update(options.weights, 2 if options.quick else 7))
    rows = [
        (r.what, f"{r.size:,}", f"{r.first_ms:.2f}", f"{r.second_ms:.2f}", r.ratio) for r in results
    ]
    _bench.publish(
        f"Pruned against dense on the backend '{keras.backend.backend()}'",
        ("compared", "batch or weights", "first ms", "second ms", "ratio [quartiles]"),
        rows,
        [
            f"A step: the median over {rounds} rounds of blocks of {block} steps, one `fit` each, of a DCGAN "
            f"for 28x28 images with {options.channels} channels. The control compares two dense ones.",
            "Target: 1.05 for a step. A ratio below 1 means that the first is faster.",
            f"Whole run: {time.perf_counter() - begin:.0f} s.",
        ],
        results,
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
