"""Narrower networks in the place of the old ones: the model, the slots against NumPy, `fit` going on."""

import collections
import gc
import re
import warnings
import weakref

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.replace_networks import replace_networks

KEEP = np.array([0, 2, 3])  # of 5 hidden units
CHANNELS = np.array([1, 2, 5])  # of 6 channels


# --- networks that are made narrower by hand -----------------------------------------------------


def mlp(units, inputs=4, outputs=3, dropout=0.0, name=None):
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.Dense(units, activation="tanh"),
            layers.Dropout(dropout, seed=1),
            layers.Dense(outputs),
        ],
        name=name,
    )


def generator(units, dropout=0.0):
    pixels = nets.SIZE * nets.SIZE
    body = mlp(units, nets.LATENT, pixels, dropout)
    return keras.Sequential(
        [*body.layers, layers.Reshape((nets.SIZE, nets.SIZE, 1))], name="generator"
    )


def discriminator(units, dropout=0.0):
    body = mlp(units, nets.SIZE * nets.SIZE, 1, dropout)
    return keras.Sequential(
        [keras.Input((nets.SIZE, nets.SIZE, 1)), layers.Flatten(), *body.layers],
        name="discriminator",
    )


def every(keep, places, channels=6):
    """Return the kept positions of a flattened (places, channels)."""
    return (np.arange(places)[:, None] * channels + keep[None]).ravel()


# For each weight in order, which positions of each axis stay.
MLP = [(None, KEEP), (KEEP,), (KEEP, None), (None,)]
_STEM = every(CHANNELS, 16)
DCGAN_GENERATOR = [
    (None, _STEM),
    *[(_STEM,)] * 4,
    (None, None, CHANNELS, CHANNELS),
    *[(CHANNELS,)] * 4,
    (None, None, CHANNELS, None),
    (None,),
]
DCGAN_DISCRIMINATOR = [
    (None, None, None, CHANNELS),
    (CHANNELS,),
    (None, None, CHANNELS, CHANNELS),
    (CHANNELS,),
    (every(CHANNELS, 4), None),
    (None,),
]


def by_hand(array, index):
    return array[
        np.ix_(*[np.arange(n) if i is None else i for n, i in zip(array.shape, index, strict=True)])
    ]


def narrowed(old, new, indices):
    """Return the replacement, with the values of the old network in the new one."""
    assert [w.path.split("/")[-1] for w in old.weights] == [
        w.path.split("/")[-1] for w in new.weights
    ]
    cuts = [Cut(*row) for row in zip(old.weights, new.weights, indices, strict=True)]
    weights = [{id(w) for w in network.weights} for network in (old, new)]
    seeds = [
        [v for v in network.variables if id(v) not in known]
        for network, known in zip((old, new), weights, strict=True)
    ]
    cuts += [Cut(*pair, (None,) * len(pair[0].shape)) for pair in zip(*seeds, strict=True)]
    for cut in cuts:
        cut.new.assign(cut.slice(nets.value(cut.old)))
    return old, new, cuts


def same(old):
    """Return a replacement that cuts nothing."""
    new = keras.models.clone_model(old)
    new.trainable = old.trainable
    return narrowed(old, new, [(None,) * len(w.shape) for w in old.weights])


class Net(keras.Model):
    """One network and one optimizer, under names of their own."""

    def __init__(self, net, opt=None, **extra):
        super().__init__()
        self.before = layers.Flatten()
        self.net = net
        self.after = layers.Flatten()
        self.opt = opt
        for name, value in extra.items():
            setattr(self, name, value)

    def build(self, input_shape):
        self.built = True

    def call(self, x):
        return self.net(x)


def gradients(variables, seed):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(0, 1, v.shape), v.dtype) for v in variables]


