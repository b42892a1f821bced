"""Prunable layers: an upgrade changes nothing but adds masks, and the masks hold and are kept."""

import copy
import gc
import inspect
import pickle
import warnings

import keras
import networks as nets
import numpy as np
import pytest
from keras import layers
from past_keras import write_past_keras

import keras_ganprune as kgp
from keras_ganprune import (
    PrunableLayer,
    Pruner,
    apply_masks,
    copy_masks,
    make_prunable,
    masked_weights,
    register_prunable,
    sparsity_report,
    strip_pruning,
)
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers.prunable import PRUNABLE_CLASSES
from keras_ganprune.layers.traversal import holders, prunable_layers, walk
from keras_ganprune.layers.upgrade import add_masks

MHA = ("_query_dense.kernel", "_key_dense.kernel", "_value_dense.kernel", "_output_dense.kernel")
RNN = ("cell.kernel", "cell.recurrent_kernel")

# class, arguments, input shape, masked weights
CASES = {
    "Dense": ((5,), {}, (4,), ("kernel",)),
    "EinsumDense": (("abc,cd->abd",), {"output_shape": (3, 5)}, (3, 4), ("kernel",)),
    "Embedding": ((11, 4), {}, (3,), ("embeddings",)),
    "Conv1D": ((3, 2), {}, (6, 2), ("kernel",)),
    "Conv2D": ((3, 2), {"strides": 2}, (6, 6, 2), ("kernel",)),
    "Conv3D": ((3, 2), {}, (4, 4, 4, 2), ("kernel",)),
    "Conv1DTranspose": ((3, 2), {"strides": 2}, (4, 2), ("kernel",)),
    "Conv2DTranspose": ((3, 4), {"strides": 2, "padding": "same"}, (4, 4, 2), ("kernel",)),
    "Conv3DTranspose": ((3, 2), {}, (3, 3, 3, 2), ("kernel",)),
    "DepthwiseConv1D": ((3,), {"depth_multiplier": 2}, (6, 2), ("kernel",)),
    "DepthwiseConv2D": ((3,), {}, (6, 6, 2), ("kernel",)),
    "SeparableConv1D": ((4, 3), {}, (6, 2), ("depthwise_kernel", "pointwise_kernel")),
    "SeparableConv2D": ((4, 3), {}, (6, 6, 2), ("depthwise_kernel", "pointwise_kernel")),
    "LSTM": ((4,), {}, (3, 2), RNN),
    "GRU": ((4,), {"return_sequences": True}, (3, 2), RNN),
    "SimpleRNN": ((4,), {"dropout": 0.1}, (3, 2), RNN),
    "ConvLSTM1D": ((2, 2), {}, (3, 5, 2), RNN),
    "ConvLSTM2D": ((2, 2), {}, (3, 4, 4, 2), RNN),
    "ConvLSTM3D": ((2, 2), {}, (2, 3, 3, 3, 2), RNN),
    "MultiHeadAttention": ((2, 3), {}, (4, 6), MHA),
    "GroupQueryAttention": ((4, 4, 2), {}, (4, 6), MHA),
}
CELLS = ("LSTMCell", "GRUCell", "SimpleRNNCell")
full = pytest.mark.full
# One class of each kind: the others differ from it only in the names of their weights.
KINDS = ("Dense", "Conv2DTranspose", "LSTM", "MultiHeadAttention")
each_kind = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in KINDS else full) for name in CASES]
)
each_way = pytest.mark.parametrize("way", [pytest.param("constructed", marks=full), "upgraded"])


def make_layer(name, cls=None):
    args, kwargs, _, _ = CASES[name]
    return (cls or getattr(layers, name))(*args, **kwargs, name="it")


def model_around(name, layer):
    """Return a functional model with the layer between two that take part in every check."""
    shape = CASES[name][2]
    if name == "Embedding":
        x = keras.Input(shape, dtype="int32")
        y = layer(x)
    else:
        x = keras.Input(shape)
        y = layer(x, x) if "Attention" in name else layer(x)
    return keras.Model(x, layers.Dense(2, name="head")(layers.Flatten()(y)))


def example(name, n=3):
    rng = np.random.default_rng(7)
    shape = (n, *CASES[name][2])
    if name == "Embedding":
        return rng.integers(11, size=shape)
    return rng.normal(size=shape).astype("float32")


def output(model, x):
    return np.asarray(model(x, training=False))


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b) for a, b in zip(first, second, strict=True)
    )


def masks_of(model):
    return {w.path: w.mask.numpy() for w in masked_weights(model)}


def assert_zeros_hold(model):
    assert masked_weights(model)
    for weight in masked_weights(model):
        mask = weight.mask.numpy()
        assert not mask.all(), weight.path
        np.testing.assert_array_equal(np.asarray(weight.variable)[~mask], 0, weight.path)


def assert_same_masks(first, second):
    assert list(first) == list(second)
    for path in first:
        np.testing.assert_array_equal(first[path], second[path], path)


def objects_below(thing):
    """Return every Python object that a model holds, layers and wrappers' private parts included."""
    seen, todo = {}, [thing]
    while todo:
        item = todo.pop()
        skip = isinstance(item, type) or inspect.ismodule(item) or inspect.isroutine(item)
        if id(item) in seen or skip or type(item).__module__.startswith(("tensorflow", "_pytest")):
            continue
        seen[id(item)] = item
        todo += gc.get_referents(item)
    return seen.values()


def assert_plain(model):
    for item in objects_below(model):
        module = type(item).__module__ or ""
        assert module.split(".")[0] != "keras_ganprune", (type(item), item)


def test_the_search_for_our_classes_finds_them():
    wrapped = keras.Sequential([layers.Bidirectional(layers.LSTM(2)), layers.Dense(1)])
    wrapped.build((None, 3, 2))
    assert_plain(wrapped)
    make_prunable(wrapped, scope=layers.LSTM)
    with pytest.raises(AssertionError, match="keras_ganprune"):
        assert_plain(wrapped)


