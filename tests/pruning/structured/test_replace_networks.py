"""Narrower networks replace the old ones: the attributes of the model, and training afterwards."""

import collections
import gc
import warnings
import weakref

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers
from narrow_networks import (
    DCGAN_DISCRIMINATOR,
    DCGAN_GENERATOR,
    MLP,
    Net,
    discriminator,
    generator,
    gradients,
    mlp,
    narrowed,
    same,
)

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.replace_networks import replace_networks

# --- the model -----------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "first second")


def test_the_new_network_is_every_attribute_that_was_the_old_one():
    old = mlp(5)
    model = Net(
        old,
        listed=[old, layers.Flatten()],
        named={"a": old, "b": {"deep": [old]}},
        pair=(1, old),
        fields=Pair(old, 2),
        _hidden=[old],
    )
    model.build((None, 4))
    assert model._tracker.locked
    with pytest.raises(ValueError, match="already built"):
        model.net = mlp(3)
    count, place = len(model.layers), model.layers.index(old)
    listed, new = model.listed, mlp(3)
    replace_networks(model, [narrowed(old, new, MLP)])
    assert model._tracker.locked
    assert model.net is new
    assert model.listed is listed
    assert model.listed[0] is new
    assert model.named["a"] is new
    assert model.named["b"]["deep"][0] is new
    assert model.pair == (1, new)
    assert model.fields == Pair(new, 2)
    assert model._hidden[0] is new
    assert len(model.layers) == count
    assert model.layers[place] is new
    assert all(layer is not old for layer in model._flatten_layers())
    gone = {id(v) for v in old.variables}
    for found in (model.weights, model.trainable_weights, model.variables):
        assert not gone & {id(v) for v in found}
        assert {id(v) for v in new.trainable_weights} <= {id(v) for v in found}


def test_a_network_deeper_in_the_model():
    class Holder(layers.Layer):
        def __init__(self, net):
            super().__init__()
            self.inner = net

        def call(self, x):
            return self.inner(x)

    old, new = mlp(5), mlp(3)
    model = Net(Holder(old))
    model(np.ones((1, 4)))
    replace_networks(model, [narrowed(old, new, MLP)])
    assert model.net.inner is new
    np.testing.assert_array_equal(model(np.ones((1, 4))), new(np.ones((1, 4))))


def test_a_tensorflow_checkpoint_sees_the_new_network(tmp_path):
    model = Net(mlp(5), optimizers.Adam(0.1))
    model.opt.build(model.net.weights)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.opt)
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    path = checkpoint.save(str(tmp_path / "ckpt"))
    shapes = [shape for _, shape in tf.train.list_variables(path)]
    assert [4, 3] in shapes
    assert [4, 5] not in shapes
    slot = model.opt._momentums[0]
    slot.assign(np.ones(slot.shape))
    checkpoint.restore(path)
    np.testing.assert_array_equal(nets.value(slot), 0)


def test_networks_keep_sharing_a_layer():
    shared = layers.Dense(5, activation="tanh")
    a, b = (keras.Sequential([keras.Input((4,)), shared, layers.Dense(n)]) for n in (3, 1))
    model = Net(a, optimizers.Adam(0.01), other=b)
    model.opt.apply(gradients(a.weights, 0), a.weights)
    less = layers.Dense(3, activation="tanh")
    new = [keras.Sequential([keras.Input((4,)), less, layers.Dense(n)]) for n in (3, 1)]
    with pytest.raises(UnsupportedLayerError, match="would keep the old weights"):
        replace_networks(model, [narrowed(a, new[0], MLP)])
    replace_networks(model, [narrowed(old, n, MLP) for old, n in zip((a, b), new, strict=True)])
    assert model.net.weights[0] is model.other.weights[0]
    np.testing.assert_array_equal(
        [id(v) for v in model.opt._trainable_variables], [id(v) for v in model.net.weights]
    )


# --- in `fit` ------------------------------------------------------------------------------------


class Replace(keras.callbacks.Callback):
    """Replaces networks after a batch of the first epoch."""

    def __init__(self, make, at=1, traces=lambda: 0):
        super().__init__()
        self.make, self.at, self.count = make, at, traces
        self.traces = self.values = None

    def on_train_batch_end(self, batch, logs=None):
        if self.traces is None and batch >= self.at:
            replace_networks(self.model, self.make(self.model))
            self.traces = self.count()
            self.values = [np.array(nets.value(w)) for w in self.model.trainable_weights]


