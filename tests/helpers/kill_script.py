"""Trains one kind of GAN with BackupAndRestore, and kills itself at a batch on request. See test_kills.py.

Usage: kill_script.py KIND FOLDER KILL_AT_BATCH|0
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import image_pairs
import keras
import numpy as np
from interruptions import KillAt
from keras import layers

import keras_ganprune as kgp

LATENT, EPOCHS, BATCHES = 6, 6, 5
STEPS = EPOCHS * BATCHES


def networks(dropout):
    generator = keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(16, activation="tanh"),
            layers.Reshape((4, 4, 1)),
        ],
        name="generator",
    )
    discriminator = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(8, 3, padding="same"),
            layers.LeakyReLU(),
            *([layers.Dropout(0.2)] if dropout else []),
            layers.Flatten(),
            layers.Dense(1),
        ],
        name="discriminator",
    )
    return generator, discriminator


class ForeignGAN(keras.Model):
    """A GAN as people write it: two networks, two optimizers, its own `train_step`.

    Its noise follows from the step, and it has no dropout: Keras saves no state of a `SeedGenerator`.
    """

    def __init__(self, generator, discriminator):
        super().__init__()
        self.G, self.D = generator, discriminator
        self.bce = keras.losses.BinaryCrossentropy(from_logits=True)
        self.built = True

    def compile(self, g_optimizer, d_optimizer):
        super().compile()
        self.g_optimizer, self.d_optimizer = g_optimizer, d_optimizer

    def losses_of(self, real):
        step = keras.ops.cast(self.g_optimizer.iterations, "float32")
        numbers = keras.ops.cast(keras.ops.arange(1, 4 * LATENT + 1), "float32")
        fake = self.G(
            keras.ops.reshape(keras.ops.sin(numbers * (step + 1.0)), (4, LATENT)), training=True
        )
        on_real, on_fake = self.D(real, training=True), self.D(fake, training=True)
        ones, zeros = keras.ops.ones_like(on_real), keras.ops.zeros_like(on_fake)
        return self.bce(ones, on_fake), self.bce(ones, on_real) + self.bce(zeros, on_fake)

    def train_step(self, real):
        step = {"tensorflow": self.step_of_tensorflow, "torch": self.step_of_torch}
        return step[keras.backend.backend()](real)

    def step_of_tensorflow(self, real):
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            g_loss, d_loss = self.losses_of(real)
        for loss, network, optimizer in self.pairs(g_loss, d_loss):
            weights = network.trainable_weights
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"g_loss": g_loss, "d_loss": d_loss}

    def step_of_torch(self, real):
        import torch

        for number in (0, 1):
            losses = self.losses_of(real)
            loss, network, optimizer = self.pairs(*losses)[number]
            weights = network.trainable_weights
            gradients = torch.autograd.grad(loss, [w.value for w in weights])
            with torch.no_grad():
                optimizer.apply(gradients, weights)
        return {"g_loss": losses[0], "d_loss": losses[1]}

    def pairs(self, g_loss, d_loss):
        return [(d_loss, self.D, self.d_optimizer), (g_loss, self.G, self.g_optimizer)]


class Script(keras.callbacks.Callback):
    """Writes the log that `AdaptiveSparsity` reads: two trials hold, one does not, and so on."""

    values = (1.0, 1.05, 1.2, 1.0, 1.3, 1.0)

    def on_epoch_end(self, epoch, logs=None):
        logs["quality"] = self.values[epoch]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of run: its `Prune`, and what else is not as in the others."""

    prune: Callable[[], keras.callbacks.Callback]
    optimizer: Callable[[], keras.optimizers.Optimizer] = lambda: keras.optimizers.Adam(1e-2)
    gan: dict[str, Any] = dataclasses.field(default_factory=dict)
    compile: dict[str, Any] = dataclasses.field(default_factory=dict)
    policy: str = "float32"


DECAY = kgp.PolynomialDecay(0.8, begin_step=2, end_step=STEPS - 6)