# --- every class, both ways ----------------------------------------------------------------------


def test_the_table_is_complete():
    prunable = {name.removeprefix("Prunable") for name in vars(kgp) if name.startswith("Prunable")}
    # These have no kernel: test_channel_masks.py has them.
    scales = {"BatchNormalization", "GroupNormalization", "PReLU"}
    assert prunable - {"Layer"} == {*CASES, *CELLS, *scales}


@each_kind
def test_upgrade_changes_nothing(name):
    layer = make_layer(name)
    model, x = model_around(name, layer), example(name)
    before, variables = output(model, x), list(model.weights)
    values, count = model.get_weights(), model.count_params()
    trainable = list(model.trainable_variables)
    paths = [v.path for v in variables]

    assert make_prunable(model) is model

    assert model.get_layer("it") is layer
    assert isinstance(layer, getattr(kgp, f"Prunable{name}"))
    assert isinstance(layer, getattr(layers, name))
    np.testing.assert_array_equal(output(model, x), before)
    assert [id(v) for v in model.weights] == [id(v) for v in variables]
    assert [id(v) for v in model.trainable_variables] == [id(v) for v in trainable]
    assert [v.path for v in model.weights] == paths
    assert same(model.get_weights(), values)
    assert model.count_params() == count
    assert tuple(layer.pruning_masks.masks) == CASES[name][3]
    # A cell, or a projection of attention, is left to the layer that makes it.
    upgraded = [part for _, part in walk(model) if isinstance(part, PrunableLayer)]
    assert upgraded == [layer, model.get_layer("head")]
    for path, mask in layer.pruning_masks.masks.items():
        weight = layer.pruning_masks.weights_by_name[path]
        assert id(weight) in {id(v) for v in variables}
        assert mask.dtype == "bool"
        assert tuple(mask.shape) == tuple(weight.shape)
        assert mask.numpy().all()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("Conv2DTranspose", "Embedding", "LSTM") else full)
        for name in CASES
    ],
)
def test_constructor(name):
    plain = make_layer(name)
    prunable = make_layer(name, getattr(kgp, f"Prunable{name}"))
    assert not hasattr(prunable, "pruning_masks")  # there are no weights yet
    plain_model, prunable_model = model_around(name, plain), model_around(name, prunable)
    assert [tuple(w.shape) for w in prunable.weights] == [tuple(w.shape) for w in plain.weights]
    assert [w.path for w in prunable.weights] == [w.path for w in plain.weights]
    assert prunable.get_config() == plain.get_config()
    assert tuple(prunable.pruning_masks.masks) == CASES[name][3]
    prunable_model.set_weights(plain_model.get_weights())
    x = example(name)
    np.testing.assert_array_equal(output(prunable_model, x), output(plain_model, x))
    again = type(prunable).from_config(prunable.get_config())
    assert type(again) is type(prunable)


@each_kind
@each_way
def test_masks_survive_saving(name, way, tmp_path):
    cls = getattr(kgp, f"Prunable{name}")
    make = cls if way == "constructed" else None
    model, x = make_prunable(model_around(name, make_layer(name, make))), example(name)
    Pruner(model).update(sparsity=0.6)
    assert_zeros_hold(model)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("it")) is cls
    assert_same_masks(masks_of(loaded), masks_of(model))
    assert same(loaded.get_weights(), model.get_weights())
    np.testing.assert_array_equal(output(loaded, x), output(model, x))

    model.save_weights(tmp_path / "model.weights.h5")
    other = make_prunable(model_around(name, make_layer(name)))
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same_masks(masks_of(other), masks_of(model))
    assert same(other.get_weights(), model.get_weights())


@each_kind
def test_weights_files_cross_over(name, tmp_path):
    plain, x = model_around(name, make_layer(name)), example(name)
    plain.save_weights(tmp_path / "plain.weights.h5")
    prunable = make_prunable(model_around(name, make_layer(name)))
    prunable.load_weights(tmp_path / "plain.weights.h5")
    assert same(prunable.get_weights(), plain.get_weights())
    np.testing.assert_array_equal(output(prunable, x), output(plain, x))

    Pruner(prunable).update(sparsity=0.5)
    prunable.save_weights(tmp_path / "pruned.weights.h5")
    plain.load_weights(tmp_path / "pruned.weights.h5")
    assert same(plain.get_weights(), prunable.get_weights())
    assert_plain(plain)


@each_kind
@each_way
def test_strip(name, way):
    make = getattr(kgp, f"Prunable{name}") if way == "constructed" else None
    model, x = make_prunable(model_around(name, make_layer(name, make))), example(name)
    Pruner(model).update(sparsity=0.6)
    before = masks_of(model)
    stripped = strip_pruning(model)
    assert type(stripped.get_layer("it")) is getattr(layers, name)
    assert_plain(stripped)
    np.testing.assert_array_equal(output(stripped, x), output(model, x))
    assert same(stripped.get_weights(), model.get_weights())
    # The pruned model itself is as it was.
    assert type(model.get_layer("it")) is getattr(kgp, f"Prunable{name}")
    assert_same_masks(masks_of(model), before)


