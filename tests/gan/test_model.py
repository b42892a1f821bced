"""`GANModel`: training steps against NumPy, forms of data, sampling, saving."""

import functools

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.optimizers import SGD, Adam, RMSprop
from losses_of_users import Offset

import keras_ganprune as kgp
from keras_ganprune.gan import _step_tensorflow

LOSSES = [
    "non_saturating",
    "minimax",
    "hinge",
    "least_squares",
    "wasserstein",
    "relativistic",
]


def gan_model(pair=None, optimizer=lambda: Adam(1e-2, 0.5), options=None, **kwargs):
    kwargs = {"balance_frequency": 0, "seed": 1, **kwargs}
    gan = kgp.GANModel(*(pair or nets.mlp_pair()), nets.LATENT, **kwargs)
    gan.compile(optimizer(), optimizer(), **(options or {}))
    return gan


# For tests that are not about the compiled step: tracing it takes most of their time.
EAGER = {"run_eagerly": True}


def assert_same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(nets.value(a), nets.value(b))


# --- one step of a linear GAN, by hand -----------------------------------------------------------

LATENT, PIXELS, BATCH, RATE = 3, 4, 5, 0.1


class LinearGAN:
    """The same GAN in NumPy: G(z) = z A + a, D(x) = x w + b; gradients by central differences."""

    def __init__(self, loss, smoothing=0.0, gradient_penalty=0.0, r1_penalty=0.0):
        rng = np.random.default_rng(7)
        self.g = rng.normal(0, 0.5, (LATENT + 1, PIXELS))
        self.d = rng.normal(0, 0.5, (PIXELS + 1, 1))
        self.loss, self.smoothing = loss, smoothing
        self.gradient_penalty, self.r1_penalty = gradient_penalty, r1_penalty

    @staticmethod
    def apply(x, w):
        return x @ w[:-1] + w[-1]

    def d_loss(self, d, real, fake):
        r, f = self.apply(real, d), self.apply(fake, d)
        e = self.smoothing
        value = {
            "non_saturating": lambda: _bce(r, 1 - e) + _bce(f, 0),
            "minimax": lambda: _bce(r, 1 - e) + _bce(f, 0),
            "hinge": lambda: np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(),
            "least_squares": lambda: ((r - 1 + e) ** 2).mean() / 2 + (f**2).mean() / 2,
            "wasserstein": lambda: f.mean() - r.mean(),
            "relativistic": lambda: _bce(r - f.mean(), 1 - e) + _bce(f - r.mean(), 0),
        }[self.loss]()
        # The slope of a linear critic is w everywhere.
        slope = np.sqrt((d[:-1] ** 2).sum())
        return value + self.gradient_penalty * (slope - 1) ** 2 + self.r1_penalty / 2 * slope**2

    def g_loss(self, g, z, real):
        f, r = self.apply(self.apply(z, g), self.d), self.apply(real, self.d)
        return {
            "non_saturating": lambda: _bce(f, 1),
            "minimax": lambda: -_bce(f, 0),
            "hinge": lambda: -f.mean(),
            "least_squares": lambda: ((f - 1) ** 2).mean() / 2,
            "wasserstein": lambda: -f.mean(),
            "relativistic": lambda: _bce(f - r.mean(), 1) + _bce(r - f.mean(), 0),
        }[self.loss]()

    def step(self, real, z, d_steps=1):
        for _ in range(d_steps):
            fake = self.apply(z, self.g)
            logged = {"discriminator_loss": self.d_loss(self.d, real, fake)}
            self.d = self.d - RATE * _slope(
                functools.partial(self.d_loss, real=real, fake=fake), self.d
            )
        before = self.apply(self.apply(z, self.g), self.d).mean()
        logged["generator_loss"] = self.g_loss(self.g, z, real)
        self.g = self.g - RATE * _slope(lambda g: self.g_loss(g, z, real), self.g)
        after = self.apply(self.apply(z, self.g), self.d).mean()
        logged["balance_ratio"] = (after - before) / (self.apply(real, self.d).mean() - before)
        return logged


