"""Prunes both generators of a CycleGAN, a Keras model with its own `train_step` and four optimizers.

    python examples/cyclegan.py [--epochs 30] [--sparsity 0.8]

Nothing in the class knows of pruning: two callbacks of `fit` are all that is added. The one domain holds
handwritten digits, the other one the outlines of other digits, so there are no pairs.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_ganprune as kgp
from keras_ganprune import datasets

BATCH = 32


def domains():
    """Return the images of two domains in [-1, 1], made of different digits."""
    images = datasets.load("digits").images
    half = len(images) // 2
    # The border of what is bright: its maximum over 3 x 3 pixels, less itself.
    wide = keras.ops.convert_to_numpy(
        keras.ops.max_pool(images[half:], 3, strides=1, padding="same")
    )
    return images[:half], wide - images[half:] - 1.0


def generator(name, channels=32):
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(channels, 3, padding="same", activation="relu")(image)
    for _ in range(2):
        y = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = layers.Add()([x, layers.Conv2D(channels, 3, padding="same")(y)])
    return keras.Model(image, layers.Conv2D(1, 3, padding="same", activation="tanh")(x), name=name)


def discriminator(name, channels=32):
    image = keras.Input((8, 8, 1))
    x = layers.LeakyReLU(0.2)(layers.Conv2D(channels, 4, 2, padding="same")(image))
    x = layers.LeakyReLU(0.2)(layers.Conv2D(2 * channels, 3, padding="same")(x))
    return keras.Model(image, layers.Conv2D(1, 3, padding="same")(x), name=name)


class CycleGAN(keras.Model):
    """F translates to domain B, G back to domain A; each discriminator knows one domain."""

    def __init__(self, cycle_weight=10.0, identity_weight=5.0):
        super().__init__()
        self.to_b, self.to_a = generator("to_b"), generator("to_a")
        self.judge_a, self.judge_b = discriminator("judge_a"), discriminator("judge_b")
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight

    def compile(self, make_optimizer):
        super().compile()
        self.to_b_optimizer, self.to_a_optimizer = make_optimizer(), make_optimizer()
        self.judge_a_optimizer, self.judge_b_optimizer = make_optimizer(), make_optimizer()

    def train_step(self, data):
        a, b = data
        with tf.GradientTape(persistent=True) as tape:
            fake_b, fake_a = self.to_b(a, training=True), self.to_a(b, training=True)
            cycle = l1(self.to_a(fake_b, training=True), a) + l1(
                self.to_b(fake_a, training=True), b
            )
            same = l1(self.to_a(a, training=True), a) + l1(self.to_b(b, training=True), b)
            losses, shared = {}, self.cycle_weight * cycle + self.identity_weight * same
            for domain, real, fake in (("a", a, fake_a), ("b", b, fake_b)):
                judge = getattr(self, f"judge_{domain}")
                on_fake = judge(fake, training=True)
                losses[f"to_{domain}"] = squared(on_fake, 1.0) + shared
                losses[f"judge_{domain}"] = 0.5 * (
                    squared(judge(real, training=True), 1.0)
                    + squared(judge(tf.stop_gradient(fake), training=True), 0.0)
                )
        for name, loss in losses.items():
            weights = getattr(self, name).trainable_weights
            gradients = tape.gradient(loss, weights)
            getattr(self, f"{name}_optimizer").apply_gradients(zip(gradients, weights, strict=True))
        return {"cycle": cycle, **losses}


def l1(x, y):
    return tf.reduce_mean(tf.abs(x - y))


def squared(logits, label):
    return tf.reduce_mean(tf.square(logits - label))


def main(epochs, sparsity):
    keras.utils.set_random_seed(1)
    a, b = domains()
    n = min(len(a), len(b))
    data = tf.data.Dataset.zip(
        tuple(tf.data.Dataset.from_tensor_slices(x[:n]).shuffle(n, seed=1) for x in (a, b))
    ).batch(BATCH, drop_remainder=True)
    gan = CycleGAN()
    gan.compile(lambda: keras.optimizers.Adam(1e-3, beta_1=0.5))
    steps = epochs * len(data)
    schedule = kgp.PolynomialDecay(sparsity, begin_step=steps // 4, end_step=steps * 3 // 4)
    prunes = [kgp.Prune(schedule, target, frequency=5) for target in ("to_b", "to_a")]
    history = gan.fit(data, epochs=epochs, callbacks=prunes, verbose=0).history

    back = gan.to_a.predict(gan.to_b.predict(a, verbose=0), verbose=0)
    print(f"cycle {history['cycle'][-1]:.4f}, round trip {np.mean(np.abs(back - a)):.4f}")
    for name in ("to_b", "to_a"):
        report = kgp.sparsity_report(getattr(gan, name))
        print(f"{name}: {report.sparsity:.3f} of {report.total} weights pruned")
        small = kgp.strip_pruning(getattr(gan, name))
        assert np.allclose(
            small.predict(a[:4], verbose=0), getattr(gan, name).predict(a[:4], verbose=0)
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--sparsity", type=float, default=0.8)
    arguments = parser.parse_args()
    main(arguments.epochs, arguments.sparsity)