def prune(schedule=DECAY, target="generator", frequency=4, **settings):
    return lambda: kgp.Prune(schedule, target, frequency, verbose=0, **settings)


def adaptive(recovery_epochs=1, **settings):
    search = kgp.AdaptiveSparsity(
        "quality", 0.1, increment=0.2, minimum_increment=0.05, recovery_epochs=recovery_epochs
    )
    return prune(search, **settings)


def loss_of_generator(gan, batch):
    """Return a loss that draws nothing."""
    ones = keras.ops.ones((4, LATENT))
    return keras.ops.mean(keras.ops.square(gan.generator(ones) - batch))


def decaying():
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.7))


# In processes that are killed: test_kills.py.
KINDS = {
    "gan_model": Kind(prune(target=["generator", "discriminator"])),
    "foreign": Kind(prune(target=["G", "D"])),
    "image_to_image": Kind(prune(target=["generator", "discriminator"])),
    "rigl": Kind(prune(0.5, mode=kgp.RigL())),
    "soft": Kind(prune(mode="soft")),
    "taylor": Kind(prune(criterion=kgp.Taylor(batches=2))),
    "adaptive": Kind(adaptive()),
}
IMAGES_TO_IMAGES = ("image_to_image", "optimizers-image_to_image_float16")
# In one process: test_interruptions.py.
GRADIENTS = {
    "gradient": Kind(prune(criterion=kgp.Gradient(batches=3))),
    "squared": Kind(prune(criterion=kgp.Taylor(batches=3, squared=True))),
    "saliency": Kind(prune(criterion=kgp.DiscriminatorSaliency(batches=3))),
    "hybrid": Kind(prune(criterion=kgp.Hybrid({"magnitude": 1.0, kgp.Taylor(3): 2.0}))),
    "loss": Kind(prune(criterion=kgp.Taylor(batches=3), gradient_loss=loss_of_generator)),
    "both": Kind(prune(criterion=kgp.Taylor(3, squared=True), mode=kgp.RigL(batches=2))),
    "rigl": Kind(prune(0.5, mode=kgp.RigL(batches=3))),
    "channels": Kind(prune(criterion=kgp.Taylor(batches=3), granularity="channel")),
    "two_networks": Kind(
        prune(target=["generator", "discriminator"], criterion=kgp.Taylor(batches=3))
    ),
    # Windows that are longer than an epoch, and a first update that waits for its window.
    "long": Kind(prune(frequency=12, criterion=kgp.Taylor(batches=9))),
    "waiting": Kind(prune(kgp.ConstantSparsity(0.5), criterion=kgp.Taylor(batches=8))),
    "waiting_trial": Kind(adaptive(criterion=kgp.Taylor(batches=7))),
    # Several steps a batch, several batches a step, several batches a call.
    "critic": Kind(
        prune(
            kgp.PolynomialDecay(0.8, 6, 3 * STEPS - 6), "discriminator", 11, criterion=kgp.Taylor(5)
        ),
        gan={"discriminator_steps": 3},
    ),
    "accumulation": Kind(
        prune(kgp.PolynomialDecay(0.8, 2, 12), frequency=3, criterion=kgp.Taylor(batches=3)),
        lambda: keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2),
    ),
    "execution": Kind(
        prune(frequency=6, criterion=kgp.Taylor(batches=3)), compile={"steps_per_execution": 2}
    ),
    "float16": Kind(prune(criterion=kgp.Taylor(batches=3)), policy="mixed_float16"),
}
TRIALS = {
    "long_trial": Kind(adaptive(recovery_epochs=2)),
    "long_trial_soft": Kind(adaptive(recovery_epochs=2, mode="splice")),
    "trial_average": Kind(
        adaptive(recovery_epochs=2),
        lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9),
    ),
    "trial_float16": Kind(adaptive(recovery_epochs=2), policy="mixed_float16"),
}
OPTIMIZERS = {
    "momentless": Kind(prune(), lambda: keras.optimizers.SGD(1e-2)),
    "decaying": Kind(prune(), decaying),
    "averaging": Kind(prune(), lambda: keras.optimizers.Adam(1e-2, use_ema=True)),
    "scaled": Kind(prune(), policy="mixed_float16"),
    "image_to_image_float16": Kind(prune(), policy="mixed_float16"),
}
MODES = {
    "set": Kind(prune(0.5, mode="set")),
    "splice": Kind(prune(mode=kgp.Splice(restore="previous"))),
    "soft_channels": Kind(prune(mode="soft", granularity="channel")),
    "rewind": Kind(
        lambda: kgp.Prune(
            kgp.IterativeRewind(0.8, 3, 7, round_steps=6, rewind_step=4),
            "generator",
            verbose=0,
        )
    ),
}
ALL = KINDS | {
    f"{group}-{name}": kind
    for group, kinds in {
        "gradients": GRADIENTS,
        "trials": TRIALS,
        "optimizers": OPTIMIZERS,
        "modes": MODES,
    }.items()
    for name, kind in kinds.items()
}


