"""`shrink`: on whole architectures, what it returns, what it leaves alone and what it refuses.

Every comparison is of the masked model with the smaller one. Batches are of 13: Keras adds (b, t, 1) and
(b, 1, 1) wrongly where b == t, so no other axis may be of that length.
"""

import contextlib
import json
import math
import re
import zipfile

import architectures
import keras
import numpy as np
import pytest
import tensorflow as tf
from architectures import APPLICATIONS, ARCHITECTURES, sample_inputs, shake, train_briefly
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.errors import (
    DivergedError,
    ExportError,
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.pruning.shrink_model import shrink_with_cuts
from keras_ganprune.pruning.structured.rebuild import Builder, assign
from keras_ganprune.pruning.structured.rules import registry

BATCH = 13
SPARSITIES = (0.3, 0.5, 0.8)
# LayerNormalization averages over all channels, so that all of them stay.
SHRINKABLE = [name for name in ARCHITECTURES if name != "wgan_gp_critic_layernorm"]


def _outputs(model, x):
    found = keras.tree.flatten(model(x, training=False))
    return [np.asarray(ops.convert_to_numpy(y), dtype=np.float64) for y in found]


def _assert_same(model, small, x, tolerance=1e-5, spread=1e-4):
    """Compare all outputs. Each must vary between samples by `spread` of its largest value."""
    expected, actual = _outputs(model, x), _outputs(small, x)
    assert [a.shape for a in actual] == [e.shape for e in expected]
    for e, a in zip(expected, actual, strict=True):
        scale = np.max(np.abs(e))
        assert np.max(np.abs(e - a)) <= tolerance * scale
        # An output that is the same for all inputs would prove nothing.
        assert np.max(np.ptp(e, axis=0)) > spread * scale


def _all_layers(model):
    return model._flatten_layers(include_self=True)


def _assert_plain(model):
    for layer in _all_layers(model):
        assert not type(layer).__module__.startswith("keras_ganprune"), layer
    assert not kgp.masked_weights(model)


def _count_left(model):
    """Return the number of parameters that the masks leave, counted from the groups."""
    gone = {}
    for group in kgp.channel_groups(model):
        maker = next(s for s in group.slices if s.weight.role == "out")
        mask = np.asarray(maker.weight.variable.constraint.mask)
        along = mask.any(axis=tuple(a for a in range(mask.ndim) if a != maker.weight.axis))
        kept = set(maker.units[along].tolist()) - {-1}
        for piece in group.slices:
            lost = sum(unit >= 0 and unit not in kept for unit in piece.units.tolist())
            key = id(piece.weight.variable), piece.weight.axis
            gone[key] = gone.get(key, 0) + lost
    return sum(
        math.prod(size - gone.get((id(w), axis), 0) for axis, size in enumerate(w.shape))
        for w in model.weights
    )


def _step(model, seed=0):
    rng = np.random.default_rng(seed)
    x = sample_inputs(model, seed=seed)
    targets = [rng.standard_normal(y.shape, dtype="float32") for y in _outputs(model, x)]
    return model.train_on_batch(x, targets)


def _compile(model):
    losses = ["mse"] * len(keras.tree.flatten(model.outputs))
    model.compile(keras.optimizers.SGD(1e-3), losses, run_eagerly=True, jit_compile=False)


def _assert_loads_anywhere(small, x, path):
    small.save(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    assert "keras_ganprune" not in json.dumps(config)
    loaded = keras.models.load_model(path)
    for expected, actual in zip(_outputs(small, x), _outputs(loaded, x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.max(np.abs(expected)))


def _assert_trains(small):
    _compile(small)
    before = [w.numpy() for w in small.trainable_variables]
    loss = _step(small)
    assert np.all(np.isfinite(loss))
    after = [w.numpy() for w in small.trainable_variables]
    assert any(np.any(a != b) for a, b in zip(before, after, strict=True))
    assert all(np.all(np.isfinite(a)) for a in after)


def _unmask(model, values):
    for weight in kgp.masked_weights(model):
        weight.mask.assign(np.ones(weight.mask.shape, bool))
    model.set_weights(values)


def _mlp(**first):
    """Return 5 -> 8 -> 6 -> 2, with weights that are nowhere zero."""
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, "tanh", name="a", **first),
            layers.Dense(6, "tanh", name="b"),
            layers.Dense(2, name="c"),
        ]
    )
    return _random_weights(model)


