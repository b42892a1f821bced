"""Shared kernels and layers in training: each optimizer sees its own network's use, and zeros hold."""

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.optimizers import SGD, Adam
from tied_networks import (
    NAMED,
    Subclassed,
    assert_one_mask,
    conv,
    fit,
    gan_model,
    label_pair,
    same,
    subclassed_pair,
    symmetric_discriminator,
    symmetric_generator,
    symmetric_pair,
    tied_pair,
    trunk_pair,
)

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.gan import _step_tensorflow
from keras_ganprune.layers.weight_tying import tie_mirrored

RATE = 0.1
full = pytest.mark.full


# --- training step against oracles ------------------------------------------------------------------


def fixed_draws(monkeypatch, batch, dim):
    z = np.random.default_rng(5).normal(size=(batch, dim)).astype("float32")
    monkeypatch.setattr(_step_tensorflow, "_sample", lambda gan, n: tf.constant(z))
    return z


def test_both_updates_of_a_linear_gan_in_numpy(monkeypatch):
    """G(z) = z A and D(x) = x A w, with A tied: d L_D/dA is that of D, d L_G/dA that of G alone."""
    rng = np.random.default_rng(0)
    a, w = rng.normal(size=(3, 3)), rng.normal(size=(3, 1))
    real = rng.normal(size=(5, 3)).astype("float32")
    z = fixed_draws(monkeypatch, 5, 3)
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(3, use_bias=False, name="a")])
    discriminator = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, use_bias=False, name="b"),
            layers.Dense(1, use_bias=False),
        ]
    )
    discriminator.set_weights([a, w])
    tie_mirrored(generator, discriminator, NAMED)
    gan = kgp.GANModel(
        generator, discriminator, 3, "wasserstein", balance_frequency=0, value_range=None
    )
    gan.compile(SGD(RATE), SGD(RATE), run_eagerly=True)
    for _ in range(3):
        fake = z @ a
        gap = (fake.mean(0) - real.mean(0))[:, None]
        # L_D = mean D(fake) - mean D(real), L_G = -mean D(fake)
        by_d, by_w = gap @ w.T, a.T @ gap
        new_a, w = a - RATE * by_d, w - RATE * by_w
        by_g = -z.mean(0)[:, None] @ (new_a @ w).T
        a = new_a - RATE * by_g
        gan.train_step(tf.constant(real))
        np.testing.assert_allclose(generator.get_weights()[0], a, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(discriminator.get_weights()[1], w, rtol=1e-4, atol=1e-6)


class Apart:
    """The same GAN with nothing shared, so that each network's gradients are its own by construction.

    `shared` lists (index in generator.weights, index in discriminator.weights); the two copies of a
    shared weight are put together again after each update.
    """

    def __init__(self, gan, pair, shared, rate=RATE):
        self.generator, self.discriminator = pair
        self.generator.set_weights(gan.generator.get_weights())
        self.discriminator.set_weights(gan.discriminator.get_weights())
        self.loss, self.gan, self.shared, self.rate = gan.loss_pair, gan, shared, rate

    def together(self):
        for i, j in self.shared:
            self.generator.weights[i].assign(self.discriminator.weights[j])

    def judge(self, x, labels):
        return self.discriminator(x if labels is None else [x, labels], training=True)

    def step(self, real, z, labels=None):
        inputs = z if labels is None else [z, labels]
        steps = self.gan.discriminator_steps
        for k in range(steps):
            with tf.GradientTape() as g_tape:
                fake = self.generator(inputs, training=True)
                own = sum(self.generator.losses)
            with tf.GradientTape() as tape:
                loss = self.loss.discriminator(self.judge(real, labels), self.judge(fake, labels))
                loss += sum(self.discriminator.losses)
                if self.gan.r1_penalty:
                    with tf.GradientTape() as inner:
                        inner.watch(real)
                        logits = self.judge(real, labels)
                    slope = inner.gradient(logits, real)
                    squared = tf.reduce_sum(slope**2, axis=[1, 2, 3])
                    loss += self.gan.r1_penalty / 2 * tf.reduce_mean(squared)
            self.descend(
                self.discriminator, tape.gradient(loss, self.discriminator.trainable_weights)
            )
            if k < steps - 1:
                self.together()
        with tf.GradientTape() as tape:
            tape.watch(fake)
            loss = self.loss.generator(self.judge(fake, labels), self.judge(real, labels))
        slope = tape.gradient(loss, fake)
        # Untied, the generator's weights act through the samples alone.
        weights = self.generator.trainable_weights
        sources = [fake, own] if self.generator.losses else [fake]
        slopes = [slope, tf.ones(())][: len(sources)]
        gradients = g_tape.gradient(sources, weights, output_gradients=slopes)
        self.together()
        self.descend(self.generator, gradients)
        for i, j in self.shared:
            self.discriminator.weights[j].assign(self.generator.weights[i])

    def descend(self, network, gradients):
        for weight, gradient in zip(network.trainable_weights, gradients, strict=True):
            weight.assign_sub(self.rate * tf.convert_to_tensor(gradient))


def shared_indices(pair):
    ids = {id(w): j for j, w in enumerate(pair[1].weights)}
    return [(i, ids[id(w)]) for i, w in enumerate(pair[0].weights) if id(w) in ids]


def assert_same_weights(gan, apart):
    for network, other in ((gan.generator, apart[0]), (gan.discriminator, apart[1])):
        for weight, expected in zip(network.weights, other.weights, strict=True):
            np.testing.assert_allclose(
                nets.value(weight),
                nets.value(expected),
                rtol=2e-4,
                atol=2e-6,
                err_msg=weight.path,
            )


@pytest.mark.parametrize(
    "kwargs",
    [
        pytest.param({}, id="plain"),
        pytest.param({"loss": "hinge", "discriminator_steps": 3}, id="steps", marks=full),
        pytest.param({"loss": "relativistic"}, id="relativistic", marks=full),
        pytest.param({"loss": "wasserstein", "r1_penalty": 5.0}, id="r1", marks=full),
        pytest.param({"loss": "least_squares", "ema_decay": 0.9}, id="ema", marks=full),
    ],
)
@pytest.mark.parametrize(
    "regular",
    [
        pytest.param(None, id="", marks=full),
        pytest.param(keras.regularizers.L2(0.3), id="regularizer"),
    ],
)
def test_each_optimizer_sees_its_own_networks_use_of_a_tied_kernel(kwargs, regular, monkeypatch):
    z = fixed_draws(monkeypatch, 4, nets.LATENT)
    real = nets.images(4)
    generator = symmetric_generator()
    pair = generator, symmetric_discriminator(kernel_regularizer=regular)
    tie_mirrored(*pair)
    gan = gan_model(pair, lambda: SGD(RATE), **kwargs)
    # The regularizer of a tied kernel counts in both losses.
    apart = symmetric_pair(kernel_regularizer=regular)
    oracle = Apart(gan, apart, shared_indices(pair))
    assert len(oracle.shared) == 2
    for _ in range(2):
        oracle.step(tf.constant(real), tf.constant(z))
        gan.train_on_batch(real)
    assert_same_weights(gan, apart)


@full
def test_each_optimizer_sees_its_own_networks_use_of_a_shared_embedding(monkeypatch):
    z = fixed_draws(monkeypatch, 6, nets.LATENT)
    real, labels = nets.images(6), np.array([0, 1, 1, 0, 1, 0], "int32")
    pair = label_pair()
    gan = gan_model(pair, lambda: SGD(RATE))
    start = conv(pair[0], "labels").get_weights()[0]
    apart = label_pair()[0], label_pair()[1]
    oracle = Apart(gan, apart, shared_indices(pair))
    assert len(oracle.shared) == 1
    for _ in range(2):
        oracle.step(tf.constant(real), tf.constant(z), tf.constant(labels))
        gan.train_on_batch(real, labels)
    assert_same_weights(gan, apart)
    moved = np.abs(conv(pair[0], "labels").get_weights()[0] - start).max(axis=1)
    assert moved[0] > 0 and moved[1] > 0 and moved[2] == 0  # label 2 was not drawn


def activity_pair():
    """A layer of both networks with a loss of its own, on what comes out of it."""
    common = layers.Dense(5, activation="tanh", activity_regularizer=keras.regularizers.L2(0.5))
    z = keras.Input((nets.LATENT,))
    x = layers.Reshape((8, 8, 1))(layers.Dense(64)(common(layers.Dense(4)(z))))
    image = keras.Input((8, 8, 1))
    y = layers.Dense(1)(common(layers.Dense(4)(layers.Flatten()(image))))
    return keras.Model(z, x, name="generator"), keras.Model(image, y, name="discriminator")


@full
def test_each_network_has_the_loss_of_its_own_use_of_a_shared_layer(monkeypatch):
    z = fixed_draws(monkeypatch, 4, nets.LATENT)
    real = nets.images(4)
    pair = activity_pair()
    gan = gan_model(pair, lambda: SGD(RATE))
    apart = activity_pair()[0], activity_pair()[1]
    oracle = Apart(gan, apart, shared_indices(pair))
    assert len(oracle.shared) == 2
    for _ in range(2):
        oracle.step(tf.constant(real), tf.constant(z))
        gan.train_on_batch(real)
    assert_same_weights(gan, apart)


def test_the_other_path_would_have_mattered(monkeypatch):
    """What a step of one's own gets when it takes the gradient by the generator's weights."""
    z = fixed_draws(monkeypatch, 4, nets.LATENT)
    pair = tied_pair()
    gan = gan_model(pair)
    with tf.GradientTape(persistent=True) as tape:
        fake = gan.synthesize(z)
        whole = gan.loss_pair.generator(gan.judge(fake))
        own = gan.adversarial_loss(nets.images(4))
    assert float(whole) == pytest.approx(float(own), rel=1e-6)
    weights = gan.generator.trainable_weights
    shared = {id(w) for w in gan.shared_weights}
    assert len(shared) == 2
    for weight, a, b in zip(
        weights, *(tape.gradient(x, weights) for x in (whole, own)), strict=True
    ):
        gap = np.abs(nets.value(a) - nets.value(b)).max()
        assert gap > 1e-3 if id(weight) in shared else gap < 1e-6, weight.path


@full
@pytest.mark.parametrize(
    "options", [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}]
)
def test_the_compiled_step_is_the_eager_one(options, monkeypatch):
    fixed_draws(monkeypatch, 8, nets.LATENT)
    results = []
    for chosen in ({"run_eagerly": True}, options):
        keras.utils.set_random_seed(0)
        gan = gan_model(tied_pair(), lambda: SGD(RATE), chosen, balance_frequency=2)
        history = gan.fit(nets.images(), batch_size=8, verbose=0, shuffle=False).history
        results.append((history, gan.get_weights()))
    for key, value in results[0][0].items():
        assert results[1][0][key] == pytest.approx(value, rel=1e-3), key
    for one, two in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)


