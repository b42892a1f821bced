"""What only JAX has: a compiled step that is a function, which gets the masks as state."""

import zipfile

import keras
import networks as nets
import numpy as np
import pytest
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.backend import tracing
from keras_ganprune.errors import InvalidArgumentError

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="for KERAS_BACKEND=jax")

if keras.backend.backend() == "jax":
    import jax
    import jax.numpy as jnp

SCHEDULE = kgp.PolynomialDecay(0.75, begin_step=2, end_step=12)


@pytest.fixture
def compilations():
    """Count what XLA compiles of more than a few operations: whole steps, by the time that takes."""
    found = []

    def listen(name, seconds, **kwargs):
        if name == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def classifier():
    return keras.Sequential(
        [
            keras.Input((nets.SIZE, nets.SIZE, 1)),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(3),
        ]
    )


def data(n=64):
    return nets.images(n), nets.labels(n)


# --- no recompilation ----------------------------------------------------------------------------


def steps_compiled(model):
    """Return how often the compiled step of a model was compiled.

    Keras keeps it in the closure of its train function.
    """
    cells = model.train_function.__closure__ or ()
    steps = [c.cell_contents for c in cells if hasattr(c.cell_contents, "_cache_size")]
    (step,) = [s for s in steps] or [None]
    return step._cache_size()


@pytest.mark.parametrize(
    "settings", [{}, {"criterion": kgp.Taylor(batches=1)}, {"mode": "rigl"}], ids=str
)
def test_mask_changes_compile_nothing(settings, compilations):
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, seed=1)
    gan.compile()
    schedule = kgp.PolynomialDecay(0.75, begin_step=4, end_step=100)
    prune = kgp.Prune(schedule, "generator", 4, verbose=0, **settings)

    class Counts(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.rows = []

        def on_train_batch_end(self, batch, logs=None):
            self.rows.append((len(prune.updates), len(compilations)))

    counts = Counts()
    gan.fit(nets.images(408), batch_size=4, shuffle=False, verbose=0, callbacks=[prune, counts])
    updates = [row[0] for row in counts.rows]
    assert updates[-1] == 25
    # After the third update all is compiled that there is: the step, with gradients and without, and
    # the few operations on single arrays that an update runs.
    begun = updates.index(4)
    assert counts.rows[-1][1] - counts.rows[begun][1] == 0
    assert steps_compiled(gan) == 1


def test_masks_that_change_take_effect_in_the_compiled_step():
    model = classifier()
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    watch = nets.Watch(model)
    model.fit(*data(), batch_size=4, verbose=0, callbacks=[kgp.Prune(SCHEDULE, frequency=2), watch])
    nets.assert_held(watch, 0.75)
    assert len(set(watch.kept)) > 3


def test_a_dense_run_before_is_traced_anew():
    model = classifier()
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(*data(16), batch_size=4, verbose=0)
    watch = nets.Watch(model)
    schedule = kgp.ConstantSparsity(0.5, begin_step=6)
    model.fit(*data(), batch_size=4, verbose=0, callbacks=[kgp.Prune(schedule, frequency=2), watch])
    nets.assert_held(watch, 0.5)
    # And one without callbacks after it holds the masks, which no longer change.
    model.fit(*data(), batch_size=4, verbose=0)
    nets.assert_exact(0.5, model)


def test_modes_with_other_steps_in_turn():
    # The step of `splice` collects updates, and must not be taken for the one that does not.
    model = classifier()
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    for mode in ("splice", "hard", "splice"):
        prune = kgp.Prune(kgp.ConstantSparsity(0.5), frequency=4, mode=mode, verbose=0)
        model.fit(*data(), batch_size=4, verbose=0, callbacks=[prune])
        assert nets.leaks(model) == {}
        assert prune.pruner.sparsity == pytest.approx(0.5, abs=0.01)
        hidden = [w.layer.pruning_masks.hidden for w in prune.pruner.weights]
        collected = [np.abs(nets.value(v)).sum() for part in hidden for v in part.values()]
        assert mode != "splice" or all(total > 0 for total in collected)


@pytest.mark.parametrize("settings", [{}, {"criterion": "taylor"}, {"mode": "rigl"}], ids=str)
def test_state_is_brought_back_only_where_it_is_needed(settings, monkeypatch):
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, seed=1)
    gan.compile()
    calls, original = [], gan.jax_state_sync

    def counting():
        calls.append(1)
        original()

    object.__setattr__(gan, "jax_state_sync", counting)
    schedule = kgp.PolynomialDecay(0.75, begin_step=50, end_step=150)
    prune = kgp.Prune(schedule, "generator", 50, verbose=0, **settings)

    class Counts(keras.callbacks.Callback):
        rows = []

        def on_train_batch_end(self, batch, logs=None):
            self.rows.append(len(calls))

    counts = Counts()
    counts.rows = []
    gan.fit(nets.images(640), batch_size=4, shuffle=False, verbose=0, callbacks=[prune, counts])
    assert [step for step, _, _ in prune.updates] == [50, 100, 150]
    batches_with_calls = sum(b > a for a, b in zip(counts.rows, counts.rows[1:], strict=False))
    # The first few, three updates, and every 32nd.
    assert batches_with_calls < 20


