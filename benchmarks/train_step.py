"""Whole GAN training steps, as ratios within one run.

    python benchmarks/train_step.py [--quick] [--json OUT] [--markdown] [--only NAME ...]

Each row compares two ways to do one training step (one discriminator and one generator update, with
Adam) of the same networks on the same batch:

* pruned at 80 % (both networks; the masks are set once, before) against dense, in `GANModel`;
* two equal dense models against each other: how far from 1 noise alone goes;
* the dense `GANModel` against a plain `train_step` that runs the generator once for each network;
* TFMOT's pruning wrappers on tf_keras (the same networks, masks set once, before) against the same
  step without them.

What is timed is the compiled train function, as `fit` runs it, after compilation and warm-up. All
candidates of a row run in turns in one process. The ratio is the median over all rounds, with quartiles.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import _bench
import keras
import numpy as np
import tensorflow as tf

import keras_ganprune as kgp

SPARSITY = 0.8
LATENT = 100
SEED = 7
#: Steps after which every candidate has shown all its costs: `GANModel` measures the balance of the
#: two networks every 50 steps.
CYCLE = 50


# --- networks, for Keras 3 and for tf_keras alike ---------------------------------------------------


def mlp(k: Any) -> tuple[Any, Any]:
    """The fully connected GAN: generator 100-256-512-1024-784, discriminator 784-512-1024-1."""
    layers = k.layers
    generator = [k.Input((LATENT,))]
    for width in (256, 512, 1024):
        generator += [layers.Dense(width), layers.LeakyReLU(0.2)]
    discriminator = [k.Input((784,))]
    for width in (512, 1024):
        discriminator += [layers.Dense(width), layers.LeakyReLU(0.2)]
    return (
        k.Sequential([*generator, layers.Dense(784, activation="tanh")]),
        k.Sequential([*discriminator, layers.Dense(1)]),
    )


def dcgan(k: Any, normalize: Callable[[Any], Any] = lambda layer: layer) -> tuple[Any, Any]:
    """A DCGAN for 28x28 images; `normalize` wraps the layers of the discriminator."""
    layers = k.layers
    generator = k.Sequential(
        [
            k.Input((LATENT,)),
            layers.Dense(7 * 7 * 128, use_bias=False),
            layers.Reshape((7, 7, 128)),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Conv2DTranspose(64, 4, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="tanh"),
        ]
    )
    discriminator = k.Sequential(
        [
            k.Input((28, 28, 1)),
            normalize(layers.Conv2D(64, 4, strides=2, padding="same")),
            layers.LeakyReLU(0.2),
            normalize(layers.Conv2D(128, 4, strides=2, padding="same")),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            normalize(layers.Dense(1)),
        ]
    )
    return generator, discriminator


def sn_dcgan(k: Any) -> tuple[Any, Any]:
    """The DCGAN with spectral normalisation in the discriminator."""
    return dcgan(k, k.layers.SpectralNormalization)


def _images(generator: Any, batch: int) -> np.ndarray:
    shape = (batch, *generator.output_shape[1:])
    return np.random.default_rng(SEED).uniform(-1.0, 1.0, shape).astype("float32")


# --- candidates: name -> function that runs n steps -------------------------------------------------


class Steps:
    """Runs the compiled train function of a Keras 3 model on one batch, again and again."""

    def __init__(self, model: keras.Model, images: np.ndarray):
        self.model = model
        self.networks = (model.generator, model.discriminator)
        self.batches = iter(tf.data.Dataset.from_tensors(tf.constant(images)).repeat())
        model.make_train_function()

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            logs = self.model.train_function(self.batches)
        float(next(iter(logs.values())))  # waits until the last step is done


def _compiled(model: keras.Model) -> keras.Model:
    model.compile(
        generator_optimizer=keras.optimizers.Adam(2e-4, beta_1=0.5),
        discriminator_optimizer=keras.optimizers.Adam(2e-4, beta_1=0.5),
    )
    return model


def dense(networks: Callable, batch: int) -> Steps:
    """`GANModel`, nothing pruned."""
    keras.utils.set_random_seed(SEED)
    generator, discriminator = networks(keras)
    gan = kgp.GANModel(generator, discriminator, latent_dim=LATENT, seed=SEED)
    return Steps(_compiled(gan), _images(generator, batch))


def pruned(networks: Callable, batch: int) -> Steps:
    """`GANModel` with both networks pruned; the masks hold during all timed steps."""
    steps = dense(networks, batch)
    pruner = kgp.Pruner(steps.model.generator, steps.model.discriminator)
    pruner.update(sparsity=SPARSITY)
    return steps


class TwiceGAN(keras.Model):
    """The plain custom GAN: the generator runs once for each of the two updates.

    Real and generated images go through the discriminator in one joint batch, and two running means
    are logged, as in the usual Keras tutorials.
    """

    def __init__(self, generator: keras.Model, discriminator: keras.Model):
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.noise = keras.random.SeedGenerator(SEED)
        self.means = {name: keras.metrics.Mean(name=name) for name in ("d_loss", "g_loss")}
        self.bce = keras.losses.BinaryCrossentropy(from_logits=True)

    def compile(self, generator_optimizer, discriminator_optimizer):
        super().compile()
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer

    @property
    def metrics(self):
        return list(self.means.values())

    def train_step(self, images):
        count = tf.shape(images)[0]
        draw = lambda: keras.random.normal((count, LATENT), seed=self.noise)  # noqa: E731
        made = self.generator(draw(), training=True)
        joint = tf.concat([images, made], axis=0)
        wanted = tf.concat([tf.ones((count, 1)), tf.zeros((count, 1))], axis=0)
        with tf.GradientTape() as tape:
            d_loss = self.bce(wanted, self.discriminator(joint, training=True))
        _descend(tape, d_loss, self.discriminator, self.discriminator_optimizer)
        with tf.GradientTape() as tape:
            made = self.generator(draw(), training=True)
            g_loss = self.bce(tf.ones((count, 1)), self.discriminator(made, training=True))
        _descend(tape, g_loss, self.generator, self.generator_optimizer)
        self.means["d_loss"].update_state(d_loss)
        self.means["g_loss"].update_state(g_loss)
        return {name: mean.result() for name, mean in self.means.items()}


def _descend(tape: tf.GradientTape, loss: Any, network: Any, optimizer: Any) -> None:
    weights = network.trainable_weights
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))


def twice(networks: Callable, batch: int) -> Steps:
    """The plain step with two generator runs."""
    keras.utils.set_random_seed(SEED)
    generator, discriminator = networks(keras)
    return Steps(_compiled(TwiceGAN(generator, discriminator)), _images(generator, batch))


class LegacySteps:
    """A hand-written `tf.function` GAN step on tf_keras networks, with or without TFMOT's wrappers.

    The step is the one of `GANModel` without its logs: one generator run serves both updates.
    """

    def __init__(self, networks: Callable, batch: int, prune: bool):
        import tf_keras

        tf_keras.utils.set_random_seed(SEED)
        self.networks = networks(tf_keras)
        self.images = tf.constant(_images(self.networks[0], batch))
        self.callbacks = []
        if prune:
            self.networks = tuple(_with_tfmot(network) for network in self.networks)
            self.callbacks = [_tfmot_callback(network) for network in self.networks]
        self.optimizers = [tf_keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in self.networks]
        for optimizer, network in zip(self.optimizers, self.networks, strict=True):
            optimizer.build(network.trainable_variables)
        self.bce = tf_keras.losses.BinaryCrossentropy(from_logits=True)
        self.step = tf.function(self._step)

    def _step(self):
        (generator, discriminator), (g_optimizer, d_optimizer) = self.networks, self.optimizers
        noise = tf.random.normal((self.images.shape[0], LATENT))
        with tf.GradientTape() as outer:
            made = generator(noise, training=True)
            with outer.stop_recording():
                with tf.GradientTape() as tape:
                    real = discriminator(self.images, training=True)
                    fake = discriminator(tf.stop_gradient(made), training=True)
                    d_loss = self.bce(tf.ones_like(real), real) + self.bce(
                        tf.zeros_like(fake), fake
                    )
                _descend(tape, d_loss, discriminator, d_optimizer)
            fake = discriminator(made, training=True)
            g_loss = self.bce(tf.ones_like(fake), fake)
        _descend(outer, g_loss, generator, g_optimizer)
        return g_loss

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            loss = self.step()
        float(loss)

    def finish(self) -> None:
        """Do what TFMOT does at the end of an epoch: mask what the last update filled in."""
        for callback in self.callbacks:
            callback.on_epoch_end(0)


def _with_tfmot(network: Any) -> Any:
    """Wrap a tf_keras network; the schedule computes the masks at the first step and never again."""
    from tensorflow_model_optimization.sparsity import keras as tfmot

    schedule = tfmot.ConstantSparsity(SPARSITY, begin_step=1, end_step=1, frequency=1)
    return tfmot.prune_low_magnitude(network, pruning_schedule=schedule)


def _tfmot_callback(network: Any) -> Any:
    """Start the step counters of the wrappers, as TFMOT asks of a hand-written loop."""
    from tensorflow_model_optimization.sparsity import keras as tfmot

    callback = tfmot.UpdatePruningStep()
    callback.set_model(network)
    callback.on_train_begin()
    return callback


def tfmot_pruned(networks: Callable, batch: int) -> LegacySteps:
    """tf_keras with TFMOT's wrappers on both networks."""
    return LegacySteps(networks, batch, prune=True)