def state(optimizer):
    """Return all lists of slots of an optimizer and its inner ones: {(class, name): arrays}."""
    inner = [getattr(optimizer, "inner_optimizer", None)]
    inner += getattr(optimizer, "_inner_optimizers", None) or []
    found = {}
    for part in [optimizer, *[i for i in inner if i is not None]]:
        for name, value in vars(part).items():
            if name not in ("_variables", "_trainable_variables") and isinstance(value, list):
                if any(isinstance(v, keras.Variable) for v in value):
                    found[type(part).__name__, name] = [
                        None if v is None else np.array(nets.value(v)) for v in value
                    ]
    return found


# --- slots ---------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": (lambda: optimizers.SGD(0.1, momentum=0.9), 1),
    "plain sgd": (lambda: optimizers.SGD(0.1), 0),
    "rmsprop": (lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True), 3),
    "adam": (lambda: optimizers.Adam(0.01, amsgrad=True), 3),
    "adamw": (lambda: optimizers.AdamW(0.01), 2),
    "adamax": (lambda: optimizers.Adamax(0.01), 2),
    "adadelta": (lambda: optimizers.Adadelta(0.1), 2),
    "nadam": (lambda: optimizers.Nadam(0.01), 2),
    "adagrad": (lambda: optimizers.Adagrad(0.1), 1),
    "lion": (lambda: optimizers.Lion(0.01), 1),
    "ftrl": (lambda: optimizers.Ftrl(0.1), 2),
    "ema": (lambda: optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2), 3),
    "accumulation": (lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2), 3),
    "loss scale": (lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01)), 2),
    "schedule": (
        lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), momentum=0.9),
        1,
    ),
    "clip": (lambda: optimizers.SGD(0.1, momentum=0.9, clipvalue=0.3), 1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slots_are_cut_and_the_next_step_is_that_of_the_uncut_optimizer(name):
    make, count = OPTIMIZERS[name]
    cut, uncut = (Net(mlp(5), make()) for _ in range(2))
    uncut.net.set_weights(cut.net.get_weights())
    for seed in range(3):
        for model in (cut, uncut):
            grads = gradients(model.net.trainable_weights, seed)
            model.opt.apply(grads, model.net.trainable_weights)
    before, optimizer = state(cut.opt), cut.opt
    assert len(before) == count

    replace_networks(cut, [narrowed(cut.net, mlp(3), MLP)])

    assert cut.opt is optimizer
    after = state(cut.opt)
    assert list(after) == list(before)
    for key, slots in before.items():
        for slot, index, found in zip(slots, MLP, after[key], strict=True):
            np.testing.assert_array_equal(found, by_hand(slot, index))
    # Each of these works on every entry by itself, so cutting before a step or after it is the same.
    for seed in (3, 4, 5):
        grads = gradients(uncut.net.trainable_weights, seed)
        uncut.opt.apply(grads, uncut.net.trainable_weights)
        grads = [tf.constant(by_hand(np.array(g), i)) for g, i in zip(grads, MLP, strict=True)]
        cut.opt.apply(grads, cut.net.trainable_weights)
    for old, index, new in zip(uncut.net.weights, MLP, cut.net.weights, strict=True):
        np.testing.assert_allclose(nets.value(new), by_hand(nets.value(old), index), rtol=1e-6)
    assert int(cut.opt.iterations) == int(uncut.opt.iterations)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_variables_of_an_optimizer_stand_as_in_a_new_one(name):
    make, _ = OPTIMIZERS[name]
    model = Net(mlp(5), make())
    model.opt.build(model.net.trainable_weights)
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    new = make()
    new.build(model.net.trainable_weights)
    found, wanted = (
        [(tuple(v.shape), re.sub(r"^variable_\d+$", "", v.name), v.dtype) for v in o.variables]
        for o in (model.opt, new)
    )
    assert found == wanted
    # So a file of the one is read by the other.
    store = {}
    model.opt.save_own_variables(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new.load_own_variables({k: np.asarray(v) for k, v in store.items()})


def test_a_changed_learning_rate_and_the_scale_of_losses_stay():
    model = Net(mlp(5), optimizers.LossScaleOptimizer(optimizers.Adam(0.01)))
    model.opt.build(model.net.trainable_weights)
    model.opt.learning_rate = 0.25
    model.opt.dynamic_scale.assign(8.0)
    model.opt.step_counter.assign(5)
    rate = model.opt.inner_optimizer.learning_rate
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert model.opt.inner_optimizer.learning_rate is rate
    assert float(rate) == 0.25
    assert float(model.opt.dynamic_scale) == 8.0
    assert int(model.opt.step_counter) == 5


def test_nadams_product_stays():
    model = Net(mlp(5), optimizers.Nadam())
    model.opt.apply(gradients(model.net.weights, 0), model.net.weights)
    product = float(model.opt._u_product)
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert float(model.opt._u_product) == product != 1.0


@pytest.mark.parametrize("square", [False, True])
def test_factored_slots_of_adafactor(square):
    # Of a square kernel the shape does not tell which axis a slot lacks.
    inputs = 5 if square else 4
    model = Net(mlp(5, inputs), optimizers.Adafactor(0.01))
    model.opt.apply(gradients(model.net.weights, 0), model.net.weights)
    r, c = ([np.array(nets.value(v)) for v in getattr(model.opt, n)] for n in ("_r", "_c"))
    replace_networks(model, [narrowed(model.net, mlp(3, inputs), MLP)])
    after_r, after_c = ([nets.value(v) for v in getattr(model.opt, n)] for n in ("_r", "_c"))
    np.testing.assert_array_equal(after_r[0], r[0])
    np.testing.assert_array_equal(after_c[0], c[0][KEEP])
    np.testing.assert_array_equal(after_r[2], r[2][KEEP])
    np.testing.assert_array_equal(after_c[2], c[2])
    model.opt.apply(gradients(model.net.weights, 1), model.net.weights)


def test_a_slot_of_another_shape_begins_anew():
    class Doubled(optimizers.SGD):
        def build(self, variables):
            super().build(variables)
            self.doubled = [self.add_variable((2 * v.shape[0],), name="doubled") for v in variables]

    model = Net(mlp(5), Doubled(0.1, momentum=0.9))
    model.opt.build(model.net.weights)
    for slot in model.opt.doubled:
        slot.assign(np.ones(slot.shape))
    with pytest.warns(PruningWarning, match="was reset.*`doubled`"):
        replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert [float(np.sum(nets.value(v))) for v in model.opt.doubled] == [0, 0, 0, 0]


def test_what_an_optimizer_makes_in_init_stays():
    class Counting(optimizers.SGD):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.seen = self.add_variable((), name="seen")

    model = Net(mlp(5), Counting(0.1, momentum=0.9))
    model.opt.build(model.net.weights)
    model.opt.seen.assign(7.0)
    names, seen = [v.name.split("/")[-1] for v in model.opt.variables][:3], model.opt.seen
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert model.opt.seen is seen
    assert [v.name.split("/")[-1] for v in model.opt.variables][:3] == names
    assert len(model.opt.variables) == 3 + 4


def test_slots_in_a_list_that_init_makes():
    class Appending(optimizers.SGD):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.more = []

        def build(self, variables):
            super().build(variables)
            for v in variables:
                self.more.append(self.add_variable(v.shape, "ones"))

    model = Net(mlp(5), Appending(0.1))
    model.opt.build(model.net.weights)
    model.opt.more[2].assign(np.arange(15.0).reshape(5, 3))
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert len(model.opt.more) == 4
    np.testing.assert_array_equal(nets.value(model.opt.more[2]), np.arange(15).reshape(5, 3)[KEEP])


def test_weights_without_decay_stay_without():
    model = Net(mlp(5), optimizers.AdamW(0.1, weight_decay=0.5))
    model.opt.exclude_from_weight_decay([model.net.weights[0]])
    model.opt.apply(gradients(model.net.weights, 0), model.net.weights)
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    decays = [model.opt._use_weight_decay(w) for w in model.net.weights]
    assert decays == [False, True, True, True]


@pytest.mark.skipif(not hasattr(optimizers, "MultiOptimizer"), reason="older Keras")
def test_an_optimizer_of_several():
    kernels, others = optimizers.Adam(0.01), optimizers.SGD(0.1, momentum=0.9)
    both = optimizers.MultiOptimizer(lambda v: kernels if "kernel" in v.path else others)
    model = Net(mlp(5), both)
    model.opt.apply(gradients(model.net.weights, 0), model.net.weights)
    before = state(kernels)["Adam", "_momentums"]
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    after = state(kernels)["Adam", "_momentums"]
    np.testing.assert_array_equal(after[1], before[1][KEEP])
    assert len(after) == 2
    model.opt.apply(gradients(model.net.weights, 1), model.net.weights)
    assert int(kernels.iterations) == 2


def test_one_optimizer_of_two_networks():
    model = Net(mlp(5), optimizers.Adam(0.01), other=mlp(5))
    trained = [*model.net.weights, *model.other.weights]
    model.opt.apply(gradients(trained, 0), trained)
    before = state(model.opt)["Adam", "_momentums"]
    replace_networks(model, [narrowed(model.other, mlp(3), MLP)])
    after = state(model.opt)["Adam", "_momentums"]
    for old, new in zip(before[:4], after[:4], strict=True):
        np.testing.assert_array_equal(new, old)
    np.testing.assert_array_equal(after[6], before[6][KEEP])
    trained = [*model.net.weights, *model.other.weights]
    model.opt.apply(gradients(trained, 1), trained)


def test_slots_stand_in_the_order_of_the_new_weights():
    class Crossed(keras.Model):
        """Has its layers in another order than that of their calls."""

        def __init__(self):
            super().__init__()
            self.last = layers.Dense(3)
            self.first = layers.Dense(5, activation="tanh")

        def call(self, x):
            return self.last(self.first(x))

    old, new, other = Crossed(), mlp(3), mlp(5)
    old(np.ones((1, 4)))
    model = Net(old, optimizers.Adam(0.01, use_ema=True), other=other)
    trained = [*old.weights, *other.weights]
    model.opt.apply(gradients(trained, 0), trained)
    before = state(model.opt)
    old_weights = [*old.first.weights, *old.last.weights]
    cuts = [Cut(*row) for row in zip(old_weights, new.weights, MLP, strict=True)]
    for cut in cuts:
        cut.new.assign(cut.slice(nets.value(cut.old)))
    replace_networks(model, [(old, new, cuts)])
    after = state(model.opt)
    for key, slots in before.items():
        slots = [*slots[2:4], *slots[:2]]
        for slot, index, found in zip(slots, MLP, after[key][:4], strict=True):
            np.testing.assert_array_equal(found, by_hand(slot, index))
    # Keras puts the averages into the weights by their order.
    model.opt.finalize_variable_values([*new.weights, *other.weights])
    averages = after["Adam", "_model_variables_moving_average"]
    for weight, average in zip([*new.weights, *other.weights], averages, strict=True):
        np.testing.assert_array_equal(nets.value(weight), average)


def test_a_layer_that_has_gone_takes_its_slots_along():
    old = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="a"), layers.Dense(2)])
    new = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model = Net(old, optimizers.Adam(0.01))
    model.opt.apply(gradients(old.weights, 0), old.weights)
    before = state(model.opt)["Adam", "_momentums"]
    cuts = [
        Cut(v, w, (None,) * len(w.shape)) for v, w in zip(old.weights[2:], new.weights, strict=True)
    ]
    replace_networks(model, [(old, new, cuts)])
    for one, other in zip(before[2:], state(model.opt)["Adam", "_momentums"], strict=True):
        np.testing.assert_array_equal(one, other)


