"""`explain`: a table of kinds of models; what it says must be what `Prune` and `shrink` really do."""

import functools
import html.parser
import random
import types

import image_pairs
import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, UnbuiltModelError
from keras_ganprune.layers.tensors import to_numpy as value


class OpaqueMix(keras.layers.Layer):
    """Mixes channels in a way that cannot be followed, and has no rule."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], shape[-1]), name="w")

    def call(self, x):
        return ops.matmul(ops.convert_to_numpy(x), self.w)  # symbols have no values

    def compute_output_shape(self, shape):
        return shape


class TwoInputs(keras.Model):
    """A subclassed network whose second input Keras does not store."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = layers.Dense(8), layers.Dense(8), layers.Dense(2)

    def call(self, x, y):
        return self.head(self.one(x) * self.two(y))


def dcgan():
    discriminator = networks.dcgan_discriminator(spectral=True)
    gan = kgp.GANModel(networks.dcgan_generator(), discriminator, networks.LATENT)
    gan.compile()
    return gan


def conditional():
    gan = kgp.GANModel(*networks.conditional_pair(), networks.LATENT, ema_decay=0.9)
    gan.compile()
    return gan


def subclassed():
    model = networks.SubclassedGenerator()
    model(np.zeros((1, networks.LATENT)))
    return model


def foreign():
    gan = networks.GuideGAN()
    gan.compile(keras.optimizers.Adam(), keras.optimizers.Adam())
    return gan


def classifier():
    model = networks.classifier()
    model.compile("adam", networks.classifier_loss())
    return model


def of(inputs, *stack, compiled=False, **kwargs):
    model = keras.Sequential([inputs, *stack], **kwargs)
    if compiled:
        model.compile("adam", "mse")
    return model


def preprocessed():
    return of(
        keras.Input((8, 8, 3)),
        layers.Rescaling(1 / 255),
        layers.RandomFlip(),
        layers.Conv2D(8, 3),
        layers.GlobalMaxPooling2D(),
        layers.Dense(4),
    )


def any_size():
    conv = [layers.Conv2D(8, 3, name="first"), layers.Conv2D(8, 3)]
    return of(keras.Input((None, None, 3)), *conv, layers.GlobalMaxPooling2D(), layers.Dense(2))


def recurrent():
    stack = layers.Embedding(20, 8), layers.LSTM(8), layers.Dense(3)
    return of(keras.Input((10,), dtype="int32"), *stack)


def transformer():
    x = keras.Input((10,), dtype="int32")
    y = layers.Embedding(20, 16)(x)
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(4, 4)(y, y))
    y = layers.LayerNormalization()(y + layers.Dense(16)(layers.Dense(32, "gelu")(y)))
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))


def opaque():
    dense = layers.Dense(16, name="a"), OpaqueMix(name="mix"), layers.Dense(24), layers.Dense(4)
    return of(keras.Input((8,)), *dense)


def masked():
    model = networks.dcgan_generator()
    kgp.Pruner(model).update(sparsity=0.7)
    return model


def masked_channels():
    model = networks.dcgan_generator()
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    return model


def distiller():
    model = networks.classifier()
    return kgp.Distiller(model, networks.classifier())


IMAGES = networks.images(8)
LABELLED = (IMAGES, np.arange(8) % 3)
# Kind -> (function that makes the model, data to train it on, or None for what is not compiled).
MODELS = {
    "gan": (dcgan, IMAGES),
    "conditional": (conditional, (IMAGES, networks.labels(8))),
    "image_to_image": (image_pairs.compiled, image_pairs.data()),
    "foreign": (foreign, IMAGES),
    "subclassed": (subclassed, None),
    "spectral": (lambda: networks.dcgan_discriminator(spectral=True), None),
    "two_inputs": (lambda: networks.conditional_pair()[0], None),
    "unknown_inputs": (lambda: built(TwoInputs()), None),
    "classifier": (classifier, LABELLED),
    "preprocessed": (preprocessed, None),
    "any_size": (any_size, None),
    "masked": (masked, None),
    "masked_channels": (masked_channels, None),
    "mixed_precision": (lambda: networks.dcgan_generator(dtype="mixed_float16"), None),
    "recurrent": (recurrent, None),
    "transformer": (transformer, None),
    "opaque": (opaque, None),
    "distiller": (distiller, None),
    "nothing": (lambda: of(keras.Input((3,)), layers.Rescaling(2.0)), None),
}
# These train.
TRAIN = {kind for kind, (_, data) in MODELS.items() if data is not None}


# `shrink` and `Pruner` say what `explain` prints as advice.
pytestmark = pytest.mark.filterwarnings("ignore::keras_ganprune.PruningWarning")


def built(model):
    model(np.zeros((1, 4)), np.zeros((1, 5)))
    return model


def network_of(model, explained):
    return getattr(model, explained.name, model)


@functools.cache
def explained(kind):
    model = MODELS[kind][0]()
    return model, kgp.explain(model)


@pytest.mark.parametrize("kind", MODELS)
def test_it_fits_one_screen(kind):
    lines = str(explained(kind)[1]).split("\n")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40


@pytest.mark.parametrize("kind", MODELS)
def test_it_changes_nothing(kind):
    model = MODELS[kind][0]()
    everything = [(id(layer), type(layer)) for layer in model._flatten_layers()]
    before = [value(w) for w in model.weights]
    random.seed(3)
    expected = random.random()
    random.seed(3)
    kgp.explain(model)
    assert random.random() == expected
    assert [(id(layer), type(layer)) for layer in model._flatten_layers()] == everything
    for one, other in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(one, value(other))


