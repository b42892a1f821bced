"""Group lasso, network slimming and growing L2: each update against a NumPy oracle, and in any `fit`."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.training import discovery

RATE, STRENGTH, BATCHES = 0.05, 0.4, 6
X = np.random.default_rng(0).normal(size=(8 * BATCHES, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8 * BATCHES, 3)).astype("float32")


def network(batch_norm=True):
    between = [layers.BatchNormalization(name="n")] if batch_norm else []
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, use_bias=not batch_norm, name="a"),
            *between,
            layers.Activation("relu"),
            layers.Dense(3, name="b"),
        ]
    )


def compiled(optimizer=None, batch_norm=True, seed=3):
    keras.utils.set_random_seed(seed)
    model = network(batch_norm)
    model.compile(optimizer or keras.optimizers.SGD(RATE), "mse", jit_compile=False)
    return model


def arrays(model):
    return {w.path.split("/", 1)[-1]: np.array(to_numpy(w)) for w in model.weights}


# --- the oracles: what one update does to the arrays of `network()` ------------------------------


def lasso(before, amount):
    w = dict(before)
    norm = np.sqrt(
        (w["a/kernel"] ** 2).sum(0)
        + w["n/gamma"] ** 2
        + w["n/beta"] ** 2
        + (w["b/kernel"] ** 2).sum(1)
    )
    factor = np.maximum(0, 1 - amount * np.sqrt(4 + 1 + 1 + 3) / norm)
    for name in ("a/kernel", "n/gamma", "n/beta"):
        w[name] = w[name] * factor
    w["b/kernel"] = w["b/kernel"] * factor[:, None]
    return w


def slimming(before, amount):
    gamma = before["n/gamma"]
    return {**before, "n/gamma": np.sign(gamma) * np.maximum(np.abs(gamma) - amount, 0)}


def growing(going):
    def update(before, amount):
        w, factor = dict(before), np.where(going, max(0, 1 - amount), 1)
        for name in ("a/kernel", "n/gamma", "n/beta"):
            w[name] = w[name] * factor
        w["b/kernel"] = w["b/kernel"] * factor[:, None]
        return w

    return update


class AgainstOracle(keras.callbacks.Callback):
    """After each batch, a plain twin makes the same step from the same weights; then the oracle follows."""

    def __init__(self, twin, oracle, strength, every=1, rate=lambda step: RATE):
        super().__init__()
        self.twin, self.oracle, self.strength = twin, oracle, strength
        self.every, self.rate = every, rate
        self.compared, self.zeros = 0, 0

    def on_train_batch_end(self, batch, logs=None):
        rows = slice(8 * batch, 8 * batch + 8)
        self.twin.train_on_batch(X[rows], Y[rows])
        expected, step = arrays(self.twin), batch
        if (step + 1) % self.every == 0:
            expected = self.oracle(expected, self.rate(step) * self.strength(step))
        found = arrays(self.model)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, 1e-5, 1e-6, err_msg=f"{batch} {name}")
        self.compared += 1
        self.zeros = np.count_nonzero(found["n/gamma"] == 0)
        self.twin.set_weights(self.model.get_weights())


def smallest_half(model):
    size = np.abs(arrays(model)["a/kernel"]).sum(0)
    return size < np.sort(size)[3]


def cases(model):
    """Return (callback, oracle, strength at a step) by name."""
    rising = lambda step: min(4.0, 1.0 * (step // 2))  # noqa: E731
    half = smallest_half(model)
    return {
        "lasso": (kgp.GroupLasso(STRENGTH, verbose=0), lasso, lambda step: STRENGTH),
        "scheduled": (
            kgp.GroupLasso(lambda step: 0.1 * step, frequency=1, verbose=0),
            lasso,
            lambda step: 0.1 * step,
        ),
        "slimming": (kgp.NetworkSlimming(6.0, verbose=0), slimming, lambda step: 6.0),
        "growing": (
            kgp.GrowingL2(sparsity=0.5, delta=1.0, frequency=2, ceiling=4.0, verbose=0),
            growing(half),
            rising,
        ),
    }


def decay():
    return keras.optimizers.schedules.ExponentialDecay(RATE, 1, 0.5)


OPTIMIZERS = {
    "sgd": (lambda: keras.optimizers.SGD(RATE), {}),
    "adam": (lambda: keras.optimizers.Adam(RATE), {}),
    "schedule": (lambda: keras.optimizers.Adam(decay()), {"rate": lambda step: RATE * 0.5**step}),
    "accumulation": (
        lambda: keras.optimizers.SGD(RATE, gradient_accumulation_steps=2),
        {"every": 2},
    ),
    "scaled": (lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE)), {}),
}
QUICK = [("lasso", "sgd"), ("slimming", "sgd"), ("growing", "sgd"), ("lasso", "schedule")]
FULL = [(r, o) for r in ("lasso", "scheduled", "slimming", "growing") for o in OPTIMIZERS]


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        pytest.param(*row, marks=[] if row in QUICK else pytest.mark.full)
        for row in sorted({*QUICK, *FULL})
    ],
)
def test_each_update_is_that_of_the_oracle(name, optimizer):
    make, more = OPTIMIZERS[optimizer]
    model, twin = compiled(make()), compiled(make())
    callback, oracle, strength = cases(model)[name]
    if optimizer == "accumulation":  # the clock counts the updates
        calls = strength
        strength = lambda step: calls(step // 2)  # noqa: E731
    check = AgainstOracle(twin, oracle, strength, **more)
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[callback, check])
    assert check.compared == BATCHES
    if (name, optimizer) == ("slimming", "sgd"):
        assert check.zeros > 0  # exactly zero, or the comparison says little


@pytest.mark.full
def test_averages_are_those_of_the_regularized_weights():
    optimizer = keras.optimizers.SGD(RATE, use_ema=True, ema_momentum=0.7)
    model = compiled(optimizer)
    expected = {}

    class Average(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for name, value in arrays(self.model).items():
                old = expected.get(name)
                expected[name] = value if old is None else 0.7 * old + 0.3 * value

    model.fit(
        X,
        Y,
        batch_size=8,
        verbose=0,
        callbacks=[kgp.GroupLasso(STRENGTH, verbose=0), Average()],
    )
    for variable, average in discovery.slots(optimizer, only_averages=True):
        name = variable.path.split("/", 1)[-1]
        np.testing.assert_allclose(to_numpy(average), expected[name], 1e-4, 1e-6)


# --- nothing is left behind ----------------------------------------------------------------------


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "interrupted", [False, pytest.param(True, marks=pytest.mark.full)], ids=["ended", "interrupted"]
)
def test_a_later_fit_is_plain(interrupted):
    model, twin = compiled(), compiled()
    variables = len(model.optimizer.variables)
    callbacks = [kgp.GroupLasso(STRENGTH, verbose=0), kgp.NetworkSlimming(1.0, verbose=0)]
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, batch_size=8, verbose=0, callbacks=[*callbacks, Stop()])
    else:
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=callbacks)
        assert len(model.optimizer.variables) == variables + 0 * len(callbacks)
    twin.set_weights(model.get_weights())
    for each in (model, twin):
        each.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert not {"apply", "make_train_function"} & {*vars(model), *vars(model.optimizer)}
    for name, value in arrays(twin).items():
        np.testing.assert_allclose(arrays(model)[name], value, 1e-6, 1e-7, err_msg=name)


@pytest.mark.full
def test_a_second_fit_goes_on():
    model = compiled()
    callback = kgp.GrowingL2(sparsity=0.5, delta=1.0, frequency=2, verbose=0)
    half = smallest_half(model)
    for epoch in (1, 2):
        logs = model.fit(X, Y, batch_size=8, verbose=0, callbacks=[callback]).history
        assert logs["l2_strength"] == [1.0 * (epoch * BATCHES // 2)]
    norms = np.linalg.norm(arrays(model)["a/kernel"], axis=0)
    assert norms[half].max() < norms[~half].min()


# --- beside other callbacks ----------------------------------------------------------------------


@keras.saving.register_keras_serializable("regularized")
class Holder(keras.Model):
    """A model that holds a network, which `Shrink` can replace."""

    def __init__(self, batch_norm=True):
        super().__init__()
        self.part = network(batch_norm)

    def call(self, x, training=False):
        return self.part(x, training=training)


def holder(**kwargs):
    keras.utils.set_random_seed(4)
    model = Holder(**kwargs)
    model.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=False)
    return model


class Weights(keras.callbacks.Callback):
    """Notes the kernels of the first layer after each batch."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append(np.array(to_numpy(self.model.part.layers[0].kernel)))


