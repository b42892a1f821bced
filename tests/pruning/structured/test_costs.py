"""Multiply-accumulates, parameters and bytes: by hand, and against networks that are built smaller."""

import keras
import numpy as np
import pytest
from architectures import ARCHITECTURES
from keras import layers, ops

from keras_ganprune import make_prunable
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.pruning.structured import channel_groups, register_rule
from keras_ganprune.pruning.structured.costs import Costs, item_bytes
from keras_ganprune.pruning.structured.rebuild import Builder
from keras_ganprune.pruning.structured.rules.macs import _LAYERS, register_macs
from keras_ganprune.pruning.structured.rules.registry import _LAYERS as RULES


def costs(model, **kwargs):
    return Costs(channel_groups(model, **kwargs))


def network(shape, *stack, dtype=None, batch=None):
    return keras.Sequential([keras.Input(shape, dtype=dtype, batch_size=batch), *stack])


def random_keeps(groups, seed, share=0.6):
    rng = np.random.default_rng(seed)
    keeps = []
    for group in groups:
        keep = rng.random(group.size) < share
        keep[rng.integers(group.size)] = True
        keeps.append(keep)
    return keeps


# --- by hand -----------------------------------------------------------------------------------------


def self_attention(*args, **kwargs):
    x = keras.Input((6, 10))
    return keras.Model(x, layers.MultiHeadAttention(*args, **kwargs)(x, x))


def cross_attention():
    query, value = keras.Input((6, 10)), keras.Input((4, 12))
    return keras.Model([query, value], layers.MultiHeadAttention(2, 3, 5)(query, value=value))


def grouped_attention():
    x = keras.Input((6, 10))
    return keras.Model(x, layers.GroupQueryAttention(3, 4, 2)(x, x))


def over(function, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, function(*inputs))


def folded_heads(x):
    """Four heads in the place of the batch: (1, 6, 8) is (4, 6, 2) inside."""
    x = ops.reshape(ops.transpose(ops.reshape(x, (-1, 6, 4, 2)), (0, 2, 1, 3)), (-1, 6, 2))
    return ops.reshape(ops.matmul(x, ops.transpose(x, (0, 2, 1))), (-1, 4, 6, 6))


def called_twice():
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    return over(lambda x: shared(shared(x)), (5, 5, 3))


def stacked_cells():
    return layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True)


