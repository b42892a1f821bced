"""A pruned weight is zero at every batch end and after `fit`, whatever writes the weights."""

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from cases import cases
from keras.optimizers import SGD, Adam, AdamW, RMSprop

import keras_ganprune as kgp

SCHEDULE = kgp.PolynomialDecay(0.8, begin_step=1, end_step=5)


def gan_model(pair=None, make=None, compile_options=None, **kwargs):
    gan = kgp.GANModel(
        *(pair or nets.mlp_pair()), nets.LATENT, seed=1, balance_frequency=0, **kwargs
    )
    make = make or (lambda: Adam(1e-2, 0.5))
    gan.compile(make(), make(), **(compile_options or {}))
    return gan


def fit(gan, *callbacks, target=("generator", "discriminator"), epochs=2, x=None, **kwargs):
    """Fit four batches an epoch with both networks pruned; return the watch."""
    names = list(target)
    watch = nets.Watch(*(getattr(gan, name) for name in names))
    prune = kgp.Prune(SCHEDULE, target=names, frequency=2, verbose=0)
    gan.fit(
        nets.images() if x is None else x,
        batch_size=8,
        epochs=epochs,
        verbose=0,
        callbacks=[*callbacks, prune, watch],
        **kwargs,
    )
    return watch


def fit_classifier(model, epochs=2):
    x, y = nets.classifier_data()
    watch = nets.Watch(model)
    prune = kgp.Prune(SCHEDULE, frequency=2, verbose=0)
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[prune, watch])
    return watch