def _bce(logits, label):
    return (np.logaddexp(0, -logits) * label + np.logaddexp(0, logits) * (1 - label)).mean()


def _slope(function, at, step=1e-5):
    slope = np.zeros_like(at)
    for i in np.ndindex(*at.shape):
        shift = np.zeros_like(at)
        shift[i] = step
        slope[i] = (function(at + shift) - function(at - shift)) / (2 * step)
    return slope


def linear_model(oracle, **kwargs):
    generator = keras.Sequential([keras.Input((LATENT,)), layers.Dense(PIXELS)])
    discriminator = keras.Sequential([keras.Input((PIXELS,)), layers.Dense(1)])
    gan = kgp.GANModel(
        generator,
        discriminator,
        LATENT,
        oracle.loss,
        label_smoothing=oracle.smoothing,
        gradient_penalty=oracle.gradient_penalty,
        r1_penalty=oracle.r1_penalty,
        **{"balance_frequency": 1, "value_range": None, **kwargs},
    )
    generator.set_weights([oracle.g[:-1], oracle.g[-1]])
    discriminator.set_weights([oracle.d[:-1], oracle.d[-1]])
    gan.compile(SGD(RATE), SGD(RATE), run_eagerly=True)
    return gan


@pytest.fixture
def fixed(monkeypatch):
    """Real samples and the latent vectors of every draw."""
    rng = np.random.default_rng(3)
    real = rng.normal(1, 1, (BATCH, PIXELS)).astype("float32")
    z = rng.normal(0, 1, (BATCH, LATENT)).astype("float32")
    monkeypatch.setattr(_step_tensorflow, "_sample", lambda gan, batch: tf.constant(z))
    return real, z