@pytest.mark.parametrize(
    "order", [1, pytest.param(-1, marks=pytest.mark.full)], ids=["before", "behind"]
)
def test_what_is_to_go_is_what_shrink_removes(order):
    model = holder()
    half = np.abs(to_numpy(model.part.layers[0].kernel)).sum(0)
    half = half < np.sort(half)[3]
    grow = kgp.GrowingL2("part", sparsity=0.5, delta=19.0, frequency=1, ceiling=19.0, verbose=0)
    watch, shrink = Weights(), kgp.Shrink(at=4, target="part", sparsity=0.5, verbose=0)
    logs = model.fit(
        X, Y, batch_size=8, verbose=0, callbacks=[*[grow, shrink][::order], watch]
    ).history
    assert np.abs(watch.rows[2][:, half]).max() < 0.02 < np.abs(watch.rows[2][:, ~half]).max()
    assert watch.rows[3].shape == (4, 3) and "part_going_norm" not in logs
    assert grow.penalties == [] and shrink.events[0].channels == (6, 3)


@pytest.mark.full
def test_group_lasso_follows_the_smaller_network():
    # So strong that every channel is zero after one step.
    model = holder()
    shrink = kgp.Shrink(at=3, target="part", sparsity=0.5, verbose=0)
    late = kgp.GroupLasso(lambda step: 1e3 * (step >= 4), "part", frequency=1, verbose=0)
    watch = Weights()
    logs = model.fit(X, Y, batch_size=8, verbose=0, callbacks=[shrink, late, watch]).history
    assert watch.rows[3].shape == (4, 3) and watch.rows[3].all() and not watch.rows[4].any()
    assert logs["part_zero_channels"] == [1.0]


