"""Averages that a user's code keeps as variables or arrays are found and masked; nothing else is."""

import keras
import numpy as np
import pytest
from cases import cases
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import PruningWarning, UnsupportedLayerError
from keras_ganprune.layers.tensors import to_numpy

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(5)
X = RNG.normal(size=(64, 15)).astype("float32")
Y = RNG.normal(size=(64, 12)).astype("float32")


class Net(keras.Model):
    """A model with a network, and whatever a case adds to it."""

    def __init__(self):
        super().__init__()
        self.net = keras.Sequential(
            [keras.Input((15,)), layers.Dense(20, "relu"), layers.Dense(20), layers.Dense(12)]
        )

    def call(self, x):
        return self.net(x)


class Holder:
    """An object of a user that is no Keras object."""


class Bank(layers.Layer):
    """A layer of a user that holds one average."""

    def __init__(self, value):
        super().__init__()
        self.shadow = self.add_weight(
            shape=value.shape, initializer=lambda *a, **k: keras.ops.array(value), trainable=False
        )


class Each(keras.callbacks.Callback):
    """Calls a function after every batch. It may hold averages itself."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        assert self.model is not None  # on JAX, this brings the variables up to date
        self.step()


def mix(average, weight, decay=0.9):
    return decay * to_numpy(average) + (1 - decay) * to_numpy(weight)


def variables(values):
    return [
        keras.Variable(to_numpy(v), trainable=False, name=f"v{i}") for i, v in enumerate(values)
    ]


def assign_all(shadow, weights):
    for average, weight in zip(shadow, weights, strict=True):
        average.assign(mix(average, weight))


# --- each case: function of a model -> (callback, function that returns the averages) --------------------


def list_of_variables(model):
    model.shadow = variables(model.net.weights)
    step = Each(lambda: assign_all(model.shadow, model.net.weights))
    return step, lambda: model.shadow


def dict_of_variables(model):
    model.shadow = {f"k{i}": v for i, v in enumerate(variables(model.net.trainable_weights))}
    step = Each(lambda: assign_all(model.shadow.values(), model.net.trainable_weights))
    return step, lambda: list(model.shadow.values())


def layer_of_ones_own(model):
    model.bank = [Bank(to_numpy(w)) for w in model.net.weights]
    step = Each(lambda: assign_all([b.shadow for b in model.bank], model.net.weights))
    return step, lambda: [b.shadow for b in model.bank]


def object_of_ones_own(model):
    model.helper = Holder()
    model.helper.shadow = variables(model.net.weights)
    step = Each(lambda: assign_all(model.helper.shadow, model.net.weights))
    return step, lambda: model.helper.shadow


def begins_at_zero(model):
    model.shadow = variables([0 * to_numpy(w) for w in model.net.weights])
    step = Each(lambda: assign_all(model.shadow, model.net.weights))
    return step, lambda: model.shadow


def network_in_an_object(model):
    model.helper = Holder()
    model.helper.copy = keras.models.clone_model(model.net)
    model.helper.copy.set_weights(model.net.get_weights())
    step = Each(lambda: assign_all(model.helper.copy.weights, model.net.weights))
    return step, lambda: model.helper.copy.weights


def arrays_of_the_model(model):
    model.helper = Holder()
    model.helper.shadow = model.net.get_weights()

    def step():
        model.helper.shadow = [
            mix(a, w) for a, w in zip(model.helper.shadow, model.net.weights, strict=True)
        ]

    return Each(step), lambda: model.helper.shadow


def callback_with_arrays(model):
    def step():
        weights = model.net.weights
        old = getattr(callback, "shadow", None) or [to_numpy(w) for w in weights]
        callback.shadow = [mix(a, w) for a, w in zip(old, weights, strict=True)]

    callback = Each(step)
    return callback, lambda: callback.shadow


def callback_with_tensors(model):
    def step():
        weights = model.net.weights
        callback.shadow = {
            i: keras.ops.convert_to_tensor(mix(callback.shadow[i], w))
            for i, w in enumerate(weights)
        }

    callback = Each(step)
    callback.shadow = dict(enumerate(model.net.get_weights()))
    return callback, lambda: list(callback.shadow.values())


def callback_with_a_network(model):
    callback = Each(lambda: assign_all(callback.copy.weights, model.net.weights))
    callback.copy = keras.models.clone_model(model.net)
    callback.copy.set_weights(model.net.get_weights())
    return callback, lambda: callback.copy.weights


def average_of_tensorflow(model):
    import tensorflow as tf

    model.ema = tf.train.ExponentialMovingAverage(0.9)
    values = [w.value for w in model.net.weights]
    model.ema.apply(values)
    return Each(lambda: model.ema.apply(values)), lambda: [model.ema.average(v) for v in values]


FOUND = [list_of_variables, callback_with_arrays, begins_at_zero]
LONG = [
    object_of_ones_own,
    dict_of_variables,
    layer_of_ones_own,
    network_in_an_object,
    arrays_of_the_model,
]
LONG += [callback_with_tensors, callback_with_a_network]
LONG += [average_of_tensorflow] if BACKEND == "tensorflow" else []
ROWS = FOUND + [pytest.param(case, marks=pytest.mark.full) for case in LONG]


def fit(model, *callbacks, **options):
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=list(callbacks), **options)


@pytest.mark.parametrize("target", ["net", pytest.param(None, marks=pytest.mark.full)])
@pytest.mark.parametrize("case", ROWS)
def test_a_loose_average_gets_the_masks(case, target, capsys):
    keras.utils.set_random_seed(2)
    model = Net()
    callback, averages = case(model)
    prune = kgp.Prune(kgp.PolynomialDecay(0.8, 1, 5), target, 2)
    fit(model, callback, prune)
    masks = {id(w.variable): to_numpy(w.mask) for w in kgp.masked_weights(model.net)}
    checked = 0
    for average, weight in zip(averages(), model.net.weights, strict=False):
        if id(weight) in masks:
            value = to_numpy(average)
            checked += 1
            assert not value[~masks[id(weight)]].any()
            # Nothing else was set to zero.
            assert np.count_nonzero(value) == masks[id(weight)].sum()
    assert checked == 3
    assert "average" in capsys.readouterr().out


# --- what only looks like an average -----------------------------------------------------------------


def codebook(model):
    model.codes = keras.Variable(RNG.normal(size=(15, 20)), trainable=False)
    return Each(lambda: model.codes.assign(0.9 * model.codes + 0.1)), lambda: [model.codes]


def sums_of_squares(model):
    model.sums = variables([0 * to_numpy(w) for w in model.net.weights])

    def step():
        for total, weight in zip(model.sums, model.net.weights, strict=True):
            total.assign(total + keras.ops.square(weight) + 1e-3)

    return Each(step), lambda: model.sums[::2]


def first_values(model):
    model.first = variables(model.net.weights)
    return Each(lambda: None), lambda: model.first[::2]


def another_network(model):
    model.teacher = keras.models.clone_model(model.net)
    model.teacher.set_weights(model.net.get_weights())
    return Each(lambda: None), lambda: model.teacher.weights[::2]


def statistics(model):
    model.noise = keras.Variable(np.ones((20, 12)), trainable=False)
    draw = lambda: model.noise.assign(RNG.uniform(0.5, 1, (20, 12)))  # noqa: E731
    return Each(draw), lambda: [model.noise]


@cases(
    (codebook, first_values, another_network),
    "case",
    [codebook, sums_of_squares, first_values, another_network, statistics],
)
def test_nothing_else_is_masked(case, capsys):
    model = Net()
    callback, others = case(model)
    fit(model, callback, kgp.Prune(0.8, "net", 2))
    assert all(np.count_nonzero(to_numpy(v)) == to_numpy(v).size for v in others())
    assert "average" not in capsys.readouterr().out


def test_copies_none_leaves_averages_alone():
    model = Net()
    callback, averages = list_of_variables(model)
    fit(model, callback, kgp.Prune(0.8, "net", 2, copies=None))
    assert all(np.count_nonzero(to_numpy(v)) == to_numpy(v).size for v in averages()[::2])


def test_an_average_that_cannot_be_changed_or_cut_is_said():
    model = Net()

    def step():
        callback.shadow = tuple(
            mix(a, w) if not i else keras.ops.convert_to_tensor(mix(a, w))
            for i, (a, w) in enumerate(zip(callback.shadow, model.net.weights, strict=True))
        )

    callback = Each(step)
    callback.shadow = tuple(model.net.get_weights())
    if BACKEND != "torch":  # Its tensors can be changed in place.
        with pytest.warns(PruningWarning, match=r"'Each\.shadow\[2\]' .*in a tuple"):
            fit(model, callback, kgp.Prune(0.8, "net", 2))
    model = Net()
    callback, _ = list_of_variables(model)
    shrink = kgp.Shrink(at=6, sparsity=0.5, target="net")
    with pytest.raises(UnsupportedLayerError, match=r"'shadow\[0\]' is an average of"):
        fit(model, callback, kgp.Prune(0.5, "net", 2, granularity="channel"), shrink)