def assert_step(oracle, gan, real, z, d_steps=1, rounds=2):
    for _ in range(rounds):
        expected = oracle.step(real, z, d_steps)
        gan.reset_metrics()
        logs = gan.train_step(tf.constant(real))
        for key, value in expected.items():
            assert float(logs[key]) == pytest.approx(value, rel=1e-3, abs=1e-5), key
        np.testing.assert_allclose(
            np.vstack(gan.generator.get_weights()), oracle.g, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            np.vstack([w.reshape(-1, 1) for w in gan.discriminator.get_weights()]),
            oracle.d,
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize("loss", LOSSES)
def test_train_step_of_each_loss(loss, fixed):
    oracle = LinearGAN(loss)
    assert_step(oracle, linear_model(oracle), *fixed)


@pytest.mark.parametrize("loss", ["non_saturating", "minimax", "least_squares", "relativistic"])
def test_label_smoothing(loss, fixed):
    oracle = LinearGAN(loss, smoothing=0.2)
    assert_step(oracle, linear_model(oracle), *fixed)


@pytest.mark.parametrize("penalties", [(10.0, 0.0), (0.0, 5.0), (10.0, 5.0)])
def test_gradient_penalties(penalties, fixed):
    oracle = LinearGAN("wasserstein", 0.0, *penalties)
    assert_step(oracle, linear_model(oracle), *fixed)


def test_r1_of_a_curved_discriminator(fixed):
    """D(x) = sum(x^2) has the slope 2 x, so R1 is half of gamma times the mean of |2 x|^2."""
    real, _ = fixed
    x = keras.Input((PIXELS,))
    discriminator = keras.Model(x, keras.ops.sum(x**2, axis=-1, keepdims=True))
    generator = keras.Sequential([keras.Input((LATENT,)), layers.Dense(PIXELS)])
    gan = kgp.GANModel(generator, discriminator, LATENT, r1_penalty=3.0, balance_frequency=0)
    got = _step_tensorflow._penalties(gan, tf.constant(real), tf.constant(real), None)
    assert float(got) == pytest.approx(1.5 * np.mean(np.sum(4 * real**2, axis=1)), rel=1e-5)


def test_gradient_penalty_is_taken_between_real_and_fake(fixed):
    """For D(x) = sum(x^2) / 2 the slope is x itself; between a point and itself it is that point."""
    real, _ = fixed
    x = keras.Input((PIXELS,))
    discriminator = keras.Model(x, keras.ops.sum(x**2, axis=-1, keepdims=True) / 2)
    generator = keras.Sequential([keras.Input((LATENT,)), layers.Dense(PIXELS)])
    gan = kgp.GANModel(generator, discriminator, LATENT, gradient_penalty=2.0, seed=0)
    got = _step_tensorflow._penalties(gan, tf.constant(real), tf.constant(real), None)
    norm = np.sqrt(np.sum(real**2, axis=1))
    assert float(got) == pytest.approx(2 * np.mean((norm - 1) ** 2), rel=1e-5)
    # Real at 0 and fake at a: |x| is spread evenly between, one mix for a whole sample.
    points = np.full((4000, PIXELS), 0.5, "float32")  # norm 1
    got = _step_tensorflow._penalties(gan, tf.zeros(points.shape), tf.constant(points), None)
    assert float(got) == pytest.approx(2 / 3, rel=0.05)  # 2 * E[(u - 1)^2], u even in [0, 1]


def test_discriminator_steps_by_hand(fixed):
    oracle = LinearGAN("wasserstein")
    gan = linear_model(oracle, discriminator_steps=3)
    assert_step(oracle, gan, *fixed, d_steps=3)
    assert int(gan.discriminator_optimizer.iterations) == 6
    assert int(gan.generator_optimizer.iterations) == 2


def test_balance_ratio_is_measured_every_so_often(fixed):
    oracle = LinearGAN("wasserstein")
    gan = linear_model(oracle, balance_frequency=3)
    real, z = fixed
    expected = [oracle.step(real, z)["balance_ratio"] for _ in range(5)]
    gan.reset_metrics()
    for _ in range(5):
        logs = gan.train_step(tf.constant(real))
    # Generator steps 0 and 3 of the five.
    assert float(logs["balance_ratio"]) == pytest.approx(np.mean(expected[::3]), rel=1e-3)


def test_balance_ratio_of_a_gap_near_zero_is_left_out(fixed):
    real, _ = fixed
    oracle = LinearGAN("wasserstein")
    oracle.d[:] = 0.0
    gan = linear_model(oracle)
    gan.compile(SGD(0.0), SGD(0.0), run_eagerly=True)
    assert float(gan.train_step(tf.constant(real))["balance_ratio"]) == 0.0


@pytest.mark.full
def test_balance_can_be_left_out():
    history = gan_model(balance_frequency=0, options=EAGER).fit(nets.images(), verbose=0).history
    assert set(history) == {
        "generator_loss",
        "discriminator_loss",
        "discriminator_real_accuracy",
        "discriminator_fake_accuracy",
    }
    history = gan_model(balance_frequency=1, options=EAGER).fit(nets.images(), verbose=0).history
    assert np.isfinite(history["balance_ratio"]).all()


@pytest.mark.parametrize(
    "loss",
    [pytest.param(loss, marks=[] if loss == "hinge" else pytest.mark.full) for loss in LOSSES],
)
@pytest.mark.full
def test_every_loss_trains_in_graph_mode(loss):
    gan = gan_model(loss=loss, r1_penalty=1.0 if loss == "hinge" else 0.0)
    before = [w.copy() for w in gan.generator.get_weights()]
    history = gan.fit(nets.images(), batch_size=8, verbose=0).history
    assert all(np.isfinite(v).all() for v in history.values())
    assert any(
        not np.array_equal(a, b) for a, b in zip(before, gan.generator.get_weights(), strict=True)
    )


def test_weight_regularization_is_part_of_the_losses():
    def pair(rate):
        regular = keras.regularizers.L2(rate)
        generator = keras.Sequential(
            [keras.Input((nets.LATENT,)), layers.Dense(4, kernel_regularizer=regular)]
        )
        critic = [keras.Input((4,)), layers.Dense(1, kernel_regularizer=regular)]
        return generator, keras.Sequential(critic)

    logs = []
    for rate in (0.0, 0.5):
        keras.utils.set_random_seed(0)
        gan = gan_model(pair(rate), lambda: SGD(0.0), EAGER, loss="wasserstein")
        logs.append(gan.fit(nets.images(4).reshape(4, -1)[:, :4], verbose=0).history)
        squares = [
            0.5 * np.sum(n.get_weights()[0] ** 2) for n in (gan.generator, gan.discriminator)
        ]
    for key, square in zip(("generator_loss", "discriminator_loss"), squares, strict=True):
        assert logs[1][key][0] - logs[0][key][0] == pytest.approx(square, rel=1e-4)


# --- how often networks run ----------------------------------------------------------------------


class Count(layers.Layer):
    calls = 0

    def call(self, x):
        self.calls += 1
        return x


def counting_pair():
    generator, discriminator = nets.mlp_pair()
    seen = Count(), Count()
    z, x = keras.Input((nets.LATENT,)), keras.Input((8, 8, 1))
    pair = (
        keras.Model(z, seen[0](generator(z))),
        keras.Model(x, discriminator(seen[1](x))),
    )
    return pair, seen


@pytest.mark.parametrize(("loss", "judged"), [("non_saturating", 3), ("relativistic", 4)])
def test_one_generator_forward_a_round(loss, judged):
    pair, (made, seen) = counting_pair()
    gan = gan_model(pair, loss=loss, options={"run_eagerly": True})
    made.calls = seen.calls = 0
    gan.fit(nets.images(12), batch_size=4, verbose=0)
    assert made.calls == 3
    assert seen.calls == 3 * judged


@pytest.mark.full
def test_generator_forwards_with_several_discriminator_steps():
    pair, (made, _) = counting_pair()
    gan = gan_model(pair, discriminator_steps=3, options={"run_eagerly": True})
    made.calls = 0
    gan.fit(nets.images(8), batch_size=4, verbose=0)
    assert made.calls == 2 * 3


# --- data ----------------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y=None, size=8, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, i):
        part = slice(i * self.size, (i + 1) * self.size)
        return self.x[part] if self.y is None else (self.x[part], self.y[part])


def forms(x, y=None):
    """The same 20 images as everything that `fit` takes, in batches of 8, 8 and 4."""
    both = x if y is None else (x, y)
    batches = Batches(x, y)
    return {
        "arrays": dict(x=x, y=y, batch_size=8, shuffle=False),
        "tensors": dict(
            x=tf.constant(x), y=None if y is None else tf.constant(y), batch_size=8, shuffle=False
        ),
        "tf.data": dict(x=tf.data.Dataset.from_tensor_slices(both).batch(8)),
        "tf.data repeated": dict(
            x=tf.data.Dataset.from_tensor_slices(both).batch(8).repeat(), steps_per_epoch=3
        ),
        "PyDataset": dict(x=batches, shuffle=False),
        "generator": dict(
            x=(batches[i % 3] if y is not None else (batches[i % 3],) for i in range(30)),
            steps_per_epoch=3,
        ),
    }


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.parametrize(
    "conditional",
    [pytest.param(False, id="plain", marks=pytest.mark.full), pytest.param(True, id="labels")],
)
@pytest.mark.full
def test_data_of_every_form_trains_the_same(conditional):
    y = nets.labels(20) if conditional else None
    results = {}
    for name, arguments in forms(nets.images(20), y).items():
        keras.utils.set_random_seed(0)
        gan = gan_model(nets.conditional_pair(), options=EAGER) if conditional else gan_model()
        arguments = {k: v for k, v in arguments.items() if v is not None}
        gan.fit(verbose=0, **arguments)
        assert int(gan.generator_optimizer.iterations) == 3  # the partial batch is not dropped
        results[name] = gan.get_weights()
    for weights in results.values():
        for one, two in zip(results["arrays"], weights, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.full
def test_a_partial_batch_counts_by_its_size():
    """D(x) = x, so the real accuracy is the share of positive images: 7 of 10, not a mean of batches."""
    x = np.array([1, 1, 1, 1, -1, -1, -1, 1, 1, 1], "float32").reshape(-1, 1)
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    discriminator = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    gan = kgp.GANModel(generator, discriminator, 2, "least_squares", balance_frequency=0)
    discriminator.set_weights([np.ones((1, 1)), np.zeros(1)])
    gan.compile(SGD(0.0), SGD(0.0))
    logs = gan.fit(x, batch_size=4, shuffle=False, verbose=0).history
    assert logs["discriminator_real_accuracy"] == [pytest.approx(0.7)]
    logs = gan.evaluate(x, batch_size=4, verbose=0, return_dict=True)
    assert logs["discriminator_real_accuracy"] == pytest.approx(0.7)


def test_validation_data_and_evaluate():
    gan = gan_model()
    x = nets.images(16)
    history = gan.fit(x, batch_size=8, verbose=0, validation_data=(x,)).history
    before = gan.get_weights()
    results = gan.evaluate(x, verbose=0, return_dict=True)
    assert set(results) == {key for key in history if not key.startswith("val_")}
    assert {f"val_{key}" for key in results} <= set(history)
    assert_same(before, gan.get_weights())
    assert all(np.isfinite(v) for v in results.values())


@pytest.mark.parametrize("loss", LOSSES)
def test_evaluate_against_numpy(loss, fixed):
    oracle = LinearGAN(loss)
    gan = linear_model(oracle, balance_frequency=0)
    real, z = fixed
    got = gan.evaluate(real, verbose=0, return_dict=True, batch_size=BATCH)
    fake = oracle.apply(z, oracle.g)
    assert got["discriminator_loss"] == pytest.approx(oracle.d_loss(oracle.d, real, fake), rel=1e-4)
    assert got["generator_loss"] == pytest.approx(oracle.g_loss(oracle.g, z, real), rel=1e-4)


def test_two_inputs_make_a_conditional_gan():
    assert gan_model(nets.conditional_pair()).conditional
    assert not gan_model().conditional
    pair = nets.SubclassedGenerator(), nets.mlp_discriminator()
    assert not gan_model(pair).conditional


def test_labels_reach_both_networks():
    gan = gan_model(nets.conditional_pair(), options=EAGER)
    gan.fit(nets.images(8), nets.labels(8), verbose=0)
    kernels = [
        next(w for w in network.trainable_weights if w.shape[0] in (nets.LATENT + 3, 64 + 3))
        for network in (gan.generator, gan.discriminator)
    ]
    start = gan_model(nets.conditional_pair())
    assert len(kernels) == 2 and start.conditional
    z = np.zeros((3, nets.LATENT), "float32")
    made = nets.value(gan.generator([z, np.eye(3, dtype="float32")]))
    assert np.abs(made[0] - made[1]).max() > 0


# --- sampling ------------------------------------------------------------------------------------


def test_generate():
    gan = gan_model()
    one = gan.generate(5, seed=3)
    assert one.shape == (5, 8, 8, 1) and one.dtype == np.float32
    np.testing.assert_array_equal(one, gan.generate(5, seed=3))
    assert np.abs(one - gan.generate(5, seed=4)).max() > 0
    assert np.abs(gan.generate(5) - gan.generate(5)).max() > 0
    # Splitting the work changes nothing but rounding.
    np.testing.assert_allclose(one, gan.generate(5, seed=3, batch_size=2), rtol=1e-5, atol=1e-6)
    z = np.random.default_rng(3).standard_normal((5, nets.LATENT), dtype="float32")
    np.testing.assert_array_equal(one, nets.value(gan.generator(z)))


def test_generate_with_labels():
    gan = gan_model(nets.conditional_pair())
    made = gan.generate(4, labels=nets.labels(4), seed=0)
    assert made.shape == (4, 8, 8, 1)
    other = gan.generate(4, labels=nets.labels(5)[1:], seed=0)
    assert np.abs(made - other).max() > 0
    np.testing.assert_array_equal(made, gan.generate(4, labels=nets.labels(4).tolist(), seed=0))


def test_generate_uses_the_average():
    gan = gan_model(ema_decay=0.9, options=EAGER)
    gan.fit(nets.images(), batch_size=8, verbose=0)
    z = np.random.default_rng(0).standard_normal((3, nets.LATENT), dtype="float32")
    made = gan.generate(3, seed=0)
    np.testing.assert_array_equal(made, nets.value(gan.ema_generator(z)))
    assert np.abs(made - nets.value(gan.generator(z))).max() > 1e-4


def test_the_average_against_numpy():
    gan = gan_model(ema_decay=0.3)
    average = [w.copy() for w in gan.generator.get_weights()]
    assert_same(average, gan.ema_generator.get_weights())

    class Follow(keras.callbacks.Callback):
        step = 0

        def on_train_batch_end(self, batch, logs=None):
            self.step += 1
            decay = min(0.3, (1 + self.step) / (10 + self.step))
            for i, weight in enumerate(gan.generator.get_weights()):
                average[i] = decay * average[i] + (1 - decay) * weight
            for one, two in zip(average, gan.ema_generator.get_weights(), strict=True):
                np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)

    gan.fit(nets.images(), batch_size=4, verbose=0, callbacks=[Follow()])


@pytest.mark.full
def test_batch_statistics_of_the_average_are_those_of_the_generator():
    gan = gan_model(nets.dcgan_pair(), ema_decay=0.9)
    gan.fit(nets.images(), batch_size=8, verbose=0)
    trained = {id(w) for w in gan.generator.trainable_weights}
    for own, copy in zip(gan.generator.weights, gan.ema_generator.weights, strict=True):
        same = np.array_equal(nets.value(own), nets.value(copy))
        assert same == (id(own) not in trained)


def test_predict_and_call_give_images():
    gan = gan_model()
    z = np.random.default_rng(0).standard_normal((4, nets.LATENT)).astype("float32")
    np.testing.assert_allclose(gan.predict(z, verbose=0), nets.value(gan.generator(z)), atol=1e-6)


def test_latent_vectors_are_standard_normal_and_change():
    gan = gan_model()
    one = nets.value(_step_tensorflow._sample(gan, 4000))
    two = nets.value(_step_tensorflow._sample(gan, 4000))
    assert one.shape == (4000, nets.LATENT)
    assert abs(one.mean()) < 0.03 and abs(one.std() - 1) < 0.03
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.03


@pytest.mark.full
def test_the_seed_makes_a_run_repeatable():
    runs = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        gan = gan_model(seed=seed)
        gan.fit(nets.images(), batch_size=8, verbose=0, shuffle=False)
        runs.append(gan.get_weights())
    assert_same(runs[0], runs[1])
    assert any(not np.array_equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


# --- saving --------------------------------------------------------------------------------------


def dropout_pair():
    return nets.mlp_generator(dropout=0.3), nets.mlp_discriminator(dropout=0.3)


def subclassed_pair():
    return nets.SubclassedGenerator(), nets.mlp_discriminator()


CASES = {
    "dropout": (dropout_pair, {}, lambda: Adam(1e-2, 0.5)),
    "ema": (dropout_pair, {"ema_decay": 0.9}, lambda: Adam(1e-2, 0.5)),
    "subclassed": (subclassed_pair, {"ema_decay": 0.9}, lambda: RMSprop(1e-2, momentum=0.5)),
    "dcgan": (
        lambda: (nets.dcgan_generator(), nets.dcgan_discriminator(spectral=True)),
        {"loss": "hinge", "ema_decay": 0.9},
        lambda: Adam(1e-2, 0.5),
    ),
    "wgan_gp": (
        nets.mlp_pair,
        {"loss": "wasserstein", "gradient_penalty": 10.0, "discriminator_steps": 2},
        lambda: SGD(1e-2, momentum=0.9),
    ),
    "use_ema": (
        nets.mlp_pair,
        {},
        lambda: Adam(1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=5),
    ),
}


def fit_pruned(gan, first, last):
    """Train epochs `first` to `last` of one run of six, pruned along the way."""
    schedule = kgp.PolynomialDecay(0.8, 2, 16)
    callback = kgp.Prune(schedule, ["generator", "discriminator"], 5, verbose=0)
    gan.fit(
        nets.images(),
        batch_size=8,
        initial_epoch=first,
        epochs=last,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )


def state(gan):
    found = list(gan.get_weights())
    for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer):
        found += [nets.value(v) for v in optimizer.variables]
    found += [nets.value(w.mask) for w in kgp.masked_weights(gan)]
    return found


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case == "ema" else pytest.mark.full) for case in CASES]
)
@pytest.mark.filterwarnings("ignore:Training ended at step")
def test_save_load_and_go_on_is_as_if_uninterrupted(case, tmp_path):
    pair, kwargs, optimizer = CASES[case]
    custom = {"SubclassedGenerator": nets.SubclassedGenerator}

    def fresh():
        keras.utils.set_random_seed(0)
        return gan_model(pair(), optimizer, **kwargs)

    # Two halves of one run, since `use_ema` writes the average into the weights when a `fit` ends.
    whole = fresh()
    fit_pruned(whole, 0, 3)
    at_save = state(whole)
    fit_pruned(whole, 3, 6)

    gan = fresh()
    fit_pruned(gan, 0, 3)
    assert_same(at_save, state(gan))
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras", custom_objects=custom)
    assert type(loaded) is kgp.GANModel
    assert_same(at_save, state(loaded))
    fit_pruned(loaded, 3, 6)
    assert_same(state(whole), state(loaded))
    nets.assert_exact(0.8, loaded.generator, loaded.discriminator)
    if loaded.ema_generator is not None:
        nets.assert_exact(0.8, loaded.ema_generator)
        assert_same(whole.ema_generator.weights, loaded.ema_generator.weights)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Training ended at step")