# --- the model -----------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "first second")


def test_the_new_network_stands_where_the_old_did():
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


def test_a_checkpoint_of_tensorflow_sees_the_new_network(tmp_path):
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


def test_both_networks_go_on_sharing():
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


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}, {"run_eagerly": True}])
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


def test_in_fit_a_foreign_gan_trains_on():
    class GAN(nets.GuideGAN):
        """Other names, which say nothing of what they are."""

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


@pytest.mark.parametrize("make", [optimizers.Adam, optimizers.Nadam])
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


def test_nothing_holds_on_to_the_old_networks():
    gan = gan_model(nets.dcgan_pair(), ema_decay=0.9)
    old = [weakref.ref(v) for v in gan.weights]
    old += [weakref.ref(v) for v in gan.generator_optimizer._momentums]
    gan.fit(nets.images(16), batch_size=4, verbose=0, callbacks=[Replace(all_narrow)])
    gc.collect()
    assert [ref() for ref in old if ref() is not None] == []


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


def test_before_any_fit():
    gan = gan_model((generator(5), discriminator(5)))
    replace_networks(gan, [narrowed(gan.generator, generator(3), MLP)])
    assert gan.train_function is None
    gan.fit(nets.images(8), batch_size=4, verbose=0)


def test_a_file_of_the_model_trains_on_as_it_does(tmp_path):
    gan = gan_model(nets.dcgan_pair(), ema_decay=0.9)
    gan.fit(nets.images(8), batch_size=4, verbose=0, callbacks=[Replace(all_narrow, at=0)])
    gan.save(tmp_path / "gan.keras")
    loaded = kgp.load_model(tmp_path / "gan.keras")
    for one in (gan, loaded):
        one.fit(nets.images(8, seed=1), batch_size=4, shuffle=False, verbose=0)
    assert int(loaded.generator_optimizer.iterations) == 4
    for one, other in zip(gan.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(nets.value(one), nets.value(other))


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


# --- what is refused, with nothing changed -------------------------------------------------------


def refused(error, match, change=None, model=None):
    """Assert that a replacement is refused, and that the model has all that it had."""
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

    refused(
        ArgumentTypeError, f"The {('old', 'new')[row]} network must be.*'generator'", change
    )


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
def test_an_optimizer_that_cannot_be_rebuilt_leaves_all_as_it_was(cls, match):
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
    # The first optimizer was rebuilt by then, and is put back.
    refused(UnsupportedLayerError, rf"(?s){cls.__name__}.*{match}.*Nothing was changed", model=one)
    for optimizer, variables in zip((one.opt, one.second), before, strict=True):
        assert [id(v) for v in optimizer.variables] == [id(v) for v in variables]
    for made in (one, other):
        step(made, 1)
    for a, b in zip(one.net.weights, other.net.weights, strict=True):
        np.testing.assert_array_equal(nets.value(a), nets.value(b))
    for a, b in zip(one.opt.variables, other.opt.variables, strict=True):
        np.testing.assert_array_equal(nets.value(a), nets.value(b))


# --- cuts ----------------------------------------------------------------------------------------


def variable(*shape):
    return keras.Variable(np.zeros(shape, "float32"))


def test_a_cut_slices_every_axis():
    array = np.arange(24).reshape(2, 3, 4)
    index = (None, np.array([2, 0]), np.array([1]))
    found = Cut(variable(2, 3, 4), variable(2, 2, 1), index).slice(array)
    np.testing.assert_array_equal(found, by_hand(array, index))
    with pytest.raises(
        InvalidArgumentError, match=r"must have the shape.*\(2, 3, 4\).*\(2, 2, 1\)"
    ):
        Cut(variable(2, 3, 4), variable(2, 2, 1), index).slice(found)


@pytest.mark.parametrize(
    ("index", "match"),
    [
        ((None,), "an entry for each axis"),
        ((None, np.array([0, 3])), "ints from 0 to 2"),
        ((None, np.array([0, -1])), "ints from 0 to 2"),
        ((None, np.array([True, False, True])), "ints from 0 to 2"),
        ((None, np.array([[0, 1]])), "one row of ints"),
        ((None, np.array([0])), r"leaves the shape \(2, 1\).*Received: \(2, 2\)"),
    ],
)
def test_a_cut_that_does_not_fit(index, match):
    with pytest.raises(InvalidArgumentError, match=match):
        Cut(variable(2, 3), variable(2, 2), index)