# --- pruning inside fit --------------------------------------------------------------------------


@full
def test_the_discriminators_constraint_is_kept_under_the_mask():
    generator = kgp.make_prunable(symmetric_generator())
    discriminator = symmetric_discriminator(kernel_constraint=nets.Clip(0.05))
    tie_mirrored(generator, discriminator)
    gan = gan_model((generator, discriminator))
    watch = fit(gan, target="generator", watched=[generator])
    nets.assert_held(watch, 0.8)
    for name in ("down_1", "down_2"):
        assert np.abs(nets.value(conv(discriminator, name).kernel)).max() <= np.float32(0.05)


@full
def test_an_optimizer_that_is_older_than_the_tie_is_refused():
    generator, discriminator = symmetric_pair()
    gan = gan_model((generator, discriminator))
    gan.fit(nets.images(8), verbose=0)
    tie_mirrored(generator, discriminator)
    with pytest.raises(
        InvalidArgumentError,
        match=r"`generator_optimizer` does not train .* discriminator/down_2/kernel, discr",
    ):
        gan.fit(nets.images(8), verbose=0)
    gan.compile(Adam(1e-2, 0.5), Adam(1e-2, 0.5))
    nets.assert_held(fit(gan), 0.8)


@full
@pytest.mark.parametrize("target", ["generator", "discriminator"])
def test_pruning_one_network_prunes_the_kernels_of_the_other(target):
    gan = gan_model(tied_pair())
    watch = fit(gan, target)
    nets.assert_held(watch, 0.8)
    for up, down in (("up_1", "down_2"), ("up_2", "down_1")):
        kernel = nets.value(conv(gan.generator, up).kernel)
        assert np.count_nonzero(kernel) == nets.kept_oracle(kernel.size, 0.8)
        assert conv(gan.discriminator, down).kernel is conv(gan.generator, up).kernel
    report = kgp.sparsity_report(gan)
    assert len(report) == 3