def _random_weights(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "variance" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif "float" in variable.dtype:
            variable.assign(rng.normal(0.1, 0.5, variable.shape))
    return model


def _noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal((BATCH, *shape), dtype="float32")


# --- whole architectures -------------------------------------------------------------------------


# One of each kind by default: transposed convolutions, a nested or subclassed network, several inputs.
FAST = ("dcgan_generator", "subclassed_discriminator", "cgan_concat_generator")


@pytest.mark.parametrize(
    "name",
    [n if n in FAST else pytest.param(n, marks=pytest.mark.full) for n in SHRINKABLE],
)
def test_architectures_shrink_to_what_the_masks_say(name, tmp_path):
    model = train_briefly(ARCHITECTURES[name]())
    x = sample_inputs(model, batch=BATCH, seed=5)
    shapes = [tuple(y.shape) for y in _outputs(model, x)]
    trained = model.get_weights()
    for criterion in (kgp.Random(seed=1), "magnitude"):
        pruner = kgp.Pruner(model, granularity="channel", criterion=criterion)
        size = model.count_params()
        for sparsity in SPARSITIES:
            pruner.update(sparsity=sparsity)
            if criterion == "magnitude" and sparsity == 0.5:
                _step(model)
            # Here the comparison of `verify` is repeated on other inputs, with a lower tolerance.
            small = kgp.shrink(model, verify=False)
            _assert_same(model, small, x)
            assert [y.shape for y in _outputs(small, x)] == shapes
            assert small.count_params() == _count_left(model) < size
            size = small.count_params()
            if sparsity == 0.8:
                _assert_plain(small)
        _unmask(model, trained)
    _assert_loads_anywhere(small, x, tmp_path / "small.keras")
    _assert_trains(small)


def test_a_critic_with_layer_normalization_keeps_all_channels():
    model = ARCHITECTURES["wgan_gp_critic_layernorm"]()
    reason = r"all channels stay, because 'layer_normalization\w*' \(LayerNormalization\) averages over all"
    with pytest.raises(InvalidArgumentError, match=rf"has nothing to prune:\n(.|\n)*{reason}"):
        kgp.Pruner(model, granularity="channel")
    with pytest.raises(
        InvalidArgumentError, match=rf"no channels that could be removed:\n.*{reason}"
    ):
        kgp.shrink(model, sparsity=0.5)


def _statistics_of_a_batch(model):
    """Give batch normalizations the statistics of the pruned network.

    With those of the dense one an output hardly depends on the input any more.
    """
    found = [x for x in _all_layers(model) if isinstance(x, layers.BatchNormalization)]
    momenta = [layer.momentum for layer in found]
    for layer in found:
        layer.momentum = 0.0
    model(sample_inputs(model, batch=64), training=True)
    for layer, momentum in zip(found, momenta, strict=True):
        layer.momentum = momentum


def _applications():
    for name in APPLICATIONS:
        for criterion in ("magnitude", "random"):
            for sparsity in SPARSITIES:
                yield name, criterion, sparsity


@pytest.fixture
def in_float64():
    policy = keras.config.dtype_policy().name
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


@pytest.mark.full
@pytest.mark.parametrize("name, criterion, sparsity", list(_applications()))
def test_applications_shrink_to_what_the_masks_say(name, criterion, sparsity, in_float64):
    # Shaken, not trained: after a few large steps, the outputs of such deep networks no longer depend
    # on their inputs. And without the softmax, which would hide the rest. In float32, fifty layers
    # make 1e-5 of rounding alone; in float64 it is 1e-14, so that nothing can hide behind it.
    model = APPLICATIONS[name]()
    model.layers[-1].activation = keras.activations.linear
    shake(model)
    kgp.Pruner(model, granularity="channel", criterion=criterion).update(sparsity=sparsity)
    _statistics_of_a_batch(model)
    small = kgp.shrink(model, verify=False)
    x = sample_inputs(model, batch=BATCH, seed=5)
    _assert_same(model, small, x, tolerance=1e-11, spread=0.1)
    assert small.count_params() == _count_left(model) < model.count_params()
    _assert_plain(small)


@pytest.mark.parametrize(
    "name",
    [
        "dcgan_generator",
        "sngan_discriminator",
        "acgan_discriminator",
        "subclassed_generator",
        "text_generator",
        "cgan_concat_generator",
    ],
)
@pytest.mark.full
def test_what_is_small_exports(name, tmp_path):
    model = shake(ARCHITECTURES[name]())
    small = kgp.shrink(model, sparsity=0.5)
    x = sample_inputs(model, batch=BATCH)
    kgp.export_saved_model(small, tmp_path / "small")
    loaded = tf.saved_model.load(str(tmp_path / "small"))
    # Converted as by `predict`: a SavedModel takes no NumPy arrays for inputs with names.
    served = loaded.serve(keras.tree.map_structure(tf.constant, x))
    for expected, actual in zip(_outputs(small, x), keras.tree.flatten(served), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    stored = next((tmp_path / "small" / "variables").glob("*.data*")).stat().st_size
    assert stored < 0.75 * 4 * model.count_params()


# --- the direct way ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "dcgan_generator",
        pytest.param("sngan_discriminator", marks=pytest.mark.full),
        pytest.param("adain_generator", marks=pytest.mark.full),
        pytest.param("subclassed_generator", marks=pytest.mark.full),
    ],
)
def test_the_direct_way_leaves_the_model_alone(name):
    model = shake(ARCHITECTURES[name]())
    x = sample_inputs(model, batch=BATCH)
    before = _outputs(model, x)
    values = model.get_weights()
    classes = [type(layer) for layer in _all_layers(model)]
    constraints = [w.constraint for w in model.trainable_variables]
    nodes = [len(layer._inbound_nodes) for layer in _all_layers(model)]

    result = shrink_with_cuts(model, sparsity=0.5)

    assert all(np.array_equal(a, b) for a, b in zip(values, model.get_weights(), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(before, _outputs(model, x), strict=True))
    assert [type(layer) for layer in _all_layers(model)] == classes
    assert [w.constraint for w in model.trainable_variables] == constraints
    assert [len(layer._inbound_nodes) for layer in _all_layers(model)] == nodes
    if isinstance(model, keras.Sequential):
        assert model.layers[0].output.shape[0] is None  # raises if the layer was called twice
    # And the same channels, masked by hand in the model itself, give the same outputs.
    for variable, masked in result.groups.masked_values(result.keeps).values():
        variable.assign(masked)
    _assert_same(model, result.model, x)


def test_the_direct_way_is_that_of_the_pruner():
    model = shake(ARCHITECTURES["dcgan_generator"]())
    small = kgp.shrink(
        model, sparsity=0.5, criterion="l2", granularity=kgp.Channel(aggregate="max")
    )
    pruner = kgp.Pruner(model, criterion="l2", granularity=kgp.Channel(aggregate="max"))
    pruner.update(sparsity=0.5)
    again = kgp.shrink(model)
    shapes = [w.shape for w in small.weights]
    assert shapes == [w.shape for w in again.weights]
    _assert_same(small, again, sample_inputs(model, batch=BATCH))


def test_a_sequential_model_stays_one_and_names_stay():
    model = shake(ARCHITECTURES["dcgan_generator"]())
    small = kgp.shrink(model, sparsity=0.5)
    assert type(small) is keras.Sequential
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert [type(layer) for layer in small.layers] == [type(layer) for layer in model.layers]
    assert small.name == model.name
    acgan = shake(ARCHITECTURES["acgan_discriminator"]())
    assert kgp.shrink(acgan, sparsity=0.5).output_names == acgan.output_names


def test_structures_and_settings_stay():
    z, w = keras.Input((5,), name="z"), keras.Input((4,), name="w")
    x = layers.Dense(8, kernel_constraint="non_neg", kernel_regularizer="l2", name="first")(z)
    frozen = layers.BatchNormalization(trainable=False, name="norm")
    y = layers.Dense(3, name="left")(frozen(x))
    model = keras.Model(
        {"z": z, "w": w}, {"out": y, "other": layers.Dense(2, name="right")(layers.Dense(6)(w))}
    )
    kgp.Pruner(_random_weights(model), granularity="channel").update(sparsity=0.5)
    small = kgp.shrink(model)
    arrays = {"z": _noise(5), "w": _noise(4)}
    assert set(small(arrays)) == {"out", "other"}
    _assert_same(model, small, arrays)
    first = small.get_layer("first")
    assert first.units == 4
    assert isinstance(first.kernel.constraint, keras.constraints.NonNeg)
    assert isinstance(first.kernel_regularizer, keras.regularizers.L2)
    assert not small.get_layer("norm").trainable
    assert sorted(small.output_names) == sorted(model.output_names)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        norm = layers.BatchNormalization()
        head = layers.Dense(2, dtype="float32")
        model = keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu"), norm, head])
    finally:
        keras.config.set_dtype_policy("float32")
    small = kgp.shrink(_random_weights(model), sparsity=0.5)
    assert [layer.dtype_policy.name for layer in small.layers] == ["mixed_float16"] * 2 + [
        "float32"
    ]
    assert {w.dtype for w in small.weights} == {"float32"}
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    _assert_same(model, small, _noise(5), tolerance=1e-2)  # half precision


# --- layers of one's own -------------------------------------------------------------------------


class OwnAdaIN(layers.Layer):
    """AdaIN with its own weights: a graph cannot see inside."""

    def build(self, input_shape):
        (*_, channels), (*_, width) = input_shape
        self.scale = self.add_weight(shape=(width, channels), name="scale")
        self.shift = self.add_weight(shape=(width, channels), name="shift")

    def call(self, inputs):
        x, w = inputs
        mean, variance = ops.moments(x, axes=(1, 2), keepdims=True)
        normal = (x - mean) / ops.sqrt(variance + 1e-5)
        scale, shift = (ops.matmul(w, k)[:, None, None, :] for k in (self.scale, self.shift))
        return (1 + scale) * normal + shift

    def compute_output_shape(self, input_shape):
        return input_shape[0]


def _with_own_adain():
    z = keras.Input((6,))
    w = layers.Dense(7, "tanh", name="style")(z)
    x = layers.Dense(4 * 4 * 8, name="stem")(z)
    x = OwnAdaIN(name="adain")([layers.Reshape((4, 4, 8))(x), w])
    x = layers.LeakyReLU()(x)
    return _random_weights(keras.Model(z, layers.Conv2D(3, 3, name="image")(x)))


def _own_adain_rule(layer, channels, inputs):
    x, w = inputs
    for name in ("scale", "shift"):
        channels.reads(layer, name, 0, w[-1])
        channels.along(layer, name, 1, x[-1])
    return x


@pytest.fixture
def rules(monkeypatch):
    """Let a test register rules; remove them afterwards."""
    monkeypatch.setattr(registry, "_LAYERS", dict(registry._LAYERS))


def test_a_layer_of_layers_needs_no_rule():
    model = shake(ARCHITECTURES["adain_generator"]())
    groups = repr(kgp.channel_groups(model))
    assert re.search(r"out   ada_in\w*/dense\w*/kernel axis 1", groups)
    small = kgp.shrink(model, sparsity=0.5)
    assert not any(isinstance(layer, architectures.AdaIN) for layer in _all_layers(small))


def test_a_layer_of_layers_with_a_rule_stays_one(rules):
    @kgp.register_rule(architectures.AdaIN)
    def adain(layer, channels, inputs):
        x, w = inputs
        for dense in (layer.to_scale, layer.to_shift):
            channels.reads(dense, "kernel", 0, w[-1])
            for name in ("kernel", "bias"):
                channels.along(dense, name, -1, x[-1])
        return x

    model = shake(ARCHITECTURES["adain_generator"]())
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    small = kgp.shrink(model)
    assert sum(isinstance(layer, architectures.AdaIN) for layer in _all_layers(small)) == 3
    assert small.count_params() == _count_left(model)
    _assert_same(model, small, sample_inputs(model, batch=BATCH))


def test_an_opaque_layer_is_named_with_what_helps():
    model = _with_own_adain()
    text = (
        r"Channels cannot be followed through OwnAdaIN 'adain': there is no rule for it\. Its inside is not "
        r"known either: it has weights of its own \(scale, shift\)\. Register one with "
        r"`register_rule\(OwnAdaIN\)`, or leave it alone with `keep=\['adain'\]`"
    )
    with pytest.raises(UnsupportedLayerError, match=text):
        kgp.shrink(model, sparsity=0.5)
    with pytest.raises(UnsupportedLayerError, match=rf"{text}.*Channel\(coupled=False\)"):
        kgp.Pruner(model, granularity="channel")


def test_an_opaque_layer_in_keep_is_a_barrier():
    z = keras.Input((6,))
    x = layers.Dense(8, "tanh", name="free")(z)
    x = layers.Dense(4 * 4 * 8, name="before")(x)
    x = OwnAdaIN(name="adain")([layers.Reshape((4, 4, 8))(x), z])
    x = layers.Conv2D(8, 3, name="behind")(x)
    model = _random_weights(keras.Model(z, layers.Conv2D(3, 1, name="image")(x)))
    groups = kgp.channel_groups(model, keep=OwnAdaIN)
    assert [group.name for group in groups] == ["free", "behind"]
    assert groups.stay["before"] == "'adain' is left as it is"
    for keep in ("adain", OwnAdaIN, [model.get_layer("adain")]):
        small = kgp.shrink(model, sparsity=0.5, keep=keep)
        assert [small.get_layer(n).count_params() for n in ("free", "before", "adain", "behind")] == [
            6 * 4 + 4, 4 * 128 + 128, 2 * 6 * 8, 9 * 8 * 4 + 4,
        ]  # fmt: skip
    pruner = kgp.Pruner(model, granularity="channel", scope=["free", "behind", "image"])
    pruner.update(sparsity=0.5)
    _assert_same(model, kgp.shrink(model, keep="adain"), _noise(6))


def test_an_opaque_layer_with_a_rule_shrinks(rules):
    kgp.register_rule(OwnAdaIN)(_own_adain_rule)
    model = _with_own_adain()
    small = kgp.shrink(model, sparsity=0.5)
    assert small.get_layer("adain").scale.shape == (4, 4)  # of 7 and 8
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    assert kgp.shrink(model).count_params() == _count_left(model)
    _assert_same(model, kgp.shrink(model), _noise(6))


def test_a_rule_that_forgets_a_weight_never_gives_a_wrong_model(rules):
    @kgp.register_rule(OwnAdaIN)
    def forgets_the_shift(layer, channels, inputs):
        x, w = inputs
        channels.reads(layer, "scale", 0, w[-1])
        channels.along(layer, "scale", 1, x[-1])
        channels.reads(layer, "shift", 0, w[-1])
        return x

    with pytest.raises(
        UnsupportedLayerError, match=r"OwnAdaIN 'adain' must have weights of the shapes"
    ):
        kgp.shrink(_with_own_adain(), sparsity=0.5)


class Mixes(layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=-1, keepdims=True)


def test_a_rule_that_hides_that_channels_mix_is_found_out(rules):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(8), Mixes(), layers.Dense(2)])
    _random_weights(model)
    kgp.register_rule(Mixes)(lambda layer, channels, x: x)
    with pytest.raises(ExportError, match="A rule of `register_rule` leaves something out"):
        kgp.shrink(model, sparsity=0.5)
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    with pytest.raises(ExportError, match="must give the outputs of the masked one"):
        kgp.shrink(model)
    registry._LAYERS.pop(Mixes)  # seen through, it is right
    assert "mean" in kgp.channel_groups(model).stay[model.layers[0].name]


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


