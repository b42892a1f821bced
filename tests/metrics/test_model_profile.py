"""Profiles and comparisons: tables by hand, models that cannot be traced, latencies."""

import copy
import dataclasses
import math
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from architectures import ARCHITECTURES
from keras import layers, ops

from keras_ganprune import GANModel, Pruner, export_saved_model, make_prunable
from keras_ganprune.callbacks.shrink_event import ShrinkEvent
from keras_ganprune.errors import (
    ArgumentTypeError,
    FileFormatError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers.prunable import PrunableLayer
from keras_ganprune.metrics import (
    Profile,
    ProfileRow,
    compare,
    compare_models,
    latency,
    measure_latency,
    profile,
)
from keras_ganprune.pruning.structured import channel_groups
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.counted_macs import CountedMacs
from keras_ganprune.reports.run._measurements import sizes_of
from keras_ganprune.utils import tables
from keras_ganprune.utils.files import folder_bytes


def generator(channels=6, name="generator"):
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(16 * channels, use_bias=False, name="stem"),
            layers.Reshape((4, 4, channels), name="reshape"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2DTranspose(2, 4, strides=2, padding="same", name="image"),
        ],
        name=name,
    )


def positive(times):
    return all(isinstance(t, float) and t > 0 and math.isfinite(t) for t in times)


# --- one network -------------------------------------------------------------------------------------


def test_rows_by_hand():
    found = profile(generator(), latency=False)
    # A fresh norm has zeros in beta and the moving mean; the image layer has zeros in its bias.
    assert list(found) == [
        ProfileRow("stem", "Dense", (None, 96), 480, 480, 480),
        ProfileRow("reshape", "Reshape", (None, 4, 4, 6), 0, 0, 0),
        ProfileRow("norm", "BatchNormalization", (None, 4, 4, 6), 24, 12, 0),
        ProfileRow("image", "Conv2DTranspose", (None, 8, 8, 2), 194, 192, 16 * 16 * 6 * 2),
    ]
    assert (found.parameters, found.nonzero, found.macs) == (698, 684, 3552)
    assert (found.bytes, found.uncounted, len(found)) == (4 * 698, (), 4)
    assert (found.latency, found.saved_bytes, found.saved_latency) == ({}, None, {})
    assert found.to_dicts()[0] == {
        "layer": "stem",
        "kind": "Dense",
        "shape": (None, 96),
        "parameters": 480,
        "nonzero": 480,
        "macs": 480,
    }


def test_text():
    found = dataclasses.replace(
        profile(generator(), latency=False),
        latency={1: 1.23456, 16: 20.0},
        saved_bytes=12345,
        saved_latency={1: 0.5},
    )
    assert str(found).splitlines() == [
        "layer    class               output  parameters  not zero   MACs",
        "────────────────────────────────────────────────────────────────",
        "stem     Dense               96             480       480    480",
        "reshape  Reshape             4×4×6            0         0      0",
        "norm     BatchNormalization  4×4×6           24        12      0",
        "image    Conv2DTranspose     8×8×2          194       192  3,072",
        "────────────────────────────────────────────────────────────────",
        "total                                       698       684  3,552",
        "weights: 2,792 bytes; batch of 1: 1.23 ms; batch of 16: 20 ms",
        "SavedModel: 12,345 bytes; batch of 1: 0.5 ms",
    ]
    assert repr(found) == str(found)
    lines = found.to_markdown().splitlines()
    assert lines[:3] == [
        "| layer | class | output | parameters | not zero | MACs |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| stem | Dense | 96 | 480 | 480 | 480 |",
    ]
    assert lines[-3:] == [
        "",
        "- weights: 2,792 bytes; batch of 1: 1.23 ms; batch of 16: 20 ms",
        "- SavedModel: 12,345 bytes; batch of 1: 0.5 ms",
    ]


def test_masks():
    model = generator()
    Pruner(model, scope="image").update(sparsity=0.5)
    found = profile(model, latency=False)
    row = list(found)[3]
    # A masked kernel is multiplied all the same.
    assert (row.kind, row.parameters, row.nonzero, row.macs) == ("Conv2DTranspose", 194, 96, 3072)
    assert isinstance(model.get_layer("image"), PrunableLayer)


