"""Short runs with callbacks that watch them, and an evaluator of images that can follow a script."""

import functools

import keras
import networks as nets
import numpy as np
import pytest
from keras.optimizers import Adam

import keras_ganprune as kgp
from keras_ganprune.errors import DataError

BATCHES = 4
foreign = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="its `train_step` is TensorFlow's"
)


class Report:
    def __init__(self, values, missing=None):
        self.values, self.missing_classes = values, missing

    def to_dict(self):
        return dict(self.values)


class Judge:
    """Stands for `ImageQuality`: returns numbers that differ between sets of images."""

    def __init__(self, script=None, missing=None):
        self.script, self.missing, self.calls = script, missing, []

    def measure_generator(self, generator, n=None, *, seed=0, latent_dim=None):
        network = getattr(generator, "sampler", generator)
        size = latent_dim or network.inputs[0].shape[1]
        z = np.random.default_rng(seed).standard_normal((n or 8, size), dtype="float32")
        images = nets.value(network(z, training=False))
        if not np.isfinite(images).all():
            raise DataError("The images are not finite.")
        turn = len(self.calls)
        self.calls.append((generator, network.get_weights(), images))
        values = {
            "fd": float(np.mean(images)),
            "coverage": float(np.std(images)),
            "precision": float(np.max(images)),
        }
        if self.script is not None:
            values |= {name: float(each[turn]) for name, each in self.script.items()}
        missing = None if self.missing is None else self.missing[turn]
        if missing is not None:
            values["missing_classes"] = float(len(missing))
        return Report(values, missing)


def gan_model(pair=None, make=lambda: Adam(1e-2, 0.5), **kwargs):
    keras.utils.set_random_seed(1)
    kwargs = {"balance_frequency": 0, **kwargs}
    gan = kgp.GANModel(*(pair or nets.mlp_pair)(), nets.LATENT, seed=1, **kwargs)
    gan.compile(make(), make())
    return gan


@functools.cache
def any_gan():
    """Return a GAN that many tests share, because what it has learnt does not matter. It is traced once."""
    return gan_model()


def foreign_gan(cls, make=lambda: Adam(1e-2, 0.5), **kwargs):
    keras.utils.set_random_seed(1)
    gan = cls(**kwargs)
    gan.compile(d_optimizer=make(), g_optimizer=make())
    return gan


def fit(gan, *callbacks, epochs=3, labels=None, **kwargs):
    """Train on four batches per epoch, and return the history."""
    x = nets.images(4 * BATCHES)
    return gan.fit(
        *([x] if labels is None else [x, labels]),
        batch_size=4,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=list(callbacks),
        **kwargs,
    ).history


def state(gan):
    """Return all numbers that training changes."""
    found = [*gan.variables]
    for name in ("generator_optimizer", "discriminator_optimizer", "g_optimizer", "d_optimizer"):
        found += getattr(getattr(gan, name, None), "variables", [])
    return [np.array(nets.value(v)) for v in found]


def assert_same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


WATCHED = pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: gan_model(ema_decay=0.9), id="gan_model"),
        pytest.param(
            lambda: gan_model(nets.dcgan_pair, ema_decay=0.9), id="dcgan", marks=pytest.mark.full
        ),
        pytest.param(
            lambda: foreign_gan(nets.GuideGAN), id="foreign", marks=[foreign, pytest.mark.full]
        ),
    ],
)


def assert_untouched(make, *callbacks, before=(), written=()):
    """Train a GAN that is pruned, with and without callbacks, and compare all that training changes.

    Args:
        make: Function that returns the GAN.
        callbacks: Those that are to leave no trace.
        before: Those of them that must stand before `Prune`.
        written: Names that they add to the logs.
    """

    def train(front, behind):
        keras.utils.set_random_seed(2)
        gan = make()
        prune = kgp.Prune(kgp.PolynomialDecay(0.8, 2, 9), "generator", 3, verbose=0)
        history = fit(gan, *front, prune, *behind)
        return state(gan), history

    without, plain = train((), ())
    watched, history = train(before, callbacks)
    assert_same(without, watched)
    assert {name: values for name, values in history.items() if name not in written} == plain


class Break(keras.callbacks.Callback):
    """Interrupts a run at its third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
