"""Trains one kind of GAN with BackupAndRestore, and kills itself at a batch on request. See test_kills.py.

Usage: kill_script.py KIND FOLDER KILL_AT_BATCH|0
"""

import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

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


DECAY = kgp.PolynomialDecay(0.8, begin_step=2, end_step=STEPS - 6)
PRUNES = {
    "gan_model": lambda: kgp.Prune(DECAY, ["generator", "discriminator"], 4, verbose=0),
    "foreign": lambda: kgp.Prune(DECAY, ["G", "D"], 4, verbose=0),
    "rigl": lambda: kgp.Prune(0.5, "generator", 4, mode=kgp.RigL(), verbose=0),
    "soft": lambda: kgp.Prune(DECAY, "generator", 4, mode="soft", verbose=0),
    "taylor": lambda: kgp.Prune(DECAY, "generator", 4, criterion=kgp.Taylor(batches=2), verbose=0),
    "adaptive": lambda: kgp.Prune(
        kgp.AdaptiveSparsity("quality", 0.1, increment=0.2, minimum_increment=0.05),
        "generator",
        verbose=0,
    ),
}


def make(kind):
    """Return a compiled GAN whose optimizers are built."""
    keras.utils.set_random_seed(0)
    optimizers = [keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-2)]
    if kind == "foreign":
        gan = ForeignGAN(*networks(dropout=False))
        gan.compile(*optimizers)
    else:
        # On PyTorch, Keras draws dropout from the generator of PyTorch, which no file holds.
        dropout = keras.backend.backend() != "torch"
        gan = kgp.GANModel(*networks(dropout), LATENT, seed=1, ema_decay=0.9, balance_frequency=0)
        gan.compile(*optimizers)
    pair = (gan.G, gan.D) if kind == "foreign" else (gan.generator, gan.discriminator)
    # Keras restores the state of an optimizer only if it is built.
    for optimizer, network in zip(optimizers, pair, strict=True):
        if not optimizer.built:
            optimizer.build(network.trainable_variables)
    return gan, optimizers


def train(kind, folder, kill_at):
    gan, optimizers = make(kind)
    backup = keras.callbacks.BackupAndRestore(
        f"{folder}/backup", save_freq="epoch", double_checkpoint=True
    )
    callbacks = [Script(), PRUNES[kind](), backup, *([KillAt(kill_at)] if kill_at else [])]
    x = np.random.default_rng(0).uniform(-1, 1, (4 * BATCHES, 4, 4, 1)).astype("float32")
    gan.fit(x, batch_size=4, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)
    arrays = [*gan.weights, *(w.mask for w in kgp.masked_weights(gan))]
    arrays += [v for optimizer in optimizers for v in optimizer.variables]
    return [keras.ops.convert_to_numpy(array) for array in arrays]


if __name__ == "__main__":
    kind, folder, kill_at = sys.argv[1:]
    arrays = train(kind, folder, int(kill_at))
    np.savez(pathlib.Path(folder) / "end.npz", *arrays)
