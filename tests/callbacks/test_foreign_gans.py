"""Foreign GANs are pruned by adding only the callback."""

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from cases import cases
from keras.optimizers import Adam, RMSprop

import keras_ganprune as kgp

SCHEDULE = kgp.PolynomialDecay(0.8, begin_step=1, end_step=5)


def guide(cls=nets.GuideGAN, make=lambda: Adam(1e-2, 0.5), **kwargs):
    gan = cls(**kwargs)
    gan.compile(d_optimizer=make(), g_optimizer=make())
    return gan


def batches(n=32):
    return tf.data.Dataset.from_tensor_slices(nets.images(n)).batch(8)


def fit(gan, target=("generator", "discriminator"), epochs=2, x=None, **prune_options):
    names = list(target)
    watch = nets.Watch(*(getattr(gan, name) for name in names))
    prune = kgp.Prune(SCHEDULE, names, 2, **{"verbose": 0, **prune_options})
    gan.fit(batches() if x is None else x, epochs=epochs, verbose=0, callbacks=[prune, watch])
    return watch, prune


def nonzero_share(network, pruned):
    """Return the share of nonzeros of `network` where the weights of `pruned` are masked."""
    masks = {id(w.variable): nets.value(w.mask) for w in kgp.masked_weights(pruned)}
    counts = [
        np.mean(nets.value(other)[~masks[id(own)]] != 0)
        for own, other in zip(pruned.weights, network.weights, strict=True)
        if id(own) in masks
    ]
    return np.mean(counts)


@cases(
    ("guide",),
    "make",
    [
        lambda: guide(),
        lambda: guide(
            generator=nets.dcgan_generator(), discriminator=nets.dcgan_discriminator(spectral=True)
        ),
        lambda: guide(generator=nets.SubclassedGenerator()),
        lambda: guide(make=lambda: Adam(1e-2, use_ema=True, ema_momentum=0.9)),
        lambda: guide(
            make=lambda: Adam(1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3)
        ),
        lambda: guide(make=lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1)),
        lambda: guide(nets.WGANGP),
        lambda: guide(nets.EmaGAN),
        lambda: guide(nets.DistilledGAN),
    ],
    ids=[
        "guide",
        "spectral",
        "subclassed",
        "use_ema",
        "ema_overwrite",
        "adamw",
        "wgan_gp",
        "ema",
        "teacher",
    ],
)
def test_sparsity_holds(make):
    gan = make()
    if isinstance(gan.generator, nets.SubclassedGenerator):
        gan.generator.build((None, nets.LATENT))
    watch, _ = fit(gan)
    nets.assert_held(watch, 0.8)


@pytest.mark.full
def test_the_averages_of_two_optimizers_with_use_ema_are_as_sparse():
    gan = guide(make=lambda: Adam(1e-2, use_ema=True, ema_momentum=0.9))
    fit(gan)
    for network, optimizer in (
        (gan.generator, gan.g_optimizer),
        (gan.discriminator, gan.d_optimizer),
    ):
        # What a careful user does after `fit`, since Keras does it for `model.optimizer` only.
        optimizer.finalize_variable_values(network.trainable_weights)
        nets.assert_exact(0.8, network)


@pytest.mark.full
def test_clipping_wgan():
    gan = guide(
        nets.WGAN,
        lambda: RMSprop(1e-2),
        discriminator=nets.mlp_discriminator(constraint=nets.Clip(0.02)),
    )
    watch, _ = fit(gan)
    nets.assert_held(watch, 0.8)
    for weight in kgp.masked_weights(gan.discriminator):
        assert np.max(np.abs(nets.value(weight.variable))) <= np.float32(0.02)


@cases(1, "networks", ["mlp", "dcgan"])
def test_hand_kept_average_ends_exactly_as_sparse(networks, capsys):
    pair = {} if networks == "mlp" else {"generator": nets.dcgan_generator()}
    gan = guide(nets.EmaGAN, **pair)
    length = len(gan.weights), len(gan.generator.weights)
    fit(gan, ["generator"], verbose=1)
    assert "'ema_generator' is an average of 'generator'" in capsys.readouterr().out
    nets.assert_exact(0.8, gan.ema_generator)
    for own, copy in zip(
        kgp.masked_weights(gan.generator), kgp.masked_weights(gan.ema_generator), strict=True
    ):
        np.testing.assert_array_equal(nets.value(own.mask), nets.value(copy.mask))
    # Pairing weight lists goes on working: same length, same order, same shapes.
    assert (len(gan.weights), len(gan.generator.weights)) == length
    gan.ema_generator.set_weights(gan.generator.get_weights())
    for own, copy in zip(gan.generator.weights, gan.ema_generator.weights, strict=True):
        np.testing.assert_array_equal(nets.value(own), nets.value(copy))


@pytest.mark.full
def test_one_update_in_one_epoch_is_enough_to_find_the_average():
    gan = guide(nets.EmaGAN)
    prune = kgp.Prune(0.5, "generator", verbose=0)
    gan.fit(batches(), verbose=0, callbacks=[prune])
    assert len(prune.updates) == 1
    nets.assert_exact(0.5, gan.ema_generator)


