"""Which axes of a kernel are input and output channels, told by layers with distinct sizes."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernel_axes import KernelAxes, kernel_axes
from keras_ganprune.layers.prunable import PRUNABLE_CLASSES
from keras_ganprune.layers.upgrade import make_prunable

IN, OUT, TAPS = 5, 7, 2

# (layer, input shape, weight, sizes along the input axes, sizes along the output axes)
NEWER = [
    (layers.ReversibleEmbedding(IN, OUT, tie_weights=False), (3,), "embeddings", [IN], [OUT]),
    (layers.ReversibleEmbedding(IN, OUT, tie_weights=False), (3,), "reverse_embeddings", [OUT], [IN]),
] if hasattr(layers, "ReversibleEmbedding") else []  # fmt: skip
ROWS = [
    *NEWER,
    (layers.Dense(OUT), (IN,), "kernel", [IN], [OUT]),
    (layers.Embedding(IN, OUT), (3,), "embeddings", [IN], [OUT]),
    (layers.Conv1D(OUT, TAPS), (4, IN), "kernel", [IN], [OUT]),
    (layers.Conv2D(OUT, TAPS), (4, 4, IN), "kernel", [IN], [OUT]),
    (layers.Conv3D(OUT, TAPS), (4, 4, 4, IN), "kernel", [IN], [OUT]),
    (layers.Conv1DTranspose(OUT, TAPS), (4, IN), "kernel", [IN], [OUT]),
    (layers.Conv2DTranspose(OUT, TAPS), (4, 4, IN), "kernel", [IN], [OUT]),
    (layers.Conv3DTranspose(OUT, TAPS), (4, 4, 4, IN), "kernel", [IN], [OUT]),
    (layers.DepthwiseConv1D(TAPS, depth_multiplier=3), (4, IN), "kernel", [IN], [IN]),
    (layers.DepthwiseConv2D(TAPS, depth_multiplier=3), (4, 4, IN), "kernel", [IN], [IN]),
    (layers.SeparableConv1D(OUT, TAPS, depth_multiplier=3), (4, IN), "depthwise_kernel", [IN], [IN]),
    (layers.SeparableConv2D(OUT, TAPS, depth_multiplier=3), (4, 4, IN), "depthwise_kernel", [IN], [IN]),
    (layers.SeparableConv1D(OUT, TAPS, depth_multiplier=3), (4, IN), "pointwise_kernel", [15], [OUT]),
    (layers.SeparableConv2D(OUT, TAPS, depth_multiplier=3), (4, 4, IN), "pointwise_kernel", [15], [OUT]),
    (layers.LSTM(OUT), (4, IN), "cell.kernel", [IN], [4 * OUT]),
    (layers.LSTM(OUT), (4, IN), "cell.recurrent_kernel", [OUT], [4 * OUT]),
    (layers.GRU(OUT), (4, IN), "cell.kernel", [IN], [3 * OUT]),
    (layers.GRU(OUT), (4, IN), "cell.recurrent_kernel", [OUT], [3 * OUT]),
    (layers.SimpleRNN(OUT), (4, IN), "cell.kernel", [IN], [OUT]),
    (layers.ConvLSTM1D(OUT, TAPS), (3, 4, IN), "cell.kernel", [IN], [4 * OUT]),
    (layers.ConvLSTM2D(OUT, TAPS), (3, 4, 4, IN), "cell.recurrent_kernel", [OUT], [4 * OUT]),
    (layers.ConvLSTM3D(OUT, TAPS), (3, 4, 4, 4, IN), "cell.kernel", [IN], [4 * OUT]),
    (layers.EinsumDense("ab,bc->ac", OUT), (IN,), "kernel", [IN], [OUT]),
    (layers.EinsumDense("ab,cb->ac", OUT), (IN,), "kernel", [IN], [OUT]),
    (layers.EinsumDense("...x,xy->...y", OUT), (3, IN), "kernel", [IN], [OUT]),
    (layers.EinsumDense("ab...,bc->ac...", (OUT,)), (IN, 3), "kernel", [IN], [OUT]),
    (layers.EinsumDense("abc,bcde->ade", (OUT, 3)), (2, IN), "kernel", [2, IN], [OUT, 3]),
    # A letter in all three terms is like a batch: each of its entries makes its own outputs.
    (layers.EinsumDense("abc,bcd->abd", (2, OUT)), (2, IN), "kernel", [IN], [2, OUT]),
    # No sum at all, so no input channel.
    (layers.EinsumDense("ab,b->ab", (IN,)), (IN,), "kernel", [], [IN]),
]  # fmt: skip


@pytest.mark.parametrize("prunable", [False, True], ids=["plain", "prunable"])
@pytest.mark.parametrize(
    ("layer", "shape", "name", "inputs", "outputs"),
    ROWS,
    ids=[f"{row[0].name}-{row[2]}" for row in ROWS],
)
def test_layers(layer, shape, name, inputs, outputs, prunable):
    layer = type(layer).from_config(layer.get_config())
    if prunable:
        make_prunable(keras.Sequential([keras.Input(shape), layer]))
        assert type(layer) is PRUNABLE_CLASSES[layer.plain_class]
    else:
        layer.build((None, *shape))
    axes = kernel_axes(layer, name)
    weight = layer
    for part in name.split("."):
        weight = getattr(weight, part)
    assert [weight.shape[axis] for axis in axes.inputs] == inputs
    assert [weight.shape[axis] for axis in axes.outputs] == outputs
    assert all(-len(weight.shape) <= axis < 0 for axis in axes.inputs + axes.outputs)


def attention(cls):
    query = keras.Input((4, IN))
    if cls is layers.MultiHeadAttention:
        layer = cls(num_heads=2, key_dim=3, output_shape=OUT)
    else:
        layer = cls(head_dim=3, num_query_heads=2, num_key_value_heads=2)
    layer(query, query)
    return layer


@pytest.mark.parametrize("cls", [layers.MultiHeadAttention, layers.GroupQueryAttention])
@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_attention_projects_to_heads(cls, part):
    assert kernel_axes(attention(cls), f"_{part}_dense.kernel") == KernelAxes((-3,), (-2, -1))


@pytest.mark.parametrize("cls", [layers.MultiHeadAttention, layers.GroupQueryAttention])
def test_attention_joins_the_heads(cls):
    assert kernel_axes(attention(cls), "_output_dense.kernel") == KernelAxes((-3, -2), (-1,))


def test_every_prunable_layer_of_keras_is_tested():
    tested = {type(row[0]) for row in ROWS} | {layers.MultiHeadAttention}
    tested |= {layers.GroupQueryAttention, layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell}
    prunable = {base for base, cls in PRUNABLE_CLASSES.items() if cls.pruned_weight_names}
    assert {c for c in prunable if c.__module__.startswith("keras.src.")} <= tested


def test_zeroing_an_output_channel_silences_exactly_that_output():
    # What 'outputs' means, seen from outside, where the two orders differ.
    x = np.random.default_rng(0).normal(size=(1, 4, 4, IN)).astype("float32")
    for layer in (layers.Conv2D(OUT, 2), layers.Conv2DTranspose(OUT, 2)):
        layer.build(x.shape)
        (axis,) = kernel_axes(layer, "kernel").outputs
        kernel = keras.ops.convert_to_numpy(layer.kernel).copy()
        np.moveaxis(kernel, axis, 0)[3] = 0
        layer.kernel.assign(kernel)
        silent = np.all(keras.ops.convert_to_numpy(layer(x)) == 0, axis=(0, 1, 2))
        np.testing.assert_array_equal(np.flatnonzero(silent), [3])


class Mixer(layers.Layer):
    """A layer of one's own, with weights of all ranks."""

    def build(self, input_shape):
        for rank in range(4):
            setattr(self, f"w{rank}", self.add_weight(shape=(2, 3, 4)[:rank], name=f"w{rank}"))

    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("w0", KernelAxes((), ())),
        ("w1", KernelAxes((), (-1,))),
        ("w2", KernelAxes((-2,), (-1,))),
        ("w3", KernelAxes((-2,), (-1,))),
    ],
)
def test_layer_of_ones_own(name, axes):
    layer = Mixer()
    layer.build((None, 2))
    assert kernel_axes(layer, name) == axes


def test_subclasses_keep_the_order_of_their_base():
    class Upsample(layers.Conv2DTranspose):
        def build(self, input_shape):
            super().build(input_shape)
            self.extra = self.add_weight(shape=(IN, OUT), name="extra")

    layer = Upsample(OUT, 2)
    layer.build((None, 4, 4, IN))
    assert kernel_axes(layer, "kernel") == KernelAxes((-1,), (-2,))
    # The row is for the kernel, not for whatever else the layer has.
    assert kernel_axes(layer, "extra") == KernelAxes((-2,), (-1,))


@pytest.mark.parametrize("name", ["kernels", "cell.kernel", "kernel.name"])
def test_no_such_weight(name):
    layer = layers.Dense(3, name="d")
    layer.build((None, 2))
    with pytest.raises(
        InvalidArgumentError, match=rf"Received: '{name}' for Dense 'd', which has no such weight\."
    ):
        kernel_axes(layer, name)


def test_unbuilt_layer():
    with pytest.raises(InvalidArgumentError, match="not built; call it once on a batch first"):
        kernel_axes(layers.Conv2D(3, 2), "kernel")
