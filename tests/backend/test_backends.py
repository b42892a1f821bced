"""What holds on every Keras backend: one small GAN and one classifier, trained, saved and cut.

For `KERAS_BACKEND=jax` and `KERAS_BACKEND=torch`; nothing here imports a framework. On TensorFlow the other
files ask all of this and more, so there it is slow.
"""

import keras
import networks as nets
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.training import step_clock

BACKEND = keras.backend.backend()
pytestmark = [pytest.mark.full] if BACKEND == "tensorflow" else []
SCHEDULE = kgp.PolynomialDecay(0.75, begin_step=2, end_step=10)
LAST = 0.75


def optimizers(name):
    make = {
        "sgd": lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
        "adam": lambda: keras.optimizers.Adam(1e-2, 0.5),
        "adamw": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1),
        "use_ema": lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9),
        "overwritten": lambda: keras.optimizers.Adam(
            1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3
        ),
        "accumulated": lambda: keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2),
        "clipped": lambda: keras.optimizers.Adam(1e-2, global_clipnorm=1.0),
    }[name]
    return make(), make()


def gan_model(pair=None, optimizer="adam", compiled=None, **kwargs):
    gan = kgp.GANModel(*(pair or nets.mlp_pair()), nets.LATENT, seed=1, **kwargs)
    gan.compile(*optimizers(optimizer), **(compiled or {}))
    return gan


def fit(gan, *callbacks, epochs=2, batches=8, labels=None):
    data = [nets.images(4 * batches)]
    if labels is not None:
        data.append(labels)
    return gan.fit(
        *data, batch_size=4, epochs=epochs, verbose=0, shuffle=False, callbacks=[*callbacks]
    )


# --- exact zeros ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", ["sgd", "adam", "adamw", "use_ema", "overwritten", "accumulated", "clipped"]
)
def test_zeros_are_exact_under_every_optimizer(optimizer):
    gan = gan_model(optimizer=optimizer)
    watch = nets.Watch(gan.generator, gan.discriminator)
    callbacks = [kgp.Prune(SCHEDULE, ["generator", "discriminator"], 3), watch]
    history = fit(gan, *callbacks, epochs=4 if optimizer == "accumulated" else 2).history
    nets.assert_exact(LAST, gan.generator, gan.discriminator)
    if "e" not in optimizer[:3] and optimizer not in ("use_ema", "overwritten"):
        assert watch.leaks == []
    assert history["generator_sparsity"][-1] == pytest.approx(LAST, abs=0.01)
    assert len(history["discriminator_sparsity"]) == len(history["generator_loss"])


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "hinge", "spectral": True},
        {"loss": "wasserstein", "gradient_penalty": 10.0, "discriminator_steps": 2},
        {"loss": "relativistic", "r1_penalty": 1.0, "balance_frequency": 3},
        {"loss": "least_squares", "ema_decay": 0.9},
        {"loss": "minimax", "label_smoothing": 0.1, "balance_frequency": 0},
    ],
    ids=lambda settings: settings["loss"],
)
def test_zeros_are_exact_in_every_kind_of_gan(settings):
    settings = dict(settings)
    pair = (
        nets.dcgan_generator(),
        nets.dcgan_discriminator(spectral=settings.pop("spectral", False)),
    )
    gan = gan_model(pair, **settings)
    watch = nets.Watch(gan.generator, gan.discriminator)
    callbacks = [kgp.Prune(SCHEDULE, "generator", 3, verbose=0)]
    callbacks += [kgp.Prune(0.5, "discriminator", 3), watch]
    logs = fit(gan, *callbacks).history
    assert watch.leaks == []
    nets.assert_exact(LAST, gan.generator)
    nets.assert_exact(0.5, gan.discriminator)
    assert all(np.isfinite(values).all() for values in logs.values())
    if gan.ema_generator is not None:
        nets.assert_exact(LAST, gan.ema_generator)
    assert gan.evaluate(nets.images(8), verbose=0, return_dict=True)
    assert gan.generate(3, seed=0).shape == (3, nets.SIZE, nets.SIZE, 1)