@each_kind
def test_zeros_hold_in_fit(name):
    model, x = make_prunable(model_around(name, make_layer(name))), example(name, 6)
    # Attention passes its input as query and value; eager is enough, and quicker than tracing.
    model.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
    Pruner(model).update(sparsity=0.5)
    before = model.get_weights()
    model.fit(x, np.ones((6, 2)), batch_size=3, epochs=1, verbose=0)
    assert_zeros_hold(model)
    for weight in masked_weights(model):
        kept = np.asarray(weight.variable)[weight.mask.numpy()]
        if "Embedding" not in name:
            assert np.count_nonzero(kept) == kept.size, weight.path
    assert not any(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@full
def test_zeros_hold_in_compiled_fit():
    x = keras.Input((8, 8, 2))
    y = layers.SeparableConv2D(4, 3, activation="relu")(x)
    y = layers.Conv2DTranspose(3, 3)(y)
    y = layers.DepthwiseConv2D(3)(y)
    y = layers.Reshape((36, 3))(y)
    y = layers.MultiHeadAttention(2, 3)(y, y)
    y = layers.GRU(4)(y)
    model = make_prunable(keras.Model(x, layers.Dense(2)(y)))
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1), "mse")
    Pruner(model).update(sparsity=0.5)
    model.fit(np.ones((8, 8, 8, 2)), np.ones((8, 2)), batch_size=4, epochs=2, verbose=0)
    assert_zeros_hold(model)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        pytest.param(name, way, marks=[] if (name, way) == ("GRUCell", "stacked") else full)
        for name in CELLS
        for way in ("constructed", "upgraded", "stacked")
    ],
)
def test_cells(name, way, tmp_path):
    prunable = getattr(kgp, f"Prunable{name}")
    cls = prunable if way == "constructed" else getattr(layers, name)
    cells = [cls(4, name="first"), cls(3, name="second")] if way == "stacked" else cls(4)
    model = keras.Sequential([keras.Input((3, 2)), layers.RNN(cells), layers.Dense(1)])
    x = np.random.default_rng(0).normal(size=(2, 3, 2)).astype("float32")
    before, variables = output(model, x), list(model.weights)
    make_prunable(model)
    np.testing.assert_array_equal(output(model, x), before)
    assert [id(v) for v in model.weights] == [id(v) for v in variables]
    assert len(masked_weights(model)) == (5 if way == "stacked" else 3)
    Pruner(model).update(sparsity=0.5)
    model.save(tmp_path / "m.keras")
    assert_same_masks(masks_of(keras.saving.load_model(tmp_path / "m.keras")), masks_of(model))
    stripped = strip_pruning(model)
    assert_plain(stripped)
    np.testing.assert_array_equal(output(stripped, x), output(model, x))


def test_repr():
    layer = kgp.PrunableDense(5, name="d")
    assert repr(layer) == "<PrunableDense name=d, built=False>"
    layer.build((None, 4))
    Pruner(layer).update(sparsity=0.5)
    assert repr(layer) == "<PrunableDense name=d, kept=10/20>"


def test_names_of_the_classes():
    # Keras derives the paths in weights files from `__name__`.
    assert kgp.PrunableDense.__name__ == "Dense"
    assert kgp.PrunableDense.__qualname__ == "PrunableDense"
    registered = keras.saving.get_registered_name(kgp.PrunableDense)
    assert registered == "keras_ganprune>PrunableDense"
    assert "`Dense` with a mask" in kgp.PrunableDense.__doc__


