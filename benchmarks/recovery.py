"""What the modes of pruning recover: a GAN on the digits at 90 % generator sparsity.

    python benchmarks/recovery.py [--quick] [--json OUT] [--markdown] [--seeds N] [--sparsity S]

One small DCGAN on scikit-learn's 1,797 digits, pruned in the same way (one cubic schedule, all kernels of
the generator) under each mode, and with random instead of magnitude scores. Every run of a seed has the
same start, the same data order and the same number of steps; its dense phase ends where pruning begins.
The averaged generator of the last state is evaluated, not of the best state:

* distance: Frechet distance of the features of 5,000 generated digits to those of all real ones; the
  features are the last hidden layer (32) of a classifier trained on three quarters of the data, whose
  accuracy on the rest is printed. Values compare within this table only. The floor is the distance of
  one half of the real digits to the other.
* classes: the entropy of the classes that this classifier sees, as a number of equally likely ones
  (10 at best).
* losses: means over the last tenth of the steps.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import _bench
import keras
import numpy as np

import keras_ganprune as kgp
from keras_ganprune import datasets
from keras_ganprune.applications.networks import dcgan

MODES: dict[str, dict[str, Any]] = {
    "dense": {},
    "hard": {"mode": "hard"},
    "soft": {"mode": "soft"},
    "rigl": {"mode": "rigl"},
    "set": {"mode": "set"},
    "splice": {"mode": "splice"},
    "hard, random scores": {"mode": "hard", "criterion": "random"},
}
LATENT = 32
BATCH = 64
CHANNELS = 16
FAKES = 5000

NOTES = (
    "distance: lower is better; classes: 10 is best. Mean (standard deviation) over seeds; 'to hard' is "
    "the mean of the paired ratios of distances, run by run, to mode 'hard'.",
    "dense has the same steps and no pruning. All pruned rows keep exactly the same number of weights.",
)


@dataclass(frozen=True)
class Run:
    """One training run, evaluated at its end."""

    variant: str
    seed: int
    distance: float
    classes: float
    generator_loss: float
    discriminator_loss: float
    kept: int
    total: int
    seconds: float


# --- the evaluator --------------------------------------------------------------------------------------


class Evaluator:
    """A classifier of real digits whose features say how far generated ones are."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        keras.utils.set_random_seed(1234)
        order = np.random.default_rng(0).permutation(len(images))
        train, held_out = np.split(order, [len(order) * 3 // 4])
        inputs = keras.Input(images.shape[1:])
        x = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(inputs)
        x = keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(x)
        x = keras.layers.Dropout(0.3)(keras.layers.Flatten()(x))
        features = keras.layers.Dense(32, activation="relu")(x)
        scores = keras.layers.Dense(10, activation="softmax")(features)
        classifier = keras.Model(inputs, scores)
        classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        classifier.fit(images[train], labels[train], batch_size=32, epochs=30, verbose=0)
        self.accuracy = classifier.evaluate(images[held_out], labels[held_out], verbose=0)[1]
        self.network = keras.Model(inputs, [features, scores])
        self.real = self.features(images)[0]
        halves = np.array_split(self.real[order], 2)
        self.floor = frechet_distance(*halves)

    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, scores = self.network.predict(images, batch_size=500, verbose=0)
        return features.astype(np.float64), scores.astype(np.float64)

    def measure(self, fakes: np.ndarray) -> tuple[float, float]:
        """Return the distance to the real digits, and the number of classes."""
        features, scores = self.features(fakes)
        share = np.bincount(scores.argmax(axis=1), minlength=10) / len(scores)
        entropy = -sum(p * np.log(p) for p in share if p > 0)
        return frechet_distance(self.real, features), float(np.exp(entropy))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Frechet distance of two sets of features, taken as Gaussians.

    |mu_a - mu_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2)); the last trace is the sum of the roots of the
    eigenvalues of B^(1/2) A B^(1/2), which is symmetric.
    """
    difference = a.mean(axis=0) - b.mean(axis=0)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(second)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ first @ root)
    trace = np.trace(first) + np.trace(second) - 2.0 * np.sqrt(np.maximum(cross, 0.0)).sum()
    return float(difference @ difference + trace)


# --- the runs ---------------------------------------------------------------------------------------


def train(
    variant: str, seed: int, images: np.ndarray, steps: int, sparsity: float
) -> tuple[kgp.GANModel, dict[str, list[float]], float]:
    """Train one GAN; return it, its history and the seconds it took."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    networks = dcgan(images.shape[1:], LATENT, CHANNELS)
    gan = kgp.GANModel(*networks, latent_dim=LATENT, ema_decay=0.99, seed=seed)
    gan.compile(
        keras.optimizers.Adam(1e-3, beta_1=0.5, beta_2=0.99),
        keras.optimizers.Adam(1e-3, beta_1=0.5, beta_2=0.99),
    )
    callbacks = []
    if MODES[variant]:
        schedule = kgp.Cubic(sparsity, begin_step=3 * steps // 10, end_step=65 * steps // 100)
        callbacks.append(
            kgp.Prune(
                schedule, "generator", frequency=max(1, steps // 60), verbose=0, **MODES[variant]
            )
        )
    whole = images[: len(images) // BATCH * BATCH]
    per_epoch = len(whole) // BATCH
    begin = time.perf_counter()
    history = gan.fit(
        whole, batch_size=BATCH, epochs=-(-steps // per_epoch), verbose=0, callbacks=callbacks
    )
    return gan, history.history, time.perf_counter() - begin


def measure(
    variant: str, seed: int, images: np.ndarray, steps: int, sparsity: float, evaluator: Evaluator
) -> Run:
    """Train and evaluate one run."""
    gan, history, seconds = train(variant, seed, images, steps, sparsity)
    distance, classes = evaluator.measure(gan.generate(FAKES, seed=1000 + seed))
    last = max(1, len(history["generator_loss"]) // 10)
    report = kgp.sparsity_report(gan.generator)
    kernels = [w for w in gan.generator.weights if len(w.shape) > 1]
    nonzero = sum(int(np.count_nonzero(np.array(w))) for w in kernels)
    total = sum(int(np.prod(w.shape)) for w in kernels)
    if MODES[variant] and nonzero > report.kept:
        raise RuntimeError(f"{variant}: {nonzero} weights are not zero, {report.kept} are kept.")
    kept = report.kept if MODES[variant] else total
    return Run(
        variant,
        seed,
        distance,
        classes,
        statistics.fmean(history["generator_loss"][-last:]),
        statistics.fmean(history["discriminator_loss"][-last:]),
        kept,
        total,
        seconds,
    )


# --- the table --------------------------------------------------------------------------------------


def _spread(values: list[float], digits: int = 2) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ({spread:.{digits}f})"


def _row(variant: str, runs: list[Run]) -> list[str]:
    own = [run for run in runs if run.variant == variant]
    hard = {run.seed: run.distance for run in runs if run.variant == "hard"}
    ratios = [run.distance / hard[run.seed] for run in own]
    return [
        variant,
        f"{own[0].kept:,} of {own[0].total:,}",
        _spread([run.distance for run in own]),
        f"{statistics.fmean(ratios):.2f}",
        _spread([run.classes for run in own]),
        _spread([run.generator_loss for run in own]),
        _spread([run.discriminator_loss for run in own]),
        f"{statistics.fmean(run.seconds for run in own):.0f}",
    ]


def main() -> None:
    """Train every variant with every seed and print one table."""
    parser = _bench.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant, default 3")
    parser.add_argument("--sparsity", type=float, default=0.9, help="of the generator, default 0.9")
    parser.add_argument("--steps", type=int, help="training steps of each run, default 4,000")
    options = parser.parse_args()
    surroundings = _bench.environment()
    seeds = 1 if options.quick else options.seeds
    steps = options.steps or (400 if options.quick else 4000)
    digits = datasets.load("digits")
    evaluator = Evaluator(digits.images, digits.labels)
    runs = []
    for seed in range(seeds):
        for variant in MODES:
            runs.append(measure(variant, seed, digits.images, steps, options.sparsity, evaluator))
            print(f"{variant}, seed {seed}: {runs[-1].distance:.2f}", flush=True)
    _bench.publish(
        f"Digits, generator at {options.sparsity:.0%} sparsity, {steps:,} steps, {seeds} seed(s)",
        [
            "variant",
            "kernel weights kept",
            "distance (sd)",
            "to hard",
            "classes (sd)",
            "generator loss",
            "discriminator loss",
            "seconds",
        ],
        [_row(variant, runs) for variant in MODES],
        [
            *NOTES,
            f"The classifier recognises {evaluator.accuracy:.1%} of the held-out digits; real against real: "
            f"{evaluator.floor:.2f}.",
        ],
        [asdict(run) for run in runs],
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