def tfmot_dense(networks: Callable, batch: int) -> LegacySteps:
    """The same tf_keras step without wrappers."""
    return LegacySteps(networks, batch, prune=False)


# --- what is compared -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """One row of the table: how long `over` takes, as a multiple of `under`."""

    name: str
    over: str
    under: str
    target: float | None = None
    cycle: bool = False  # compare whole cycles of steps, since not all steps cost the same


@dataclass(frozen=True)
class Setting:
    """Networks and batch size, the candidates that run in turns, and what is compared."""

    name: str
    networks: Callable
    batch: int
    candidates: dict[str, Callable]
    comparisons: tuple[Comparison, ...]
    cycles: int
    steps: int = 5  # steps a block


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
    target: float | None
    rounds: int
    steps: int


_OURS = {"dense": dense, "dense again": dense, "pruned": pruned}
_TFMOT = {"tfmot dense": tfmot_dense, "tfmot pruned": tfmot_pruned}
_TWICE = {"twice": twice}
_CONTROL = Comparison("control: dense / dense", "dense again", "dense")
_SHARED = Comparison("dense / generator twice", "dense", "twice", 0.90, cycle=True)
_PEER = Comparison("TFMOT: pruned / dense (tf_keras)", "tfmot pruned", "tfmot dense")