# --- models of every kind ------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
class Network(keras.Model):
    """A subclassed model with layers in attributes, in a list, and in a model of its own."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.stem = layers.Dense(units)
        self.blocks = [layers.Dense(units, activation="relu") for _ in range(2)]
        self.inner = keras.Sequential([layers.Dense(3), layers.ReLU()])

    def build(self, input_shape):
        self.stem.build(input_shape)
        for block in self.blocks:
            block.build((None, self.units))
        self.inner.build((None, self.units))
        super().build(input_shape)

    def call(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.inner(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def sequential():
    return keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.ReLU(), layers.Dense(3)])


def functional():
    x = keras.Input((4,))
    y = layers.Dense(5)(x)
    return keras.Model(x, layers.Dense(3)(layers.Concatenate()([x, y])))


def nested():
    x = keras.Input((4,))
    inner = sequential()
    return keras.Model(x, layers.Dense(2)(functional()(x) + inner(x)))


def subclassed():
    model = Network()
    model.build((None, 4))
    return model


def twice():
    x = keras.Input((4,))
    layer = layers.Dense(4)
    return keras.Model(x, layer(layer(x)))


MODELS = {"sequential": 2, "functional": 2, "nested": 5, "subclassed": 4, "twice": 1}
each_model = pytest.mark.parametrize("kind", MODELS)


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k in ("nested", "subclassed") else full) for k in MODELS]
)
def test_models_in_place(kind):
    model = globals()[kind]()
    x = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
    before, variables = output(model, x), list(model.weights)
    make_prunable(model)
    assert len(masked_weights(model)) == MODELS[kind]
    assert [id(v) for v in model.weights] == [id(v) for v in variables]
    np.testing.assert_array_equal(output(model, x), before)

    model.compile("adam", "mse", run_eagerly=True)
    pruner = Pruner(model)
    pruner.update(sparsity=0.5)
    model.fit(x, np.ones((3, model(x).shape[-1])), verbose=0)
    assert_zeros_hold(model)
    stripped = strip_pruning(model)
    assert_plain(stripped)
    np.testing.assert_array_equal(output(stripped, x), output(model, x))


@each_model
def test_upgrading_again_changes_nothing(kind):
    model = globals()[kind]()
    make_prunable(model)
    Pruner(model).update(sparsity=0.5)
    before = masks_of(model)
    stores = [id(layer.pruning_masks) for _, layer in prunable_layers(model)]
    make_prunable(model)
    assert_same_masks(masks_of(model), before)
    assert [id(layer.pruning_masks) for _, layer in prunable_layers(model)] == stores


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("sequential", marks=full),
        pytest.param("functional", marks=full),
        "nested",
        pytest.param("twice", marks=full),
    ],
)
def test_models_come_back_from_a_file_with_masks(kind, tmp_path):
    model = make_prunable(globals()[kind]())
    Pruner(model).update(sparsity=0.5)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert_same_masks(masks_of(loaded), masks_of(model))
    assert_zeros_hold(loaded)


def test_subclassed_model_gets_its_masks_from_a_weights_file(tmp_path):
    # Its own constructor makes plain layers, so it is upgraded first.
    model = make_prunable(subclassed())
    Pruner(model).update(sparsity=0.5)
    model.save_weights(tmp_path / "m.weights.h5")
    other = make_prunable(subclassed())
    other.load_weights(tmp_path / "m.weights.h5")
    assert same(list(masks_of(other).values()), list(masks_of(model).values()))
    assert_zeros_hold(other)


# --- wrappers and shared layers ------------------------------------------------------------------


WRAPPED = {
    "spectral_dense": (lambda: layers.SpectralNormalization(layers.Dense(5)), (4,), 1),
    "spectral_conv": (lambda: layers.SpectralNormalization(layers.Conv2D(5, 3)), (5, 5, 2), 1),
    "time_distributed": (lambda: layers.TimeDistributed(layers.Dense(5)), (3, 4), 1),
    "time_distributed_model": (
        lambda: layers.TimeDistributed(
            keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.Dense(2)])
        ),
        (3, 4),
        2,
    ),
    "bidirectional": (lambda: layers.Bidirectional(layers.LSTM(3)), (3, 4), 4),
    "bidirectional_cells": (lambda: layers.Bidirectional(layers.RNN(layers.GRUCell(3))), (3, 4), 4),
    "nested_wrappers": (
        lambda: layers.TimeDistributed(layers.SpectralNormalization(layers.Dense(5))),
        (3, 4),
        1,
    ),
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in ("spectral_conv", "bidirectional_cells") else full)
        for kind in WRAPPED
    ],
)
def test_wrappers(kind, tmp_path):
    make, shape, count = WRAPPED[kind]
    model = keras.Sequential([keras.Input(shape), make(), layers.Flatten(), layers.Dense(2)])
    x = np.random.default_rng(2).normal(size=(4, *shape)).astype("float32")
    before, variables = output(model, x), list(model.weights)
    make_prunable(model)
    assert len(masked_weights(model)) == count + 1
    assert [id(v) for v in model.weights] == [id(v) for v in variables]
    np.testing.assert_array_equal(output(model, x), before)

    Pruner(model).update(sparsity=0.5)
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(x, np.ones((4, 2)), batch_size=2, verbose=0)
    assert_zeros_hold(model)

    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert_same_masks(masks_of(loaded), masks_of(model))
    assert same(loaded.get_weights(), model.get_weights())
    stripped = strip_pruning(model)
    assert_plain(stripped)
    np.testing.assert_array_equal(output(stripped, x), output(model, x))
    assert same(stripped.get_weights(), model.get_weights())


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: layers.SpectralNormalization(kgp.PrunableDense(5)), id="spectral"),
        pytest.param(
            lambda: layers.Bidirectional(kgp.PrunableGRU(3, return_sequences=True)),
            id="bidirectional",
            marks=full,
        ),
        pytest.param(
            lambda: layers.TimeDistributed(kgp.PrunableDense(5)), id="time_distributed", marks=full
        ),
        pytest.param(
            lambda: layers.RNN(kgp.PrunableLSTMCell(3), return_sequences=True),
            id="rnn",
            marks=full,
        ),
    ],
)
def test_constructed_inside_wrappers(make, tmp_path):
    model = keras.Sequential([keras.Input((3, 4)), make()])
    x = np.random.default_rng(2).normal(size=(2, 3, 4)).astype("float32")
    Pruner(model).update(sparsity=0.5)
    assert_zeros_hold(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert_same_masks(masks_of(loaded), masks_of(model))
    stripped = strip_pruning(model)
    assert_plain(stripped)
    np.testing.assert_array_equal(output(stripped, x), output(model, x))


def test_spectral_normalization_normalises_the_masked_kernel():
    model = keras.Sequential([keras.Input((6,)), layers.SpectralNormalization(layers.Dense(5))])
    Pruner(model).update(sparsity=0.5)
    for _ in range(50):
        model(np.ones((1, 6), "float32"), training=True)
    kernel = model.layers[0].layer.kernel.numpy()
    assert np.count_nonzero(kernel) == 15
    assert np.linalg.norm(kernel, 2) == pytest.approx(1.0, abs=1e-3)


def test_layer_shared_by_two_networks():
    shared = layers.Dense(4, name="shared")
    first = keras.Sequential([keras.Input((4,)), shared, layers.Dense(2, name="a")])
    second = keras.Sequential([keras.Input((4,)), shared, layers.Dense(3, name="b")])
    make_prunable(first)
    store = shared.pruning_masks
    make_prunable(second)
    assert shared.pruning_masks is store
    weights = masked_weights(first, second)
    assert [w.path for w in weights] == ["shared/kernel", "a/kernel", "b/kernel"]
    pruner = Pruner(first, second)
    assert pruner.update(sparsity=0.5).total == 16 + 8 + 12
    np.testing.assert_array_equal(
        masks_of(first)["shared/kernel"], masks_of(second)["shared/kernel"]
    )

    both = keras.Sequential([keras.Input((4,)), first])
    x = keras.Input((4,))
    both = keras.Model(x, [first(x), second(x)])
    report = sparsity_report(both)
    assert (len(report), report.total, report.kept) == (3, 36, 18)
    assert report.parameters == 36 + 4 + 2 + 3


def test_variable_shared_by_two_layers():
    embedding = layers.Embedding(5, 4)
    x = keras.Input((3,), dtype="int32")
    model = make_prunable(keras.Model(x, Tied(embedding)(embedding(x))))
    assert isinstance(embedding.embeddings.constraint.mask, keras.Variable)
    assert embedding.embeddings.constraint.inner is None  # one mask, not one around another
    report = Pruner(model).update(sparsity=0.5)
    assert (report.kept, report.total, len(report)) == (10, 20, 1)
    assert len(sparsity_report(model)) == 1
    make_prunable(model)
    assert_zeros_hold(model)


def test_walk_visits_each_layer_once_parents_first():
    model = nested()
    pairs = walk(model)
    assert pairs[0] == (model.name, model)
    assert len({id(layer) for _, layer in pairs}) == len(pairs)
    paths = [path for path, _ in pairs]
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Sequential))
    dense = inner.layers[0]
    assert f"{inner.name}/{dense.name}" in paths


# --- layers of the user's own --------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
class Stretch(keras.layers.Layer):
    """Makes its weight in `build`."""

    def build(self, input_shape):
        self.my_kernel = self.add_weight(shape=(input_shape[-1],), name="my_kernel")

    def call(self, x):
        return x * self.my_kernel


@keras.saving.register_keras_serializable("tests")
class Mix(keras.layers.Layer):
    """Makes its weights in `__init__`, one of them not to be pruned."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.mix = self.add_weight(shape=(units, units), initializer="glorot_uniform", name="mix")
        self.shift = self.add_weight(shape=(units,), initializer="ones", name="shift")

    def call(self, x):
        return x @ self.mix + self.shift

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("tests")
class ScaledDense(layers.Dense):
    """Nobody registers it: it is a Dense."""

    def __init__(self, units, gain=1.0, **kwargs):
        super().__init__(units, **kwargs)
        self.gain = gain

    def call(self, x, training=None):
        return self.gain * super().call(x, training=training)

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