def _scaled():
    return _random_weights(
        keras.Sequential(
            [
                keras.Input((5,)),
                layers.Dense(8, name="a"),
                Scale(name="scale"),
                layers.Dense(2, name="b"),
            ]
        )
    )


@pytest.mark.parametrize(
    "rule, error, text",
    [
        (
            lambda layer, c, x: c.along(layer, "gain", 0, x[-1]),
            UnsupportedLayerError,
            "A rule speaks of the weight `gain` of Scale 'scale', which has no such variable",
        ),
        (
            lambda layer, c, x: c.along(layer, "scale", 1, x[-1]),
            InvalidArgumentError,
            r"A rule speaks of axis 1 of `scale` of 'scale', which has the shape \(8,\)",
        ),
        (
            lambda layer, c, x: c.along(layer, "scale", 0, x[-1][:5]),
            InvalidArgumentError,
            r"axis 0 of 'scale/scale' \(of length 8\) runs along 5 channels",
        ),
        (
            lambda layer, c, x: x.along(c.shape, -1, x[-1][:5]),
            InvalidArgumentError,
            r"The rule of Scale returned 5 labels for an axis of length 8 of its output \(None, 8\)",
        ),
        (
            lambda layer, c, x: None,
            InvalidArgumentError,
            r"The rule of Scale must return the `Axes` of its output, of the shape \(None, 8\)\. Rec",
        ),
        (
            lambda layer, c, x: [x, x],
            InvalidArgumentError,
            r"must return one `Axes` for each of its 1 outputs\. Received: 2",
        ),
        (
            lambda layer, c, x: c.tie(x[-1], x[-1][:3]),
            InvalidArgumentError,
            "must be of one number. Received: 8 and 3 at 'scale'",
        ),
    ],
)
def test_wrong_rules(rules, rule, error, text):
    kgp.register_rule(Scale)(rule)
    with pytest.raises(error, match=text):
        kgp.channel_groups(_scaled())