@pytest.mark.parametrize(
    "targets",
    [
        ("generator", "discriminator"),
        pytest.param(("discriminator", "generator"), marks=full),
    ],
)
@pytest.mark.full
def test_pruning_both_networks_holds_with_two_optimizers(targets):
    gan = gan_model(tied_pair())
    nets.assert_held(fit(gan, targets), 0.8)
    assert_one_mask(gan.generator, gan.discriminator)


@full
def test_one_ranking_over_both_networks_counts_a_shared_kernel_once():
    gan = gan_model(tied_pair())
    watch = fit(gan, allocation="global_ranking")
    assert watch.leaks == []
    total = nets.LATENT * 24 + 24 + 36 + 216
    report = watch.prune.report
    assert (report.total, report.kept) == (total, nets.kept_oracle(total, 0.8))
    assert len(report) == 4
    table = kgp.sparsity_report(gan)
    assert (len(table), table.total, table.kept) == (4, total, report.kept)


def test_parameters_are_counted_once():
    apart, gan = gan_model(symmetric_pair()), gan_model(tied_pair())
    saved = 36 + 216
    assert gan.count_params() == apart.count_params() - saved
    assert kgp.sparsity_report(gan).parameters == kgp.sparsity_report(apart).parameters - saved
    assert len(gan.weights) == len(apart.weights) - 2
    assert gan.generator.count_params() == apart.generator.count_params()