# --- hand-written loops --------------------------------------------------------------------------


def hand_loop(model, optimizer, pruner, attach):
    """Train as Keras's guide for JAX does, updating the masks between compiled steps."""
    optimizer.build(model.trainable_variables)
    if attach:
        pruner.attach(optimizer)

    def loss(trainable, rest, x, y):
        found, rest = model.stateless_call(trainable, rest, x, training=True)
        return ops.mean(ops.square(found - y)), rest

    @jax.jit
    def step(state, x, y):
        trainable, rest, slots = state
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(trainable, rest, x, y)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return value, (trainable, rest, slots)

    lists = [model.trainable_variables, model.non_trainable_variables, optimizer.variables]

    def get():
        return tuple([v.value for v in variables] for variables in lists)

    x, y = data(8)
    leaks = []
    for sparsity in (0.25, 0.5, 0.75):
        pruner.update(sparsity=sparsity)
        state = get()
        for _ in range(3):
            _, state = step(state, x, y)
            for variables, values in zip(lists, state, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
            leaks.append(nets.leaks(model))
        nets.assert_exact(sparsity, model)
    assert leaks == [{}] * 9
    return step._cache_size()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_attached_optimizer(optimizer):
    model = classifier()
    pruner = kgp.Pruner(model)
    assert hand_loop(model, keras.optimizers.get(optimizer), pruner, attach=True) == 1


def test_a_mask_that_is_compiled_in_cannot_change():
    model = classifier()
    pruner = kgp.Pruner(model)
    with pytest.raises(InvalidArgumentError, match=r"pruner.attach\(optimizer\)"):
        hand_loop(model, keras.optimizers.Adam(), pruner, attach=False)


def test_collected_updates_need_an_attached_optimizer():
    model = classifier()
    pruner = kgp.Pruner(model, mode="splice")
    with pytest.raises(InvalidArgumentError, match="among the variables of the optimizer"):
        hand_loop(model, keras.optimizers.Adam(), pruner, attach=False)


def test_an_optimizer_that_is_not_built_cannot_be_attached():
    pruner = kgp.Pruner(classifier())
    with pytest.raises(InvalidArgumentError, match=r"optimizer.build\(model.trainable_variables\)"):
        pruner.attach(keras.optimizers.Adam())


def test_an_update_in_an_eager_scope_needs_nothing():
    model = classifier()
    pruner = kgp.Pruner(model)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    for sparsity in (0.25, 0.5):
        pruner.update(sparsity=sparsity)
        gradients = [np.ones(w.shape, "float32") for w in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)
        nets.assert_exact(sparsity, model)


# --- files ---------------------------------------------------------------------------------------


def test_files_hold_no_masks_among_the_optimizer_variables(tmp_path):
    model = classifier()
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(*data(16), batch_size=4, verbose=0)
    dense = len(model.optimizer.variables)
    prune = kgp.Prune(0.5, frequency=2, criterion="taylor", verbose=0)
    model.fit(*data(16), batch_size=4, verbose=0, callbacks=[prune])
    assert len(model.optimizer.variables) > dense
    assert len(tracing.tracked(model.optimizer)) == len(model.optimizer.variables) - dense
    model.save(tmp_path / "model.keras")
    assert zipfile.is_zipfile(tmp_path / "model.keras")
    loaded = kgp.load_model(tmp_path / "model.keras")
    assert len(loaded.optimizer.variables) == dense
    masks = {id(v) for _, v in tracing.tracked(model.optimizer)}
    kept = [v for v in model.optimizer.variables if id(v) not in masks]
    for mine, saved in zip(kept, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(nets.value(mine), nets.value(saved))
    # The other way round: into an optimizer that knows the masks.
    model.load_weights(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        nets.value(model.optimizer.iterations), nets.value(loaded.optimizer.iterations)
    )


# --- the step of `GANModel` against hand-written derivatives -------------------------------------


def linear_pair(shared=False):
    generator = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, use_bias=False, name="g")], name="generator"
    )
    discriminator = keras.Sequential(
        [keras.Input((2,)), layers.Dense(1, use_bias=False, name="d")], name="discriminator"
    )
    return generator, discriminator


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "hinge"},
        {"loss": "wasserstein", "gradient_penalty": 10.0},
        {"loss": "relativistic", "r1_penalty": 0.5},
    ],
    ids=str,
)
def test_one_step_against_jax_by_hand(settings):
    pair = linear_pair()
    gan = kgp.GANModel(*pair, 3, seed=5, balance_frequency=0, value_range=None, **settings)
    rate = 0.1
    gan.compile(keras.optimizers.SGD(rate), keras.optimizers.SGD(rate))
    g, d = (nets.value(n.trainable_weights[0]).copy() for n in pair)
    x = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    # What the model is going to draw, from a generator in the same state.
    seed = keras.random.SeedGenerator(0)
    seed.state.assign(nets.value(gan.noise_seed.state))
    z = np.asarray(keras.random.normal((4, 3), seed=seed))
    mix = np.asarray(keras.random.uniform((4, 1), seed=seed))

    def judge(d, images):
        return images @ d

    def d_loss(d):
        fake = z @ g
        loss = gan.loss_pair.discriminator(judge(d, x), judge(d, fake))
        slope = jax.vmap(jax.grad(lambda image: judge(d, image)[0]))
        if "gradient_penalty" in settings:
            norm = jnp.sqrt(jnp.sum(slope(x + mix * (fake - x)) ** 2, axis=1) + 1e-12)
            loss += settings["gradient_penalty"] * jnp.mean((norm - 1.0) ** 2)
        if "r1_penalty" in settings:
            loss += 0.5 * settings["r1_penalty"] * jnp.mean(jnp.sum(slope(x) ** 2, axis=1))
        return loss

    new_d = d - rate * np.asarray(jax.grad(d_loss)(d))

    def g_loss(g):
        return gan.loss_pair.generator(judge(new_d, z @ g), judge(new_d, x))

    new_g = g - rate * np.asarray(jax.grad(g_loss)(g))
    logs = gan.fit(x, batch_size=4, shuffle=False, verbose=0).history
    np.testing.assert_allclose(
        nets.value(pair[1].trainable_weights[0]), new_d, rtol=2e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        nets.value(pair[0].trainable_weights[0]), new_g, rtol=2e-5, atol=1e-6
    )
    assert logs["discriminator_loss"][0] == pytest.approx(float(d_loss(d)), rel=1e-5)
    assert logs["generator_loss"][0] == pytest.approx(float(g_loss(g)), rel=1e-5)