@pytest.mark.parametrize("kind", MODELS)
def test_what_masks_leave_is_what_pruning_leaves(kind):
    model = MODELS[kind][0]()
    found = kgp.explain(model)
    for part in found:
        network, outcome = network_of(model, part), part.outcome("masks")
        if outcome is None:
            assert kind == "nothing"
            continue
        kgp.Pruner(network).update(sparsity=0.8)
        inputs = [np.zeros((1, 4)), np.zeros((1, 5))] if outcome.macs is None else None
        costs = kgp.profile(network, latency=False, inputs=inputs and tuple(inputs))
        assert (costs.parameters, costs.nonzero, costs.bytes) == (
            outcome.parameters,
            outcome.nonzero,
            outcome.bytes,
        )
        assert outcome.macs in (None, costs.macs)


@pytest.mark.parametrize("kind", MODELS)
def test_what_a_cut_leaves_is_what_shrink_leaves(kind):
    model, found = explained(kind)
    for part in found:
        outcome = part.outcome("cut")
        if outcome is None:
            assert kind in ("masked", "masked_channels", "nothing", "unknown_inputs")
            continue
        network = network_of(model, part)
        arguments = eval(f"dict({outcome.arguments})", {"kgp": kgp})
        small = kgp.shrink(network, **arguments, keep=list(part.keep) or None)
        costs = kgp.profile(small, latency=False)
        assert (costs.parameters, costs.nonzero, costs.macs, costs.bytes) == (
            outcome.parameters,
            outcome.nonzero,
            outcome.macs,
            outcome.bytes,
        )
        if "MACs" in outcome.what:
            assert 0.15 < outcome.macs / part.outcome("now").macs < 0.27


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.full) if k in TRAIN else k for k in MODELS]
)
def test_each_call_that_it_names_works(kind):
    make, data = MODELS[kind]
    # `compress` trains for about 1,000 steps by default.
    short = types.SimpleNamespace(**vars(kgp))
    short.compress = functools.partial(kgp.compress, epochs=4, verbose=0)
    calls = explained(kind)[1].calls
    assert calls
    for call in calls:
        exec(call.code, {"kgp": short, "model": make(), "data": data})


def test_a_gan_without_call_names_its_networks_the_generator_first():
    _, found = explained("foreign")
    assert [part.name for part in found] == ["generator", "discriminator"]
    assert "target='generator'" in found.calls[1].code
    _, found = explained("conditional")
    assert [part.name for part in found] == ["generator", "discriminator"]
    assert "ema_generator is a weight average" in str(found)
    assert [part.name for part in explained("distiller")[1]] == ["student"]


def test_a_layer_without_a_rule_is_named_with_what_helps():
    _, found = explained("opaque")
    part, text = found.networks[0], str(found)
    assert part.keep == ("mix",)
    assert "OpaqueMix 'mix'" in text
    assert "register_rule(OpaqueMix)" in text
    assert "keep=['mix']" in text
    assert part.stay["a"] == "'mix' is left as it is"
    assert "register_prunable(OpaqueMix, ['w'])" in text


def test_unknown_sizes_give_a_quarter_of_the_parameters():
    _, found = explained("any_size")
    assert found.networks[0].outcome("cut").what == "1/4 of the parameters (cut)"
    assert "Not known at 'first'" in " ".join(str(found).split())


def test_a_pruned_model_says_so():
    _, found = explained("masked")
    assert found.networks[0].pruned == pytest.approx(0.7, abs=0.01)
    assert "Already pruned" in str(found)
    assert [call.code for call in found.calls] == ["plain = kgp.strip_pruning(model)"]
    model, found = explained("masked_channels")
    assert found.calls[0].code == "small = kgp.shrink(model)"
    left = found.networks[0].outcome("masked channels")
    assert left.parameters == kgp.shrink(model).count_params()


def test_inputs_of_a_subclassed_network():
    model, found = explained("unknown_inputs")
    assert found.networks[0].outcome("now").macs is None
    assert "Pass one batch or symbol for each" in " ".join(str(found).split())
    inputs = (keras.Input((4,)), keras.Input((5,)))
    found = kgp.explain(model, inputs=inputs)
    assert found.networks[0].outcome("now").macs == 8 * 4 + 8 * 5 + 2 * 8
    assert found.networks[0].can_be_cut
    exec(found.calls[0].code, {"kgp": kgp, "model": model, "inputs": inputs})


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: keras.Sequential([layers.Dense(2)]), UnbuiltModelError, "Call it once"),
        (lambda: networks.GuideGAN(*networks.unbuilt_pair()), UnbuiltModelError, "Call it"),
        (lambda: "model", ArgumentTypeError, "must be a Keras 3 model"),
        (lambda: layers.Dense(2), ArgumentTypeError, "Put it into a `keras.Sequential`"),
    ],
)
def test_wrong_models(make, error, words):
    with pytest.raises(error, match=words):
        kgp.explain(make())


def test_wrong_inputs_and_names():
    model, found = explained("foreign")
    with pytest.raises(InvalidArgumentError, match="those of one network"):
        kgp.explain(model, inputs=keras.Input((4,)))
    with pytest.raises(InvalidArgumentError, match="Did you mean 'generator'"):
        found["generato"]


@pytest.mark.parametrize("kind", ["gan", "opaque", "masked_channels"])
def test_the_notebook_shows_the_same(kind):
    _, found = explained(kind)
    page = found._repr_html_()
    text = []
    parser = html.parser.HTMLParser()
    parser.handle_data = text.append
    parser.feed(page)
    shown = " ".join(" ".join(text).split())
    for part in found:
        for row in part.table():
            assert all(cell in shown for cell in row)
    for call in found.calls:
        assert call.code in shown