def test_one_fit_is_the_same_as_two_with_a_file_between(tmp_path):
    keras.utils.set_random_seed(0)
    whole = gan_model(dropout_pair(), ema_decay=0.9)
    fit_pruned(whole, 0, 6)
    keras.utils.set_random_seed(0)
    gan = gan_model(dropout_pair(), ema_decay=0.9)
    fit_pruned(gan, 0, 3)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    fit_pruned(loaded, 3, 6)
    assert_same(state(whole), state(loaded))


@pytest.mark.full
def test_compile_settings_come_back(tmp_path):
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, label_smoothing=0.1, r1_penalty=2.0)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    gan.compile(
        Adam(schedule, 0.5),
        RMSprop(3e-4, momentum=0.5),
        jit_compile=False,
        steps_per_execution=2,
        run_eagerly=False,
    )
    gan.fit(nets.images(), batch_size=8, verbose=0)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    for name in ("generator_optimizer", "discriminator_optimizer"):
        one, two = getattr(gan, name), getattr(loaded, name)
        assert type(one) is type(two)
        assert one.get_config() == two.get_config()
        assert_same(one.variables, two.variables)
        assert int(two.iterations) == 4
    assert loaded.steps_per_execution == 2
    assert loaded.jit_compile is False and loaded.run_eagerly is False
    assert loaded.loss_pair == gan.loss_pair
    assert {
        k: v for k, v in loaded.get_config().items() if k not in ("generator", "discriminator")
    } == {k: v for k, v in gan.get_config().items() if k not in ("generator", "discriminator")}