def _pruned_row(target: float) -> Comparison:
    return Comparison("pruned / dense", "pruned", "dense", target)


SETTINGS = (
    Setting("MLP", mlp, 32, {**_OURS, **_TFMOT}, (_pruned_row(1.06), _CONTROL, _PEER), 12),
    Setting("MLP", mlp, 128, {**_OURS, **_TFMOT}, (_pruned_row(1.06), _CONTROL, _PEER), 8),
    Setting(
        "DCGAN",
        dcgan,
        64,
        {**_OURS, **_TWICE, **_TFMOT},
        (_pruned_row(1.03), _CONTROL, _SHARED, _PEER),
        6,
    ),
    Setting("SN-DCGAN", sn_dcgan, 64, _OURS, (_pruned_row(1.03), _CONTROL), 6),
)

HEADER = (
    "GAN",
    "batch",
    "compared",
    "first ms (min)",
    "second ms (min)",
    "ratio [quartiles]",
    "of minima",
    "target",
)

NOTES = (
    "A ratio is the median over rounds [quartiles] of paired blocks of 5 steps; below 1, the first is "
    "faster. Control rows compare two equal models: a distance from 1 within theirs is noise.",
    "The row 'generator twice' compares cycles of 50 steps, so that the balance measurement of "
    "`GANModel`, every 50 steps, is paid for in full. The plain step logs two means, `GANModel` five.",
    "TFMOT: the same networks, batch, optimizer and loss on tf_keras, in a hand-written `tf.function` "
    "that runs the generator once, in the same process and in turns with the others. Its masks are "
    "computed at the first step only, outside the timing, as ours are; the ratio is against the same "
    "tf_keras step without wrappers. The wrappers re-apply the masks in each of the discriminator's three "
    "forward passes; that is how they work.",
    "All timings follow compilation and warm-up, with TensorFlow's own thread settings.",
)