MACS = {
    "dense": (network((7,), layers.Dense(5)), 7 * 5),
    "dense on a sequence": (network((4, 7), layers.Dense(5)), 4 * 7 * 5),
    "dense on an image": (network((2, 3, 7), layers.Dense(5)), 2 * 3 * 7 * 5),
    "einsum": (
        network((6, 8), layers.EinsumDense("abc,cde->abde", (6, 2, 5))),
        6 * 8 * 2 * 5,
    ),
    "einsum with dots": (
        network((6, 8), layers.EinsumDense("...x,xy->...y", 5)),
        6 * 8 * 5,
    ),
    "einsum over an axis": (network((6, 8), layers.EinsumDense("abc,bd->adc", (3, 8))), 6 * 8 * 3),
    "conv 1d": (network((10, 3), layers.Conv1D(4, 3)), 8 * 3 * 3 * 4),
    "conv same": (network((8, 8, 3), layers.Conv2D(4, 3, padding="same")), 64 * 9 * 3 * 4),
    "conv strides": (network((8, 8, 3), layers.Conv2D(4, 3, 2, "same")), 16 * 9 * 3 * 4),
    "conv dilated": (network((8, 8, 3), layers.Conv2D(4, 3, dilation_rate=2)), 16 * 9 * 3 * 4),
    "conv 3d": (network((4, 4, 4, 2), layers.Conv3D(3, 2)), 27 * 8 * 2 * 3),
    "conv groups": (network((8, 8, 4), layers.Conv2D(6, 3, groups=2)), 36 * 9 * 2 * 6),
    "conv channels first": (
        network((3, 8, 10), layers.Conv2D(4, 3, data_format="channels_first")),
        6 * 8 * 9 * 3 * 4,
    ),
    # Every place of the 5 x 5 input has the whole kernel, whatever the stride.
    "transposed": (network((5, 5, 3), layers.Conv2DTranspose(4, 4, 2, "same")), 25 * 16 * 3 * 4),
    "transposed stride 1": (network((5, 5, 3), layers.Conv2DTranspose(4, 4)), 25 * 16 * 3 * 4),
    "transposed 1d": (network((5, 3), layers.Conv1DTranspose(4, 6, 3)), 5 * 6 * 3 * 4),
    "transposed channels first": (
        network((3, 5, 5), layers.Conv2DTranspose(4, 4, 2, data_format="channels_first")),
        25 * 16 * 3 * 4,
    ),
    "depthwise": (
        network((8, 8, 3), layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2)),
        16 * 9 * 3 * 2,
    ),
    "separable": (
        network((8, 8, 3), layers.SeparableConv2D(5, 3, 2, "same", depth_multiplier=2)),
        16 * (9 * 3 * 2 + 6 * 5),
    ),
    "lstm": (network((7, 5), layers.LSTM(3)), 7 * 4 * 3 * (5 + 3)),
    "gru": (network((7, 5), layers.GRU(3)), 7 * 3 * 3 * (5 + 3)),
    "rnn": (network((7, 5), layers.SimpleRNN(3)), 7 * 3 * (5 + 3)),
    "both ways": (network((7, 5), layers.Bidirectional(layers.LSTM(3))), 2 * 7 * 12 * 8),
    "cells": (network((7, 5), stacked_cells()), 7 * (12 * 8 + 6 * (3 + 2))),
    "conv lstm": (
        network((7, 6, 6, 2), layers.ConvLSTM2D(3, 3)),
        7 * 16 * 9 * 12 * (2 + 3),
    ),
    "conv lstm sequence": (
        network((7, 6, 6, 2), layers.ConvLSTM2D(3, 3, return_sequences=True)),
        7 * 16 * 9 * 12 * (2 + 3),
    ),
    "spectral": (
        network((8, 8, 3), layers.SpectralNormalization(layers.Conv2D(4, 3))),
        36 * 9 * 3 * 4,
    ),
    "time distributed": (
        network((7, 8, 8, 3), layers.TimeDistributed(layers.Conv2D(4, 3))),
        7 * 36 * 9 * 3 * 4,
    ),
    "time distributed network": (
        network((7, 8), layers.TimeDistributed(network((8,), layers.Dense(4), layers.Dense(3)))),
        7 * (8 * 4 + 4 * 3),
    ),
    # Projections of 6 places to 2 heads of 4 and back; 6 x 6 pairs, twice.
    "attention": (self_attention(2, 4), 4 * 6 * 10 * 8 + 2 * 36 * 8),
    "cross attention": (
        cross_attention(),
        6 * 10 * 6 + 4 * 12 * 6 + 4 * 12 * 10 + 6 * 10 * 10 + 2 * 24 * (3 + 5),
    ),
    # 4 heads of width 3 for the query, 2 for key and value; 36 pairs, twice.
    "grouped attention": (
        grouped_attention(),
        6 * 10 * 3 * (4 + 2 + 2 + 4) + 2 * 36 * 4 * 3,
    ),
    "plain attention": (
        over(lambda q, v: layers.Attention()([q, v]), (6, 3), (4, 3)),
        6 * 4 * 3 + 6 * 4 * 3,
    ),
    "dot": (over(lambda a, b: layers.Dot(2)([a, b]), (6, 3), (4, 3)), 6 * 4 * 3),
    "matmul": (over(ops.matmul, (6, 3), (3, 4)), 6 * 3 * 4),
    "matmul with a constant": (over(lambda x: ops.matmul(x, np.ones((3, 5))), (6, 3)), 6 * 3 * 5),
    "einsum of tensors": (
        over(lambda a, b: ops.einsum("bhqd,bhkd->bhqk", a, b), (2, 5, 3), (2, 4, 3)),
        2 * 5 * 4 * 3,
    ),
    "tensordot": (over(lambda x: ops.tensordot(x, np.ones((3, 5)), 1), (6, 3)), 6 * 3 * 5),
    "heads in the batch": (over(folded_heads, (6, 8)), 4 * 6 * 6 * 2),
    "called twice": (called_twice(), 2 * 25 * 9 * 3 * 3),
    "embedding": (network((7,), layers.Embedding(10, 4), dtype="int32"), 0),
    "entry by entry": (
        network((8, 8, 3), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()),
        0,
    ),
    "fixed batch": (network((8,), layers.Dense(4), layers.Dense(2), batch=16), 8 * 4 + 4 * 2),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_by_hand(name):
    model, expected = MACS[name]
    found = costs(model)
    assert found.uncounted == {}
    assert found.macs() == expected
    assert found.parameters() == model.count_params()


