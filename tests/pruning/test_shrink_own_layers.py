"""`shrink`: layers of the user, with and without a channel rule."""

import re

import architectures
import keras
import numpy as np
import pytest
from architectures import ARCHITECTURES, sample_inputs, shake
from keras import layers, ops
from shrunk_models import (
    BATCH,
    all_layers,
    assert_same,
    count_left,
    noise_batch,
    random_weights,
)

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    ExportError,
    InvalidArgumentError,
    UnsupportedLayerError,
)
from keras_ganprune.pruning.structured.rules import registry


class OwnAdaIN(layers.Layer):
    """AdaIN that looks at the values of its weights: a graph cannot see inside."""

    def build(self, input_shape):
        (*_, channels), (*_, width) = input_shape
        self.scale = self.add_weight(shape=(width, channels), name="scale")
        self.shift = self.add_weight(shape=(width, channels), name="shift")

    def call(self, inputs):
        x, w = inputs
        assert np.isfinite(ops.convert_to_numpy(self.scale)).all()
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
    return random_weights(keras.Model(z, layers.Conv2D(3, 3, name="image")(x)))


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
    assert not any(isinstance(layer, architectures.AdaIN) for layer in all_layers(small))


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
    assert sum(isinstance(layer, architectures.AdaIN) for layer in all_layers(small)) == 3
    assert small.count_params() == count_left(model)
    assert_same(model, small, sample_inputs(model, batch=BATCH))


def test_an_opaque_layer_is_named_with_what_helps():
    model = _with_own_adain()
    text = (
        r"Channels cannot be followed through OwnAdaIN 'adain': there is no rule for it\. Its inside is not "
        r"known either: calling it on symbols failed \(.*\)\. Register one with "
        r"`register_rule\(OwnAdaIN\)`, or leave it alone with `keep=\['adain'\]`"
    )
    with pytest.raises(UnsupportedLayerError, match=text):
        kgp.shrink(model, sparsity=0.5)
    with pytest.raises(UnsupportedLayerError, match=rf"(?s){text}.*Channel\(coupled=False\)"):
        kgp.Pruner(model, granularity="channel")


def test_an_opaque_layer_in_keep_is_a_barrier():
    z = keras.Input((6,))
    x = layers.Dense(8, "tanh", name="free")(z)
    x = layers.Dense(4 * 4 * 8, name="before")(x)
    x = OwnAdaIN(name="adain")([layers.Reshape((4, 4, 8))(x), z])
    x = layers.Conv2D(8, 3, name="behind")(x)
    model = random_weights(keras.Model(z, layers.Conv2D(3, 1, name="image")(x)))
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
    assert_same(model, kgp.shrink(model, keep="adain"), noise_batch(6))


def test_an_opaque_layer_with_a_rule_shrinks(rules):
    kgp.register_rule(OwnAdaIN)(_own_adain_rule)
    model = _with_own_adain()
    small = kgp.shrink(model, sparsity=0.5)
    assert small.get_layer("adain").scale.shape == (4, 4)  # of 7 and 8
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    assert kgp.shrink(model).count_params() == count_left(model)
    assert_same(model, kgp.shrink(model), noise_batch(6))


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
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8), Mixes(name="mixes"), layers.Dense(2)]
    )
    random_weights(model)
    kgp.register_rule(Mixes)(lambda layer, channels, x: x)
    with pytest.raises(
        ExportError, match=r"at 'mixes'.*`register_rule\(Mixes\)` leaves something out"
    ):
        kgp.shrink(model, sparsity=0.5)
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    with pytest.raises(ExportError, match=r"must give the outputs of 'sequential.*at 'mixes'"):
        kgp.shrink(model)
    registry._LAYERS.pop(Mixes)  # seen through, it is right
    assert "mean" in kgp.channel_groups(model).stay[model.layers[0].name]


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