def measure(setting: Setting, quick: bool) -> list[Result]:
    """Build the candidates of a setting, warm them up, run them in turns and compare."""
    with _fresh_state():
        running = {
            n: make(setting.networks, setting.batch) for n, make in setting.candidates.items()
        }
        for run in running.values():
            run(1 if quick else 2 * setting.steps)
        rounds = (1 if quick else setting.cycles) * CYCLE // setting.steps
        seconds = _bench.interleave(running, rounds, setting.steps)
        _verify(running)
    return [_result(setting, comparison, seconds) for comparison in setting.comparisons]


@contextmanager
def _fresh_state() -> Iterator[None]:
    """Let go of the models of one setting before the next."""
    gc.collect()
    yield
    keras.backend.clear_session()
    gc.collect()


def _verify(running: dict[str, Any]) -> None:
    """Make sure that what ran as pruned is pruned, and that the rest is not."""
    for name, run in running.items():
        if isinstance(run, LegacySteps):
            run.finish()
        kernels = [w.numpy() for n in run.networks for w in n.trainable_weights if len(w.shape) > 1]
        zeros = 1.0 - sum(map(np.count_nonzero, kernels)) / sum(k.size for k in kernels)
        wanted = SPARSITY if name.endswith("pruned") else 0.0
        if abs(zeros - wanted) > 0.01:
            raise RuntimeError(f"'{name}' ran at a sparsity of {zeros:.3f}, not {wanted}.")


def _result(setting: Setting, row: Comparison, seconds: dict[str, list[float]]) -> Result:
    over, under = seconds[row.over], seconds[row.under]
    middle = lambda values: 1e3 * float(np.median(values))  # noqa: E731
    return Result(
        setting.name,
        setting.batch,
        row.name,
        middle(over),
        middle(under),
        1e3 * min(over),
        1e3 * min(under),
        _bench.ratio(over, under, CYCLE // setting.steps if row.cycle else 1),
        row.target,
        len(over),
        setting.steps,
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
        "" if result.target is None else f"<= {result.target:.2f}",
    ]


def main() -> None:
    """Run the settings that are asked for and print one table."""
    parser = _bench.parser(__doc__)
    names = sorted({setting.name for setting in SETTINGS})
    parser.add_argument("--only", nargs="+", choices=names, help="run these networks only")
    options = parser.parse_args()
    surroundings = _bench.environment()
    chosen = [s for s in SETTINGS if options.only is None or s.name in options.only]
    results = list(itertools.chain.from_iterable(measure(s, options.quick) for s in chosen))
    _bench.publish(
        "Whole GAN training step",
        HEADER,
        [_row(result) for result in results],
        NOTES,
        [asdict(result) for result in results],
        surroundings,
        options,
    )


if __name__ == "__main__":
    main()
