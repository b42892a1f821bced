"""`kgp.compress` against the recipe of the README set by hand, on small trained networks of five kinds.

    python benchmarks/compress.py [--quick] [--json OUT] [--markdown] [--seeds N] [--sparsity S]

Data: scikit-learn's 8x8 digits, the last 360 held out. The recipe by hand: `taylor` ranked over the whole
network, a `PolynomialDecay` over half of the steps with an update every 20 steps, the dense network as
teacher, and `recover` for the last quarter. Both begin from the same trained network, keep the same number of
weights and train for the same number of steps, as does the dense network that they are compared with.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import _bench
import attrs
import keras
import numpy as np
from keras import layers

import keras_ganprune as kgp
from keras_ganprune import datasets
from keras_ganprune.applications.networks import dcgan

HELD_OUT = 360
BATCH = 32


@attrs.frozen
class Kind:
    """A network, its data and what judges it."""

    make: Callable[[], keras.Model]
    data: tuple[Any, Any]
    held_out: tuple[Any, Any]
    metric: Any = None
    outputs: str = "values"


def autoencoder() -> keras.Model:
    """Return a convolutional autoencoder with a bottleneck of 16 values."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, 2, padding="same", activation="relu"),
            layers.Conv2D(32, 3, 2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(16),
            layers.Dense(4 * 32, activation="relu"),
            layers.Reshape((2, 2, 32)),
            layers.Conv2DTranspose(32, 3, 2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 3, 2, padding="same"),
        ]
    )
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    return model


def unet() -> keras.Model:
    """Return a U-Net that removes noise."""
    x = keras.Input((8, 8, 1))
    a = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    b = layers.Conv2D(32, 3, 2, padding="same", activation="relu")(a)
    c = layers.UpSampling2D()(layers.Conv2D(32, 3, padding="same", activation="relu")(b))
    d = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.Concatenate()([a, c]))
    model = keras.Model(x, layers.Conv2D(1, 3, padding="same")(d))
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    return model