def assert_trained_on(model, callback, history, epochs=2):
    for key, values in history.history.items():
        assert len(values) == epochs
        assert np.all(np.isfinite(values)), key
    for before, weight in zip(callback.values, model.trainable_weights, strict=True):
        assert np.all(np.isfinite(nets.value(weight)))
        assert not np.array_equal(before, nets.value(weight)), weight.path


def gan_model(pair, **kwargs):
    kwargs = {"balance_frequency": 0, "seed": 1, **kwargs}
    compile_options = kwargs.pop("options", {})
    gan = kgp.GANModel(*pair, nets.LATENT, **kwargs)
    gan.compile(optimizers.Adam(1e-2, 0.5), optimizers.Adam(1e-2, 0.5), **compile_options)
    return gan


def all_narrow(gan):
    rows = [
        narrowed(gan.generator, nets.dcgan_generator(3), DCGAN_GENERATOR),
        narrowed(gan.discriminator, nets.dcgan_discriminator(3), DCGAN_DISCRIMINATOR),
    ]
    if gan.ema_generator is not None:
        new = nets.dcgan_generator(3)
        new.trainable = False
        order = [w.path.split("/", 1)[-1] for w in gan.ema_generator.weights]
        assert len(order) == len(DCGAN_GENERATOR)
        rows.append(narrowed(gan.ema_generator, new, DCGAN_GENERATOR))
    return rows


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"steps_per_execution": 2}, marks=pytest.mark.full),
        pytest.param({"run_eagerly": True}, marks=pytest.mark.full),
    ],
)
@pytest.mark.full
def test_a_gan_model_trains_on(traced, options):
    gan = gan_model(nets.dcgan_pair(), ema_decay=0.9, options=options)
    mine = gan.generator_optimizer
    callback = Replace(all_narrow, traces=traced)
    with warnings.catch_warnings():
        # Keras would ask for another `compile`.
        warnings.filterwarnings("error", message=".*trainable. state")
        history = gan.fit(
            nets.images(16),
            batch_size=4,
            epochs=2,
            verbose=0,
            validation_data=nets.images(4),
            callbacks=[callback],
        )
    assert gan.generator_optimizer is mine
    assert int(mine.iterations) == 8
    if "run_eagerly" not in options:
        assert traced() == callback.traces + 1 >= 2
    assert_trained_on(gan, callback, history)
    assert gan.generator.count_params() == gan.ema_generator.count_params() < 1000
    assert gan.generate(2).shape == (2, nets.SIZE, nets.SIZE, 1)