def _scaled():
    return random_weights(
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
            "A rule names the weight `gain` of Scale 'scale', which has no such variable",
        ),
        (
            lambda layer, c, x: c.along(layer, "scale", 1, x[-1]),
            InvalidArgumentError,
            r"A rule names axis 1 of `scale` of 'scale', which has the shape \(8,\)",
        ),
        (
            lambda layer, c, x: c.along(layer, "scale", 0, x[-1][:5]),
            InvalidArgumentError,
            r"axis 0 of 'scale/scale' \(of length 8\) 5 labels",
        ),
        (
            lambda layer, c, x: x.along(c.shape, -1, x[-1][:5]),
            InvalidArgumentError,
            r"The rule of Scale must return as many labels as its output \(None, 8\) has.* length 8\. "
            "Received: 5",
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
            "must have equally many channels. Received: 8 and 3 at 'scale'",
        ),
    ],
)
def test_wrong_rules(rules, rule, error, text):
    kgp.register_rule(Scale)(rule)
    with pytest.raises(error, match=text):
        kgp.channel_groups(_scaled())


def test_what_can_have_a_rule():
    with pytest.raises(ArgumentTypeError, match=r"takes subclasses of `keras\.layers\.Layer`"):
        kgp.register_rule(OwnAdaIN())
    with pytest.raises(ArgumentTypeError, match="Received none"):
        kgp.register_rule()


class OtherDense(layers.Dense):
    def call(self, inputs, training=None):
        return super().call(inputs) - ops.mean(super().call(inputs), axis=-1, keepdims=True)


class NamedDense(layers.Dense):
    """What it does is what Dense does."""


def test_a_subclass_follows_the_rule_unless_it_has_a_call():
    for cls, units in ((OtherDense, 8), (NamedDense, 4)):
        own = cls(8, name="own")
        stack = [keras.Input((5,)), layers.Dense(6), own, layers.Dense(2)]
        small = kgp.shrink(random_weights(keras.Sequential(stack)), sparsity=0.5)
        # The mean of an `OtherDense` is over all its channels, so these stay.
        assert type(small.layers[1]) is cls and small.layers[1].units == units
        assert small.layers[0].units == 3


class TrainsOtherwise(layers.Layer):
    """A dropout that is written by hand: in inference nothing of it can be seen."""

    def call(self, x, training=None):
        return x * 0.0 if training else x * 1.0


def test_what_a_layer_does_in_training_is_not_lost():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8), TrainsOtherwise(), layers.Dense(2)]
    )
    x = noise_batch(5)
    try:
        small = kgp.shrink(random_weights(model), sparsity=0.5)
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