def test_what_can_have_a_rule():
    with pytest.raises(UnsupportedLayerError, match=r"takes subclasses of `keras\.layers\.Layer`"):
        kgp.register_rule(OwnAdaIN())
    with pytest.raises(UnsupportedLayerError, match="Received none"):
        kgp.register_rule()


class OtherDense(layers.Dense):
    def call(self, inputs, training=None):
        return super().call(inputs) - ops.mean(super().call(inputs), axis=-1, keepdims=True)


class NamedDense(layers.Dense):
    """What it does is what Dense does."""


def test_a_subclass_follows_the_rule_unless_it_has_a_call():
    for cls, error in ((OtherDense, True), (NamedDense, False)):
        own = cls(8, name="own")
        stack = [keras.Input((5,)), layers.Dense(6), own, layers.Dense(2)]
        model = _random_weights(keras.Sequential(stack))
        raises = pytest.raises(UnsupportedLayerError, match=r"through OtherDense 'own'.*no rule")
        with raises if error else contextlib.nullcontext():
            small = kgp.shrink(model, sparsity=0.5)
            assert type(small.layers[1]) is NamedDense and small.layers[1].units == 4


class TrainsOtherwise(layers.Layer):
    """A dropout that is written by hand: in inference nothing of it can be seen."""

    def call(self, x, training=None):
        return x * 0.0 if training else x * 1.0