@pytest.mark.full
def test_named_copies():
    gan = guide(nets.EmaGAN)
    fit(gan, ["generator"], copies="ema_generator")
    nets.assert_exact(0.8, gan.ema_generator)


@pytest.mark.full
def test_copies_can_be_left_alone():
    gan = guide(nets.EmaGAN)
    fit(gan, ["generator"], copies=None)
    assert kgp.masked_weights(gan.ema_generator) == []
    assert nonzero_share(gan.ema_generator, gan.generator) == 1.0


def test_copies_that_fit_no_target():
    gan = guide(nets.EmaGAN)
    with pytest.raises(ValueError, match="`copies` must name networks with the weight shapes"):
        fit(gan, ["generator"], copies="discriminator")
    with pytest.raises(ValueError, match="Unknown target of EmaGAN: 'ema_gen'"):
        fit(gan, ["generator"], copies="ema_gen")


@pytest.mark.full
def test_a_frozen_teacher_is_not_masked(capsys):
    gan = guide(nets.DistilledGAN)
    before = gan.teacher.get_weights()
    fit(gan, ["generator"], verbose=1)
    assert "teacher" not in capsys.readouterr().out
    assert kgp.masked_weights(gan.teacher) == []
    for one, two in zip(before, gan.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


class TalkingTeacherGAN(nets.DistilledGAN):
    """Runs its teacher in training mode, so that batch statistics of the teacher move."""

    def after_generator_update(self):
        self.teacher(self.noise(4), training=True)


@pytest.mark.full
def test_a_teacher_whose_batch_statistics_move_is_not_masked():
    gan = guide(TalkingTeacherGAN, generator=nets.dcgan_generator())
    gan.teacher.trainable = True
    before = gan.teacher.get_weights()
    fit(gan, ["generator"])
    after = gan.teacher.get_weights()
    moved = [not np.array_equal(one, two) for one, two in zip(before, after, strict=True)]
    assert any(moved) and not all(moved)
    assert kgp.masked_weights(gan.teacher) == []


def cycle_gan():
    gan = nets.CycleGAN()
    gan.compile(*(Adam(1e-2, 0.5) for _ in range(4)))
    x, y = nets.images(16, seed=1), nets.images(16, seed=2)
    return gan, tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


@pytest.mark.full
def test_cycle_gan_twin_is_not_taken_for_a_copy(capsys):
    gan, data = cycle_gan()
    watch, _ = fit(gan, ["gen_G"], x=data, verbose=1)
    nets.assert_held(watch, 0.8)
    assert capsys.readouterr().out == ""
    for network in (gan.gen_F, gan.disc_X, gan.disc_Y):
        assert kgp.masked_weights(network) == []
    assert nonzero_share(gan.gen_F, gan.gen_G) == 1.0


@pytest.mark.full
def test_cycle_gan_four_networks():
    gan, data = cycle_gan()
    names = ["gen_G", "gen_F", "disc_X", "disc_Y"]
    watch, prune = fit(gan, names, x=data)
    nets.assert_held(watch, 0.8)
    assert [step for step, *_ in prune.updates] == [1, 3, 5]


@pytest.mark.full
def test_networks_that_the_first_batch_builds(capsys):
    generator, discriminator = nets.unbuilt_pair()
    gan = nets.GuideGAN(discriminator, generator)
    gan.compile(Adam(1e-2), Adam(1e-2))
    watch, prune = fit(gan, verbose=1)
    assert "'generator', 'discriminator' is not built yet" in capsys.readouterr().out
    nets.assert_held(watch, 0.8)
    assert [step for step, *_ in prune.updates] == [1, 3, 5]


def test_a_mask_change_retraces_nothing():
    gan = guide()
    traces = []

    class CountTraces(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            traces.append(gan.traces)

    prune = kgp.Prune(kgp.PolynomialDecay(0.8, 1, 6), ["generator", "discriminator"], 1, verbose=0)
    gan.fit(batches(), epochs=2, verbose=0, callbacks=[prune, CountTraces()])
    assert len(prune.updates) == 6
    assert len(traces) == 8
    # Keras itself may trace more than once before the first batch ends.
    assert set(traces) == {traces[0]}


@pytest.mark.full
def test_traced_dense_first():
    gan = guide()
    gan.fit(batches(), verbose=0)
    schedule = kgp.PolynomialDecay(0.8, begin_step=5, end_step=9)
    prune = kgp.Prune(schedule, "generator", 2, verbose=0)
    watch = nets.Watch(gan.generator)
    gan.fit(batches(), epochs=2, verbose=0, callbacks=[prune, watch])
    assert [step for step, *_ in prune.updates] == [5, 7, 9]
    nets.assert_held(watch, 0.8)


@pytest.mark.full
def test_logs_of_a_foreign_gan():
    gan = guide()
    prune = kgp.Prune(SCHEDULE, ["generator", "discriminator"], 2, verbose=0)
    history = gan.fit(batches(), epochs=2, verbose=0, callbacks=[prune]).history
    assert {"g_loss", "d_loss", "generator_sparsity", "discriminator_sparsity"} <= set(history)
    assert history["generator_sparsity"][-1] == pytest.approx(0.8, abs=1e-3)