@pytest.mark.full
def test_in_fit_a_foreign_gan_trains_on():
    class GAN(nets.GuideGAN):
        """Has other attribute names than `GANModel`."""

        def __init__(self):
            super().__init__(nets.dcgan_discriminator(), nets.dcgan_generator())

        def compile(self, d_opt, g_opt):
            super().compile(None, None)
            self.d_opt, self.g_opt = d_opt, g_opt

        discriminator = property(lambda self: self.D, lambda self, v: setattr(self, "D", v))
        generator = property(lambda self: self.parts["G"], lambda self, v: self._set(v))
        d_optimizer = property(lambda self: self.d_opt, lambda self, v: None)
        g_optimizer = property(lambda self: self.g_opt, lambda self, v: None)

        def _set(self, value):
            self.parts = {"G": value}

    gan = GAN()
    gan.compile(optimizers.RMSprop(1e-3), optimizers.SGD(1e-2, momentum=0.9))
    callback = Replace(all_narrow, traces=lambda: gan.traces)
    gan.ema_generator = None
    history = gan.fit(nets.images(16), batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    assert gan.traces == callback.traces + 1 >= 2
    assert_trained_on(gan, callback, history)
    assert len(gan.layers) == 2
    assert gan.layers[0] is gan.D


@pytest.mark.full
@pytest.mark.parametrize(
    "make", [pytest.param(optimizers.Adam, marks=pytest.mark.full), optimizers.Nadam]
)
def test_cutting_nothing_changes_no_bit(make):
    def train(replace):
        keras.utils.set_random_seed(3)
        gan = kgp.GANModel(
            generator(5, 0.2), discriminator(5, 0.2), nets.LATENT, ema_decay=0.9, seed=1
        )
        options = {"use_ema": True, "gradient_accumulation_steps": 2}
        gan.compile(make(1e-2), make(1e-2, **options))
        networks = ("generator", "discriminator", "ema_generator")
        callback = Replace(lambda gan: [same(getattr(gan, name)) for name in networks])
        history = gan.fit(
            nets.images(16),
            batch_size=4,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=[callback] if replace else [],
        )
        assert (callback.traces is not None) == replace
        return gan, history.history

    (gan, logs), (plain, plain_logs) = train(True), train(False)
    assert logs == plain_logs
    assert len(gan.variables) == len(plain.variables)
    for one, other in zip(gan.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(nets.value(one), nets.value(other))
    for name in ("generator_optimizer", "discriminator_optimizer"):
        pairs = zip(getattr(gan, name).variables, getattr(plain, name).variables, strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(nets.value(one), nets.value(other))


@pytest.mark.full
def test_the_old_networks_are_freed():
    gan = gan_model(nets.dcgan_pair(), ema_decay=0.9)
    old = [weakref.ref(v) for v in gan.weights]
    old += [weakref.ref(v) for v in gan.generator_optimizer._momentums]
    gan.fit(nets.images(16), batch_size=4, verbose=0, callbacks=[Replace(all_narrow)])
    gc.collect()
    assert [ref() for ref in old if ref() is not None] == []


@pytest.mark.full
def test_between_two_fits(traced):
    gan = gan_model((generator(5), discriminator(5)))
    gan.fit(nets.images(8), batch_size=4, verbose=0)
    gan.predict(np.zeros((1, nets.LATENT)), verbose=0)
    replace_networks(gan, [narrowed(gan.generator, generator(3), MLP)])
    assert gan.predict_function is None
    before = traced()
    gan.fit(nets.images(8), batch_size=4, epochs=2, verbose=0)
    assert traced() == before + 1
    found = gan.predict(np.ones((1, nets.LATENT)), verbose=0)
    np.testing.assert_allclose(found, gan.generator(np.ones((1, nets.LATENT))), atol=1e-6)


def test_before_the_first_fit():
    gan = gan_model((generator(5), discriminator(5)))
    replace_networks(gan, [narrowed(gan.generator, generator(3), MLP)])
    assert gan.train_function is None
    gan.fit(nets.images(8), batch_size=4, verbose=0)


@pytest.mark.full
def test_a_loaded_model_trains_the_same(tmp_path):
    gan = gan_model(nets.dcgan_pair(), ema_decay=0.9)
    gan.fit(nets.images(8), batch_size=4, verbose=0, callbacks=[Replace(all_narrow, at=0)])
    gan.save(tmp_path / "gan.keras")
    loaded = kgp.load_model(tmp_path / "gan.keras")
    for one in (gan, loaded):
        one.fit(nets.images(8, seed=1), batch_size=4, shuffle=False, verbose=0)
    assert int(loaded.generator_optimizer.iterations) == 4
    for one, other in zip(gan.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(nets.value(one), nets.value(other))


@pytest.mark.full
def test_on_two_replicas():
    strategy = nets.both_replicas()
    with strategy.scope():
        gan = gan_model((generator(5), discriminator(5)))

    def make(gan):
        with strategy.scope():
            new = generator(3)
        return [narrowed(gan.generator, new, MLP)]

    callback = Replace(make, at=0)
    history = gan.fit(nets.images(16), batch_size=8, epochs=2, verbose=0, callbacks=[callback])
    assert_trained_on(gan, callback, history)
    for variable in (*gan.generator.weights, *gan.generator_optimizer._momentums):
        one, other = nets.replicas(variable)
        np.testing.assert_array_equal(one, other)


# --- invalid replacements change nothing ---------------------------------------------------------


def refused(error, match, change=None, model=None):
    """Assert that a replacement raises, and that the model is unchanged."""
    model = model or Net(mlp(5), optimizers.Adam(0.01))
    old = model.net
    row = narrowed(old, mlp(3), MLP)
    row = change(*row) if change else row
    attributes = dict(vars(model))
    with pytest.raises(error, match=match):
        replace_networks(model, [row])
    assert model.net is old
    assert vars(model) == attributes


def test_unknown_network():
    refused(
        InvalidArgumentError,
        "must be an attribute of the Net.*Known: after, before, net",
        lambda old, new, cuts: narrowed(mlp(5, name="stranger"), mlp(3), MLP),
    )


@pytest.mark.parametrize("row", [0, 1])
def test_not_a_network(row):
    def change(*found):
        found = list(found)
        found[row] = "generator"
        return found

    refused(ArgumentTypeError, f"The {('old', 'new')[row]} network must be.*'generator'", change)


def test_no_weights_yet():
    def change(old, new, cuts):
        return old, keras.Sequential([layers.Dense(2)]), []

    refused(UnbuiltModelError, "The new network .* has no weights yet", change)


def test_the_same_network():
    refused(InvalidArgumentError, "must be another object", lambda old, new, cuts: (old, old, cuts))


def test_a_weight_without_a_cut():
    refused(
        InvalidArgumentError,
        "a cut for every weight.*Missing: .*bias",
        lambda old, new, cuts: (old, new, [c for c in cuts if c.new is not new.weights[1]]),
    )


def test_a_cut_of_another_network():
    refused(
        InvalidArgumentError,
        "must be of variables of",
        lambda old, new, cuts: (old, new, narrowed(mlp(5), new, MLP)[2]),
    )


def test_a_variable_that_would_become_two():
    old = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(4)])
    new = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(4)])
    cuts = [Cut(old.weights[i % 2], w, (None,) * len(w.shape)) for i, w in enumerate(new.weights)]
    with pytest.raises(InvalidArgumentError, match="must become one new variable"):
        replace_networks(Net(old), [(old, new, cuts)])