def test_what_a_layer_does_in_training_is_not_lost():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8), TrainsOtherwise(), layers.Dense(2)]
    )
    x = _noise(5)
    try:
        small = kgp.shrink(_random_weights(model), sparsity=0.5)
    except UnsupportedLayerError:
        return  # an error is as good
    assert np.ptp(np.asarray(small(x, training=True)), axis=0).max() == 0


class DrawsNoise(layers.Layer):
    """Noise injection as in StyleGAN."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal((1, *x.shape[1:3], 1), seed=self.seed_generator)


def test_noise_is_not_frozen():
    image = keras.Input((4, 4, 3))
    x = DrawsNoise()(layers.Conv2D(8, 1)(image))
    model = _random_weights(keras.Model(image, layers.Conv2D(2, 1)(x)))
    try:
        small = kgp.shrink(model, sparsity=0.5)
    except UnsupportedLayerError:
        return  # an error is as good
    ones = np.ones((1, 4, 4, 3), "float32")
    assert np.any(small(ones) != small(ones))


class PassesOn(layers.Layer):
    def call(self, x):
        return x


def test_a_layer_that_returns_its_input_is_seen_through():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(8), PassesOn(), layers.Dense(2)])
    assert kgp.shrink(_random_weights(model), sparsity=0.5).count_params() == 34


# --- kept layers ---------------------------------------------------------------------------------


def test_keep_by_name_class_and_list():
    model = _mlp()
    for keep, units in (
        ("a", [8, 3]),
        (["a", "b"], None),
        (layers.Dense, None),
        (model.layers[1], [4, 6]),
        ("*b", [4, 6]),
        (lambda layer: layer.name == "a", [8, 3]),
        ([], [4, 3]),
        (None, [4, 3]),
    ):
        if units is None:
            with pytest.raises(InvalidArgumentError, match="no channels that could be removed"):
                kgp.shrink(model, sparsity=0.5, keep=keep)
            continue
        small = kgp.shrink(model, sparsity=0.5, keep=keep)
        assert [layer.units for layer in small.layers] == [*units, 2]
    with pytest.raises(InvalidArgumentError, match=r"Unknown layer.*'aa'"):
        kgp.shrink(model, sparsity=0.5, keep="aa")


# --- sharing, nesting, inputs --------------------------------------------------------------------


def test_a_shared_layer_and_a_nested_model_are_cut_once():
    model = shake(ARCHITECTURES["nested_generator"]())
    kgp.Pruner(model, granularity="channel", criterion="random").update(sparsity=0.5)
    small = kgp.shrink(model)
    names = [layer.name for layer in small.layers]
    assert len(names) == len(set(names)) and not any(
        isinstance(x, keras.Model) for x in small.layers
    )
    twice = [layer for layer in small.layers if len(layer._inbound_nodes) == 2]
    assert sum(isinstance(layer, layers.Conv2D) for layer in twice) == 2  # those of `refine`
    _assert_same(model, small, sample_inputs(model, batch=BATCH))


@pytest.mark.parametrize("kind", ["reshape", "group_normalization"])
def test_a_shared_layer_without_weights_fits_each_of_its_calls(kind):
    noise = keras.Input((5,))
    if kind == "reshape":
        shared = layers.Reshape((2, 2, 8))
        a, b = (shared(layers.Dense(32)(noise)) for _ in range(2))
    else:
        shared = layers.GroupNormalization(4, scale=False, center=False)
        image = layers.Reshape((2, 2, 4))(layers.Dense(16)(noise))
        a, b = (shared(layers.Conv2D(8, 1)(image)) for _ in range(2))
    heads = [layers.Conv2D(2, 1)(x) for x in (a, b)]
    model = _random_weights(keras.Model(noise, heads))
    groups = kgp.channel_groups(model)
    keeps = [np.ones(group.size, dtype=bool) for group in groups]
    keeps[-2][1:] = (
        False  # the first call has a half or an eighth of its channels, the second one all
    )
    small, cuts = Builder(groups, keeps).build()
    assign(cuts)
    for variable, masked in groups.masked_values(keeps).values():
        variable.assign(masked)
    _assert_same(model, small, _noise(5))


class TwoInputs(keras.Model):
    def __init__(self):
        super().__init__()
        self.noise, self.label = layers.Dense(8), layers.Embedding(4, 8)
        self.head = layers.Dense(2)

    def call(self, inputs):
        noise, label = inputs
        return self.head(ops.tanh(self.noise(noise) + self.label(label)))


class TwoArguments(TwoInputs):
    def call(self, noise, label):
        return super().call([noise, label])


def _label():
    return np.random.default_rng(1).integers(0, 4, (BATCH,), dtype="int32")


def test_a_subclassed_model_with_two_inputs():
    model = TwoInputs()
    x = [_noise(5), _label()]
    model(x)
    kgp.Pruner(_random_weights(model), granularity="channel").update(sparsity=0.5)
    inputs = [keras.Input((5,)), keras.Input((), dtype="int32")]
    for given in (None, inputs):
        small = kgp.shrink(model, inputs=given)
        assert small.count_params() == 5 * 4 + 4 + 4 * 4 + 4 * 2 + 2
        _assert_same(model, small, x)
    assert small.inputs[1].dtype == "int32"


def test_a_subclassed_model_with_two_arguments():
    model = TwoArguments()
    model(_noise(5), _label())
    inputs = [keras.Input((5,)), keras.Input((), dtype="int32")]
    small = kgp.shrink(_random_weights(model), sparsity=0.5, inputs=inputs)
    assert small.count_params() == 5 * 4 + 4 + 4 * 4 + 4 * 2 + 2


def test_models_whose_inputs_are_not_known():
    unbuilt = keras.Sequential([layers.Dense(8), layers.Dense(2)])
    with pytest.raises(UnbuiltModelError, match=r"must be built.*Call it once on a batch first"):
        kgp.shrink(unbuilt, sparsity=0.5)
    with pytest.raises(InvalidArgumentError, match="`inputs` is for subclassed models"):
        kgp.shrink(_mlp(), sparsity=0.5, inputs=[keras.Input((5,))])
    with pytest.raises(UnsupportedLayerError, match="must be a Keras 3 model or layer"):
        kgp.shrink("model.keras", sparsity=0.5)


def test_a_gan_is_two_networks():
    critic = keras.Sequential([keras.Input((2,)), layers.Dense(4), layers.Dense(1)])
    gan = kgp.GANModel(_mlp(), critic, latent_dim=5)
    with pytest.raises(UnsupportedLayerError, match=r"holds two networks.*shrink\(gan.generator\)"):
        kgp.shrink(gan, sparsity=0.5)
    assert kgp.shrink(gan.generator, sparsity=0.5).count_params() < gan.generator.count_params()


# --- masks that cannot be cut --------------------------------------------------------------------


def test_masks_of_single_weights():
    model = _mlp()
    kgp.Pruner(model).update(sparsity=0.5)
    with pytest.raises(InvalidArgumentError, match=r"prune single weights.*granularity='channel'"):
        kgp.shrink(model)
    with pytest.raises(InvalidArgumentError, match="nothing to remove"):
        kgp.shrink(_mlp())


def test_masks_of_each_kernel_by_itself():
    model = _mlp()
    kgp.Pruner(model, granularity=kgp.Channel(coupled=False)).update(sparsity=0.5)
    text = r"4 channels of the group 'a' are pruned in a/kernel, but not in a/bias, b/kernel.*\nb?"
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.shrink(model)
    with pytest.raises(
        InvalidArgumentError, match=r"a coupled `Channel`\. Received: Channel\(.*coupled=F"
    ):
        kgp.shrink(model, sparsity=0.5, granularity=kgp.Channel(coupled=False))


def _residual():
    z = keras.Input((5,), name="z")
    x = layers.Dense(8, name="first")(z)
    y = layers.Dense(6, "relu", name="inner")(x)
    y = layers.Dense(8, name="last")(y)
    return _random_weights(
        keras.Model(z, layers.Dense(2, name="head")(layers.Add(name="add")([x, y])))
    )


def test_masks_that_disagree():
    model = _residual()
    kgp.Pruner(model, granularity="channel", criterion="random").update(sparsity=0.5)
    mask = model.get_layer("last").kernel.constraint.mask
    by_hand = mask.numpy()
    extra = np.flatnonzero(by_hand.any(axis=0))[0]
    by_hand[:, extra] = False
    mask.assign(by_hand)
    text = (
        r"1 channels of the group 'first' are pruned in last/kernel, but not in first/kernel.*masks of a "
        r"group must agree(.|\n)*out   last/kernel axis 1"
    )
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.shrink(model)
    small = kgp.shrink(model, strict=False)
    assert small.get_layer("last").kernel.shape == (3, 4)
    assert np.sum(~small.get_layer("last").kernel.numpy().any(axis=0)) == 1
    _assert_same(model, small, _noise(5))


def test_masks_along_an_axis_that_stays():
    z = keras.Input((5,))
    x = layers.Dense(8, name="fixed")(layers.Dense(8, name="free")(z))
    x = layers.LayerNormalization()(x)
    model = _random_weights(keras.Model(z, layers.Dense(2, name="head")(x)))
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    kgp.Pruner(model, granularity=kgp.Channel(coupled=False), scope="fixed").update(sparsity=0.5)
    with pytest.raises(InvalidArgumentError, match="fixed/kernel"):
        kgp.shrink(model)


def test_masks_of_a_part_of_a_channel():
    image = [layers.Dense(32, name="stem"), layers.Reshape((2, 2, 8)), layers.Conv2D(2, 1)]
    model = _random_weights(keras.Sequential([keras.Input((5,)), *image]))
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    mask = model.layers[0].kernel.constraint.mask
    by_hand = mask.numpy()
    by_hand[:, np.flatnonzero(by_hand.any(axis=0))[0]] = False
    mask.assign(by_hand)
    with pytest.raises(InvalidArgumentError, match="stem/kernel"):
        kgp.shrink(model)


def test_channels_that_nothing_reads_go():
    z = keras.Input((5,))
    x = layers.Dense(8, name="wide")(z)
    model = _random_weights(keras.Model(z, layers.Dense(2)(x[:, :4])))
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    _assert_same(model, kgp.shrink(model), _noise(5))


def test_something_stays_of_every_slice():
    image = keras.Input((4, 4, 3))
    x = layers.Conv2D(8, 1, name="wide")(image)
    pooled = [layers.GlobalMaxPooling2D()(part) for part in (x, x[..., :2])]
    x = layers.Concatenate()(pooled)
    model = _random_weights(keras.Model(image, layers.Dense(2)(x)))
    kernel = model.get_layer("wide").kernel
    kernel.assign(kernel.numpy() * (np.arange(8) >= 2))  # the two of the slice score lowest
    kgp.shrink(model, sparsity=0.5)


def test_a_sparsity_in_percent_and_other_arguments():
    model = _mlp()
    with pytest.raises(InvalidArgumentError, match=r"Received: 80\. For 80 %, pass 0\.8"):
        kgp.shrink(model, sparsity=80)
    with pytest.raises(InvalidArgumentError, match="Give one of `sparsity` and `budget`"):
        kgp.shrink(model, sparsity=0.5, budget=object())
    with pytest.raises(InvalidArgumentError, match="`limits` can only be used with a `budget`"):
        kgp.shrink(model, sparsity=0.5, limits={"a": 0.5})
    with pytest.raises(InvalidArgumentError, match="has no gradients for"):
        kgp.shrink(model, sparsity=0.5, criterion="taylor")
    with pytest.raises(InvalidArgumentError, match="`granularity` must be 'channel'"):
        kgp.shrink(model, sparsity=0.5, granularity="unstructured")


def test_weights_that_are_not_finite():
    model = _mlp()
    bias = model.layers[-1].bias
    bias.assign([np.nan, 0.0])
    with pytest.raises(ExportError, match="a weight is not finite"):
        kgp.shrink(model, sparsity=0.5)
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    with pytest.raises(ExportError, match="a weight is not finite"):
        kgp.shrink(model)
    model = _mlp()
    model.layers[0].kernel.assign(np.full((5, 8), np.inf))
    with pytest.raises(DivergedError, match="a/kernel' has 40 value"):
        kgp.shrink(model, sparsity=0.5)


def test_masks_that_are_not_held():
    """Under `soft`, pruned weights may have grown back; then there is nothing to cut."""
    model = _mlp()
    pruner = kgp.Pruner(model, granularity="channel", mode="soft")
    pruner.update(sparsity=0.5)
    assert not pruner.held
    _random_weights(model, seed=1)  # as if trained
    with pytest.raises(InvalidArgumentError, match="nothing to remove"):
        kgp.shrink(model)
    pruner.hold()
    small = kgp.shrink(model)
    assert [layer.units for layer in small.layers] == [4, 3, 2]
    _assert_same(model, small, _noise(5))


# --- how many stay -------------------------------------------------------------------------------


def test_channels_in_multiples():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(32), layers.Dense(24), layers.Dense(8), layers.Dense(2)]
    )
    small = kgp.shrink(_random_weights(model), sparsity=0.6, granularity=kgp.Channel(round_to=8))
    # 12.8 -> 8 or 16, 9.6 -> 8, 3.2 -> the least there is, 8
    units = [layer.units for layer in small.layers]
    assert units == [16, 8, 8, 2]
    kgp.Pruner(model, granularity=kgp.Channel(round_to=8)).update(sparsity=0.6)
    again = kgp.shrink(model)
    assert [layer.units for layer in again.layers] == units
    _assert_same(small, again, _noise(5))


def test_at_least_so_many_stay():
    small = kgp.shrink(_mlp(), sparsity=0.9, allocation=kgp.Uniform(minimum=4))
    assert [layer.units for layer in small.layers] == [4, 4, 2]
    small = kgp.shrink(_mlp(), sparsity=0.99)
    assert [layer.units for layer in small.layers] == [1, 1, 2]


def test_one_ranking_over_all_groups():
    model = _mlp()
    model.layers[1].kernel.assign(model.layers[1].kernel * 100)
    small = kgp.shrink(model, sparsity=0.5, allocation="global_ranking")
    assert [layer.units for layer in small.layers] == [1, 6, 2]  # 7 of 14, and one at least


def test_a_sparsity_for_each_layer():
    # 7 of 14 channels go: 2 of the 8 that are named, so 5 of the others.
    small = kgp.shrink(_mlp(), sparsity=0.5, allocation={"a": 0.25})
    assert [layer.units for layer in small.layers] == [6, 1, 2]
    with pytest.raises(InvalidArgumentError, match=r"come to 0\.3571 in all, which cannot meet"):
        kgp.shrink(_mlp(), sparsity=0.5, allocation={"a": 0.25, "b": 0.5})
    with pytest.raises(InvalidArgumentError, match="'nowhere'"):
        kgp.shrink(_mlp(), sparsity=0.5, allocation={"nowhere": 0.25, "*": 0.5})


# --- groups to look at ---------------------------------------------------------------------------


def test_the_groups_of_a_generator():
    keras.backend.clear_session()
    assert repr(kgp.channel_groups(ARCHITECTURES["dcgan_generator"]())) == (
        """\
