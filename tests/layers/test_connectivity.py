"""What stands behind a layer: its batch normalization, or the output of the network."""

import keras
import pytest
from keras import layers, ops

from keras_ganprune.layers.connectivity import following_scale, makes_output


def conv(filters=4, name="conv"):
    return layers.Conv2D(filters, 3, padding="same", name=name)


def image(channels=3):
    return keras.Input((8, 8, channels))


def chain(*after, first=None):
    """Return (the first layer, a Sequential of it and others)."""
    first = first or conv()
    return first, keras.Sequential([image(), first, *after])


def functional(build):
    """Return (the layer, a model whose output `build` makes of the layer's output)."""
    first, x = conv(), image()
    return first, keras.Model(x, build(first(x)))


BN = layers.BatchNormalization


# --- the batch normalization behind --------------------------------------------------------------


@pytest.mark.parametrize(
    "between",
    [
        [],
        [layers.ReLU()],
        [layers.LeakyReLU(), layers.Dropout(0.1)],
        [layers.PReLU(shared_axes=[1, 2])],
        [layers.Activation("tanh"), layers.GaussianNoise(0.1)],
        [layers.UpSampling2D(), layers.ZeroPadding2D(), layers.Cropping2D()],
        [layers.MaxPooling2D()],
        [layers.AveragePooling2D(2), layers.SpatialDropout2D(0.1)],
        [layers.Reshape((4, 16, 4))],
    ],
    ids=lambda between: "-".join(type(layer).__name__ for layer in between) or "direct",
)
def test_scale_is_found_through_what_keeps_channels(between):
    norm = BN()
    first, network = chain(*between, norm, layers.ReLU())
    assert following_scale(first, network) is norm.gamma


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Dense(4),
        lambda: layers.Conv2DTranspose(4, 3),
        lambda: layers.DepthwiseConv2D(3),
        lambda: layers.SeparableConv2D(4, 3),
        lambda: layers.SpectralNormalization(layers.Conv2D(4, 3)),
    ],
    ids=["Dense", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D", "SpectralNormalization"],
)
def test_scale_of_every_kind_of_layer(make):
    norm = BN()
    first, network = chain(norm, first=make())
    assert following_scale(getattr(first, "layer", first), network) is norm.gamma


def test_wrappers_may_be_nested():
    inner, norm = conv(), BN()
    wrapped = layers.TimeDistributed(layers.SpectralNormalization(inner))
    network = keras.Sequential([keras.Input((2, 8, 8, 3)), wrapped, norm])
    assert following_scale(inner, network) is norm.gamma
    assert makes_output(inner, network) is True


def test_scale_behind_a_dcgan_stem():
    stem, norm = layers.Dense(4 * 4 * 6), BN()
    network = keras.Sequential(
        [keras.Input((5,)), stem, layers.Reshape((4, 4, 6)), norm, layers.ReLU(), conv()]
    )
    assert following_scale(stem, network) is norm.gamma
    assert norm.gamma.shape == (6,)


def test_every_layer_finds_its_own_scale():
    norms, convs = [BN(), BN()], [conv(name="a"), conv(name="b"), conv(name="c")]
    network = keras.Sequential(
        [image(), convs[0], norms[0], layers.ReLU(), convs[1], layers.ReLU(), norms[1], convs[2]]
    )
    found = [following_scale(layer, network) for layer in convs]
    assert found[0] is norms[0].gamma and found[1] is norms[1].gamma and found[2] is None


@pytest.mark.parametrize(
    "after",
    [
        [],
        [layers.ReLU()],
        [conv(name="next"), BN()],
        [layers.Flatten(), BN()],
        [layers.GlobalAveragePooling2D(), BN()],
        [layers.Permute((3, 1, 2)), BN()],
        [layers.GroupNormalization(2), BN()],
        [BN(scale=False)],
        [BN(axis=1)],
    ],
    ids=[
        "output",
        "activation",
        "another kernel",
        "flatten",
        "pooled away",
        "channels move",
        "another normalization",
        "scale=False",
        "another axis",
    ],
)
def test_no_scale(after):
    assert following_scale(*chain(*after)) is None


@pytest.mark.parametrize(
    "build",
    [
        lambda x: layers.Add()([BN()(x), x]),
        lambda x: layers.Concatenate()([BN()(x), layers.ReLU()(x)]),
        lambda x: layers.Add()([BN()(x), BN()(x)]),
        lambda x: BN()(x) + x,  # an operation that is no layer
        lambda x: BN()(ops.abs(x)),
        lambda x: [BN()(x), x],  # the raw output leaves the network too
    ],
    ids=["skip", "branch", "two", "operator", "function", "two outputs"],
)
def test_no_scale_where_something_else_reads_the_output(build):
    assert following_scale(*functional(build)) is None


def test_a_layer_that_is_called_twice_has_no_one_scale():
    shared, first, second = conv(), image(), image()
    network = keras.Model([first, second], [BN()(shared(first)), BN()(shared(second))])
    assert following_scale(shared, network) is None