@pytest.mark.parametrize(
    "targets", [("generator",), pytest.param(("discriminator", "generator"), marks=full)]
)
def test_the_averaged_generator_gets_the_shared_masks(targets):
    gan = gan_model(tied_pair(), ema_decay=0.9)
    assert not {id(w) for w in gan.ema_generator.weights} & {id(w) for w in gan.weights[:11]}
    nets.assert_held(fit(gan, targets), 0.8)
    nets.assert_exact(0.8, gan.ema_generator)
    for up in ("up_1", "up_2"):
        np.testing.assert_array_equal(
            nets.value(conv(gan.generator, up).kernel.constraint.mask),
            nets.value(conv(gan.ema_generator, up).kernel.constraint.mask),
        )


@full
def test_shared_layers_are_pruned_once():
    gan = gan_model(label_pair())
    x, y = nets.images(), (np.arange(32) % 3).astype("int32")
    nets.assert_held(fit(gan, x=x, y=y), 0.8)
    table = conv(gan.generator, "labels")
    assert [w.layer for w in kgp.masked_weights(gan)].count(table) == 1
    gan = gan_model(trunk_pair())
    nets.assert_held(fit(gan), 0.8)


@full
def test_half_precision():
    gan = gan_model(tied_pair(dtype="mixed_float16"))
    assert isinstance(gan.generator_optimizer, keras.optimizers.LossScaleOptimizer)
    nets.assert_held(fit(gan), 0.8)
    assert int(gan.generator_optimizer.inner_optimizer.iterations) > 0
    assert all(np.isfinite(w).all() for w in gan.get_weights())


