"""`recover`: training under masks, with its own teacher and learning rate."""

import keras
import networks as nets
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError


def gan_model(optimizer=lambda: keras.optimizers.Adam(1e-2), **kwargs):
    keras.utils.set_random_seed(1)
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, seed=1, **kwargs)
    gan.compile(optimizer(), optimizer())
    return gan


def pruned(**kwargs):
    gan = gan_model(**kwargs)
    prune = kgp.Prune(0.75, target="generator", frequency=1, verbose=0)
    gan.fit(nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[prune])
    return gan


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda: keras.optimizers.SGD(1e-2, momentum=0.9), id="sgd", marks=pytest.mark.full
        ),
        pytest.param(
            lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9), id="use_ema"
        ),
    ],
)
def test_masks_stay_and_weights_move(make):
    gan = pruned(optimizer=make, ema_decay=0.9)
    masks = [np.copy(nets.value(w.mask)) for w in kgp.masked_weights(gan.generator)]
    before = gan.generator.get_weights()
    history = kgp.recover(gan, nets.images(), 3, batch_size=8, verbose=0)
    assert len(history.epoch) == 3
    nets.assert_exact(0.75, gan.generator, gan.ema_generator)
    for mask, weight in zip(masks, kgp.masked_weights(gan.generator), strict=True):
        assert np.array_equal(mask, nets.value(weight.mask))
    assert not np.array_equal(before[0], gan.generator.get_weights()[0])


@pytest.mark.full
def test_learning_rate_and_teacher_are_for_this_training_alone():
    gan = pruned()
    dense = gan_model().generator
    first, second = dense, nets.mlp_generator()
    gan.set_teacher(first, 2.0)
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: seen.append(
            (
                [float(nets.value(o.learning_rate)) for o in optimizers(gan)],
                gan.distillation.output,
                gan.teacher.get_weights()[0],
            )
        )
    )
    history = kgp.recover(
        gan,
        nets.images(),
        1,
        teacher=second,
        distillation=5.0,
        learning_rate=1e-3,
        callbacks=[watch],
        verbose=0,
    )
    assert "distillation_loss" in history.history
    rates, weight, taught = seen[0]
    assert rates == pytest.approx([1e-3, 1e-3]) and weight == 5.0
    np.testing.assert_array_equal(taught, second.get_weights()[0])
    assert [float(nets.value(o.learning_rate)) for o in optimizers(gan)] == pytest.approx(
        [1e-2] * 2
    )
    assert gan.distillation.output == 2.0
    np.testing.assert_array_equal(gan.teacher.get_weights()[0], first.get_weights()[0])


def optimizers(gan):
    return gan.generator_optimizer, gan.discriminator_optimizer


@pytest.mark.full
def test_a_classifier_gets_its_accuracy_back():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 8.0 - 1.0).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(48, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x, y, epochs=6, batch_size=64, verbose=0)
    kgp.Pruner(model).update(sparsity=0.85)
    broken = model.evaluate(x, y, verbose=0)[1]
    kgp.recover(model, x, 6, labels=y, batch_size=64, verbose=0)
    mended = model.evaluate(x, y, verbose=0)[1]
    assert broken < 0.85 < 0.95 < mended
    nets.assert_exact(0.85, model)


@pytest.mark.full
def test_a_foreign_gan():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("written with tf.GradientTape")
    gan = nets.GuideGAN()
    gan.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-2))
    kgp.Pruner(gan.generator).update(sparsity=0.5)
    kgp.recover(gan, nets.images(), 2, batch_size=8, verbose=0)
    nets.assert_exact(0.5, gan.generator)
    with pytest.raises(InvalidArgumentError, match="need a `GANModel`"):
        kgp.recover(gan, nets.images(), teacher=gan.generator)


def test_bad_arguments():
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT)
    with pytest.raises(InvalidArgumentError, match="must be compiled"):
        kgp.recover(gan, nets.images())
    with pytest.raises(InvalidArgumentError, match="`learning_rate` must be a positive number"):
        kgp.recover(gan_model(), nets.images(), learning_rate=0)
    scheduled = gan_model(
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 10))
    )
    with pytest.raises(InvalidArgumentError, match="cannot replace the schedule of an optimizer"):
        kgp.recover(scheduled, nets.images(), learning_rate=1e-4)
