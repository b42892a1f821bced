"""Probe inputs, the comparison of two models, and the copy of the state of a layer."""

import warnings

import keras
import numpy as np
import pytest
import zoo
from keras import layers, ops

from keras_ganprune.errors import DifferentOutputsError, PruningWarning, UnsupportedLayerError
from keras_ganprune.layers.copy_state import carry_functions, copy_data, copy_state, paired_layers
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.layers.same_outputs import check_same_outputs, gap, outputs_of

full = pytest.mark.full


# --- probe inputs -----------------------------------------------------------------------------------


def column_model():
    """Column 0 is a class number, the others are features."""
    x = keras.Input((4,))
    token = layers.Embedding(77, 2)(ops.cast(x[:, 0], "int32"))
    return keras.Model(x, layers.Concatenate()([token, layers.Dense(2)(x[:, 1:])]))


def positions_model():
    x = keras.Input((6,), dtype="int32")
    places = layers.Embedding(6, 3)(ops.arange(6))
    return keras.Model(x, layers.Embedding(300, 3)(x) + places)


def flat(structure):
    return [np.asarray(array) for array in keras.tree.flatten(structure)]


# Name of a network, and what holds for its inputs.
RANGES = {
    "dense": lambda x: x.shape == (4, zoo.FEATURES) and x.dtype == "float32" and abs(x.mean()) < 1,
    "embedding": lambda x: x.max() == 49 and x.min() == 0,
    "normalization": lambda x: 4 < x.mean() < 6 and 2 < x.std() < 4,
    "rescaling": lambda x: x.min() >= 0 and 200 < x.max() <= 255,
    "string_lookup": lambda x: {"red", "an unknown word"} < set(x.reshape(-1).tolist()),
    "integer_lookup": lambda x: {3, 50, 1000, 1007} >= set(x.reshape(-1).tolist()) > {1007},
    "text": lambda x: "unknown words" in x.tolist() and len(x[1].split()) == 4,
    "category_encoding": lambda x: x.max() == 6 and x.min() == 0,
    "discretization": lambda x: x.std() > 30,
    "stateful": lambda x: x.shape == (4, 5, zoo.FEATURES),
    "unknown_sizes": lambda x: x.shape == (4, 16, 16, 3),
    "two_arguments": lambda x, t: x.dtype == "float32" and t.shape == (4,) and t.max() == 99,
    "list_of_inputs": lambda x, t: t.max() == 9 and x.dtype == "float32",
    column_model: lambda x: x[:, 0].max() == 76 and abs(x[:, 1:]).max() < 5,
    positions_model: lambda x: x.max() == 299,
}


@pytest.mark.parametrize("network", RANGES, ids=lambda n: getattr(n, "__name__", n))
def test_inputs_have_the_range_of_the_layers(network):
    if network not in zoo.names() and isinstance(network, str):
        pytest.skip("needs TensorFlow")
    model = network() if callable(network) else zoo.ZOO[network]()[0]
    before = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    inputs = flat(probe_inputs(model))
    assert RANGES[network](*inputs)
    outputs_of(model, probe_inputs(model))
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], (2, 2)),
        (np.ones((3, 2), "float32"), (3, 2)),
        (lambda: ops.ones((5, 2)), (5, 2)),
        (lambda: keras.Input((2,)), (4, 2)),
    ],
)
def test_inputs_of_the_user(given, shape):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    inputs = probe_inputs(model, given() if callable(given) else given)
    assert inputs.shape == shape
    assert outputs_of(model, inputs)[0].shape == (shape[0], 1)


def test_a_model_that_fails_on_every_size_says_so():
    x = keras.Input((None, 3))
    model = keras.Model(x, layers.Dense(2)(layers.Reshape((7, 3))(x)))
    with pytest.raises(UnsupportedLayerError, match=r"random inputs .* Pass `inputs`"):
        probe_inputs(model)


# --- comparison ---------------------------------------------------------------------------------------


class Glue(keras.Model):
    def __init__(self, factor):
        super().__init__(name="glue")
        self.factor = factor
        self.first, self.second = layers.Dense(3, name="first"), layers.Dense(3, name="second")

    def call(self, x):
        return self.second(self.first(x) * self.factor)


class Noise(layers.Layer):
    """It draws numbers that no seed determines."""

    def call(self, x):
        numbers = np.random.default_rng().standard_normal(3).astype("float32")
        return x + ops.convert_to_tensor(numbers)


def glue(factor):
    model = Glue(factor)
    model(np.ones((2, 3), "float32"))
    model.set_weights([0.1 + np.ones(w.shape, "float32") for w in model.weights])
    return model


def plain(**options):
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, name="first"),
            layers.Dense(4, name="second", **options),
            layers.Dense(4, name="third", **options),
        ]
    )