def test_spectral_norm_rewrites_the_kernel_as_on_other_backends():
    wrapped = layers.SpectralNormalization(layers.Dense(1, use_bias=False))
    discriminator = keras.Sequential([keras.Input((2,)), wrapped], name="discriminator")
    gan = kgp.GANModel(
        linear_pair()[0],
        discriminator,
        3,
        loss="wasserstein",
        value_range=None,
        balance_frequency=0,
    )
    # A rate of zero: what stays is what the forward pass wrote.
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    gan.fit(np.ones((64, 2), "float32"), batch_size=4, verbose=0)
    assert np.linalg.norm(nets.value(wrapped.kernel)) == pytest.approx(1.0, rel=1e-4)


def test_moving_average_follows_the_generator():
    gan = kgp.GANModel(*linear_pair(), 3, seed=5, ema_decay=0.5, value_range=None)
    gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
    before = nets.value(gan.generator.weights[0]).copy()
    gan.fit(np.ones((4, 2), "float32"), batch_size=4, verbose=0)
    after = nets.value(gan.generator.weights[0])
    decay = min(0.5, 2.0 / 11.0)  # (1 + step) / (10 + step) after one step
    wanted = decay * before + (1.0 - decay) * after
    np.testing.assert_allclose(nets.value(gan.ema_generator.weights[0]), wanted, rtol=1e-6)