def test_a_weight_that_would_be_frozen():
    def change(old, new, cuts):
        new.layers[0].trainable = False
        return old, new, cuts

    refused(InvalidArgumentError, "must be trainable in the new network where", change)


def test_a_network_in_a_graph():
    for extra in (False, True):
        net = mlp(5)
        chain = keras.Sequential([keras.Input((4,)), net, layers.Dense(1)], name="chain")
        model = Net(net, chain=chain) if extra else Net(chain)
        with pytest.raises(UnsupportedLayerError, match=r"part of the functional.*'chain'"):
            replace_networks(model, [narrowed(net, mlp(3), MLP)])


def test_another_network_made_of_the_same_layers():
    net = mlp(5)
    features = keras.Model(net.inputs, net.layers[0].output)
    refused(
        UnsupportedLayerError,
        "would keep the old weights",
        model=Net(net, features=features),
    )


def test_not_a_model():
    with pytest.raises(ArgumentTypeError, match=r"`model` must be the `keras.Model`"):
        replace_networks(layers.Dense(2), [])


class ByName(optimizers.SGD):
    """Keeps its slots in a dict."""

    def build(self, variables):
        super().build(variables)
        self.by_name = {v.path: self.add_variable(v.shape) for v in variables}


class Kept(optimizers.SGD):
    """Makes its slots the first time only."""

    def build(self, variables):
        super().build(variables)
        if not hasattr(self, "more"):
            self.more = [self.add_variable(v.shape) for v in variables]


class Once(optimizers.SGD):
    """Cannot be built a second time."""

    def build(self, variables):
        if hasattr(self, "done"):
            raise RuntimeError("only once")
        self.done = True
        super().build(variables)


@pytest.mark.parametrize(
    ("cls", "match"),
    [(ByName, "in no known place"), (Kept, "is not made by"), (Once, "only once")],
)
def test_nothing_changes_if_an_optimizer_cannot_be_rebuilt(cls, match):
    def model():
        keras.utils.set_random_seed(1)
        made = Net(mlp(5), optimizers.Adam(0.01), second=cls(0.1, momentum=0.9))
        step(made, 0)
        return made

    def step(made, seed):
        for optimizer in (made.opt, made.second):
            optimizer.apply(gradients(made.net.weights, seed), made.net.weights)

    one, other = model(), model()
    before = [list(o.variables) for o in (one.opt, one.second)]
    # By then the first optimizer was rebuilt; it is restored.
    refused(UnsupportedLayerError, rf"(?s){cls.__name__}.*{match}.*Nothing was changed", model=one)
    for optimizer, variables in zip((one.opt, one.second), before, strict=True):
        assert [id(v) for v in optimizer.variables] == [id(v) for v in variables]
    for made in (one, other):
        step(made, 1)
    for a, b in zip(one.net.weights, other.net.weights, strict=True):
        np.testing.assert_array_equal(nets.value(a), nets.value(b))
    for a, b in zip(one.opt.variables, other.opt.variables, strict=True):
        np.testing.assert_array_equal(nets.value(a), nets.value(b))