@full
def test_two_replicas():
    with nets.both_replicas().scope():
        gan = gan_model(tied_pair(), ema_decay=0.9)
    nets.assert_held(fit(gan), 0.8)
    # Batch statistics are those of a replica.
    for weight in (*gan.generator.trainable_weights, *gan.discriminator.weights):
        one, two = nets.replicas(weight)
        np.testing.assert_array_equal(one, two)


@full
def test_two_replicas_step_as_one_with_the_whole_batch(monkeypatch):
    """Gradients of a shared kernel are summed over replicas like any other."""
    z = np.random.default_rng(5).normal(size=(4, nets.LATENT)).astype("float32")

    def sample(gan, batch):
        context = tf.distribute.get_replica_context()
        count = context.num_replicas_in_sync
        share = 4 // count
        start = tf.cast(context.replica_id_in_sync_group, tf.int32) * share
        return tf.constant(z)[start : start + share]

    monkeypatch.setattr(_step_tensorflow, "_sample", sample)
    results = []
    for strategy in (tf.distribute.get_strategy(), nets.both_replicas()):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            generator = symmetric_generator()
            generator.layers[3].trainable = False  # batch statistics are those of a replica
            pair = generator, symmetric_discriminator()
            tie_mirrored(*pair)
            gan = gan_model(pair, lambda: SGD(RATE))
        gan.fit(nets.images(4), batch_size=4, verbose=0, shuffle=False)
        results.append(gan.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(nets.GuideGAN, marks=full),
        pytest.param(nets.EmaGAN, marks=full),
        pytest.param(nets.WGANGP, marks=full),
    ],
)
def test_gans_of_others(kind):
    generator, discriminator = tied_pair()
    gan = kind(discriminator, generator)
    gan.compile(Adam(1e-2, 0.5), Adam(1e-2, 0.5))
    before = nets.value(conv(generator, "up_2").kernel).copy()
    nets.assert_held(fit(gan, ["generator", "discriminator"], epochs=3), 0.8)
    assert_one_mask(generator, discriminator)
    assert np.abs(nets.value(conv(discriminator, "down_1").kernel) - before).max() > 0
    for optimizer in (gan.d_optimizer, gan.g_optimizer):
        trained = {id(v) for v in optimizer._trainable_variables}
        assert id(conv(generator, "up_2").kernel) in trained
    if kind is nets.EmaGAN:
        nets.assert_exact(0.8, gan.ema_generator)


# --- stripping, exporting ------------------------------------------------------------------------