@keras.saving.register_keras_serializable("tests")
class Gate(keras.layers.Layer):
    """Holds a kernel in a part."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.part = layers.Dense(4, name="part")

    def build(self, input_shape):
        self.part.build(input_shape)

    def call(self, x):
        return x * self.part(x)


class Tied(keras.layers.Layer):
    """Uses the embeddings of another layer, as language models do."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, input_shape):
        self.kernel = self.embedding.embeddings

    def call(self, x):
        return x @ keras.ops.transpose(self.kernel)


PrunableTied = register_prunable(Tied, ["kernel"])
PrunableStretch = register_prunable(Stretch, ["my_kernel"])
PrunableMix = register_prunable(Mix, ["mix"])
PrunableGate = register_prunable(Gate, ["part.kernel"])
OWN = {
    "build": (lambda: Stretch(), PrunableStretch, 4),
    "init": (lambda: Mix(4), PrunableMix, 16),
    "subclass": (lambda: ScaledDense(4, gain=2.0), None, 16),
    "dotted": (lambda: Gate(), PrunableGate, 16),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k in ("init", "dotted") else full) for k in OWN]
)
def test_own_layers(kind, tmp_path):
    make, cls, total = OWN[kind]
    model = keras.Sequential([keras.Input((4,)), make()])
    plain = type(model.layers[0])
    x = np.random.default_rng(4).normal(size=(3, 4)).astype("float32")
    before, variables = output(model, x), list(model.weights)
    make_prunable(model)
    layer = model.layers[0]
    assert isinstance(layer, PrunableLayer)
    assert isinstance(layer, plain)
    assert cls is None or type(layer) is cls
    assert type(layer).__qualname__ == f"Prunable{plain.__name__}"
    np.testing.assert_array_equal(output(model, x), before)
    assert [id(v) for v in model.weights] == [id(v) for v in variables]

    pruner = Pruner(model)
    report = pruner.update(sparsity=0.5)
    assert (report.total, report.kept) == (total, total // 2)
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(x, np.zeros((3, 4)), verbose=0)
    assert_zeros_hold(model)

    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert_same_masks(masks_of(loaded), masks_of(model))
    np.testing.assert_array_equal(output(loaded, x), output(model, x))
    stripped = strip_pruning(model)
    assert type(stripped.layers[0]) is plain
    assert_plain(stripped)
    np.testing.assert_array_equal(output(stripped, x), output(model, x))


def test_own_prunable_classes_construct():
    assert tuple(inspect.signature(PrunableMix).parameters) == ("units", "kwargs")
    layer = PrunableMix(3)
    assert tuple(layer.pruning_masks.masks) == ("mix",)  # at once, as its weights
    layer(np.ones((1, 3)))
    Pruner(layer).update(sparsity=0.5)
    assert np.count_nonzero(layer.mix.numpy()) == 4
    assert layer.shift.numpy().all()
    scale = PrunableStretch()
    scale(np.ones((1, 3)))
    assert tuple(scale.pruning_masks.masks) == ("my_kernel",)


def test_strip_layers_of_a_package_whose_name_starts_like_keras():
    class Odd(layers.Dense):
        __module__ = "keras_zoo.layers"

    model = make_prunable(keras.Sequential([keras.Input((4,)), Odd(3)]))
    assert type(strip_pruning(model).layers[0]) is Odd


def test_register_prunable_twice():
    assert register_prunable(Stretch, ["my_kernel"]) is PrunableStretch
    assert register_prunable(Stretch, ("my_kernel",)) is PrunableStretch


def test_register_prunable_of_a_class_that_is_defined_again():
    def cell():
        class Again(Stretch):
            pass

        return Again

    first, second = cell(), cell()
    register_prunable(first, ["my_kernel"])
    prunable = register_prunable(second, ["my_kernel"])
    assert prunable.plain_class is second


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: register_prunable(int, ["x"]), ArgumentTypeError, "must be a subclass of"),
        (
            lambda: register_prunable(Stretch(), ["x"]),
            ArgumentTypeError,
            r"must be a class\. Received: a layer, .* Pass its class, Stretch",
        ),
        (
            lambda: register_prunable(Stretch, "my_kernel"),
            InvalidArgumentError,
            r"non-empty list of attribute names, .* Received: 'my_kernel'",
        ),
        *[
            (lambda c=c, n=n: register_prunable(c, n), error, text)
            for c, n, error, text in [
                (layers.Dense, ["nope"], InvalidArgumentError, r"Dense sets\. Received: 'nope'"),
                (layers.Dense, ["nokernel"], InvalidArgumentError, r"Did you mean 'kernel'\?"),
                (layers.Dense, ["units"], InvalidArgumentError, r"must include 'kernel'"),
                (layers.LSTM, ["cell.kernel"], InvalidArgumentError, r"'cell.recurrent_kernel'"),
                (layers.MultiHeadAttention, ["kernel"], InvalidArgumentError, r"'kernel'"),
                (Stretch, ["self.my_kernel"], InvalidArgumentError, r"methods set: my_kernel"),
                (Stretch, [""], InvalidArgumentError, r"Received: \[''\]"),
                (Stretch, ["my_kernel"] * 2, InvalidArgumentError, r"given once"),
                (Stretch, ["my_kernel", 1], ArgumentTypeError, r"Received: 1 \(of type int"),
                (Stretch, None, ArgumentTypeError, r"Received: None"),
                (Stretch, {"my_kernel": 1}, ArgumentTypeError, r"non-empty list"),
                (layers.Layer, ["kernel"], InvalidArgumentError, r"base of all layers"),
                (keras.Sequential, ["kernel"], InvalidArgumentError, r"Sequential, a model"),
                (kgp.PrunableDense, ["kernel"], InvalidArgumentError, r"Pass Dense itself"),
            ]
        ],
        (lambda: register_prunable(Stretch, []), InvalidArgumentError, r"Received: \[\]"),
        (
            lambda: register_prunable(type("Dense", (Stretch,), {}), ["my_kernel"]),
            InvalidArgumentError,
            r"named 'Dense' is registered already .* rename one",
        ),
    ],
)
def test_register_prunable_errors(make, error, text):
    before = dict(PRUNABLE_CLASSES)
    with pytest.raises(error, match=text):
        make()
    assert before == PRUNABLE_CLASSES