# --- a GAN class of the user's -------------------------------------------------------------------


class TwoOptimizers:
    """Where Keras's loop on JAX looks for the state of an optimizer."""

    built = True

    def __init__(self, *optimizers):
        self.optimizers = optimizers

    @property
    def variables(self):
        return [v for optimizer in self.optimizers for v in optimizer.variables]


class StatelessGAN(keras.Model):
    """A GAN after Keras's guide on `train_step` with JAX: the state goes in, and comes out."""

    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.seed = keras.random.SeedGenerator(3)
        self.d_loss_tracker = keras.metrics.Mean(name="d_loss")
        self.g_loss_tracker = keras.metrics.Mean(name="g_loss")
        self.built = True

    def compile(self, d_optimizer, g_optimizer, **kwargs):
        super().compile(**kwargs)
        d_optimizer.build(self.discriminator.trainable_variables)
        g_optimizer.build(self.generator.trainable_variables)
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.optimizer = TwoOptimizers(d_optimizer, g_optimizer)

    def call(self, z):
        return self.generator(z)

    @property
    def metrics(self):
        return [self.d_loss_tracker, self.g_loss_tracker]

    def train_step(self, state, data):
        trainable, rest, slots, metrics = state
        names = self.trainable_variables + self.non_trainable_variables
        values = dict(zip(map(id, names), [*trainable, *rest], strict=True))

        def pick(variables):
            return [values[id(v)] for v in variables]

        def put(variables, new):
            values.update(zip(map(id, variables), new, strict=True))

        g, d = self.generator, self.discriminator
        with keras.StatelessScope([(self.seed.state, values[id(self.seed.state)])]) as scope:
            z = keras.random.normal((data.shape[0], nets.LATENT), seed=self.seed)
        put([self.seed.state], [scope.get_current_value(self.seed.state)])

        def d_loss(d_values, d_rest):
            fake, _ = g.stateless_call(
                pick(g.trainable_variables), pick(g.non_trainable_variables), z, training=True
            )
            real_logits, d_rest = d.stateless_call(d_values, d_rest, data, training=True)
            fake_logits, d_rest = d.stateless_call(d_values, d_rest, fake, training=True)
            loss = jnp.mean(jax.nn.softplus(-real_logits)) + jnp.mean(jax.nn.softplus(fake_logits))
            return loss, d_rest

        (loss_d, d_rest), gradients = jax.value_and_grad(d_loss, has_aux=True)(
            pick(d.trainable_variables), pick(d.non_trainable_variables)
        )
        put(d.non_trainable_variables, d_rest)
        split = len(self.d_optimizer.variables)
        new, d_slots = self.d_optimizer.stateless_apply(
            slots[:split], gradients, pick(d.trainable_variables)
        )
        put(d.trainable_variables, new)

        def g_loss(g_values, g_rest):
            fake, g_rest = g.stateless_call(g_values, g_rest, z, training=True)
            logits, _ = d.stateless_call(
                pick(d.trainable_variables), pick(d.non_trainable_variables), fake, training=True
            )
            return jnp.mean(jax.nn.softplus(-logits)), g_rest

        (loss_g, g_rest), gradients = jax.value_and_grad(g_loss, has_aux=True)(
            pick(g.trainable_variables), pick(g.non_trainable_variables)
        )
        put(g.non_trainable_variables, g_rest)
        new, g_slots = self.g_optimizer.stateless_apply(
            slots[split:], gradients, pick(g.trainable_variables)
        )
        put(g.trainable_variables, new)

        pairs = list(zip(self.metrics_variables, metrics, strict=True))
        with keras.StatelessScope(pairs) as scope:
            self.d_loss_tracker.update_state(loss_d)
            self.g_loss_tracker.update_state(loss_g)
            logs = {m.name: m.result() for m in self.metrics}
        metrics = [scope.get_current_value(v) for v in self.metrics_variables]
        return logs, (
            pick(self.trainable_variables),
            pick(self.non_trainable_variables),
            [*d_slots, *g_slots],
            metrics,
        )