@full
def test_stripped_and_exported_generators_have_the_shared_values(tmp_path):
    gan = gan_model(tied_pair())
    fit(gan)
    z = np.random.default_rng(0).normal(size=(4, nets.LATENT)).astype("float32")
    plain = kgp.strip_pruning(gan.generator)
    assert type(conv(plain, "up_2")) is layers.Conv2DTranspose
    assert same(plain.weights, gan.generator.weights)
    np.testing.assert_array_equal(plain(z), gan.generator(z))
    assert type(conv(kgp.strip_pruning(gan.discriminator), "down_1")) is layers.Conv2D
    report = kgp.export_saved_model(gan.generator, tmp_path / "stripped")
    assert report.parameters == gan.generator.count_params()
    gan.generator.export(str(tmp_path / "whole"), verbose=False)
    for folder in ("stripped", "whole"):
        served = tf.saved_model.load(str(tmp_path / folder))
        np.testing.assert_allclose(served.serve(z), gan.generator(z), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_tensorflow_has_the_shared_value(tmp_path):
    generator, _ = tied_pair()
    path = tf.train.Checkpoint(model=generator).save(str(tmp_path / "ckpt"))
    kernel = conv(generator, "up_2").kernel
    value = nets.value(kernel).copy()
    kernel.assign(np.zeros(kernel.shape))
    tf.train.Checkpoint(model=generator).restore(path)
    np.testing.assert_array_equal(nets.value(kernel), value)


# --- saving --------------------------------------------------------------------------------------


def adam():
    return Adam(1e-2, 0.5)


CASES = {
    "tied": (tied_pair, {}, ("generator", "discriminator")),
    "tied_generator_pruned": (tied_pair, {"ema_decay": 0.9}, ("generator",)),
    "tied_discriminator_pruned": (tied_pair, {"ema_decay": 0.9}, ("discriminator",)),
    "tied_dense": (tied_pair, {"loss": "hinge"}, ()),
    "tied_subclassed": (subclassed_pair, {"ema_decay": 0.9}, ("generator", "discriminator")),
    "tied_subclassed_discriminator": (subclassed_pair, {}, ("discriminator",)),
    "embedding": (label_pair, {"ema_decay": 0.9}, ("generator", "discriminator")),
    "embedding_generator": (label_pair, {}, ("generator",)),
    "embedding_dense": (label_pair, {}, ()),
    "trunk": (trunk_pair, {"ema_decay": 0.9}, ("generator", "discriminator")),
    "trunk_dense": (trunk_pair, {}, ()),
}


def go_on(gan, targets, first, last):
    callbacks = []
    if targets:
        callbacks.append(kgp.Prune(kgp.PolynomialDecay(0.8, 2, 8), list(targets), 3, verbose=0))
    gan.fit(
        nets.images(),
        (np.arange(32) % 3).astype("int32") if gan.conditional else None,
        batch_size=8,
        initial_epoch=first,
        epochs=last,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def state(gan):
    values = list(gan.get_weights())
    for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer):
        values += [nets.value(v) for v in optimizer.variables]
    return [*values, *(nets.value(w.mask) for w in kgp.masked_weights(gan))]


def test_a_saved_gan_shares_its_kernels_and_masks_again(tmp_path):
    gan = gan_model(tied_pair())
    kgp.Pruner(gan.generator, gan.discriminator).update(sparsity=0.5)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert_one_mask(loaded.generator, loaded.discriminator)
    assert same(state(gan), state(loaded))
    nets.assert_exact(0.5, loaded.generator, loaded.discriminator)


@full
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Training ended at step", "ignore:Skipping nested container")
def test_save_load_and_go_on_is_as_if_uninterrupted(case, tmp_path):
    pair, kwargs, targets = CASES[case]
    custom = {"Subclassed": Subclassed}
    keras.utils.set_random_seed(0)
    whole = gan_model(pair(), adam, **kwargs)
    go_on(whole, targets, 0, 1)
    whole.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras", custom_objects=custom)
    assert len(loaded.shared_weights) == len(whole.shared_weights) > 0
    assert len(loaded.weights) == len(whole.weights)
    assert len(loaded.variables) == len(whole.variables)
    assert same(state(whole), state(loaded))
    # And once more: what was one layer of both networks is now two, with the same variables.
    loaded.save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras", custom_objects=custom)
    for gan in (whole, loaded, again):
        go_on(gan, targets, 1, 2)
    for gan in (loaded, again):
        assert same(state(whole), state(gan))
        for name in ("generator", "discriminator"):
            rows, expected = (
                [(row.kept, row.total) for row in kgp.sparsity_report(getattr(g, name))]
                for g in (gan, whole)
            )
            assert rows == expected
        if targets:
            nets.assert_exact(0.8, *(getattr(gan, name) for name in targets))
            assert nets.leaks(gan.generator, gan.discriminator) == {}
        if gan.ema_generator is not None:
            assert same(whole.ema_generator.weights, gan.ema_generator.weights)


def test_sharing_survives_get_config():
    gan = kgp.GANModel.from_config(gan_model(tied_pair()).get_config())
    assert conv(gan.generator, "up_2").kernel is conv(gan.discriminator, "down_1").kernel
    gan = kgp.GANModel.from_config(gan_model(label_pair()).get_config())
    assert conv(gan.generator, "labels").embeddings is conv(gan.discriminator, "labels").embeddings
    config = gan_model(symmetric_pair()).get_config()
    assert config["shared"] == {"variables": [], "layers": []}
    del config["shared"]  # a file of an earlier version
    assert kgp.GANModel.from_config(config).shared_weights == []


@full
def test_a_pruned_network_of_the_pair_saved_alone(tmp_path):
    gan = gan_model(tied_pair())
    fit(gan, ("discriminator", "generator"))
    for network in (gan.generator, gan.discriminator):
        network.save(tmp_path / "network.keras")
        loaded = keras.saving.load_model(tmp_path / "network.keras")
        assert same(network.weights, loaded.weights)
        nets.assert_exact(0.8, loaded)


@pytest.mark.full
def test_weights_files(tmp_path):
    for pair in (tied_pair, label_pair):
        one, two = (gan_model(pair()) for _ in range(2))
        for gan in (one, two):
            kgp.Pruner(gan.generator, gan.discriminator).update(sparsity=0.5)
        one.save_weights(tmp_path / "gan.weights.h5")
        two.load_weights(tmp_path / "gan.weights.h5")
        assert same(state(one), state(two))


# --- the generator's loss as the discriminator judges it ----------------------------------------------


@pytest.mark.parametrize("loss", [pytest.param("non_saturating", marks=full), "relativistic"])
@pytest.mark.parametrize(
    "kind", [pytest.param("plain", marks=full), "tied", pytest.param("labels", marks=full)]
)
def test_adversarial_loss(kind, loss):
    pair = {
        "plain": lambda: (
            nets.dcgan_generator(),
            nets.dcgan_discriminator(spectral=True),
        ),
        "tied": tied_pair,
        "labels": label_pair,
    }[kind]()
    gan = gan_model(pair, loss=loss)
    x, y = nets.images(6), (np.arange(6) % 3).astype("int32")
    go_on(gan, (), 0, 1)
    before = [nets.value(v).copy() for v in gan.variables]
    data = (x, y) if gan.conditional else x
    value = float(gan.adversarial_loss(data))
    changed = [
        v
        for v, old in zip(gan.variables, before, strict=True)
        if not np.array_equal(nets.value(v), old)
    ]
    assert len(changed) == 1 and changed[0] is gan.noise_seed.state

    gan.noise_seed.state.assign(before[[v is changed[0] for v in gan.variables].index(True)])
    z = _step_tensorflow._sample(gan, 6)
    extra = [tf.constant(y)] if gan.conditional else []
    fake = gan.generator([z, *extra] if extra else z, training=False)
    judged, real = (
        nets.value(gan.discriminator([i, *extra] if extra else i, training=False))
        for i in (fake, tf.constant(x))
    )
    expected = {
        "non_saturating": lambda: np.logaddexp(0, -judged).mean(),
        "relativistic": lambda: (
            np.logaddexp(0, -(judged - real.mean())).mean()
            + np.logaddexp(0, real - judged.mean()).mean()
        ),
    }[loss]()
    assert value == pytest.approx(expected, rel=1e-5)


@full
def test_adversarial_loss_has_no_regularization_and_is_differentiable():
    regular = keras.regularizers.L2(10.0)
    generator = symmetric_generator(kernel_regularizer=regular)
    gan = gan_model((generator, nets.mlp_discriminator()), seed=3)
    with tf.GradientTape() as tape:
        loss = gan.adversarial_loss(tf.constant(nets.images(4)))
    assert loss.shape == () and loss.dtype == tf.float32 and float(loss) < 5
    gradients = tape.gradient(loss, generator.trainable_weights)
    assert all(g is not None for g in gradients)
    compiled = tf.function(gan.adversarial_loss)
    assert float(compiled(nets.images(4))) != float(compiled(nets.images(4)))  # fresh samples
    with pytest.raises(kgp.PruningError, match="The data has labels"):
        gan.adversarial_loss((nets.images(4), nets.labels(4)))
