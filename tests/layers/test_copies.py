"""Every way from a model to another one, for every network of the zoo: exact, or refused with the reason.

`KERAS_BACKEND=jax pytest -m "full or not full" tests/layers/test_copies.py` runs it on another backend.
"""

import importlib.util
import warnings

import keras
import numpy as np
import pytest
import zoo
import zoo_layers
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.errors import (
    DifferentOutputsError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.gan import two_networks
from keras_ganprune.layers.guard import MaskConstraint
from keras_ganprune.layers.inference import arguments
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.layers.traversal import walk

full = pytest.mark.full
BACKEND = keras.backend.backend()
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow"
)

# (route, network) -> (backends, what the error says). All other cells are exact.
REFUSED = {
    ("export", "sampling"): (("torch",), "draws random numbers"),
    ("export", "lambda_global"): (("torch",), r"'lambda\w*' \(Lambda\) has a function"),
    ("export", "activation_lambda"): (("torch",), r"'dense\w*' \(Dense\) has a function"),
    ("export", "callables"): (("torch",), r"'callables\w*' \(Callables\)"),
    ("export", "forgetful_units"): (("torch",), "cannot be loaded"),
    ("export", "no_kwargs"): (("torch",), "cannot be loaded"),
    ("export", "no_config"): (("torch",), r"'no_config\w*' \(NoConfig\) .* no `get_config`"),
    ("export", "repeated"): (
        ("torch",),
        r"'sequential\w*' \(Sequential\) holds one layer in several",
    ),
    ("export", "shared"): (
        ("torch",),
        r"'sequential\w*' \(Sequential\) holds one layer in several",
    ),
}


def stripped(model, inputs, folder):
    return kgp.strip_pruning(model, inputs=inputs)


def stripped_in_place(model, inputs, folder):
    assert kgp.strip_pruning(model, copy=False) is model
    return model


def averaged(model, inputs, folder):
    copy = two_networks._untrained_copy(model)
    assert copy.trainable_weights == []
    return copy


def exported(model, inputs, folder):
    """Return the SavedModel as a function of the arguments of the model."""
    import tensorflow as tf

    kgp.export_saved_model(model, folder / "out", inputs=inputs)
    loaded = tf.saved_model.load(str(folder / "out"))

    def serve(*args, training=False):
        specs = loaded.signatures["serving_default"].structured_input_signature[1]
        types = {spec.shape.rank: spec.dtype for spec in specs.values()}
        tensors = [
            keras.tree.map_structure(
                lambda a: tf.cast(a, types[a.ndim]) if a.dtype.kind != "O" else tf.constant(a), x
            )
            for x in args
        ]
        return keras.tree.map_structure(np.asarray, loaded.serve(*tensors))

    return serve


ROUTES = {
    "strip": stripped,
    "in_place": stripped_in_place,
    "average": averaged,
    "export": exported,
}

# Networks that the default suite tries, by route.
SHORT = {
    "strip": ("normalization", "string_lookup", "fourier", "own_relu", "lambda_global", "stateful"),
    "in_place": ("constraint", "no_kwargs"),
    "average": ("normalization", "forgetful"),
    "export": ("normalization",),
}

CELLS = [
    pytest.param(
        route,
        name,
        marks=[
            *(() if name in SHORT[route] and BACKEND == "tensorflow" else (full,)),
            *((needs_tensorflow,) if route == "export" else ()),
        ],
    )
    for route in ROUTES
    for name in zoo.names()
]


def outputs(function, model, inputs):
    """Return the outputs for some inputs, with no change of the states of the model."""
    with keras.StatelessScope():
        result = function(*arguments(model, inputs), training=False)
    arrays = []
    for y in keras.tree.flatten(result):
        y = ops.convert_to_numpy(y) if ops.is_tensor(y) else y
        arrays.append(np.asarray(y).astype("float64"))
    return arrays


def what_a_model_holds(model):
    """Return the values of its variables, and the objects that its layers hold."""
    values = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    held = [
        {k: id(v) for k, v in vars(layer).items() if not k.startswith("_")}
        for _, layer in walk(model)
    ]
    return values, [(type(layer), path) for path, layer in walk(model)], held