def test_conditional_gan():
    gan = gan_model(nets.conditional_pair())
    watch = nets.Watch(gan.generator)
    fit(gan, kgp.Prune(SCHEDULE, "generator", 3), watch, labels=nets.labels(32))
    nets.assert_held(watch, LAST)


@pytest.mark.parametrize(
    "settings",
    [
        {"criterion": "taylor"},
        {"criterion": "gradient", "allocation": "global_ranking"},
        {"criterion": "discriminator_saliency"},
        {"mode": "rigl"},
        {"mode": "soft"},
        {"mode": "splice"},
        {"granularity": "2:4"},
    ],
    ids=str,
)
def test_settings_that_need_gradients_or_bring_weights_back(settings):
    gan = gan_model(nets.mlp_pair())
    schedule = kgp.PolynomialDecay(0.5, begin_step=2, end_step=10)
    prune = kgp.Prune(schedule, "generator", 4, verbose=0, **settings)
    fit(gan, prune)
    assert nets.leaks(gan.generator) == {}
    assert prune.pruner.sparsity == pytest.approx(0.5, abs=0.01)
    assert prune.pruner.held


def classifier(dtype=None):
    return keras.Sequential(
        [
            keras.Input((nets.SIZE, nets.SIZE, 1)),
            layers.Conv2D(6, 3, dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.ReLU(dtype=dtype),
            layers.Flatten(),
            layers.Dense(3, dtype=dtype),
        ]
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "compiled", [{}, {"jit_compile": True}, {"steps_per_execution": 4}], ids=str
)
def test_speed_switches(policy, compiled):
    if BACKEND == "torch" and "steps_per_execution" in compiled:
        pytest.skip("Keras has no steps_per_execution on PyTorch")
    if BACKEND == "torch" and "jit_compile" in compiled:
        pytest.skip("minutes of compilation: test_torch_backend.py has a slow test")
    model = classifier(policy)
    model.compile("adam", "mse", **compiled)
    watch = nets.Watch(model)
    model.fit(
        nets.images(64),
        nets.labels(64),
        batch_size=4,
        verbose=0,
        callbacks=[kgp.Prune(SCHEDULE, frequency=3), watch],
    )
    nets.assert_held(watch, LAST)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_gan_in_half_precision(policy):
    nets.skip_without_half_convolutions(policy)
    gan = gan_model((nets.dcgan_generator(dtype=policy), nets.dcgan_discriminator(dtype=policy)))
    watch = nets.Watch(gan.generator)
    fit(gan, kgp.Prune(SCHEDULE, "generator", 3), watch, epochs=3)
    assert watch.leaks == []
    # Loss scaling may have left out the first steps.
    assert int(nets.value(gan.generator_optimizer.iterations)) >= 12
    nets.assert_exact(LAST, gan.generator)


# --- what is kept --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Training ended at step 7")
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_saved_in_mid_schedule_and_trained_on(ema_decay, tmp_path):
    whole = gan_model(nets.mlp_pair(dropout=0.2), ema_decay=ema_decay)
    start = whole.get_weights()
    fit(whole, kgp.Prune(SCHEDULE, "generator", 3, verbose=0), batches=12, epochs=1)

    first = gan_model(nets.mlp_pair(dropout=0.2), ema_decay=ema_decay)
    first.set_weights(start)
    data = nets.images(48)
    for part, gan in ((data[:28], first), (data[28:], None)):
        if gan is None:
            gan = kgp.load_model(tmp_path / "gan.keras")
        prune = kgp.Prune(SCHEDULE, "generator", 3, verbose=0)
        gan.fit(part, batch_size=4, verbose=0, shuffle=False, callbacks=[prune])
        gan.save(tmp_path / "gan.keras")
    assert nets.leaks(gan.generator) == {}
    for mine, wanted in zip(gan.weights, whole.weights, strict=True):
        np.testing.assert_allclose(nets.value(mine), nets.value(wanted), rtol=1e-5, atol=1e-6)
    for name in ("generator_optimizer", "discriminator_optimizer"):
        mine, wanted = getattr(gan, name), getattr(whole, name)
        for a, b in zip(mine.variables, wanted.variables, strict=False):
            np.testing.assert_allclose(nets.value(a), nets.value(b), rtol=1e-5, atol=1e-6)


def test_channels_are_cut_in_fit():
    gan = gan_model(nets.dcgan_pair(), ema_decay=0.9)
    prune = kgp.Prune(kgp.Cubic(0.5, 2, 10), "generator", 4, granularity="channel", verbose=0)
    shrink = kgp.Shrink(target="generator", at=12, recalibrate=False, verbose=0)
    before = gan.generator.count_params()
    images = None

    class Compare(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            nonlocal images
            if batch == 11:
                images = gan.generate(2, seed=3), None

    compare = Compare()
    fit(gan, prune, compare, shrink, epochs=1, batches=16)
    assert len(shrink.events) == 1
    assert gan.generator.count_params() < 0.6 * before
    assert [tuple(w.shape) for w in gan.generator.weights] == [
        tuple(w.shape) for w in gan.ema_generator.weights
    ]
    assert images is not None
    assert gan.generate(2, seed=3).shape == images[0].shape


def test_shrink_gives_the_same_outputs():
    model = nets.filled(classifier())
    pruner = kgp.Pruner(model, granularity="channel")
    pruner.update(sparsity=0.5)
    x = nets.images(4)
    small = kgp.shrink(model)
    assert small.count_params() < model.count_params()
    wanted, found = (m.predict(x, verbose=0) for m in (model, small))
    assert np.max(np.abs(wanted - found)) <= 1e-5 * np.max(np.abs(wanted))
    assert kgp.profile(small).macs < kgp.profile(model).macs


@pytest.mark.filterwarnings("ignore:Training ended at step")
def test_diverged_training_is_turned_back():
    gan = gan_model(nets.mlp_pair())
    prune = kgp.Prune(SCHEDULE, "generator", 3)
    with pytest.warns(kgp.PruningWarning, match="were restored"):
        fit(gan, prune, nets.Poison(at=13), epochs=3)
    assert all(np.isfinite(w).all() for w in gan.get_weights())
    assert nets.leaks(gan.generator) == {}


def test_balance_controller_runs():
    gan = gan_model(nets.mlp_pair(), balance_frequency=1)
    control = kgp.BalanceController(0.1, 0.2, 0.5, frequency=4)
    fit(gan, control)
    assert nets.leaks(gan.discriminator) == {}
    assert control.density == pytest.approx(1.0 - control.pruner.sparsity, abs=0.01)


def test_clock_counts_on_where_it_does_not_read(monkeypatch):
    model = classifier()
    model.compile("adam", "mse")
    prune = kgp.Prune(kgp.PolynomialDecay(0.5, begin_step=100, end_step=130), frequency=30)
    steps, reads = [], []
    read = step_clock.Clock.read

    def counting(self):
        reads.append(1)
        return read(self)

    monkeypatch.setattr(step_clock.Clock, "read", counting)

    class Steps(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(prune._run.last_step)

    model.fit(
        nets.images(600), nets.labels(600), batch_size=4, verbose=0, callbacks=[prune, Steps()]
    )
    assert steps == list(range(1, 151))
    assert [step for step, _, _ in prune.updates] == [100, 130]
    if BACKEND != "tensorflow":
        assert len(reads) < 15


@pytest.mark.parametrize(
    "make",
    [nets.BuiltByFit, lambda: keras.Sequential([kgp.PrunableDense(8), kgp.PrunableDense(3)])],
    ids=["subclassed", "sequential"],
)
def test_prunable_layers_that_fit_builds_have_masks(make):
    model = make()
    model.compile("adam", "mse")
    prune = kgp.Prune(SCHEDULE, frequency=3, verbose=0)
    x = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
    model.fit(x, nets.labels(64), batch_size=4, verbose=0, callbacks=[prune])
    assert [w.name for w in prune.pruner.weights] == ["kernel", "kernel"]
    nets.assert_exact(LAST, model)