@pytest.mark.full
def test_an_uncompiled_gan_comes_back_uncompiled(tmp_path):
    gan = kgp.GANModel(*nets.conditional_pair(), nets.LATENT, name="mine")
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert loaded.generator_optimizer is None
    assert loaded.name == "mine" and loaded.conditional
    assert_same(gan.weights, loaded.weights)
    loaded.compile()
    loaded.fit(nets.images(8), nets.labels(8), verbose=0)


@pytest.mark.full
def test_mixed_precision_comes_back(tmp_path):
    gan = gan_model(nets.mlp_pair(dtype="mixed_float16"))
    gan.fit(nets.images(), batch_size=8, verbose=0)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert isinstance(loaded.generator_optimizer, keras.optimizers.LossScaleOptimizer)
    assert_same(gan.generator_optimizer.variables, loaded.generator_optimizer.variables)
    assert_same(gan.generate(3, seed=0), loaded.generate(3, seed=0))


def test_weights_files(tmp_path):
    gan = gan_model(ema_decay=0.9, options=EAGER)
    gan.fit(nets.images(), verbose=0, callbacks=[kgp.Prune(0.8, "generator", verbose=0)])
    gan.save_weights(tmp_path / "gan.weights.h5")
    other = gan_model(ema_decay=0.9)
    kgp.make_prunable(other.generator)
    kgp.make_prunable(other.ema_generator)
    other.load_weights(tmp_path / "gan.weights.h5")
    assert_same(gan.weights, other.weights)
    nets.assert_exact(0.8, other.generator)