def with_same_weights(model, copy):
    copy.set_weights(model.get_weights())
    return model, copy


PARTINGS = [
    (lambda: with_same_weights(glue(1.0), glue(1.0)), None),
    (lambda: with_same_weights(glue(1.0), glue(1.25)), r"'glue' \(Glue\) of the copy gives others"),
    (lambda: with_same_weights(plain(), plain(activation=ops.tanh)), r"'second' \(Dense\)"),
    (lambda: (plain(), plain()), r"'first' \(Dense\)"),
]


@pytest.mark.parametrize(("make", "text"), PARTINGS)
def test_the_first_layer_that_parts_is_named(make, text):
    model, copy = make()
    if text is None:
        check_same_outputs(model, copy)
        return
    with pytest.raises(DifferentOutputsError, match=text):
        check_same_outputs(model, copy)


def chaotic(depth=60):
    """A network that amplifies a change of the last bit to a change of everything."""
    hidden = [layers.Dense(8, activation=ops.sin, kernel_initializer="ones") for _ in range(depth)]
    model = keras.Sequential([keras.Input((8,)), *hidden])
    rng = np.random.default_rng(0)
    for w in model.weights:
        w.assign(rng.normal(0, 5, w.shape))
    return model


class Rounded(layers.Dense):
    """A Dense layer that rounds otherwise: its sum has another order."""

    def call(self, x, training=None):
        kernel = ops.flip(ops.convert_to_tensor(self.kernel), 0)
        return self.activation(ops.matmul(ops.flip(x, -1), kernel) + self.bias)


def test_a_chaotic_model_is_told_from_a_wrong_one():
    model, copy = chaotic(), chaotic()
    for layer in copy.layers:
        layer.__class__ = type("Dense", (Rounded,), {})
    inputs = probe_inputs(model)
    assert gap(outputs_of(model, inputs), outputs_of(copy, inputs)).largest > 0.1
    check_same_outputs(model, copy, tolerance=1e-5)
    copy.layers[40].bias.assign(copy.layers[40].bias + 1e-3)
    with pytest.raises(DifferentOutputsError, match=model.layers[40].name):
        check_same_outputs(model, copy, tolerance=1e-5)


def test_random_numbers_without_a_seed_are_not_blamed_on_the_copy():
    def make():
        return keras.Sequential([keras.Input((3,)), Noise(name="noise"), layers.Dense(2)])

    model, copy = with_same_weights(make(), make())
    with pytest.warns(PruningWarning, match=r"'noise' \(Noise\) .* random numbers without a seed"):
        check_same_outputs(model, copy)


def test_a_model_without_finite_outputs_says_so():
    model, copy = with_same_weights(plain(), plain())
    for m in (model, copy):
        m.layers[0].bias.assign(np.full(4, np.nan))
    with pytest.warns(PruningWarning, match="NaN or infinite"):
        check_same_outputs(model, copy)


@pytest.mark.parametrize(
    ("expected", "actual", "agree"),
    [
        ([np.array([1.0, np.nan])], [np.array([1.0, np.nan])], True),
        ([np.array([1.0, np.nan])], [np.array([np.nan, 1.0])], False),
        ([np.array([np.inf])], [np.array([np.inf])], True),
        ([np.array([1.0])], [np.array([1.0, 1.0])], False),
        ([np.array([1.0])], [np.array([1.0], "float32")], False),
        ([None, np.array([1])], [None, np.array([1])], True),
        ([None], [np.array([1])], False),
        ([np.array(["a"], object)], [np.array(["b"], object)], False),
        ([np.array([1.0])], [], False),
    ],
)
def test_gap(expected, actual, agree):
    assert gap(expected, actual).within(0.0) == agree


# --- state ----------------------------------------------------------------------------------------------


SHORT = ("normalization", "fourier", "own_relu", "forgetful")
ROWS = [
    pytest.param(name, marks=() if name in SHORT else full)
    for name in zoo.names()
    if name not in ("no_config", "discretization")
]


@pytest.mark.parametrize("name", ROWS)
def test_the_state_of_every_layer_is_copied(name):
    """Two models that the same function made differ in all that is random; afterwards they agree."""
    (model, inputs), (copy, _) = zoo.ZOO[name](), zoo.ZOO[name]()
    for _, old, new in paired_layers(model, copy):
        copy_state(old, new)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningWarning)
        check_same_outputs(model, copy, inputs)
    assert not {id(v) for v in model.variables} & {id(v) for v in copy.variables}


def test_the_parts_of_a_state_are_copied_alone():
    old, new = zoo.Forgetful(power=2.0), zoo.Forgetful()
    old.function = zoo.relu
    carry_functions(old, new)
    assert (new.function, new.power) == (zoo.relu, 1.0)
    copy_data(old, new)
    assert new.power == 2.0
