"""Distillation: the distance to a teacher, and that the teacher is no part of the model."""

import keras
import networks as nets
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.training import discovery


def teacher(seed=7, **kwargs):
    network = nets.mlp_generator(name="dense", **kwargs)
    nets.filled(network, seed)
    return network


def gan_model(*, pair=None, compiled=True, optimizer=None, eager=False, **kwargs):
    keras.utils.set_random_seed(1)
    gan = kgp.GANModel(*(pair or nets.mlp_pair()), nets.LATENT, seed=1, **kwargs)
    if compiled:
        make = optimizer or (lambda: keras.optimizers.Adam(1e-2))
        gan.compile(make(), make(), run_eagerly=eager)
    return gan


def latent(n=5):
    return np.random.default_rng(4).normal(size=(n, nets.LATENT)).astype("float32")


def to_numpy(x):
    return keras.ops.convert_to_numpy(x)


def test_distance_is_the_formula():
    guide = teacher()
    gan = gan_model(teacher=guide, distillation=kgp.Distillation(output=2.0, features=3.0))
    z = latent()
    made, wanted = to_numpy(gan.generator(z)), to_numpy(guide(z))
    hidden = keras.Model(gan.discriminator.inputs[0], gan.discriminator.layers[-1].input)
    seen, shown = to_numpy(hidden(made)), to_numpy(hidden(wanted))
    expected = 2.0 * np.abs(made - wanted).mean() + 3.0 * ((seen - shown) ** 2).mean() / (
        (shown**2).mean() + 1e-6
    )
    got = to_numpy(gan.distance_to_teacher(z, None, gan.generator(z)))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_layers_choose_the_features():
    gan = gan_model(compiled=False)
    first = gan.discriminator.layers[0].name
    gan.set_teacher(teacher(), kgp.Distillation(output=0.0, features=1.0, layers=[first]))
    z = latent()
    made, wanted = to_numpy(gan.generator(z)), to_numpy(gan.teacher(z))
    layer = keras.Model(gan.discriminator.inputs[0], gan.discriminator.layers[0].output)
    a, b = to_numpy(layer(made)), to_numpy(layer(wanted))
    expected = ((a - b) ** 2).mean() / ((b**2).mean() + 1e-6)
    np.testing.assert_allclose(
        to_numpy(gan.distance_to_teacher(z, None, made)), expected, rtol=1e-5
    )


@pytest.mark.full
@pytest.mark.parametrize(
    "settings",
    [
        {"output": 50.0},
        pytest.param({"output": 0.0, "features": 20.0}, marks=pytest.mark.full),
    ],
    ids=str,
)
def test_a_pruned_generator_comes_closer_to_its_teacher(settings):
    guide = teacher()
    gan = gan_model(teacher=guide, distillation=kgp.Distillation(**settings))
    frozen = [np.copy(w) for w in guide.get_weights()]
    z = latent(64)
    prune = kgp.Prune(0.5, target="generator", frequency=1)
    history = gan.fit(
        nets.images(64), batch_size=8, epochs=6, verbose=0, callbacks=[prune]
    ).history["distillation_loss"]
    assert history[-1] < 0.7 * history[0]
    nets.assert_exact(0.5, gan.generator)
    for before, own, copy in zip(
        frozen, guide.get_weights(), gan.teacher.get_weights(), strict=True
    ):
        assert np.array_equal(before, own) and np.array_equal(before, copy)
    assert to_numpy(gan.teacher(z)).std() > 0


def test_the_teacher_is_no_part_of_the_model():
    gan, plain = (
        gan_model(teacher=teacher(), ema_decay=0.9, eager=True),
        gan_model(ema_decay=0.9),
    )
    assert len(gan.weights) == len(plain.weights)
    assert gan.count_params() == plain.count_params()
    assert discovery.networks(gan).keys() == discovery.networks(plain).keys()
    prune = kgp.Prune(0.5, frequency=1, verbose=0)
    gan.fit(nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[prune])
    assert all(np.count_nonzero(w) == w.size for w in gan.teacher.get_weights() if w.ndim > 1)
    nets.assert_exact(0.5, gan.generator, gan.discriminator)