class TwoWays(layers.Layer):
    """Two sublayers, one for training, and no `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(6), layers.Dense(6)

    def call(self, x, training=False):
        return self.a(x) if training else self.b(x)


class MayAdd(layers.Layer):
    """Adds a tensor that may be None. What it does then cannot be seen in a graph."""

    def call(self, x, y=None):
        return -x if y is None else x + y


def _stack(*middle):
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(12, "relu"), layers.Dense(8), *middle, layers.Dense(2)]
    )


def _with_optional_input():
    x, y = keras.Input((5,)), keras.Input((8,), optional=True)
    h = MayAdd()(layers.Dense(8)(layers.Dense(12, "relu")(x)), y)
    return keras.Model([x, y], layers.Dense(2)(h))


def standardized(texts):
    return texts


def _of_texts():
    words = layers.TextVectorization(
        standardize=standardized, vocabulary=["a", "b"], output_sequence_length=3
    )
    embedded = layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(2)
    return keras.Sequential(
        [keras.Input((1,), dtype="string"), words, layers.Embedding(5, 4), *embedded]
    )


X = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
# Model, the arguments of its calls that must agree.
BUILT_AGAIN = {
    "a sublayer for training": (lambda: _stack(TwoWays()), [(X, False), (X, True)]),
    "an optional input": (
        _with_optional_input,
        [([X, np.ones((2, 8))], False), ([X, None], False)],
    ),
    "a function for texts": (_of_texts, [(ops.convert_to_tensor([["a b"], ["b"]]), False)])
    if keras.backend.backend() == "tensorflow"
    else (_stack, [(X, False)]),
}


@pytest.mark.filterwarnings("ignore:.*does not have a `build")
@pytest.mark.parametrize("case", BUILT_AGAIN)
def test_layers_that_are_built_again_in_another_way(case):
    make, calls = BUILT_AGAIN[case]
    model = make()
    for x, training in calls:
        model(x, training=training)
    kgp.Pruner(model, granularity="channel").update(sparsity=0.4)
    small = kgp.shrink(model, inputs=calls[0][0] if case == "a function for texts" else None)
    assert small.count_params() < model.count_params()
    for x, training in calls:
        expected, actual = (ops.convert_to_numpy(m(x, training=training)) for m in (model, small))
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


class Tied(keras.Model):
    """Embeddings that it also reads by hand, or through the layer that is made for this."""

    def __init__(self, read, **kwargs):
        super().__init__(**kwargs)
        self.read, self.words = read, layers.ReversibleEmbedding(20, 8)
        self.hidden, self.back = layers.Dense(16), layers.Dense(8)

    def call(self, x):
        return self.read(self.words, self.back(self.hidden(self.words(x))))


READ = {
    "transposed": lambda e, h: ops.matmul(h, ops.transpose(e.embeddings)),
    "itself": lambda e, h: ops.einsum("bsd,vd->bsv", h, e.embeddings),
    "its norm": lambda e, h: h * ops.sqrt(ops.mean(ops.square(e.embeddings))),
    "by the layer": lambda e, h: e(h, reverse=True),
}


@pytest.mark.parametrize("case", READ)
def test_a_weight_that_is_read_by_hand_is_named(case):
    model, x = Tied(READ[case]), np.arange(6).reshape(2, 3)
    model(x)
    if case == "by the layer":
        assert kgp.shrink(model, sparsity=0.4, inputs=x).count_params() < model.count_params()
        return
    with pytest.raises(UnsupportedLayerError, match=r"reads the weight .*embeddings .*Reversible"):
        kgp.shrink(model, sparsity=0.4, inputs=x)


def test_noise_is_not_frozen():
    image = keras.Input((4, 4, 3))
    x = DrawsNoise()(layers.Conv2D(8, 1)(image))
    model = random_weights(keras.Model(image, layers.Conv2D(2, 1)(x)))
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
    assert kgp.shrink(random_weights(model), sparsity=0.5).count_params() == 34


class OwnConv(layers.Layer):
    """A convolution of the user that looks at the values of its weights."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, shape):
        self.w = self.add_weight(shape=(3, 3, shape[-1], self.filters), name="w")
        self.b = self.add_weight(shape=(self.filters,), name="b")

    def call(self, x):
        assert np.isfinite(ops.convert_to_numpy(self.w)).all()
        return ops.relu(ops.conv(x, self.w, padding="same") + self.b)

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def test_own_convolutions_are_named_with_the_rule_to_write(rules):
    model = random_weights(
        keras.Sequential(
            [keras.Input((6, 6, 3)), OwnConv(8, name="first"), OwnConv(2, name="last")]
        )
    )
    groups = kgp.channel_groups(model)
    assert groups.without_rule == {layer.name: layer for layer in model.layers}
    with pytest.raises(InvalidArgumentError) as caught:
        kgp.shrink(model, sparsity=0.5)
    text = str(caught.value)
    assert "first: all channels stay, because there is no rule for OwnConv" in text
    assert text.count("To cut OwnConv, write its rule:") == 1
    # What the error says can be run as it stands, with the `config=` of which it speaks.
    rule = text.split("write its rule:\n")[1].replace(
        "(OwnConv)", "(OwnConv, config=lambda _, c, sizes: {**c, 'filters': sizes.weight('w')[-1]})"
    )
    exec(rule, {"kgp": kgp, "OwnConv": OwnConv})
    small = kgp.shrink(model, sparsity=0.5)
    assert [layer.filters for layer in small.layers] == [4, 2]