@pytest.mark.parametrize(
    "name",
    [
        "subclassed_generator",
        pytest.param("unet_pix2pix", marks=pytest.mark.full),
        pytest.param("adain_generator", marks=pytest.mark.full),
    ],
)
def test_same_as_costs(name):
    model = ARCHITECTURES[name]()
    found, costs = profile(model, latency=False), Costs(channel_groups(model))
    assert (found.macs, found.parameters, found.bytes) == (
        costs.macs(),
        costs.parameters(),
        costs.bytes(),
    )
    assert found.parameters == model.count_params()
    assert found.uncounted == ()


def test_shared_weights_are_counted_once():
    shared = layers.Dense(4, name="shared")
    x = keras.Input((4,))
    model = keras.Model(x, shared(shared(x)))
    found = profile(model, latency=False)
    assert [(r.layer, r.parameters, r.macs) for r in found if r.parameters] == [("shared", 20, 32)]


def test_products_of_tensors_have_a_row():
    x = keras.Input((6, 3))
    model = keras.Model(x, ops.matmul(x, ops.transpose(x, (0, 2, 1))))
    found = profile(model, latency=False)
    assert [(row.kind, row.shape, row.macs) for row in found] == [("Matmul", (None, 6, 6), 108)]


# --- models that cannot be traced -------------------------------------------------------------------------