@pytest.mark.parametrize(("route", "name"), CELLS)
def test_every_route_for_every_network(route, name, tmp_path):
    model, inputs = zoo.ZOO[name]()
    kgp.Pruner(model).update(sparsity=0.5)
    batch = probe_inputs(model, inputs, seed=7)
    expected, before = outputs(model, model, batch), what_a_model_holds(model)
    backends, text = REFUSED.get((route, name), ((), ""))
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningWarning)
        if BACKEND in backends:
            with pytest.raises(UnsupportedLayerError, match=text):
                ROUTES[route](model, inputs, tmp_path)
            assert list(tmp_path.iterdir()) == []
            return
        result = ROUTES[route](model, inputs, tmp_path)
    actual = outputs(result, model, batch)
    for a, b in zip(expected, actual, strict=True):
        if route == "export":
            np.testing.assert_allclose(a, b, atol=1e-4 * max(1.0, np.abs(a).max()))
        else:
            np.testing.assert_array_equal(a, b)
    if route == "in_place":
        assert_plain(result)
        return
    after = what_a_model_holds(model)
    for a, b in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert before[1] == after[1]
    for held, now in zip(before[2], after[2], strict=True):
        for ours in ("quantize", "masked_in"):  # Set anew when the masks come back.
            held.pop(ours, None)
        assert held == {name: now[name] for name in held}
    if route != "export":
        assert_plain(result)
        assert not {id(v) for v in model.variables} & {id(v) for v in result.variables}


def assert_plain(model):
    for _, layer in walk(model):
        assert not isinstance(layer, kgp.PrunableLayer)
        assert "pruning_masks" not in vars(layer)
        for variable in layer.variables:
            assert not isinstance(variable.constraint, MaskConstraint)


# --- in place -------------------------------------------------------------------------------------------


def trained(model, **options):
    x = np.ones((8, zoo.FEATURES), "float32")
    return model.fit(x, np.zeros((8, 3), "float32"), verbose=0, **options)


def test_a_model_that_was_stripped_in_place_trains_without_masks():
    model = zoo.sequential(layers.Dense(8, kernel_constraint=zoo_layers.Bound(0.2)))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    trained(model, callbacks=[kgp.Prune(0.5, frequency=1, verbose=0)])
    zeros = [np.count_nonzero(ops.convert_to_numpy(w) == 0) for w in model.weights[::2]]
    variables = [id(v) for v in model.weights]
    kgp.strip_pruning(model, copy=False)
    assert [id(v) for v in model.weights] == variables
    assert isinstance(model.layers[0].kernel.constraint, zoo_layers.Bound)
    assert zeros == [np.count_nonzero(ops.convert_to_numpy(w) == 0) for w in model.weights[::2]]
    trained(model, epochs=3)
    kernel = ops.convert_to_numpy(model.layers[0].kernel)
    assert np.count_nonzero(kernel == 0) < zeros[0]
    assert np.abs(kernel).max() <= 0.2
    kgp.Pruner(model).update(sparsity=0.75)  # and it can be pruned again


class TwoNetworks(keras.Model):
    """A GAN of a user's own, without `call`."""

    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator


@pytest.mark.parametrize("make", [TwoNetworks, lambda *n: kgp.GANModel(*n, latent_dim=12)])
def test_a_whole_gan_in_place_and_as_a_copy(make):
    discriminator = keras.Sequential([keras.Input((3,)), layers.Dense(8), layers.Dense(1)])
    gan = make(zoo.normalization(), discriminator)
    for network in (gan.generator, gan.discriminator):
        kgp.Pruner(network).update(sparsity=0.5)
    z = zoo_layers.normal(4, zoo.FEATURES)
    expected = ops.convert_to_numpy(gan.generator(z))
    copy = kgp.strip_pruning(gan)
    np.testing.assert_array_equal(expected, ops.convert_to_numpy(copy.generator(z)))
    assert_plain(copy)
    assert kgp.strip_pruning(gan, copy=False) is gan
    assert_plain(gan)
    np.testing.assert_array_equal(expected, ops.convert_to_numpy(gan.generator(z)))


# --- a copy that is wrong --------------------------------------------------------------------------------


class Hidden(layers.Layer):
    """It keeps a number where no copy finds it."""

    NUMBERS = {}

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.NUMBERS[id(self)] = 1.0

    def call(self, x):
        return x * self.NUMBERS[id(self)]


class Positional(layers.Layer):
    """Its argument is no attribute, so it cannot be made again."""

    def __init__(self, factor):
        super().__init__()
        self.call = lambda x: x * factor

    def get_config(self):
        return super().get_config()


def test_a_copy_with_other_outputs_is_refused():
    model = zoo.sequential(Hidden(name="secret"))
    Hidden.NUMBERS[id(model.layers[0])] = 2.0
    with pytest.raises(
        DifferentOutputsError, match=r"'secret' \(Hidden\) of the stripped copy .* copy=False"
    ):
        kgp.strip_pruning(model)
    with pytest.raises(DifferentOutputsError, match=r"'secret' .* `ema_decay`"):
        kgp.GANModel(
            model,
            keras.Sequential([keras.Input((3,)), layers.Dense(1)]),
            latent_dim=zoo.FEATURES,
            ema_decay=0.9,
        )
    expected = ops.convert_to_numpy(model(np.ones((2, zoo.FEATURES), "float32")))
    kgp.strip_pruning(model, copy=False)
    actual = ops.convert_to_numpy(model(np.ones((2, zoo.FEATURES), "float32")))
    np.testing.assert_array_equal(expected, actual)