def foreign(optimizer=None):
    gan = StatelessGAN(nets.dcgan_generator(), nets.dcgan_discriminator())
    make = optimizer or (lambda: keras.optimizers.Adam(1e-2, 0.5))
    gan.compile(make(), make())
    return gan


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(1e-2, 0.5),
        lambda: keras.optimizers.AdamW(1e-2),
        lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9),
    ],
    ids=["adam", "adamw", "use_ema"],
)
def test_foreign_gan_is_pruned_by_the_callback_alone(optimizer):
    gan = foreign(optimizer)
    watch = nets.Watch(gan.generator, gan.discriminator)
    callbacks = [kgp.Prune(SCHEDULE, "generator", 3), kgp.Prune(0.5, "discriminator"), watch]
    history = gan.fit(nets.images(64), batch_size=4, verbose=0, callbacks=callbacks).history
    assert watch.leaks == []
    nets.assert_exact(0.75, gan.generator)
    nets.assert_exact(0.5, gan.discriminator)
    assert history["generator_sparsity"] == [pytest.approx(0.75, abs=0.01)]


@pytest.mark.parametrize("settings", [{"criterion": "taylor"}, {"mode": "rigl"}], ids=str)
def test_gradients_of_a_foreign_gan(settings):
    gan = foreign()
    prune = kgp.Prune(SCHEDULE, "generator", 3, verbose=0, **settings)
    gan.fit(nets.images(64), batch_size=4, verbose=0, callbacks=[prune])
    nets.assert_exact(0.75, gan.generator)


def test_sampled_gradients_are_those_of_the_step():
    model = classifier()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    prune = kgp.Prune(0.5, frequency=100, criterion="gradient", verbose=0)
    seen = {}
    original = kgp.Pruner.update

    def update(self, **kwargs):
        seen["gradients"] = kwargs["gradients"]
        return original(self, **kwargs)

    x, y = data(8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kgp.Pruner, "update", update)
        model.fit(x, y, batch_size=8, epochs=8, verbose=0, callbacks=[prune])
    weights = [v.value for v in model.trainable_variables]
    dense = kgp.strip_pruning(model)
    dense.set_weights([np.array(w) for w in seen.get("weights", weights)])
    assert [g.shape for g in seen["gradients"]] == [(64, 16), (16, 3)]
    assert all(np.isfinite(g).all() and np.any(g) for g in seen["gradients"])


def test_an_optimizer_that_the_model_does_not_show_is_an_error():
    class Hidden(StatelessGAN):
        """Keeps its optimizers where nobody looks."""

        def compile(self, d_optimizer, g_optimizer, **kwargs):
            super().compile(d_optimizer, g_optimizer, **kwargs)
            self.__dict__["pair"] = (lambda: d_optimizer, lambda: g_optimizer)
            del self.__dict__["d_optimizer"], self.__dict__["g_optimizer"]
            self.__dict__["optimizer"] = HiddenTwo(*self.pair)

        def __getattr__(self, name):
            if name in ("d_optimizer", "g_optimizer"):
                return self.__dict__["pair"][name == "g_optimizer"]()
            return super().__getattr__(name)

    class HiddenTwo:
        built = True

        def __init__(self, *makers):
            self.makers = makers

        @property
        def variables(self):
            return [v for maker in self.makers for v in maker().variables]

    gan = Hidden(nets.mlp_generator(), nets.mlp_discriminator())
    gan.compile(keras.optimizers.Adam(), keras.optimizers.Adam())
    with pytest.raises(InvalidArgumentError, match="attributes of the model"):
        gan.fit(
            nets.images(64),
            batch_size=4,
            verbose=0,
            callbacks=[kgp.Prune(SCHEDULE, "generator", 3)],
        )