@pytest.mark.full
def test_a_network_can_be_its_own_teacher():
    gan = gan_model(ema_decay=0.9)
    gan.fit(nets.images(), batch_size=8, verbose=0)
    gan.set_teacher(gan.sampler)
    before = gan.teacher.get_weights()
    prune = kgp.Prune(0.8, target="generator", frequency=1, verbose=0)
    gan.fit(nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[prune])
    for a, b in zip(before, gan.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    nets.assert_exact(0.8, gan.generator, gan.ema_generator)


@pytest.mark.full
def test_a_teacher_can_be_set_and_removed_between_fits():
    gan = gan_model()
    assert "distillation_loss" not in gan.fit(nets.images(8), verbose=0).history
    gan.set_teacher(teacher(), 3.0)
    assert gan.distillation == kgp.Distillation(output=3.0)
    assert gan.fit(nets.images(8), verbose=0).history["distillation_loss"][0] > 0
    gan.set_teacher(None)
    assert gan.teacher is None and gan.distillation is None
    assert "distillation_loss" not in gan.fit(nets.images(8), verbose=0).history


def test_generator_loss_does_not_include_the_distance():
    logs = [
        gan_model(teacher=guide, optimizer=lambda: keras.optimizers.SGD(0.0), eager=True)
        .fit(nets.images(8), batch_size=8, verbose=0)
        .history["generator_loss"][0]
        for guide in (None, teacher())
    ]
    assert logs[0] == pytest.approx(logs[1], rel=1e-6)


@pytest.mark.full
def test_saved_and_loaded(tmp_path):
    gan = gan_model(teacher=teacher(), distillation=kgp.Distillation(1.0, 0.5))
    gan.fit(nets.images(), batch_size=8, verbose=0)
    gan.save(tmp_path / "gan.keras")
    again = kgp.load_model(tmp_path / "gan.keras")
    assert again.distillation == gan.distillation
    for model in (gan, again):
        model.fit(nets.images(), batch_size=8, verbose=0, shuffle=False)
    for a, b in zip(gan.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    gan.save_weights(tmp_path / "gan.weights.h5")
    other = gan_model(teacher=teacher(seed=8), distillation=kgp.Distillation(1.0, 0.5))
    other.load_weights(tmp_path / "gan.weights.h5")
    for a, b in zip(gan.teacher.get_weights(), other.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.full
def test_conditional_and_half_precision():
    generator, discriminator = nets.conditional_pair()
    gan = gan_model(pair=(generator, discriminator))
    gan.set_teacher(generator, kgp.Distillation(1.0, 1.0))
    logs = gan.fit(nets.images(), nets.labels(), batch_size=8, verbose=0).history
    assert np.isfinite(logs["distillation_loss"][0])
    half = nets.mlp_pair(dtype="mixed_float16")
    gan = gan_model(pair=half, teacher=half[0], distillation=kgp.Distillation(1.0, 1.0))
    logs = gan.fit(nets.images(), batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(logs["distillation_loss"]).all()


def test_bad_teachers():
    with pytest.raises(InvalidArgumentError, match="`distillation` needs a `teacher`"):
        gan_model(distillation=1.0)
    with pytest.raises(ArgumentTypeError, match=r"`teacher` must be a `keras\.Model`"):
        gan_model(teacher="generator")
    with pytest.raises(ArgumentTypeError, match="`distillation` must be None, a number"):
        gan_model(teacher=teacher(), distillation="output")
    wrong = keras.Sequential([keras.Input((nets.LATENT,)), keras.layers.Dense(3)])
    with pytest.raises(InvalidArgumentError, match="must make images of the generator's shape"):
        gan_model(teacher=wrong)
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(UnbuiltModelError, match="`teacher` has no weights yet"):
        gan_model(teacher=unbuilt)


def test_bad_distillations():
    with pytest.raises(InvalidArgumentError, match="must not all be 0"):
        kgp.Distillation(0.0, 0.0)
    with pytest.raises(InvalidArgumentError, match="`output` must be a non-negative number"):
        kgp.Distillation(-1.0)
    with pytest.raises(InvalidArgumentError, match="`layers` needs `features` above 0"):
        kgp.Distillation(1.0, layers=["dense"])
    with pytest.raises(InvalidArgumentError, match="`layers` must be names of layers"):
        gan_model(teacher=teacher(), distillation=kgp.Distillation(1.0, 1.0, ["nothing"]))

    class Judge(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = keras.layers.Dense(1)

        def call(self, x):
            return self.last(keras.ops.reshape(x, (-1, nets.SIZE**2)))

    pair = (nets.mlp_generator(), Judge())
    with pytest.raises(UnsupportedLayerError, match="is a subclassed model"):
        gan_model(pair=pair, teacher=teacher(), distillation=kgp.Distillation(1.0, 1.0))