def test_a_layer_that_cannot_be_made_again_is_named():
    model = zoo.sequential(Positional(2.0))
    name = model.layers[0].name
    with pytest.raises(UnsupportedLayerError) as caught:
        kgp.strip_pruning(model)
    text = str(caught.value)
    assert f"'{name}' (Positional) cannot be rebuilt" in text and "copy=False" in text
    assert "config=" not in text and len(text) < 500


def test_inputs_of_the_user_are_checked():
    model = zoo.sequential()
    with pytest.raises(InvalidArgumentError, match="`inputs` must fit the inputs of"):
        kgp.strip_pruning(model, inputs=np.ones((2, 5), "float32"))
    kgp.strip_pruning(model, inputs=keras.Input((zoo.FEATURES,)))
    kgp.strip_pruning(model, inputs=[[0.5] * zoo.FEATURES] * 2)


class TrainsMore(keras.Model):
    """A sublayer of it runs in training only."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.extra = layers.Dense(4), layers.Dense(3)
        self.head = layers.Dense(2)

    def call(self, x, training=False):
        hidden = self.hidden(x)
        if training:
            hidden += ops.mean(self.extra(hidden), axis=-1, keepdims=True)
        return self.head(hidden)

    def get_config(self):
        return {}


def test_a_sublayer_that_runs_in_training_only_is_copied():
    model = TrainsMore(name="trains_more")
    x = np.ones((2, 5), "float32")
    model(x, training=True)
    kgp.Pruner(model).update(sparsity=0.5)
    copy = kgp.strip_pruning(model)
    np.testing.assert_array_equal(model(x, training=True), copy(x, training=True))


def small_model():
    return keras.Sequential([keras.Input((5,)), layers.Dense(3), layers.Dense(2)])


BATCH = np.ones((2, 5), "float32")
WRONG_INPUTS = {
    "empty": (BATCH[:0], "at least one entry"),
    "shape": (np.ones((2, 7), "float32"), r"fit the inputs of .*\(2, 7\)|of the shapes .*7"),
    "texts": (np.array([["a"] * 5]), "fit the inputs of"),
    "two": ([BATCH, BATCH], "fit the inputs of"),
    "names": ({"z": BATCH}, "Received: the names"),
    "object": (np.array([[object()] * 5]), "numbers, bools or texts. Received: object"),
}


@pytest.mark.parametrize("route", ["strip", "shrink", "export"])
@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs_are_refused_in_own_words(route, case, tmp_path):
    if route == "export" and BACKEND != "tensorflow":
        pytest.skip("needs TensorFlow")
    inputs, text = WRONG_INPUTS[case]
    model = kgp.make_prunable(small_model())
    calls = {
        "strip": lambda: kgp.strip_pruning(model, inputs=inputs),
        "shrink": lambda: kgp.shrink(model, sparsity=0.5, inputs=inputs),
        "export": lambda: kgp.export_saved_model(model, tmp_path / "out", inputs=inputs),
    }
    with pytest.raises(InvalidArgumentError, match=text) as caught:
        calls[route]()
    assert "Exception encountered" not in str(caught.value)


def test_what_is_not_built_or_not_masked_any_more_says_so():
    with pytest.raises(UnbuiltModelError, match="must be built to be copied"):
        kgp.strip_pruning(TrainsMore())
    model = small_model()
    pruner = kgp.Pruner(model)
    pruner.update(sparsity=0.5)
    kgp.strip_pruning(model, copy=False)
    with pytest.raises(UnsupportedLayerError, match=r"Make a new `Pruner\(model\)`"):
        pruner.update(sparsity=0.6)
    kgp.Pruner(model).update(sparsity=0.6)
    assert np.mean(model.get_weights()[0] == 0) > 0.5


def test_weights_tied_by_hand_stay_tied():
    first, second = (layers.Embedding(20, 6, name=name) for name in "ab")
    x = keras.Input((4,), dtype="int32")
    model = keras.Model(x, layers.Dense(2)(layers.Dense(8)(first(x) + second(x))))
    object.__setattr__(second, "_embeddings", first._embeddings)
    copy = kgp.strip_pruning(model)
    a, b = (copy.get_layer(name)._embeddings for name in "ab")
    assert a is b and a is not first._embeddings
    with pytest.raises(UnsupportedLayerError, match=r"`_embeddings` is the weight a/embeddings of"):
        kgp.shrink(model, sparsity=0.5)
    small = kgp.shrink(model, sparsity=0.5, keep=["a", "b"])
    a, b = (small.get_layer(name)._embeddings for name in "ab")
    assert a is b and a is not first._embeddings
