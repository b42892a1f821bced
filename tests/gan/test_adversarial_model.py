"""The base of GAN classes trains whatever its generator is fed: here images instead of latent vectors."""

import keras
import networks as nets
import numpy as np
import pytest
from keras import layers
from keras.optimizers import SGD

import keras_ganprune as kgp
from keras_ganprune.gan.adversarial_model import AdversarialModel

SIDE = 4


class Repaint(AdversarialModel):
    """A generator that maps an image to an image; the discriminator sees pairs of images."""

    def __init__(self, generator, discriminator, teacher=None, distillation=None, **options):
        options = {"balance_frequency": 0, "seed": 1, **options}
        super().__init__(generator, discriminator, "least_squares", **options)
        self.set_teacher(teacher, distillation)

    def unpack(self, data):
        target, source, _ = keras.utils.unpack_x_y_sample_weight(data)
        return target, source

    def generator_inputs(self, condition, draw):
        return condition

    def discriminator_inputs(self, images, condition):
        return [images, condition]


def pair():
    keras.utils.set_random_seed(0)
    source = keras.Input((SIDE, SIDE, 1))
    generator = keras.Model(source, layers.Conv2D(1, 1, use_bias=False)(source))
    image, condition = keras.Input((SIDE, SIDE, 1)), keras.Input((SIDE, SIDE, 1))
    joined = layers.Flatten()(layers.Concatenate()([image, condition]))
    return generator, keras.Model([image, condition], layers.Dense(1, use_bias=False)(joined))


def images(n=8):
    rng = np.random.default_rng(5)
    return rng.uniform(-1, 1, (2, n, SIDE, SIDE, 1)).astype("float32")


def compiled(rate=0.1, eager=True, **options):
    gan = Repaint(*pair(), **options)
    gan.compile(SGD(rate), SGD(rate), run_eagerly=eager)
    return gan


def test_one_step_against_numpy():
    """G(s) = a s and D(x, s) = x u + s v, so both gradients of least squares can be written down."""
    target, source = images()
    gan = compiled()
    a = float(gan.generator.get_weights()[0].ravel()[0])
    w = gan.discriminator.get_weights()[0][:, 0]
    joined = layers.Flatten()(layers.Concatenate()([target, source]))
    assert joined.shape == (8, 2 * SIDE**2)
    gan.fit(target, source, batch_size=8, verbose=0)

    def rows(x):
        return nets.value(layers.Flatten()(layers.Concatenate()([x, source])))

    real, fake = rows(target), rows(a * source)
    slope = (real.T @ (real @ w - 1) + fake.T @ (fake @ w)) / 8
    w = w - 0.1 * slope
    np.testing.assert_allclose(gan.discriminator.get_weights()[0][:, 0], w, rtol=1e-4, atol=1e-6)
    # Only the generated half of the input depends on the generator.
    by_a = rows(source) @ w - rows(0 * source) @ w
    a = a - 0.1 * float(np.mean((fake @ w - 1) * by_a))
    assert float(gan.generator.get_weights()[0].ravel()[0]) == pytest.approx(a, rel=1e-4)


def test_the_other_parts_of_a_gan_work_without_latent_vectors():
    target, source = images()
    gan = compiled(
        eager=False,
        ema_decay=0.9,
        balance_frequency=1,
        gradient_penalty=1.0,
        discriminator_steps=2,
        teacher=pair()[0],
        distillation=kgp.Distillation(1.0, 1.0),
    )
    history = gan.fit(target, source, batch_size=8, verbose=0).history
    logs = gan.evaluate(target, source, verbose=0, return_dict=True)
    for values in (*history.values(), *logs.values()):
        assert np.isfinite(values).all()
    assert {"balance_ratio", "distillation_loss"} <= set(history)
    assert np.isfinite(float(gan.adversarial_loss((target, source))))
    np.testing.assert_array_equal(
        gan.predict(source, verbose=0).shape, nets.value(gan.sampler(source)).shape
    )


def test_the_base_names_what_a_subclass_must_define():
    gan = compiled()
    for call in (
        lambda: AdversarialModel.unpack(gan, None),
        lambda: AdversarialModel.generator_inputs(gan, None, None),
        lambda: AdversarialModel.discriminator_inputs(gan, None, None),
    ):
        with pytest.raises(NotImplementedError):
            call()