def test_mobilenet_as_published():
    # 569 million multiply-adds and 4.2 million parameters: arXiv 1704.04861, table 4.
    found = costs(keras.applications.MobileNet(weights=None))
    assert round(found.macs() / 1e6) == 569
    assert round(found.parameters() / 1e6, 1) == 4.3  # with the statistics of batch normalization


def test_a_cut_by_hand():
    # 5 x 5 kernels on 7 x 7 places; of 10 and 6 channels 4 and 3 stay. The unit of the stem is 49 columns.
    model = network(
        (12,),
        layers.Dense(7 * 7 * 10, use_bias=False),
        layers.Reshape((7, 7, 10)),
        layers.BatchNormalization(),
        layers.Conv2DTranspose(6, 5, strides=2, padding="same"),
        layers.ReLU(),
        layers.Conv2D(2, 3, padding="same"),
    )
    found = costs(model)
    macs = 12 * 49 * 4 + 49 * 25 * 4 * 3 + 196 * 9 * 3 * 2
    weights = 12 * 49 * 4 + 4 * 4 + (25 * 4 * 3 + 3) + (9 * 3 * 2 + 2)
    keeps = [np.arange(10) < 4, np.arange(6) % 2 == 0]
    for keep in ([4, 3], keeps):
        assert (found.macs(keep), found.parameters(keep)) == (macs, weights)
        assert found.bytes(keep) == found.of("bytes", keep) == 4 * weights
    assert [(r.kind, r.shape, r.parameters, r.macs) for r in found.rows(keeps)] == [
        ("Dense", (None, 196), 2352, 2352),
        ("Reshape", (None, 7, 7, 4), 0, 0),
        ("BatchNormalization", (None, 7, 7, 4), 16, 0),
        ("Conv2DTranspose", (None, 14, 14, 3), 303, 14700),
        ("ReLU", (None, 14, 14, 3), 0, 0),
        ("Conv2D", (None, 14, 14, 2), 56, 10584),
    ]


def test_units_that_cost_differently():
    # Channels 0 to 2 are read twice by the second layer, the others once.
    x = keras.Input((4, 4, 2))
    y = layers.Conv2D(5, 1, name="first")(x)
    y = layers.Concatenate()([y, y[..., :3]])
    model = keras.Model(x, layers.Conv2D(1, 1, name="second")(y))
    found = costs(model)
    (group,) = found.groups
    assert group.size == 5
    assert found.macs() == 16 * (2 * 5 + 8)
    assert found.macs([np.array([True, False, False, False, False])]) == 16 * (2 + 2)
    assert found.macs([np.array([False, False, False, False, True])]) == 16 * (2 + 1)
    with pytest.raises(InvalidArgumentError, match="cost the same; else it must be a bool array"):
        found.macs([2])


# --- against networks that are built -----------------------------------------------------------------


DEFAULT = {
    "dcgan_generator",
    "unet_pix2pix",
    "text_generator",
    "transformer_generator",
    "adain_generator",
}
EACH_ARCHITECTURE = [
    pytest.param(name, marks=() if name in DEFAULT else pytest.mark.full) for name in ARCHITECTURES
]


@pytest.mark.parametrize("name", EACH_ARCHITECTURE)
def test_same_as_the_network_without_these_channels(name):
    model = ARCHITECTURES[name]()
    found = costs(model)
    assert found.uncounted == {}
    assert found.parameters() == model.count_params()
    keeps = random_keeps(found.groups, seed=len(name))
    small, _ = Builder(found.groups, keeps).build()
    other = costs(small)
    assert found.parameters(keeps) == small.count_params()
    assert found.bytes(keeps) == other.bytes() == 4 * small.count_params()
    assert found.macs(keeps) == other.macs()
    rows = [
        sorted((r.kind, r.shape, r.parameters, r.macs) for r in rows)
        for rows in (found.rows(keeps), other.rows())
    ]
    assert rows[0] == rows[1]
    assert sum(r.parameters for r in found.rows(keeps)) == small.count_params()
    assert sum(r.macs for r in found.rows(keeps)) == other.macs()


def test_the_costs_of_a_matrix_of_counts():
    found = costs(ARCHITECTURES["unet_pix2pix"]())
    keeps = [random_keeps(found.groups, seed) for seed in range(5)]
    counts = np.stack([found.counts(keep) for keep in keeps], axis=1)
    for quantity in Costs.QUANTITIES:
        assert found.at(quantity, counts).tolist() == [found.of(quantity, k) for k in keeps]


def test_masks_change_nothing():
    model = ARCHITECTURES["dcgan_generator"]()
    dense = costs(model)
    make_prunable(model)
    masked = costs(model)
    assert (masked.macs(), masked.parameters()) == (dense.macs(), dense.parameters())