class Scaled(layers.Layer):
    """A layer with a kernel and an operation that cannot be called on Keras symbols."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")

    def call(self, x):
        return tf.linalg.matmul(x, self.w)


class TensorFlowNet(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.first = layers.Dense(8, name="first")
        self.wrapped = layers.SpectralNormalization(layers.Dense(8, name="inner"), name="wrapped")
        self.scaled = Scaled(name="scaled")

    def call(self, x, training=None):
        x = tf.nn.relu(self.first(x))
        return self.scaled(self.wrapped(tf.concat([x, x], -1), training=training))


def test_a_layer_that_is_not_known():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, name="dense"), Scaled(name="scaled")]
    )
    found = profile(model, batch_sizes=2, repeats=2)
    assert [(r.layer, r.shape, r.parameters, r.macs) for r in found] == [
        ("dense", (None, 5), 25, 20),
        ("scaled", (None, 3), 15, None),
    ]
    assert (found.parameters, found.macs, found.uncounted) == (40, 20, ("scaled",))
    assert "not counted" in str(found).splitlines()[3]
    text = "MACs: 20 + MACs of 1 layer that is not counted: 'scaled' (Scaled). Register a rule"
    assert f"\n{text}" in str(found) and f"- {text}" in found.to_markdown()
    assert str(found).splitlines()[-3].endswith("20 + ?")
    assert positive(found.latency.values())


def test_a_model_that_cannot_be_traced():
    model = TensorFlowNet()
    model(np.ones((2, 5), dtype="float32"))
    with pytest.raises(UnsupportedLayerError):
        channel_groups(model)
    found = profile(model, batch_sizes=(3,), repeats=2)
    assert [(r.layer, r.shape, r.parameters, r.macs) for r in found] == [
        ("first", (1, 8), 48, 40),
        ("wrapped", (1, 8), 16 * 8 + 8 + 8, 16 * 8),
        ("scaled", (1, 3), 24, None),
    ]
    assert found.parameters == model.count_params()
    assert list(found.latency) == [3] and positive(found.latency.values())
    # The layers are what they were.
    assert all("call" not in vars(layer) for layer in model._flatten_layers())


def test_weights_between_the_layers_are_not_counted():
    class Own(TensorFlowNet):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(3, 3), name="kernel")
            super().build(shape)

        def call(self, x, training=None):
            return tf.linalg.matmul(super().call(x, training), self.kernel)

    model = Own()
    model(np.ones((2, 5), dtype="float32"))
    found = profile(model, latency=False)
    assert found.parameters == model.count_params()
    assert found.uncounted == ("scaled", "net")
    assert "–" in str(found)


def test_several_inputs_of_a_subclassed_model():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.embed = layers.Dense(4), layers.Embedding(10, 4)

        def call(self, inputs):
            return self.dense(inputs[0]) * self.embed(inputs[1])

    model = Two()
    model([np.ones((2, 3), "float32"), np.ones((2,), "int32")])
    symbols = [keras.Input((3,)), keras.Input((), dtype="int32")]
    found = profile(model, batch_sizes=(2,), repeats=2, inputs=symbols)
    assert (found.macs, found.parameters) == (12, 16 + 40)
    assert positive(found.latency.values())


def test_unknown_sizes():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="conv")])
    found = profile(model, latency=False)
    assert (found.parameters, found.uncounted) == (112, ("conv",))
    assert "?×?×4" in str(found)
    with pytest.raises(
        InvalidArgumentError, match=r"(?s)all input sizes are known.*clone_model.*latency=False"
    ):
        profile(model)


# --- time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "dcgan_generator",
        pytest.param("cgan_concat_generator", marks=pytest.mark.full),
        pytest.param("text_generator", marks=pytest.mark.full),
    ],
)
def test_latency(name):
    model = ARCHITECTURES[name]()
    before = [np.array(w) for w in model.get_weights()]
    found = profile(model, batch_sizes=(1, 4), repeats=2)
    assert list(found.latency) == [1, 4]
    assert positive(found.latency.values())
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_saved_models(tmp_path):
    model = make_prunable(generator())
    export_saved_model(model, tmp_path / "saved")
    found = profile(model, batch_sizes=(1, 2), saved_model=tmp_path / "saved", repeats=2)
    assert found.saved_bytes == folder_bytes(tmp_path / "saved")
    assert list(found.saved_latency) == [1, 2]
    assert positive([*found.latency.values(), *found.saved_latency.values()])
    function = measure_latency.served(tmp_path / "saved")
    x = np.random.default_rng(0).standard_normal((3, 5)).astype("float32")
    np.testing.assert_allclose(function(tf.constant(x)), model(x), atol=1e-5)
    found = profile(model, saved_model=str(tmp_path / "saved"), latency=False)
    assert found.saved_bytes and not found.saved_latency


@pytest.mark.full
def test_saved_model_with_two_inputs(tmp_path):
    model = ARCHITECTURES["cgan_multiply_generator"]()
    export_saved_model(model, tmp_path / "saved")
    found = profile(model, batch_sizes=(2,), saved_model=tmp_path / "saved", repeats=2)
    assert positive(found.saved_latency.values())


def test_medians_in_turn():
    order = []

    def slow(name, pauses):
        def function(inputs):
            assert inputs == "x"
            order.append(name)
            time.sleep(pauses.pop(0))

        return function

    a, b = slow("a", [0, 0.05, 0.002, 0.002]), slow("b", [0, 0.03, 0.03, 0.03])
    found = latency({"a": a, "b": b}, "x", repeats=3, warmup=1)
    # One long pause of three is not the median.
    assert list(found) == ["a", "b"]
    assert positive(found.values())
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]


def test_slow_functions_are_timed_less_often_unless_a_number_is_asked_for(monkeypatch):
    now = 0.0

    def function(inputs):
        nonlocal now
        now += inputs
        calls.append(inputs)

    monkeypatch.setattr(measure_latency.time, "perf_counter", lambda: now)
    counts = []
    for seconds, repeats in ((0.01, None), (1.0, None), (60.0, None), (60.0, 7)):
        calls = []
        found = latency({"a": function}, seconds, repeats=repeats)
        assert found["a"] == pytest.approx(1000 * seconds)
        counts.append(len(calls))
    assert counts == [33, 6, 2, 10]


def test_compiled_gives_what_the_model_gives():
    model = ARCHITECTURES["acgan_discriminator"]()
    x = measure_latency.random_inputs(measure_latency.input_specs(model), 3)
    for a, b in zip(measure_latency.compiled(model)(x), model(x, training=False), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_fixed_batch():
    model = keras.Sequential([keras.Input((4,), batch_size=8), layers.Dense(2)])
    found = profile(model, batch_sizes=(8,), repeats=2)
    assert found.macs == 8 and positive(found.latency.values())
    with pytest.raises(
        InvalidArgumentError,
        match=r"batch size of 8.*must be \(8,\). Received: 1",
    ):
        profile(model)


# --- side by side ------------------------------------------------------------------------------------


def rows_of(parameters, nonzero, macs):
    return (ProfileRow("dense", "Dense", (None, 4), parameters, nonzero, macs),)


PROFILES = {
    "dense": Profile("net", rows_of(2000, 2000, 8000), 8000, {1: 2.0, 16: 8.0}, 10_000, {1: 1.0}),
    "masked": Profile("net", rows_of(2000, 500, 8000), 8000, {1: 2.0}, 10_000),
    "shrunk": Profile("net", rows_of(500, 500, 2000), 2000, {1: 1.0, 16: 2.0}, 4_000, {1: 0.25}),
}


def test_compare_text():
    found = compare(PROFILES)
    assert str(found).splitlines() == [
        "                            dense          masked         shrunk",
        "────────────────────────────────────────────────────────────────",
        "parameters                  2,000   2,000 (1.00×)    500 (0.25×)",
        "not zero                    2,000     500 (0.25×)    500 (0.25×)",
        "MACs                        8,000   8,000 (1.00×)  2,000 (0.25×)",
        "weight bytes                8,000   8,000 (1.00×)  2,000 (0.25×)",
        "SavedModel bytes           10,000  10,000 (1.00×)  4,000 (0.40×)",
        "ms, batch of 1                  2       2 (1.00×)      1 (0.50×)",
        "ms, batch of 16                 8               –      2 (0.25×)",
        "SavedModel ms, batch of 1       1               –   0.25 (0.25×)",
    ]
    assert repr(found) == str(found)
    assert found.to_markdown().splitlines()[:3] == [
        "|  | dense | masked | shrunk |",
        "| --- | ---: | ---: | ---: |",
        "| parameters | 2,000 | 2,000 (1.00×) | 500 (0.25×) |",
    ]


def test_compare_dicts():
    found = compare(PROFILES)
    assert found.to_dicts()[1] == {
        "quantity": "not zero",
        "dense": 2000,
        "masked": 500,
        "shrunk": 500,
        "masked / dense": 0.25,
        "shrunk / dense": 0.25,
    }
    assert found["ms, batch of 16"].values == (8.0, None, 2.0)
    assert found["ms, batch of 16"].ratios == (1.0, None, 0.25)
    assert len(list(found)) == 8
    with pytest.raises(InvalidArgumentError, match="Did you mean 'MACs'"):
        found["MAC"]


def test_compare_leaves_out_quantities_without_values():
    plain = Profile("net", rows_of(10, 10, None), 40)
    found = compare({"one": plain, "other": plain})
    assert [row.quantity for row in found] == ["parameters", "not zero", "MACs", "weight bytes"]
    note = "MACs are not counted for: 'dense' (Dense), in one, other"
    assert str(found).splitlines()[-1] == note
    assert note in found.to_markdown()
    assert found["MACs"].ratios == (None, None)
    assert found.to_dicts()[2]["not counted"] == {
        "one": "'dense' (Dense)",
        "other": "'dense' (Dense)",
    }


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(lambda p, event, table: f"{p.macs}", id="the number"),
        pytest.param(lambda p, event, table: f"{p.macs:,}", id="the number, formatted"),
        pytest.param(
            lambda p, event, table: repr(copy.deepcopy(p.macs)), id="a copy of the number"
        ),
        pytest.param(lambda p, event, table: str(p), id="profile"),
        pytest.param(lambda p, event, table: p.to_markdown(), id="profile in Markdown"),
        pytest.param(lambda p, event, table: str(table), id="table of two models"),
        pytest.param(lambda p, event, table: table.to_markdown(), id="table in Markdown"),
        pytest.param(lambda p, event, table: str(table.to_dicts()[2]), id="dict of the table"),
        pytest.param(lambda p, event, table: str(event), id="event of a cut"),
    ],
)
def test_macs_that_are_not_counted_are_named_wherever_macs_are_shown(show):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6), Scaled(name="scaled"), layers.Dense(2)], name="net"
    )
    found = profile(model, latency=False)
    assert (int(found.macs), found.macs.uncounted) == (4 * 6 + 3 * 2, (("scaled", "Scaled"),))
    table = compare({"before": found, "after": found})
    assert table["MACs"].ratios == (None, None)
    event = ShrinkEvent(
        1, "net", (6, 3), (50, 25), (found.macs, CountedMacs(15, found.macs.uncounted))
    )
    assert "'scaled' (Scaled)" in show(found, event, table)


def test_a_run_leaves_out_macs_that_are_not_all_counted():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5), Scaled(name="scaled")])
    found = profile(model, latency=False)
    with pytest.warns(PruningWarning, match=r"MACs of 'dense' are left out .*'scaled' \(Scaled\)"):
        sizes, _ = sizes_of({"dense": found})
    assert "macs" not in sizes["dense"]


@pytest.mark.full
def test_compare_models_and_saved_models(tmp_path):
    models = {"dense": generator(8), "shrunk": generator(2)}
    saved = {}
    for name, model in models.items():
        saved[name] = tmp_path / name
        export_saved_model(model, saved[name])
    found = compare_models(models, batch_sizes=(1, 2), saved_models=saved, repeats=2)
    assert found.names == ("dense", "shrunk")
    # 8 channels and 2: 5 * 16 c + 4 c + 32 c + 2 parameters, 5 * 16 c + 16 * 16 * 2 c MACs.
    assert found["parameters"].values == (930, 234)
    assert found["MACs"].values == (4736, 1184)
    assert found["MACs"].ratios == (1.0, 0.25)
    for row in list(found)[5:]:
        assert positive(row.values)
    assert [row.quantity for row in found][4:] == [
        "SavedModel bytes",
        "ms, batch of 1",
        "ms, batch of 2",
        "SavedModel ms, batch of 1",
        "SavedModel ms, batch of 2",
    ]


def test_compare_models():
    models = {"dense": generator(8), "shrunk": generator(2)}
    result = compare_models(models, batch_sizes=(2,), repeats=2)
    assert result["parameters"].values == (930, 234) and result["MACs"].ratios == (1.0, 0.25)
    assert [row.quantity for row in result][4:] == ["ms, batch of 2"]
    assert positive(result["ms, batch of 2"].values)


# --- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_sizes", [(), 0, (1, 0), (True,), (1.5,), "1"])
def test_batch_sizes(batch_sizes):
    with pytest.raises(InvalidArgumentError, match="`batch_sizes` must be positive ints"):
        profile(generator(), batch_sizes=batch_sizes)


@pytest.mark.parametrize(("name", "rule"), [("repeats", "positive"), ("warmup", "non-negative")])
def test_counts(name, rule):
    with pytest.raises(InvalidArgumentError, match=f"`{name}` must be a {rule} int"):
        latency({"a": len}, [], **{name: -1})
    with pytest.raises(InvalidArgumentError, match=f"`{name}`"):
        latency({"a": len}, [], **{name: 1.5})


def test_wrong_models():
    with pytest.raises(ArgumentTypeError, match="must be a Keras model"):
        profile(layers.Dense(3))
    with pytest.raises(UnbuiltModelError, match="must be built before"):
        profile(keras.Sequential([layers.Dense(3)]))
    gan = GANModel(ARCHITECTURES["mlp_generator"](), ARCHITECTURES["mlp_discriminator"](), 12)
    with pytest.raises(InvalidArgumentError, match=r"`GANModel` has two. Profile `gan.generator`"):
        profile(gan)


def test_wrong_folders(tmp_path):
    with pytest.raises(FileFormatError, match=r"no file saved_model\.pb"):
        profile(generator(), saved_model=tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(FileFormatError, match=r"has none\. Export the model again"):
        profile(generator(), saved_model=tmp_path / "other")


def test_wrong_comparisons():
    with pytest.raises(InvalidArgumentError, match="a dict of name -> `Profile`"):
        compare({})
    with pytest.raises(InvalidArgumentError, match="a dict of name -> `Profile`"):
        compare({"a": generator()})
    with pytest.raises(
        InvalidArgumentError, match=r"keys of `saved_models` must be names of models"
    ):
        compare_models({"a": generator()}, saved_models={"b": "."}, latency=False)
    other = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    with pytest.raises(
        InvalidArgumentError, match=r"must take the same inputs\. Received: 'a' takes"
    ):
        compare_models({"a": generator(), "b": other})


def test_tables():
    cells = [("a", "b"), ("x", "1"), ("total", "10")]
    assert tables.text(cells, total=True).splitlines() == [
        "a       b",
        "─────────",
        "x       1",
        "─────────",
        "total  10",
    ]