def make(name):
    """Return a compiled GAN whose optimizers are built."""
    kind = ALL[name]
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(kind.policy)
    optimizers = [kind.optimizer(), kind.optimizer()]
    try:
        if name == "foreign":
            gan = ForeignGAN(*networks(dropout=False))
            gan.compile(*optimizers)
        elif name in IMAGES_TO_IMAGES:
            losses = [kgp.L1Loss(10.0), "perceptual"]
            gan = kgp.ImageToImageGAN(
                *image_pairs.pair(norm=True), reconstruction=losses, seed=1, ema_decay=0.9
            )
            gan.compile(*optimizers)
            optimizers = [gan.generator_optimizer, gan.discriminator_optimizer]
        else:
            # On PyTorch, Keras draws dropout from the generator of PyTorch, which no file holds.
            pair = networks(dropout=keras.backend.backend() != "torch")
            options = {"ema_decay": 0.9, "balance_frequency": 0, **kind.gan}
            gan = kgp.GANModel(*pair, LATENT, seed=1, **options)
            gan.compile(*optimizers, **kind.compile)
            optimizers = [gan.generator_optimizer, gan.discriminator_optimizer]
    finally:
        keras.config.set_dtype_policy("float32")
    pair = (gan.G, gan.D) if name == "foreign" else (gan.generator, gan.discriminator)
    # Keras restores the state of an optimizer only if it is built.
    for optimizer, network in zip(optimizers, pair, strict=True):
        if not optimizer.built:
            optimizer.build(network.trainable_variables)
    return gan, optimizers


def train(name, folder, end=None, early=False):
    """Train, from the backup in the folder if there is one; return the final state as arrays.

    Args:
        name: Key of `ALL`.
        folder: Path of the folder for the backup.
        end: Callback that ends the training early. Defaults to None.
        early: Whether the backup is written before `Prune` sees the end of an epoch. Defaults to False.
    """
    gan, optimizers = make(name)
    backup = keras.callbacks.BackupAndRestore(
        f"{folder}/backup", save_freq="epoch", double_checkpoint=True
    )
    pair = [backup, ALL[name].prune()] if early else [ALL[name].prune(), backup]
    callbacks = [Script(), *pair, *([end] if end else [])]
    x, y = np.random.default_rng(0).uniform(-1, 1, (4 * BATCHES, 4, 4, 1)).astype("float32"), None
    if name in IMAGES_TO_IMAGES:
        x, y = image_pairs.data(n=4 * BATCHES)
    gan.fit(x, y, batch_size=4, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)
    arrays = [*gan.weights, *(w.mask for w in kgp.masked_weights(gan))]
    arrays += [v for optimizer in optimizers for v in optimizer.variables]
    return [keras.ops.convert_to_numpy(array) for array in arrays]


if __name__ == "__main__":
    name, folder, kill_at = sys.argv[1:]
    arrays = train(name, folder, KillAt(int(kill_at)) if int(kill_at) else None)
    np.savez(pathlib.Path(folder) / "end.npz", *arrays)