def test_names_that_a_class_may_get_later_are_accepted():
    class Base(layers.Layer):
        def call(self, x):
            return x @ self.w

    class Dynamic(layers.Layer):
        def build(self, shape):
            for i in range(2):
                setattr(self, f"w{i}", self.add_weight(shape=(4, 4)))

    assert register_prunable(Base, ["w"]).pruned_weight_names == ("w",)
    assert register_prunable(Dynamic, ["w0", "w1"]).pruned_weight_names == ("w0", "w1")


def test_a_subclass_of_a_layer_without_kernels_is_no_candidate():
    class OwnNorm(layers.BatchNormalization):
        pass

    model = make_prunable(keras.Sequential([keras.Input((4,)), layers.Dense(3), OwnNorm()]))
    assert type(model.layers[1]) is OwnNorm
    assert holders(model) == [model.layers[1]]
    assert add_masks(model.layers[1], ["gamma"])
    assert tuple(model.layers[1].pruning_masks.masks) == ("gamma",)


def test_registered_weight_that_does_not_exist():
    class Wrong(Stretch):
        def __init__(self):
            super().__init__()
            self.kernel = None

    register_prunable(Wrong, ["kernel"])
    model = keras.Sequential([keras.Input((4,)), Wrong()])
    with pytest.raises(
        UnsupportedLayerError, match=r"Wrong '.*' has no weight `kernel`\. Pass the names"
    ):
        make_prunable(model)
    assert type(model.layers[0]) is Wrong  # left as it was


# --- what cannot be pruned -----------------------------------------------------------------------


def quantized(layer, *, shape):
    x = keras.Input(shape)
    model = keras.Model(x, layer(x, x) if "Attention" in type(layer).__name__ else layer(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras names every layer that it leaves alone
        model.quantize("int8")
    return model


def with_lora(layer, *, shape, part=None):
    x = keras.Input(shape)
    model = keras.Model(x, layer(x, x) if "Attention" in type(layer).__name__ else layer(x))
    (getattr(layer, part) if part else layer).enable_lora(2)
    return model


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: quantized(layers.Dense(4), shape=(4,)), id="int8_dense"),
        pytest.param(
            lambda: quantized(layers.Embedding(9, 4), shape=(4,)), id="int8_embedding", marks=full
        ),
        pytest.param(
            lambda: quantized(layers.MultiHeadAttention(2, 3), shape=(4, 6)),
            id="int8_attention",
            marks=full,
        ),
        pytest.param(lambda: with_lora(layers.Dense(4), shape=(4,)), id="lora"),
        pytest.param(
            lambda: with_lora(layers.Conv2D(4, 3), shape=(5, 5, 2)), id="lora_conv", marks=full
        ),
        pytest.param(
            lambda: with_lora(layers.MultiHeadAttention(2, 3), shape=(4, 6), part="_value_dense"),
            id="lora_attention",
        ),
    ],
)
def test_computed_kernels_are_refused(make):
    model = make()
    with pytest.raises(UnsupportedLayerError, match=r"is quantized or has LoRA.* Prune first, or"):
        make_prunable(model)
    assert not any(isinstance(layer, PrunableLayer) for _, layer in walk(model))


def test_quantized_layer_out_of_scope():
    model = sequential()
    model.layers[0].enable_lora(2)
    make_prunable(model, scope=model.layers[-1])
    assert [type(layer).__qualname__ for _, layer in prunable_layers(model)] == ["PrunableDense"]


class Unbuilt(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.Sequential([layers.Dense(3)]),
        lambda: keras.Sequential(),
        lambda: Unbuilt(),
        lambda: layers.Dense(3),
        lambda: kgp.PrunableDense(3),
    ],
    ids=["sequential", "empty", "subclassed", "layer", "prunable"],
)
def test_unbuilt(make):
    text = r"must be built before it is pruned.* `model\.build\(input_shape\)`, first"
    with pytest.raises(UnbuiltModelError, match=text):
        make_prunable(make())
    with pytest.raises(ValueError, match=text):
        make_prunable(make())


def test_subclassed_model_built_by_its_first_batch():
    model = Unbuilt()
    model(np.ones((1, 4)))
    make_prunable(model)
    assert len(masked_weights(model)) == 1


def test_tf_keras_model():
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
    with pytest.raises(ArgumentTypeError, match=r"Keras 2 object \(tf_keras\)\. Build the model"):
        make_prunable(model)