def test_other_networks_that_use_the_layer_do_not_count():
    # A feature extractor over the same layers, as perceptual losses make them.
    first, norm, x = conv(), BN(), image()
    y = first(x)
    network = keras.Model(x, norm(y))
    features = keras.Model(x, layers.Flatten()(y))
    assert following_scale(first, network) is norm.gamma
    assert following_scale(first, features) is None
    assert makes_output(first, keras.Model(x, y)) is True
    assert makes_output(first, keras.Model(x, conv(name="more")(y))) is False


def test_a_sequential_that_grew():
    first, norm = conv(), BN()
    network = keras.Sequential([image(), first])
    assert makes_output(first, network) is True
    network.add(norm)
    network.add(conv(name="last"))
    assert following_scale(first, network) is norm.gamma
    assert makes_output(first, network) is False
    network.pop()
    assert makes_output(first, network) is True


# --- the output of the network -------------------------------------------------------------------


@pytest.mark.parametrize(
    "after",
    [
        [],
        [layers.Activation("tanh")],
        [BN(), layers.ReLU()],
        [layers.PReLU()],  # its alpha has as many axes as a kernel
        [layers.LayerNormalization(axis=[1, 2, 3])],
        [layers.Reshape((-1,))],
        [layers.Flatten()],
        [layers.GlobalAveragePooling2D()],  # a patch discriminator
        [layers.UpSampling2D(), layers.Cropping2D()],
    ],
    ids=lambda after: "-".join(type(layer).__name__ for layer in after) or "last",
)
def test_makes_the_output(after):
    assert makes_output(*chain(*after)) is True


@pytest.mark.parametrize(
    "after",
    [
        [layers.Flatten(), layers.Dense(1)],
        [conv(name="next")],
        [layers.SpectralNormalization(conv(name="next"))],
        [BN(), layers.ReLU(), layers.Conv2DTranspose(1, 3)],
        [keras.Sequential([layers.ReLU(), conv(name="next")])],
    ],
    ids=["dense", "conv", "wrapped", "transpose", "nested"],
)
def test_does_not_make_the_output(after):
    assert makes_output(*chain(*after)) is False


@pytest.mark.parametrize(
    ("build", "wanted"),
    [
        (lambda x: ops.tanh(x), True),
        (lambda x: keras.activations.sigmoid(x * 2), True),
        (lambda x: layers.Add()([x, conv(name="b")(x)]), True),
        (lambda x: layers.Concatenate()([conv(name="b")(x), x]), True),
        (lambda x: [conv(name="b")(x), x], True),
        (lambda x: {"image": layers.Activation("tanh")(x), "score": layers.Dense(1)(x)}, True),
        (lambda x: [conv(name="b")(x), conv(name="c")(x)], False),
        (lambda x: ops.tanh(conv(name="b")(ops.relu(x))), False),
    ],
    ids=[
        "function",
        "expression",
        "residual",
        "concatenated",
        "list",
        "dict",
        "none",
        "functions inside",
    ],
)
def test_makes_the_output_of_a_functional_network(build, wanted):
    assert makes_output(*functional(build)) is wanted


def test_through_nested_models():
    head, norm = conv(), BN()
    block = keras.Sequential([image(), conv(name="body"), layers.ReLU(), head], name="block")
    network = keras.Sequential([image(), block, norm, layers.Activation("tanh")])
    assert following_scale(head, network) is norm.gamma
    assert makes_output(head, network) is True
    assert makes_output(block.layers[0], network) is False
    longer = keras.Sequential([image(), block, conv(name="last")])
    assert makes_output(head, longer) is False
    assert following_scale(head, longer) is None


def test_through_models_nested_twice():
    head, x = conv(), image()
    inner = keras.Model(x, head(x))
    y = image()
    middle = keras.Model(y, layers.ReLU()(inner(y)))
    network = keras.Sequential([image(), middle, layers.Flatten()])
    assert makes_output(head, network) is True
    assert makes_output(head, keras.Sequential([image(), middle, conv(name="last")])) is False


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body, self.norm = conv(name="body"), BN()
        self.block = keras.Sequential([image(4), conv(name="first"), BN(), conv(name="last")])
        self.head = layers.SpectralNormalization(conv(name="head"))

    def call(self, x):
        return self.head(self.block(self.norm(self.body(x))))


def test_a_subclassed_network_tells_nothing():
    network = Subclassed()
    network(ops.zeros((1, 8, 8, 3)))
    for layer in (network.body, network.head.layer, network.block.layers[-1]):
        assert makes_output(layer, network) is None
        assert following_scale(layer, network) is None


def test_graphs_inside_a_subclassed_network_are_known():
    network = Subclassed()
    network(ops.zeros((1, 8, 8, 3)))
    first, norm, _ = network.block.layers
    assert makes_output(first, network) is False
    assert following_scale(first, network) is norm.gamma


@keras.saving.register_keras_serializable(package="tests")
class Residual(layers.Layer):
    """A layer of somebody's own around a convolution."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = conv(3, name="inner")

    def call(self, x):
        return x + self.inner(x)


def test_what_a_layer_does_with_its_parts_is_not_known():
    block = Residual()
    network = keras.Sequential([image(), block])
    assert makes_output(block.inner, network) is None
    assert following_scale(block.inner, network) is None