# --- layers and sizes that are not known -------------------------------------------------------------


class Mixer(layers.Layer):
    """A layer with its own kernel and no rules."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], shape[-1]), name="w")

    def call(self, x):
        return ops.matmul(x, self.w)

    def compute_output_shape(self, shape):
        return shape


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(5)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


def mixed():
    return network((4,), layers.Dense(6, name="a"), Mixer(name="mixer"), layers.Dense(2, name="b"))


def test_a_layer_that_is_not_known_is_listed():
    found = costs(mixed(), keep="mixer")
    assert list(found.uncounted) == ["mixer"]
    assert "weights of its own" in found.uncounted["mixer"]
    assert found.uncounted_layers == {"mixer": "Mixer"}
    assert found.macs() == 4 * 6 + 6 * 2
    assert [row.macs for row in found.rows()] == [24, None, 12]
    assert found.parameters() == mixed().count_params()


@pytest.fixture
def mixer_rules():
    @register_rule(Mixer)
    def follow(layer, channels, x):
        channels.reads(layer, "w", 0, x[-1])
        channels.along(layer, "w", 1, x[-1])
        return x

    @register_macs(Mixer)
    def count(layer, seen, x):
        return [seen.kernel(layer, "w") + x[:-1]]

    yield
    del RULES[Mixer], _LAYERS[Mixer]


def test_a_layer_of_a_user(mixer_rules):
    found = costs(mixed())
    assert found.uncounted == {}
    assert found.macs() == 4 * 6 + 36 + 12
    assert found.macs([3]) == 4 * 3 + 9 + 6


def test_the_inside_of_a_kept_layer_is_counted():
    model = network((4,), layers.Dense(6), Block(name="block"), layers.Dense(2))
    found = costs(model, keep="block")
    assert found.uncounted == {}
    assert found.macs() == 24 + 30 + 10


def test_weights_that_are_never_used_are_parameters():
    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.idle = layers.Dense(3, name="used"), layers.Dense(4, name="idle")

        def build(self, shape):
            self.used.build(shape)
            self.idle.build(shape)

        def call(self, x):
            return self.used(x)

    model = Idle()
    model(np.ones((1, 2)))
    found = costs(model)
    assert (found.macs(), found.parameters()) == (6, 9 + 12)
    assert [(r.layer, r.shape, r.parameters, r.macs) for r in found.rows()] == [
        ("used", (None, 3), 9, 6),
        ("idle", None, 12, 0),
    ]


def test_unknown_sizes():
    model = network((None, None, 3), layers.Conv2D(4, 3, name="conv"), layers.Conv2D(1, 1))
    found = costs(model)
    assert found.parameters([2]) == 27 * 2 + 2 + 2 + 1
    assert [row.macs for row in found.rows()] == [None, None]
    with pytest.raises(InvalidArgumentError, match=r"Not known at 'conv'.*clone_model"):
        found.macs()
    known = keras.models.clone_model(model, input_tensors=keras.Input((8, 8, 3)))
    assert costs(known).macs() == 36 * (27 * 4 + 4)


@pytest.mark.parametrize(
    ("keeps", "text"),
    [
        ([1, 2], "an entry for each of the 1 groups. Received: 2"),
        ([7], "an int from 0 to 6 if all.*Received: 7"),
        ([-1], "may be an int from 0 to 6"),
        ([np.ones(5, dtype=bool)], r"bool array of shape \(6,\)"),
        ([np.ones(6)], "Received: float64"),
    ],
)
def test_keeps_that_do_not_fit(keeps, text):
    found = costs(network((4,), layers.Dense(6), layers.Dense(2)))
    with pytest.raises(InvalidArgumentError, match=text):
        found.macs(keeps)


def test_other_errors():
    found = costs(network((4,), layers.Dense(6), layers.Dense(2)))
    with pytest.raises(InvalidArgumentError, match="Unknown quantity 'flops'"):
        found.of("flops")
    with pytest.raises(ArgumentTypeError, match="takes subclasses"):
        register_macs(int)


def test_bytes_by_type():
    for dtype, size in (("float32", 4), ("float16", 2), ("bfloat16", 2), ("int8", 1), ("bool", 1)):
        assert item_bytes(keras.Variable(np.zeros(3), dtype=dtype, trainable=False)) == size
    half = network((4,), layers.Dense(6, dtype="float16"), layers.Dense(2))
    assert costs(half).bytes() == 2 * 30 + 4 * 14