def lstm() -> keras.Model:
    """Return an LSTM that reads a digit row by row."""
    model = keras.Sequential(
        [keras.Input((8, 8)), layers.LSTM(48), layers.Dense(10, activation="softmax")]
    )
    model.compile(
        keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def transformer() -> keras.Model:
    """Return a transformer of two blocks over the rows of a digit."""
    x = keras.Input((8, 8))
    places = layers.Embedding(8, 32)(keras.ops.arange(8))
    h = layers.Dense(32)(x) + places
    for _ in range(2):
        h = layers.LayerNormalization()(h + layers.MultiHeadAttention(2, 16)(h, h))
        h = layers.LayerNormalization()(h + layers.Dense(32)(layers.Dense(64, "gelu")(h)))
    h = layers.GlobalAveragePooling1D()(h)
    model = keras.Model(x, layers.Dense(10, activation="softmax")(h))
    model.compile(
        keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def conditional_gan() -> keras.Model:
    """Return a class-conditional DCGAN."""
    gan = kgp.GANModel(*dcgan((8, 8, 1), 64, 16, classes=10), latent_dim=64, ema_decay=0.99, seed=0)
    gan.compile(keras.optimizers.Adam(1e-3, 0.5), keras.optimizers.Adam(1e-3, 0.5))
    return gan


def kinds() -> dict[str, Kind]:
    """Return name -> kind."""
    digits = datasets.load("digits")
    images, labels = digits.images, np.asarray(digits.labels)
    noisy = images + np.random.default_rng(0).normal(0, 0.5, images.shape).astype("float32")
    rows = images[..., 0]

    def parts(x: Any, y: Any) -> tuple[Any, Any]:
        return (x[:-HELD_OUT], y[:-HELD_OUT]), (x[-HELD_OUT:], y[-HELD_OUT:])

    quality = kgp.ImageQuality(images, labels, held_out=0.2, samples=2000, seed=0)
    return {
        "autoencoder, MSE": Kind(autoencoder, *parts(images, images)),
        "U-Net, MSE": Kind(unet, *parts(noisy, images)),
        "LSTM, accuracy": Kind(lstm, *parts(rows, labels), outputs="softmax"),
        "transformer, accuracy": Kind(transformer, *parts(rows, labels), outputs="softmax"),
        "conditional GAN, FD": Kind(conditional_gan, *parts(images, labels), metric=quality),
    }


def by_hand(model: Any, kind: Kind, steps: int, epochs: int, sparsity: float) -> Any:
    """Return the plain network that the recipe of the README makes."""
    gan = isinstance(model, kgp.GANModel)
    if gan:
        model.set_teacher(kgp.strip_pruning(model.sampler), kgp.Distillation())
        start = int(keras.ops.convert_to_numpy(model.g_optimizer.iterations))
    else:
        model = kgp.Distiller.of(model, teacher=model, outputs=kind.outputs)  # pyright: ignore
        start = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    prune = kgp.Prune(
        kgp.PolynomialDecay(
            sparsity, begin_step=start + steps // 10, end_step=start + 6 * steps // 10
        ),
        target="generator" if gan else "student",
        criterion="taylor",
        allocation="global_ranking",
        frequency=20,
        verbose=0,
    )
    last = epochs // 4
    x, y = kind.data
    # As for `compress`, batches of one size only.
    whole = len(x) // BATCH * BATCH
    model.fit(
        x[:whole], y[:whole], batch_size=BATCH, epochs=epochs - last, verbose=0, callbacks=[prune]
    )
    kgp.recover(model, x[:whole], last, labels=y[:whole], batch_size=BATCH, verbose=0)
    return kgp.strip_pruning(model.sampler if gan else model.student)


def judged(network: Any, kind: Kind, model: Any) -> float:
    """Return the deciding number of a network, on held-out data."""
    if kind.metric is not None:
        return float(next(iter(kind.metric.measure_generator(network).to_dict().values())))
    network.compile("sgd", model.loss, metrics=["accuracy"] if kind.outputs == "softmax" else [])
    found = network.evaluate(*kind.held_out, batch_size=HELD_OUT, verbose=0, return_dict=True)
    return float(found.get("accuracy", found["loss"]))


def measure(name: str, kind: Kind, seed: int, sparsity: float, quick: bool) -> dict[str, Any]:
    """Train one network dense, compress it in both ways, and return the numbers."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = kind.make()
    begin = time.process_time()
    per_epoch = len(kind.data[0]) // BATCH
    epochs = 4 if quick else -(-1000 // per_epoch)
    model.fit(*kind.data, batch_size=BATCH, epochs=4 if quick else 40, verbose=0)
    dense = time.process_time()
    result = kgp.compress(
        model,
        kind.data,
        sparsity=sparsity,
        epochs=epochs,
        batch_size=BATCH,
        seed=seed,
        metric=kind.metric,
        verbose=0,
        **({} if kind.metric is not None else {"validation_data": kind.held_out}),
    )
    compressed = time.process_time()
    keras.utils.set_random_seed(seed)
    hand = by_hand(model, kind, per_epoch * epochs, epochs, sparsity)
    row = {
        "kind": name,
        "seed": seed,
        "before": result.before[result.metric],
        "dense": result.baseline[result.metric],
        "compress": result.after[result.metric],
        "hand": judged(hand, kind, model),
        "achieved": result.achieved,
        "nonzero_compress": _nonzero(result.network),
        "nonzero_hand": _nonzero(hand),
        "seconds": [dense - begin, compressed - dense, time.process_time() - compressed],
    }
    print(row, flush=True)
    return row


def _nonzero(network: Any) -> int:
    kernels = [w for w in network.trainable_weights if len(w.shape) > 1]
    return sum(int(np.count_nonzero(keras.ops.convert_to_numpy(w))) for w in kernels)


def _row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    own = [run for run in runs if run["kind"] == name]
    columns = []
    for column in ("before", "dense", "hand", "compress"):
        values = [run[column] for run in own]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        columns.append(f"{statistics.fmean(values):.4f} ({spread:.4f})")
    better = [run["compress"] - run["hand"] for run in own]
    return [name, *columns, f"{statistics.fmean(better):+.4f}", f"{own[0]['achieved']:.4f}"]


def main() -> None:
    """Train every kind with every seed and print one table."""
    parser = _bench.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind, default 3")
    parser.add_argument("--sparsity", type=float, default=0.9, help="default 0.9")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    options = parser.parse_args()
    surroundings = _bench.environment()
    chosen = {name: kind for name, kind in kinds().items() if options.only in name}
    seeds = range(1 if options.quick else options.seeds)
    runs = [
        measure(name, kind, seed, options.sparsity, options.quick)
        for name, kind in chosen.items()
        for seed in seeds
    ]
    _bench.publish(
        f"`compress` and the recipe by hand, digits, sparsity {options.sparsity:.0%}",
        [
            "network",
            "before",
            "dense, equal steps",
            "by hand",
            "compress",
            "difference",
            "sparsity",
        ],
        [_row(name, runs) for name in chosen],
        [
            "Mean (standard deviation) over seeds, on held-out digits. Accuracy: higher is better; the rest: "
            "lower. Difference: compress minus by hand, of the same trained network."
        ],
        runs,
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