def test_a_loss_of_a_user_comes_back(tmp_path):
    gan = gan_model(loss=Offset(2.0))
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras", custom_objects={"Offset": Offset})
    assert loaded.loss_pair == Offset(2.0)


@pytest.mark.full
def test_model_checkpoint_and_best_epoch(tmp_path):
    gan = gan_model()
    path = str(tmp_path / "best.keras")
    saver = keras.callbacks.ModelCheckpoint(
        path, "generator_sparsity", mode="max", save_best_only=True
    )
    fit = dict(batch_size=8, epochs=2, verbose=0)
    prune = kgp.Prune(kgp.PolynomialDecay(0.8, 1, 8), "generator", 3, verbose=0)
    gan.fit(nets.images(), callbacks=[prune, saver], **fit)
    loaded = keras.saving.load_model(path)
    assert_same(gan.generator.weights, loaded.generator.weights)
    nets.assert_exact(0.8, loaded.generator)


@pytest.mark.parametrize("shift", [pytest.param(0, marks=pytest.mark.full), 2])
@pytest.mark.full
def test_masks_find_their_layers_whatever_the_layers_are_called_now(shift, tmp_path):
    """A subclassed network makes its layers anew when loaded, and Keras numbers their names anew."""
    keras.backend.clear_session()
    gan = gan_model(subclassed_pair(), options=EAGER)
    last = gan.generator.head
    prune = kgp.Prune(0.5, "generator", scope=last, verbose=0)
    gan.fit(nets.images(), verbose=0, callbacks=[prune])
    gan.save(tmp_path / "gan.keras")
    keras.backend.clear_session()
    for _ in range(shift):
        layers.Dense(1)
    custom = {"SubclassedGenerator": nets.SubclassedGenerator}
    loaded = keras.saving.load_model(tmp_path / "gan.keras", custom_objects=custom)
    (weight,) = kgp.masked_weights(loaded.generator)
    assert weight.layer is loaded.generator.head
    np.testing.assert_array_equal(
        nets.value(weight.mask), nets.value(last.pruning_masks.masks["kernel"])
    )


@pytest.mark.full
def test_the_compiled_step_is_the_eager_one(monkeypatch):
    """Also with XLA, where the order of reads and writes is the graph's: balance before and after."""
    z = np.random.default_rng(0).normal(size=(8, nets.LATENT)).astype("float32")
    monkeypatch.setattr(_step_tensorflow, "_sample", lambda gan, batch: tf.constant(z))
    results = []
    for options in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        keras.utils.set_random_seed(0)
        gan = gan_model(loss="wasserstein", balance_frequency=2, ema_decay=0.9, options=options)
        history = gan.fit(nets.images(), batch_size=8, verbose=0, shuffle=False).history
        results.append((history, gan.get_weights()))
    (expected, weights), *others = results
    for history, other in others:
        for key, value in expected.items():
            assert history[key] == pytest.approx(value, rel=1e-3), key
        for one, two in zip(weights, other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)