@cases(
    ("ema",),
    "make",
    [
        lambda: Adam(1e-2, 0.5),
        lambda: AdamW(1e-2, weight_decay=0.1),
        lambda: SGD(1e-2, momentum=0.9, nesterov=True),
        lambda: RMSprop(1e-2, momentum=0.9),
        lambda: Adam(1e-2, gradient_accumulation_steps=2),
        lambda: Adam(1e-2, use_ema=True, ema_momentum=0.5),
        lambda: Adam(1e-2, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
        lambda: Adam(1e-2, clipnorm=1.0, weight_decay=0.1),
    ],
    ids=["adam", "adamw", "sgd", "rmsprop", "accumulate", "ema", "ema_overwrite", "clip_decay"],
)
def test_optimizers(make):
    gan = gan_model(make=make)
    # Accumulation makes an optimizer step of two batches.
    watch = fit(gan, epochs=4)
    nets.assert_held(watch, 0.8)


@cases(1, "overwrite", [None, 3])
@pytest.mark.full
def test_the_average_that_keras_keeps_is_as_sparse(overwrite):
    model = nets.classifier()
    optimizer = Adam(1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=overwrite)
    model.compile(optimizer, nets.classifier_loss())
    nets.assert_held(fit_classifier(model), 0.8)
    masks = {id(w.variable): nets.value(w.mask) for w in kgp.masked_weights(model)}
    averages = dict(
        zip(
            map(id, optimizer._trainable_variables),
            optimizer._model_variables_moving_average,
            strict=True,
        )
    )
    for key, mask in masks.items():
        assert not np.any(nets.value(averages[key])[~mask])


@pytest.mark.full
def test_gan_model_copies_the_average_into_the_weights_at_the_end():
    gan = gan_model(make=lambda: SGD(0.5, use_ema=True, ema_momentum=0.5))
    watch = fit(gan)
    nets.assert_held(watch, 0.8)
    for network, optimizer in (
        (gan.generator, gan.generator_optimizer),
        (gan.discriminator, gan.discriminator_optimizer),
    ):
        for weight, average in zip(
            network.trainable_weights, optimizer._model_variables_moving_average, strict=True
        ):
            np.testing.assert_array_equal(nets.value(weight), nets.value(average))


@pytest.mark.full
def test_averaged_generator():
    gan = gan_model(ema_decay=0.9)
    nets.assert_held(fit(gan), 0.8)
    nets.assert_exact(0.8, gan.ema_generator)
    for own, copy in zip(
        kgp.masked_weights(gan.generator), kgp.masked_weights(gan.ema_generator), strict=True
    ):
        np.testing.assert_array_equal(nets.value(own.mask), nets.value(copy.mask))


@pytest.mark.full
@cases(
    1,
    "pair",
    [
        nets.dcgan_pair,
        lambda: (nets.dcgan_generator(), nets.dcgan_discriminator(spectral=True)),
        lambda: (nets.SubclassedGenerator(), nets.mlp_discriminator()),
    ],
    ids=["dcgan", "spectral", "subclassed"],
)
def test_networks(pair):
    nets.assert_held(fit(gan_model(pair())), 0.8)


@pytest.mark.full
def test_conditional_gan():
    gan = gan_model(nets.conditional_pair())
    x = tf.data.Dataset.from_tensor_slices((nets.images(), nets.labels())).batch(8)
    watch = nets.Watch(gan.generator, gan.discriminator)
    prune = kgp.Prune(SCHEDULE, ["generator", "discriminator"], 2, verbose=0)
    gan.fit(x, epochs=2, verbose=0, callbacks=[prune, watch])
    nets.assert_held(watch, 0.8)


@pytest.mark.full
def test_weight_clipping_is_kept_and_composed():
    generator, discriminator = (
        nets.mlp_generator(),
        nets.mlp_discriminator(constraint=nets.Clip(0.02)),
    )
    gan = gan_model((generator, discriminator), lambda: RMSprop(1e-2), loss="wasserstein")
    nets.assert_held(fit(gan), 0.8)
    for weight in kgp.masked_weights(discriminator):
        assert np.max(np.abs(nets.value(weight.variable))) <= np.float32(0.02)


@pytest.mark.full
def test_five_critic_steps_with_gradient_penalty():
    gan = gan_model(loss="wasserstein", gradient_penalty=10.0, discriminator_steps=5)
    nets.assert_held(fit(gan), 0.8)
    assert int(gan.discriminator_optimizer.iterations) == 5 * int(
        gan.generator_optimizer.iterations
    )


@pytest.mark.full
@pytest.mark.parametrize(
    "options",
    [{"jit_compile": True}, {"run_eagerly": True}],
    ids=["jit_compile", "run_eagerly"],
)
def test_compile_options(options):
    gan = gan_model(compile_options=options)
    nets.assert_held(fit(gan), 0.8)


@cases(1, "steps", [3, 4, 16])
@pytest.mark.full
def test_steps_per_execution_skips_no_update(steps):
    gan = gan_model(compile_options={"steps_per_execution": steps})
    prune = kgp.Prune(kgp.PolynomialDecay(0.8, 0, 7), "generator", 3, verbose=0)
    watch = nets.Watch(gan.generator)
    gan.fit(nets.images(), batch_size=4, epochs=1, verbose=0, callbacks=[prune, watch])
    # Several updates inside one execution become the latest of them; the end is always reached.
    assert prune.updates[-1][0] == 7
    assert prune.updates[-1][2] == pytest.approx(0.8, abs=0.001)
    nets.assert_held(watch, 0.8)


@pytest.mark.full
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    gan = gan_model(nets.mlp_pair(dtype=policy))
    scaled = isinstance(gan.generator_optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    nets.assert_held(fit(gan), 0.8)
    optimizer = gan.generator_optimizer
    assert int(getattr(optimizer, "inner_optimizer", optimizer).iterations) > 0
    assert {w.dtype for w in gan.generator.weights} == {"float32"}


@pytest.mark.full
def test_mixed_precision_classifier():
    model = nets.classifier(dtype="mixed_float16")
    model.compile(Adam(1e-2), nets.classifier_loss())
    nets.assert_held(fit_classifier(model), 0.8)


@pytest.mark.full
def test_loss_scaling_of_a_classifier():
    model = nets.classifier(dtype="mixed_float16")
    model.compile(keras.optimizers.LossScaleOptimizer(Adam(1e-2)), nets.classifier_loss())
    nets.assert_held(fit_classifier(model), 0.8)


@pytest.mark.full
@pytest.mark.parametrize("ema", [None, 0.9], ids=["plain", "ema"])
def test_mirrored_gan_model(ema):
    with nets.both_replicas().scope():
        gan = gan_model(ema_decay=ema)
    nets.assert_held(fit(gan), 0.8)
    for weight in gan.generator.weights:
        one, two = nets.replicas(weight)
        np.testing.assert_array_equal(one, two)
    if ema:
        assert nets.leaks(gan.ema_generator) == {}
        nets.assert_exact(0.8, gan.ema_generator)


@pytest.mark.full
def test_mirrored_classifier():
    with nets.both_replicas().scope():
        model = nets.classifier()
        model.compile(Adam(1e-2), nets.classifier_loss())
    nets.assert_held(fit_classifier(model), 0.8)
    assert len(nets.replicas(model.weights[0])) == 2


class SetWeights(keras.callbacks.Callback):
    """A user's callback that puts old, dense weights back in mid-training."""

    def on_train_begin(self, logs=None):
        self.dense = self.model.generator.get_weights()

    def on_epoch_end(self, epoch, logs=None):
        self.model.generator.set_weights(self.dense)


@pytest.mark.full
def test_set_weights_by_another_callback():
    gan = gan_model()
    nets.assert_held(fit(gan, SetWeights(), epochs=3), 0.8)


@pytest.mark.full
def test_set_weights_between_two_fits():
    gan = gan_model()
    dense = gan.generator.get_weights()
    fit(gan)
    gan.generator.set_weights(dense)
    watch = fit(gan)
    nets.assert_held(watch, 0.8)


@pytest.mark.full
@cases(1, "new_callback", [False, True])
def test_second_fit(new_callback):
    gan = gan_model()
    prune = kgp.Prune(SCHEDULE, "generator", 2, verbose=0)
    gan.fit(nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[prune])
    masks = [nets.value(w.mask).copy() for w in kgp.masked_weights(gan.generator)]
    if new_callback:
        prune = kgp.Prune(SCHEDULE, "generator", 2, verbose=0)
    watch = nets.Watch(gan.generator)
    gan.fit(nets.images(), batch_size=8, verbose=0, callbacks=[prune, watch])
    nets.assert_held(watch, 0.8)
    # The schedule is over: nothing was chosen anew.
    for before, weight in zip(masks, kgp.masked_weights(gan.generator), strict=True):
        np.testing.assert_array_equal(before, nets.value(weight.mask))


@pytest.mark.full
def test_fit_without_the_callback_keeps_the_zeros():
    gan = gan_model()
    fit(gan)
    watch = nets.Watch(gan.generator, gan.discriminator)
    gan.fit(nets.images(), batch_size=8, verbose=0, callbacks=[watch])
    nets.assert_held(watch, 0.8)


def test_fit_that_was_traced_dense_before():
    gan = gan_model()
    gan.fit(nets.images(), batch_size=8, verbose=0)  # steps 1 to 4
    watch = nets.Watch(gan.generator)
    prune = kgp.Prune(kgp.PolynomialDecay(0.8, 5, 9), "generator", 2, verbose=0)
    gan.fit(nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[prune, watch])
    assert [step for step, *_ in prune.updates] == [5, 7, 9]
    nets.assert_held(watch, 0.8)


@pytest.mark.full
def test_compile_after_pruning():
    gan = gan_model()
    fit(gan)
    gan.compile(RMSprop(1e-2), RMSprop(1e-2))
    watch = nets.Watch(gan.generator, gan.discriminator)
    gan.fit(nets.images(), batch_size=8, verbose=0, callbacks=[watch])
    nets.assert_held(watch, 0.8)


@pytest.mark.full
def test_train_on_batch_keeps_the_zeros():
    model = nets.classifier()
    model.compile(Adam(1e-2), nets.classifier_loss())
    x, y = nets.classifier_data()
    model.train_on_batch(x, y)
    kgp.Pruner(model).update(sparsity=0.8)
    model.make_train_function(force=True)
    for _ in range(3):
        model.train_on_batch(x, y)
        assert nets.leaks(model) == {}
    nets.assert_exact(0.8, model)