@pytest.mark.parametrize("thing", [None, 3, "model", [layers.Dense(1)], layers.Dense])
def test_not_a_model(thing):
    with pytest.raises(ArgumentTypeError, match="must be a Keras 3 model or layer"):
        make_prunable(thing)


def test_nothing_prunable():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(), layers.ReLU()])
    with pytest.raises(
        UnsupportedLayerError, match=r"no layer that can be pruned.* Conv2DTranspose"
    ):
        make_prunable(model)


@pytest.mark.parametrize("scope", ["tail", layers.LSTM, lambda layer: False])
def test_scope_that_matches_nothing(scope):
    model = sequential()
    with pytest.raises(InvalidArgumentError, match=r"Unknown layer|at least one prunable layer"):
        make_prunable(model, scope)
    assert not any(isinstance(layer, PrunableLayer) for _, layer in walk(model))


def test_one_bad_layer_leaves_all_plain():
    model = sequential()
    model.layers[-1].enable_lora(1)
    with pytest.raises(UnsupportedLayerError, match="LoRA"):
        make_prunable(model)
    assert type(model.layers[0]) is layers.Dense


def test_masks_of_another_shape_are_refused(tmp_path):
    def model(units):
        return make_prunable(keras.Sequential([keras.Input((4,)), layers.Dense(units, name="d")]))

    small, large = model(5), model(6)
    Pruner(small).update(sparsity=0.5)
    small.save_weights(tmp_path / "m.weights.h5")
    before = large.get_weights()
    with pytest.raises(ValueError, match=r"could not be loaded|shape"):
        large.load_weights(tmp_path / "m.weights.h5")
    with pytest.warns(UserWarning, match="could not be loaded"):
        large.load_weights(tmp_path / "m.weights.h5", skip_mismatch=True)
    assert masks_of(large)["d/kernel"].all()  # and not the bits of a tensor of another shape
    assert same(large.get_weights(), before)