@pytest.mark.full
def test_a_later_cut_goes_on_with_what_is_left_to_go():
    model = holder()
    grow = kgp.GrowingL2("part", sparsity=0.67, delta=4.0, frequency=1, ceiling=4.0, verbose=0)
    shrink = kgp.Shrink(at=[3, 5], target="part", sparsity=[0.33, 0.5], verbose=0)
    model.fit(X[:32], Y[:32], batch_size=8, verbose=0, callbacks=[grow, shrink])
    (penalty,) = grow.penalties
    kernel = next(row for row in penalty.rows if tuple(row.weight.shape) == (4, 4))
    assert np.count_nonzero(to_numpy(kernel.flags)) == 2
    assert penalty.measure()["going_norm"] < 0.8


@pytest.mark.full
@pytest.mark.parametrize("granularity", ["unstructured", "channel"])
def test_masks_hold_beside_a_regularizer(granularity):
    model = holder()
    prune = kgp.Prune(0.5, "part", granularity=granularity, verbose=0)
    lasso_ = kgp.GroupLasso(0.1, "part", verbose=0)
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[lasso_, prune])
    for weight in kgp.masked_weights(model.part):
        assert not np.any(to_numpy(weight.variable)[~to_numpy(weight.mask)])
        assert np.any(to_numpy(weight.variable)[to_numpy(weight.mask)])


@pytest.mark.full
def test_single_weights_decay_and_prune_removes_them():
    model = holder()
    settings = {"allocation": "uniform", "granularity": "unstructured"}
    before = np.abs(to_numpy(model.part.layers[0].kernel)).ravel()
    small = before <= np.sort(before)[11]
    grow = kgp.GrowingL2(
        "part", sparsity=0.5, delta=20.0, ceiling=15.0, frequency=1, verbose=0, **settings
    )
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[grow])
    kgp.Pruner(model.part, **settings).update(sparsity=0.5)
    masks = {w.path: to_numpy(w.mask) for w in kgp.masked_weights(model.part)}
    np.testing.assert_array_equal(masks["a/kernel"].ravel(), ~small)


@pytest.mark.full
def test_a_gan_with_both_networks_and_an_average():
    from keras_ganprune.applications.networks import dcgan

    keras.utils.set_random_seed(0)
    gan = kgp.GANModel(*dcgan((8, 8, 1), channels=8), latent_dim=64, ema_decay=0.9)
    gan.compile(keras.optimizers.Adam(1e-3, 0.5), keras.optimizers.Adam(1e-3, 0.5))
    budget = kgp.Budget(macs=0.4)
    callbacks = [
        kgp.GroupLasso(0.1, ["generator", "discriminator"], verbose=0),
        kgp.NetworkSlimming(0.1, "generator", verbose=0),
        kgp.GrowingL2(
            "generator", budget=budget, delta=50.0, frequency=1, ceiling=500.0, verbose=0
        ),
        kgp.Shrink(at=12, budget=budget, verbose=0),
    ]
    images = np.random.default_rng(0).uniform(-1, 1, (80, 8, 8, 1)).astype("float32")
    logs = gan.fit(images, batch_size=4, verbose=0, callbacks=callbacks).history
    for name in ("generator_channel_rms", "discriminator_zero_channels", "generator_mean_gamma"):
        assert np.isfinite(logs[name][-1]), name
    assert callbacks[-1].events[0].macs[1] < 0.42 * callbacks[-1].events[0].macs[0]