dense: 16 channels
  out   dense/kernel axis 1, 16 for each
  along batch_normalization/gamma axis 0, 16 for each
  along batch_normalization/beta axis 0, 16 for each
  mean  batch_normalization/moving_mean axis 0, 16 for each
  state batch_normalization/moving_variance axis 0, 16 for each
  in    conv2d_transpose/kernel axis 3
conv2d_transpose: 16 channels
  out   conv2d_transpose/kernel axis 2
  along batch_normalization_1/gamma axis 0
  along batch_normalization_1/beta axis 0
  mean  batch_normalization_1/moving_mean axis 0
  state batch_normalization_1/moving_variance axis 0
  in    conv2d_transpose_1/kernel axis 3
conv2d_transpose_1: 8 channels
  out   conv2d_transpose_1/kernel axis 2
  along batch_normalization_2/gamma axis 0
  along batch_normalization_2/beta axis 0
  mean  batch_normalization_2/moving_mean axis 0
  state batch_normalization_2/moving_variance axis 0
  in    conv2d_transpose_2/kernel axis 3
conv2d_transpose_2: all channels stay, because they are those of the network's output"""
    )


def test_the_groups_of_a_residual_network():
    groups = kgp.channel_groups(_residual())
    assert repr(groups) == (
        """\
first: 8 channels
  out   first/kernel axis 1
  along first/bias axis 0
  in    inner/kernel axis 0
  out   last/kernel axis 1
  along last/bias axis 0
  in    head/kernel axis 0
inner: 6 channels
  out   inner/kernel axis 1
  along inner/bias axis 0
  in    last/kernel axis 0
head: all channels stay, because they are those of the network's output"""
    )
    assert len(groups) == 2 and groups.size == 14
    assert groups[0].makers == ["first/kernel", "last/kernel"]


@pytest.mark.parametrize(
    "quantity",
    ["macs", *(pytest.param(name, marks=pytest.mark.full) for name in ("parameters", "bytes"))],
)
def test_a_sparsity_may_be_a_share_of_the_cost(quantity):
    model = ARCHITECTURES["dcgan_generator"]()
    one = kgp.shrink(model, sparsity=0.5, granularity=kgp.Channel(of=quantity))
    other = kgp.shrink(model, budget=kgp.Budget(**{quantity: 0.5}))
    channels = kgp.shrink(model, sparsity=0.5)
    assert [w.shape for w in one.weights] == [w.shape for w in other.weights]
    assert [w.shape for w in one.weights] != [w.shape for w in channels.weights]