# --- constraints ---------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
class Clip(keras.constraints.Constraint):
    """The weight clipping of a WGAN, away from zero at that: it would move pruned entries."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def __call__(self, w):
        return keras.ops.clip(w, self.low, self.high)

    def get_config(self):
        return {"low": self.low, "high": self.high}


@pytest.mark.parametrize("low", [-0.02, 0.001])
def test_clipping_is_kept(low, tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, kernel_constraint=Clip(low, 0.02))]
    )
    make_prunable(model)
    Pruner(model).update(sparsity=0.5)
    model.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    model.fit(np.ones((4, 4)), np.ones((4, 5)), verbose=0)
    assert_zeros_hold(model)
    kernel = model.layers[0].kernel.numpy()
    kept = kernel[masks_of(model)[f"{model.layers[0].name}/kernel"]]
    assert kept.min() >= np.float32(low)
    assert kept.max() == np.float32(0.02)  # the step was large: the clipping worked

    model.save(tmp_path / "m.keras")
    for again in (keras.saving.load_model(tmp_path / "m.keras"), strip_pruning(model)):
        constraint = again.layers[0].kernel_constraint
        assert type(constraint) is Clip
        assert constraint.get_config() == {"low": low, "high": 0.02}
    assert type(strip_pruning(model).layers[0].kernel.constraint) is Clip


def test_unit_norm_is_taken_over_the_kept_weights():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, kernel_constraint="unit_norm")])
    pruner = Pruner(model)
    model.layers[0].kernel.assign(np.random.default_rng(0).uniform(1, 2, (6, 5)))
    pruner.update(sparsity=0.5)
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(np.ones((4, 6)), np.ones((4, 5)), verbose=0)
    assert_zeros_hold(model)
    kernel, mask = model.layers[0].kernel.numpy(), pruner.weights[0].mask.numpy()
    norms = np.linalg.norm(kernel, axis=0)[mask.any(axis=0)]
    np.testing.assert_allclose(norms, 1.0, rtol=1e-5)


def test_bias_constraint_is_left_alone():
    layer = layers.Dense(2, bias_constraint="non_neg")
    layer.build((None, 2))
    make_prunable(layer)
    assert isinstance(layer.bias.constraint, keras.constraints.NonNeg)


# --- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_copies_of_a_model(duplicate):
    model = make_prunable(sequential())
    Pruner(model).update(sparsity=0.5)
    twin = duplicate(model)
    assert_same_masks(masks_of(twin), masks_of(model))
    assert same(twin.get_weights(), model.get_weights())
    before = model.get_weights()
    twin.compile("sgd", "mse", run_eagerly=True)
    twin.fit(np.ones((2, 4)), np.ones((2, 3)), verbose=0)
    assert_zeros_hold(twin)
    Pruner(twin).update(sparsity=0.9)
    assert same(model.get_weights(), before)  # nothing is shared
    assert sparsity_report(model).kept == 10 + 8


def test_deepcopy_of_a_layer():
    layer = make_prunable(sequential()).layers[0]
    Pruner(layer).update(sparsity=0.5)
    twin = copy.deepcopy(layer)
    store = twin.pruning_masks
    assert store is not layer.pruning_masks
    assert store.weights_by_name["kernel"] is twin._kernel
    assert twin._kernel.constraint.mask is store.masks["kernel"]
    np.testing.assert_array_equal(store.masks["kernel"], layer.pruning_masks.masks["kernel"])


def test_clone_model_starts_anew():
    model = make_prunable(sequential())
    Pruner(model).update(sparsity=0.5)
    twin = keras.models.clone_model(model)
    assert type(twin.layers[0]) is kgp.PrunableDense
    assert sparsity_report(twin).sparsity == 0.0


@pytest.mark.parametrize("target_is_prunable", [False, True])
def test_copy_masks(target_is_prunable):
    source, target = sequential(), sequential()
    Pruner(source).update(sparsity=0.6)
    if target_is_prunable:
        make_prunable(target)
    dense = target.get_weights()
    copy_masks(source, target)
    wanted = list(masks_of(source).values())
    for mask, own in zip(masks_of(target).values(), wanted, strict=True):
        np.testing.assert_array_equal(mask, own)
    assert_zeros_hold(target)
    kernels = [w for w in dense if w.ndim == 2]
    for before, weight, mask in zip(kernels, masked_weights(target), wanted, strict=True):
        np.testing.assert_array_equal(weight.variable.numpy(), np.where(mask, before, 0))
    # From here on each has its own.
    Pruner(source).update(sparsity=0.9)
    assert sparsity_report(target).kept == sum(m.sum() for m in wanted)


def test_copy_masks_of_a_part():
    source, target = sequential(), sequential()
    Pruner(source, scope=source.layers[-1]).update(sparsity=0.6)
    copy_masks(source, target)
    assert type(target.layers[0]) is layers.Dense
    assert len(masked_weights(target)) == 1


def test_copy_masks_errors():
    with pytest.raises(InvalidArgumentError, match="must have the same weight shapes"):
        copy_masks(make_prunable(sequential()), functional())
    with pytest.raises(InvalidArgumentError, match="has no masks to copy"):
        copy_masks(sequential(), sequential())


# --- what goes past the optimizer ----------------------------------------------------------------


def test_apply_masks_after_values_were_written_past_keras():
    model = make_prunable(sequential())
    dense = model.get_weights()
    Pruner(model).update(sparsity=0.5)
    pruned = model.get_weights()
    write_past_keras(model, dense)
    assert same(model.get_weights(), dense)
    apply_masks(model)
    assert same(model.get_weights(), pruned)


def test_weights_of_pairs_line_up():
    # What GAN code does with an averaged copy.
    generator, average = make_prunable(sequential()), sequential()
    Pruner(generator).update(sparsity=0.5)
    assert len(generator.weights) == len(average.weights)
    average.set_weights(generator.get_weights())
    for own, copied in zip(generator.weights, average.weights, strict=True):
        copied.assign(0.9 * copied + 0.1 * own)
    assert same([w.shape for w in average.weights], [w.shape for w in generator.weights])


def test_dense_file_loads_into_a_pruned_model_and_is_masked(tmp_path):
    plain, model = sequential(), make_prunable(sequential())
    Pruner(model).update(sparsity=0.5)
    masks = masks_of(model)
    plain.save_weights(tmp_path / "m.weights.h5")
    model.load_weights(tmp_path / "m.weights.h5")
    assert_same_masks(masks_of(model), masks)
    assert_zeros_hold(model)
    kept = [w.variable.numpy()[w.mask.numpy()] for w in masked_weights(model)]
    theirs = [w for w in plain.get_weights() if w.ndim == 2]
    for own, other, mask in zip(kept, theirs, masks.values(), strict=True):
        np.testing.assert_array_equal(own, other[mask])


def test_strip_writes_the_masks_into_the_weights_first():
    model = make_prunable(sequential())
    dense = model.get_weights()
    Pruner(model).update(sparsity=0.5)
    write_past_keras(model, dense)
    with pytest.warns(PruningWarning, match="had values under the mask, which are set to zero now"):
        stripped = strip_pruning(model)
    assert [np.count_nonzero(w) for w in stripped.get_weights() if w.ndim == 2] == [10, 8]


def test_strip_of_a_model_that_cannot_be_rebuilt():
    class NoConfig(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.dense = layers.Dense(units)

        def call(self, x):
            return self.dense(x)

    model = NoConfig(3)
    model(np.ones((1, 4)))
    make_prunable(model)
    with pytest.raises(
        UnsupportedLayerError,
        match=r"'no_config.*' \(NoConfig\) cannot be rebuilt .* no `get_config` .* copy=False",
    ):
        strip_pruning(model)
    assert type(model.dense) is kgp.PrunableDense  # classes are back in place


def test_strip_of_a_plain_model_is_a_copy():
    model = sequential()
    twin = strip_pruning(model)
    assert twin is not model
    assert same(twin.get_weights(), model.get_weights())
    assert_plain(twin)


def test_freezing_keeps_masks():
    model = make_prunable(sequential())
    Pruner(model).update(sparsity=0.5)
    model.layers[0].trainable = False
    assert len(masked_weights(model)) == 2
    assert len(model.trainable_variables) == 2
    assert_zeros_hold(model)


@full
def test_masks_under_a_distribution_strategy():
    strategy = nets.both_replicas()
    with strategy.scope():
        model = sequential()
        model.compile("sgd", "mse")
    pruner = Pruner(model)
    pruner.update(sparsity=0.5)
    x, y = np.ones((8, 4), "float32"), np.ones((8, 3), "float32")
    model.fit(x, y, batch_size=4, verbose=0)
    assert_zeros_hold(model)
    pruner.update(sparsity=0.75)
    model.fit(x, y, batch_size=4, verbose=0)
    assert sparsity_report(model).kept == 5 + 4
    for weight in pruner.weights:
        values = [np.asarray(v) for v in strategy.experimental_local_results(weight.variable.value)]
        assert len(values) == 2
        np.testing.assert_array_equal(values[0], values[1])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(nets.BuiltByFit, id="subclassed", marks=full),
        pytest.param(
            lambda: keras.Sequential([kgp.PrunableDense(8), kgp.PrunableDense(3)]), id="sequential"
        ),
    ],
)
def test_layers_that_fit_builds_have_masks(make):
    # Keras builds them in a scope where no variable has a value yet, and hides errors there.
    model = make()
    model.compile("adam", "mse")
    model.fit(np.ones((4, 5), "float32"), np.ones((4, 3), "float32"), verbose=0)
    assert [tuple(w.mask.shape) for w in kgp.masked_weights(model)] == [(5, 8), (8, 3)]
    assert all(np.all(w.mask) for w in kgp.masked_weights(model))