@pytest.mark.full
def test_mixed_precision_and_spectral_norm():
    keras.utils.set_random_seed(0)
    policy = keras.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.SpectralNormalization(layers.Dense(6, dtype=policy), dtype=policy),
            layers.Dense(3, dtype=policy),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=False)
    logs = model.fit(
        X, Y, batch_size=8, epochs=20, verbose=0, callbacks=[kgp.GroupLasso(0.5, verbose=0)]
    ).history
    assert logs["channel_rms"][-1] < 0.8 * logs["channel_rms"][0]


@pytest.mark.full
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(tmp_path):
    def callbacks(name):
        return [
            keras.callbacks.BackupAndRestore(tmp_path / name, delete_checkpoint=False),
            kgp.GrowingL2(sparsity=0.5, delta=2.0, frequency=2, verbose=0),
            kgp.GroupLasso(0.05, verbose=0),
        ]

    whole, first, second = compiled(), compiled(), compiled(seed=9)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    whole.fit(X, Y, epochs=3, callbacks=callbacks("whole"), **fit)
    first.fit(X, Y, epochs=2, callbacks=callbacks("parts"), **fit)
    second.fit(X, Y, epochs=3, callbacks=callbacks("parts"), **fit)
    for name, value in arrays(whole).items():
        np.testing.assert_allclose(arrays(second)[name], value, 1e-5, 1e-6, err_msg=name)


# --- what is frozen, and what is refused ---------------------------------------------------------


def test_a_frozen_layer_is_left_alone():
    model = compiled(batch_norm=False)
    model.layers[-1].trainable = False
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    before = arrays(model)
    model.optimizer.learning_rate = RATE
    model.fit(X[:8], 0 * Y[:8], verbose=0, batch_size=8, callbacks=[kgp.GroupLasso(1e3, verbose=0)])
    after = arrays(model)
    np.testing.assert_array_equal(after["b/kernel"], before["b/kernel"])
    assert not after["a/kernel"].any() and not after["a/bias"].any()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: kgp.NetworkSlimming(0.1), UnsupportedLayerError, "Use `GroupLasso`"),
        (lambda: kgp.GroupLasso(0.1, scope="c"), InvalidArgumentError, "scope"),
        (lambda: kgp.GroupLasso(lambda step: -1.0), InvalidArgumentError, "non-negative"),
        (lambda: kgp.GroupLasso(lambda step: "x"), ArgumentTypeError, "must be"),
        (
            lambda: kgp.GrowingL2(budget=kgp.Budget(macs=0.5), granularity="unstructured"),
            InvalidArgumentError,
            "Give `sparsity`",
        ),
    ],
)
def test_refused_in_fit(make, error, text):
    model = compiled(batch_norm=False)
    with pytest.raises(error, match=text):
        model.fit(X, Y, verbose=0, callbacks=[make()])


@pytest.mark.parametrize(
    "make",
    [
        lambda: kgp.GroupLasso(-0.1),
        lambda: kgp.GrowingL2(),
        lambda: kgp.GrowingL2(sparsity=0.5, budget=kgp.Budget(macs=0.5)),
        lambda: kgp.GrowingL2(sparsity=0.5, criterion="taylor"),
        lambda: kgp.GrowingL2(sparsity=0.5, delta=0.0),
    ],
)
def test_refused_at_once(make):
    with pytest.raises(InvalidArgumentError):
        make()


@pytest.mark.full
def test_a_network_that_is_never_updated_is_refused():
    model = compiled(batch_norm=False)
    model.trainable = False
    model.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=False)

    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.part, self.head = model, layers.Dense(1)

        def call(self, x):
            return self.head(self.part(x))

    idle = Idle()
    idle.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(UnsupportedLayerError, match="no gradient of 'part'"):
        idle.fit(X, Y[:, :1], verbose=0, callbacks=[kgp.GroupLasso(0.1, "part", verbose=0)])


def test_repr_names_the_settings():
    assert repr(kgp.GroupLasso(0.1, "generator")) == "<GroupLasso 0.1 of 'generator'>"
    assert "+0.5 every 10 steps from 0 up to 100.0" in repr(kgp.GrowingL2(sparsity=0.5))
