"""Random small functional models, for a property test of structured pruning.

`random_model(seed)` draws a graph from a registry of operations: inputs (images, latent vectors,
tokens, labels) fill a pool of live tensors, each step applies one operation to tensors of the
pool and adds its results, and what is left over becomes an output or is merged into one. All
choices and all weights come from one generator with that seed; only the names that Keras numbers
differ from call to call. `random_graph(seed)` also returns the names of the operations.

No weight has its initial value (a beta of zeros would hide a lost constant), and everything is
small: a test builds and runs hundreds of models.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

VECTOR, SEQUENCE, IMAGE = 2, 3, 4  # ranks, the batch axis included
ANY = (VECTOR, SEQUENCE, IMAGE)
VOCABULARY = 7  # number of tokens, and of labels
MAX_SIZE = 12  # of an image's side
MAX_CHANNELS = 24  # concatenations would go on growing
MAX_VALUES = 1024  # of one tensor, per sample
MAX_STEPS = 36  # of a recurrent layer, whose loop is slow
ACTIVATIONS = (None, "relu", "leaky_relu", "tanh", "sigmoid", "softplus", "swish", "gelu")


# --- the graph while it grows --------------------------------------------------------------------


class Graph:
    """The pool of live tensors, and the draws. Tensors go by id: == on them would build an op."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.inputs = []
        self.pool = []
        self.used = set()  # ids of tensors that an operation has read
        self.touched = set()  # the same, of the operation that is being built
        self.kinds = []  # names of the operations, in order

    def flip(self, chance=0.5):
        return bool(self.rng.random() < chance)

    def between(self, low, high):
        """Return an integer from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def one_of(self, options):
        return options[self.between(0, len(options) - 1)]

    def width(self):
        return self.between(2, 12)

    def activation(self):
        return self.one_of(ACTIVATIONS)

    def noise_seed(self):
        """Return a seed for a layer that would take one from Keras's global generator."""
        return self.between(0, 10_000)

    def pick(self, tensors):
        """Return one of the tensors; those that no operation has read are likelier, so graphs get deep."""
        weights = np.array([1.0 if id(tensor) in self.used else 4.0 for tensor in tensors])
        tensor = tensors[int(self.rng.choice(len(tensors), p=weights / weights.sum()))]
        self.touched.add(id(tensor))
        return tensor

    def other(self, x, fits):
        """Return a live tensor other than x that fits, or None."""
        tensors = [tensor for tensor in self.pool if tensor is not x and fits(tensor)]
        return self.pick(tensors) if tensors else None

    def add_input(self, shape, dtype="float32"):
        x = keras.Input(shape, dtype=dtype)
        self.inputs.append(x)
        return x


class Op(NamedTuple):
    name: str
    ranks: tuple
    weight: float
    build: Callable


OPS = []


def op(*ranks, weight=1.0):
    """Register build(graph, x) -> tensor, tuple of tensors, or None where it does not fit x."""

    def register(build):
        OPS.append(Op(build.__name__, ranks, weight, build))
        return build

    return register


def channels(x):
    return x.shape[-1]


def sides(x):
    return tuple(x.shape[1:-1])


def is_small(x):
    return (
        math.prod(x.shape[1:]) <= MAX_VALUES
        and (x.ndim == VECTOR or channels(x) <= MAX_CHANNELS)
        and (x.ndim != IMAGE or max(sides(x)) <= MAX_SIZE)
    )


def grow(g):
    """Add one operation that fits, and its results."""
    weights = np.array([each.weight for each in OPS])
    while True:
        drawn = OPS[int(g.rng.choice(len(OPS), p=weights / weights.sum()))]
        fitting = [tensor for tensor in g.pool if tensor.ndim in drawn.ranks]
        if fitting and apply(g, drawn, fitting):
            return


def apply(g, drawn, fitting):
    """Build the operation on one of the tensors; return whether it fits."""
    g.touched = set()
    made = drawn.build(g, g.pick(fitting))
    made = [] if made is None else keras.tree.flatten(made)
    if not made or not all(map(is_small, made)):
        return False
    g.used |= g.touched
    g.pool += made
    g.kinds.append(drawn.name)
    return True


# --- parts of operations -------------------------------------------------------------------------


def window(g, x):
    """Return kernel_size, padding and perhaps strides or dilation_rate, that fit x."""
    args = {"kernel_size": g.between(1, 3), "padding": "same"}
    step = g.one_of((None, "strides", "dilation_rate"))  # TensorFlow has no convolution with both
    if step:
        args[step] = 2
    reach = (args["kernel_size"] - 1) * args.get("dilation_rate", 1) + 1
    if min(sides(x)) >= reach and g.flip():
        args["padding"] = "valid"
    return args


def growing_window(g, x):
    """Return kernel_size, padding and strides of a transposed convolution."""
    return {
        "kernel_size": g.between(1, 4),
        "padding": g.one_of(("same", "valid")),
        "strides": g.between(1, 2) if max(sides(x)) <= MAX_SIZE // 2 else 1,
    }


def finish(g):
    """Return use_bias and activation."""
    return {"use_bias": g.flip(), "activation": g.activation()}


def same_place_layer(g, x, width):
    """Return a new layer that maps x to the width and keeps the other axes."""
    if x.ndim == VECTOR or g.flip(0.3):
        return layers.Dense(width, **finish(g))
    conv = layers.Conv2D if x.ndim == IMAGE else layers.Conv1D
    return conv(width, g.one_of((1, 3)), padding="same", **finish(g))


def project(g, x, width):
    return same_place_layer(g, x, width)(x)


def pointwise(g, x):
    """Return x after an elementwise layer."""
    layer = g.one_of(
        (
            layers.ReLU(),
            layers.LeakyReLU(negative_slope=0.2),
            layers.ELU(),
            layers.Activation(g.one_of(ACTIVATIONS[1:])),
            layers.Dropout(0.2, seed=g.noise_seed()),
        )
    )
    return layer(x)


def alike(g, x):
    """Return a tensor of x's shape: a live tensor, or the output of a layer on x."""
    live = g.other(x, lambda tensor: tensor.shape == x.shape) if g.flip() else None
    if live is not None:
        return live
    return project(g, x, channels(x)) if g.flip(0.7) else pointwise(g, x)


def different(g, x):
    """Return a tensor of x's shape that is not equal to x, as x after a dropout would be."""
    return project(g, alike(g, x), channels(x))


def neighbour(g, x):
    """Return a tensor that differs from x in channels at most."""
    live = g.other(x, lambda tensor: tensor.shape[:-1] == x.shape[:-1]) if g.flip(0.6) else None
    return project(g, x, g.width()) if live is None else live


def as_vector(g, x):
    """Return x without places. Sometimes by the maximum: after some layers the mean is constant."""
    if x.ndim == VECTOR:
        return x
    return globally_pooled(x, g.one_of(("Average", "Max")), keepdims=False)


def globally_pooled(x, kind, keepdims):
    layer = getattr(layers, f"Global{kind}Pooling{x.ndim - 2}D")
    return layer(keepdims=keepdims)(x)


def joined(tensors):
    return tensors[0] if len(tensors) == 1 else layers.Concatenate()(tensors)


def over_places(g, vector, x):
    """Return the vector, brought to x's channels, shaped to be broadcast over x's places."""
    scale = layers.Dense(channels(x), **finish(g))(vector)
    return layers.Reshape((1,) * len(sides(x)) + (channels(x),))(scale)


def divisors(n):
    """Return the divisors of n other than 1 and n."""
    return [k for k in range(2, n) if n % k == 0]


# --- dense layers and convolutions ---------------------------------------------------------------


@op(*ANY, weight=2)
def dense(g, x):
    return layers.Dense(g.width(), **finish(g))(x)


@op(SEQUENCE, weight=2.5)
def einsum_of_sequence(g, x):
    shape = (x.shape[1], g.width())
    bias_axes = g.one_of((None, "d"))
    return layers.EinsumDense("abc,cd->abd", shape, g.activation(), bias_axes)(x)


@op(VECTOR)
def einsum_to_sequence(g, x):
    shape = (g.between(2, 6), g.width())
    bias_axes = g.one_of((None, "d", "cd"))
    return layers.EinsumDense("ab,bcd->acd", shape, g.activation(), bias_axes)(x)


@op(IMAGE, weight=4)
def conv2d(g, x):
    return layers.Conv2D(g.width(), **window(g, x), **finish(g))(x)


@op(SEQUENCE, weight=2)
def conv1d(g, x):
    return layers.Conv1D(g.width(), **window(g, x), **finish(g))(x)


@op(IMAGE, SEQUENCE, weight=0.7)
def grouped_conv(g, x):
    if channels(x) % 2:
        x = project(g, x, 2 * g.between(1, 6))
    conv = layers.Conv2D if x.ndim == IMAGE else layers.Conv1D
    width = 2 * g.between(1, 6)
    return conv(width, 3, padding="same", groups=2, **finish(g))(x)


@op(IMAGE, weight=2)
def conv2d_transpose(g, x):
    return layers.Conv2DTranspose(g.width(), **growing_window(g, x), **finish(g))(x)


@op(SEQUENCE, weight=1.5)
def conv1d_transpose(g, x):
    return layers.Conv1DTranspose(g.width(), **growing_window(g, x), **finish(g))(x)


@op(IMAGE, weight=2)
def depthwise_conv2d(g, x):
    return layers.DepthwiseConv2D(**window(g, x), depth_multiplier=g.between(1, 2), **finish(g))(x)


@op(IMAGE)
def separable_conv2d(g, x):
    return layers.SeparableConv2D(
        g.width(), **window(g, x), depth_multiplier=g.between(1, 2), **finish(g)
    )(x)


@op(SEQUENCE, weight=1.5)
def separable_conv1d(g, x):
    return layers.SeparableConv1D(
        g.width(), **window(g, x), depth_multiplier=g.between(1, 2), **finish(g)
    )(x)


@op(*ANY)
def spectral_dense(g, x):
    return layers.SpectralNormalization(layers.Dense(g.width(), **finish(g)))(x)


@op(IMAGE)
def spectral_conv2d(g, x):
    return layers.SpectralNormalization(layers.Conv2D(g.width(), **window(g, x), **finish(g)))(x)


@op(IMAGE)
def spectral_conv2d_transpose(g, x):
    return layers.SpectralNormalization(
        layers.Conv2DTranspose(g.width(), **growing_window(g, x), **finish(g))
    )(x)


# --- sequences -----------------------------------------------------------------------------------


@op(SEQUENCE, weight=1.5)
def self_attention(g, x):
    return layers.MultiHeadAttention(g.between(1, 3), g.between(2, 4), use_bias=g.flip())(x, x)


def recurrent(g, x, layer, **args):
    if x.shape[1] > MAX_STEPS:
        return None
    return layer(g.width(), return_sequences=g.flip(), use_bias=g.flip(), **args)(x)


@op(SEQUENCE, weight=1.5)
def lstm(g, x):
    return recurrent(g, x, layers.LSTM)


@op(SEQUENCE, weight=1.5)
def gru(g, x):
    return recurrent(g, x, layers.GRU, reset_after=g.flip())


@op(SEQUENCE, weight=1.5)
def simple_rnn(g, x):
    return recurrent(g, x, layers.SimpleRNN)


# --- normalisations and activations --------------------------------------------------------------


@op(*ANY, weight=3)
def batch_normalization(g, x):
    return layers.BatchNormalization(scale=g.flip(), center=g.flip())(x)


@op(*ANY, weight=0.4)
def layer_normalization(g, x):
    return layers.LayerNormalization(scale=g.flip(), center=g.flip())(x)


@op(IMAGE, SEQUENCE, weight=1.5)
def instance_normalization(g, x):
    if math.prod(sides(x)) == 1:
        return None  # one value less its mean: a constant
    groups = g.one_of((-1, channels(x)))
    return layers.GroupNormalization(groups, scale=g.flip(), center=g.flip())(x)


@op(IMAGE, SEQUENCE)
def group_normalization(g, x):
    if channels(x) % 2 or channels(x) < 4:
        x = project(g, x, 2 * g.between(2, 6))
    return layers.GroupNormalization(2, scale=g.flip(), center=g.flip())(x)


@op(*ANY, weight=0.8)
def unit_normalization(g, x):
    return layers.UnitNormalization()(x) if channels(x) > 1 else None


@op(*ANY)
def prelu(g, x):
    return layers.PReLU()(x)


@op(IMAGE, SEQUENCE)
def prelu_shared(g, x):
    return layers.PReLU(shared_axes=list(range(1, x.ndim - 1)))(x)


@op(*ANY)
def activation(g, x):
    return layers.Activation(g.one_of((*ACTIVATIONS[1:], "softmax")))(x)


@op(*ANY)
def activation_layer(g, x):
    layer = g.one_of((layers.ReLU, layers.LeakyReLU, layers.ELU))
    return layer()(x)


@op(*ANY)
def relu_of_ops(g, x):
    return ops.relu(x)


@op(*ANY, weight=0.7)
def dropout(g, x):
    return layers.Dropout(0.3, seed=g.noise_seed())(x)


@op(IMAGE, weight=0.7)
def spatial_dropout2d(g, x):
    return layers.SpatialDropout2D(0.3, seed=g.noise_seed())(x)


@op(*ANY, weight=0.7)
def gaussian_noise(g, x):
    return layers.GaussianNoise(0.1, seed=g.noise_seed())(x)


@op(*ANY, weight=0.7)
def rescaling(g, x):
    return layers.Rescaling(g.rng.uniform(0.5, 1.5), offset=g.rng.uniform(-0.5, 0.5))(x)


# --- places: pooling, resizing -------------------------------------------------------------------


def pooled(g, x, kind):
    if min(sides(x)) < 2:
        return None
    layer = getattr(layers, f"{kind}Pooling{x.ndim - 2}D")
    return layer(2, strides=g.between(1, 2), padding=g.one_of(("same", "valid")))(x)


@op(IMAGE, SEQUENCE)
def max_pooling(g, x):
    return pooled(g, x, "Max")


@op(IMAGE, SEQUENCE)
def average_pooling(g, x):
    return pooled(g, x, "Average")


@op(IMAGE, SEQUENCE)
def global_average_pooling(g, x):
    return globally_pooled(x, "Average", keepdims=g.flip())


@op(IMAGE, SEQUENCE)
def global_max_pooling(g, x):
    return globally_pooled(x, "Max", keepdims=g.flip())


@op(IMAGE, SEQUENCE)
def reduction_of_ops(g, x):
    """Mean, sum or max over all places; a sum is brought back to the size of a value."""
    reduce = g.one_of((ops.mean, ops.sum, ops.max))
    y = reduce(x, axis=tuple(range(1, x.ndim - 1)), keepdims=g.flip())
    return ops.multiply(y, 1 / math.prod(sides(x))) if reduce is ops.sum else y


@op(IMAGE, SEQUENCE, weight=1.5)
def up_sampling(g, x):
    if max(sides(x)) > MAX_SIZE // 2:
        return None
    if x.ndim == SEQUENCE:
        return layers.UpSampling1D(2)(x)
    return layers.UpSampling2D(2, interpolation=g.one_of(("nearest", "bilinear")))(x)


@op(IMAGE)
def zero_padding2d(g, x):
    return layers.ZeroPadding2D(((g.between(0, 1), 1), (1, g.between(0, 1))))(x)


@op(IMAGE)
def cropping2d(g, x):
    if min(sides(x)) < 4:
        return None
    return layers.Cropping2D(((g.between(0, 1), 1), (1, g.between(0, 1))))(x)


@op(IMAGE, weight=0.7)
def resizing(g, x):
    interpolation = g.one_of(("nearest", "bilinear"))
    return layers.Resizing(g.between(3, 8), g.between(3, 8), interpolation=interpolation)(x)


# --- shapes --------------------------------------------------------------------------------------


@op(IMAGE, SEQUENCE)
def flatten(g, x):
    return layers.Flatten()(x)


@op(VECTOR, weight=4)
def dense_to_image(g, x):
    """The start of a generator."""
    shape = (g.between(2, 4), g.between(2, 4), g.width())
    y = layers.Dense(math.prod(shape), **finish(g))(x)
    if g.flip():
        y = layers.BatchNormalization()(y)
    return layers.Reshape(shape)(y)


@op(VECTOR, weight=1.5)
def vector_to_image(g, x):
    heights = divisors(channels(x))
    if not heights:
        return None
    height = g.one_of(heights)
    width = g.one_of([1, *divisors(channels(x) // height)])
    return layers.Reshape((height, width, -1))(x)


@op(IMAGE, weight=1.5)
def image_to_sequence(g, x):
    """A row is a step, now and then: its channels then lie side by side."""
    height, width = sides(x)
    rows = g.flip(0.3)
    return layers.Reshape((height, -1) if rows else (height * width, channels(x)))(x)


@op(SEQUENCE, weight=1.5)
def sequence_to_image(g, x):
    length, width = x.shape[1:]
    parts = divisors(width)
    if parts and g.flip(0.3):  # a channel goes to a place and a channel
        return layers.Reshape((length, g.one_of(parts), -1))(x)
    return layers.Reshape((g.one_of([1, *divisors(length)]), -1, width))(x)


@op(*ANY)
def reshape_of_ops(g, x):
    """An image's places as other rows, a sequence flattened, or a vector's values as steps."""
    if x.ndim == IMAGE:
        height, width = sides(x)
        return ops.reshape(x, (-1, width, height, channels(x)))
    if x.ndim == SEQUENCE:
        return ops.reshape(x, (-1, x.shape[1] * channels(x)))
    parts = divisors(channels(x))
    if not parts:
        return None
    steps = g.one_of(parts)
    return ops.reshape(x, (-1, steps, channels(x) // steps))


@op(IMAGE, SEQUENCE, weight=1.5)
def permute(g, x):
    """Rows and columns change places; now and then the channels go where places were."""
    if x.ndim == SEQUENCE:
        return layers.Permute((2, 1))(x)
    return layers.Permute(g.one_of(((2, 1, 3), (2, 1, 3), (1, 3, 2), (3, 1, 2))))(x)


@op(IMAGE)
def transpose_of_ops(g, x):
    return ops.transpose(x, g.one_of(((0, 2, 1, 3), (0, 2, 1, 3), (0, 3, 2, 1))))


@op(IMAGE, weight=1.5)
def channels_first_for_a_while(g, x):
    y = layers.Permute((3, 1, 2))(x)
    inner = g.one_of(
        (
            layers.LeakyReLU(),
            layers.BatchNormalization(axis=1, scale=g.flip(), center=g.flip()),
            layers.Dense(g.between(2, 6), **finish(g)),  # mixes an image's columns
        )
    )
    return layers.Permute((2, 3, 1))(inner(y))


@op(IMAGE, weight=1.5)
def pixel_shuffle(g, x):
    if max(sides(x)) > MAX_SIZE // 2:
        return None
    if channels(x) % 4:
        x = project(g, x, 4 * g.between(1, 4))
    height, width = sides(x)
    depth = channels(x) // 4
    if g.flip():
        y = ops.reshape(x, (-1, height, width, 2, 2, depth))
        y = ops.transpose(y, (0, 1, 3, 2, 4, 5))
        return ops.reshape(y, (-1, 2 * height, 2 * width, depth))
    y = layers.Reshape((height, width, 2, 2, depth))(x)
    y = layers.Permute((1, 3, 2, 4, 5))(y)
    return layers.Reshape((2 * height, 2 * width, depth))(y)


@op(*ANY, weight=1.5)
def channel_slice(g, x):
    if channels(x) < 3:
        return None
    cut = g.between(1, channels(x) - 1)
    return x[..., :cut] if g.flip(0.7) else x[..., cut:]


@op(*ANY, weight=1.5)
def split_gate(g, x):
    """A gated linear unit."""
    if channels(x) % 2:
        x = project(g, x, 2 * g.between(1, 6))
    value, gate = ops.split(x, 2, axis=-1)
    return value * ops.sigmoid(gate) if g.flip() else ops.multiply(ops.tanh(value), gate)


# --- merges --------------------------------------------------------------------------------------


@op(*ANY, weight=2)
def concatenate(g, x):
    tensors = [x] + [neighbour(g, x) for _ in range(g.between(1, 2))]
    return layers.Concatenate(axis=-1)(tensors)


@op(IMAGE, SEQUENCE)
def concatenate_places(g, x):
    return layers.Concatenate(axis=g.between(1, x.ndim - 2))([x, alike(g, x)])


@op(*ANY)
def concatenate_of_ops(g, x):
    return ops.concatenate([x, neighbour(g, x)], axis=-1)


def merge(g, x, layer):
    return layer()([x] + [alike(g, x) for _ in range(g.between(1, 2))])


@op(*ANY)
def add(g, x):
    return merge(g, x, layers.Add)


@op(*ANY)
def subtract(g, x):
    return layers.Subtract()([x, different(g, x)])


@op(*ANY)
def multiply(g, x):
    return layers.Multiply()([x, alike(g, x)])


@op(*ANY)
def average(g, x):
    return merge(g, x, layers.Average)


@op(*ANY)
def maximum(g, x):
    return merge(g, x, layers.Maximum)


@op(*ANY)
def minimum(g, x):
    return merge(g, x, layers.Minimum)


@op(*ANY)
def arithmetic_of_ops(g, x):
    return g.one_of((ops.add, ops.multiply, ops.subtract))(x, different(g, x))


@op(*ANY)
def scalar_of_ops(g, x):
    scalar = float(g.rng.uniform(0.5, 1.5))
    kind = g.between(0, 2)
    if kind == 0:
        return ops.add(x, scalar)
    return ops.multiply(x, scalar) if kind == 1 else 1.0 - x * scalar


@op(*ANY, weight=2)
def residual(g, x):
    """Two layers around, or a projection beside them where the width changes."""
    width = channels(x) if g.flip(0.7) else g.width()
    inner = layers.BatchNormalization()(project(g, x, g.width()))
    shortcut = x if width == channels(x) else project(g, x, width)
    return layers.Add()([shortcut, project(g, pointwise(g, inner), width)])


@op(IMAGE, SEQUENCE, weight=1.5)
def broadcast_vector(g, x):
    """A latent vector or a label's embedding, over all places."""
    vector = g.other(x, lambda tensor: tensor.ndim == VECTOR)
    if vector is None:
        return None
    scale = over_places(g, vector, x)
    if g.flip():
        return g.one_of((layers.Add, layers.Multiply))()([x, scale])
    return g.one_of((ops.add, ops.multiply))(x, scale)


@op(IMAGE, SEQUENCE)
def broadcast_mean(g, x):
    mean = ops.mean(x, axis=tuple(range(1, x.ndim - 1)), keepdims=True)
    if g.flip() and math.prod(sides(x)) > 1:
        return ops.subtract(x, mean)
    return layers.Multiply()([x, ops.tanh(mean)])


@op(IMAGE, weight=1.5)
def squeeze_and_excite(g, x):
    keepdims = g.flip()
    y = layers.GlobalAveragePooling2D(keepdims=keepdims)(x)
    y = layers.Dense(g.between(2, 4), activation="relu", use_bias=g.flip())(y)
    y = layers.Dense(channels(x), activation="sigmoid", use_bias=g.flip())(y)
    if not keepdims:
        y = layers.Reshape((1, 1, channels(x)))(y)
    return layers.Multiply()([x, y]) if g.flip() else x * y


@op(IMAGE, SEQUENCE)
def place_attention(g, x):
    """One channel, broadcast over the channels of x: of a layer, or their mean or maximum."""
    if g.flip():
        scale = layers.Dense(1, activation="sigmoid", use_bias=g.flip())(x)
    else:
        scale = ops.sigmoid(g.one_of((ops.mean, ops.max))(x, axis=-1, keepdims=True))
    return layers.Multiply()([x, scale]) if g.flip() else x * scale


# --- layers and models used more than once, and models in models ---------------------------------


@op(*ANY, weight=2)
def shared_layer(g, x):
    layer = same_place_layer(g, x, g.width())
    second = g.other(x, lambda tensor: tensor.shape == x.shape)
    return layer(x), layer(pointwise(g, x) if second is None else second)


@op(*ANY, weight=1.5)
def nested_sequential(g, x):
    inner = [
        same_place_layer(g, x, g.width()),
        layers.BatchNormalization(scale=g.flip(), center=g.flip()),
        layers.LeakyReLU(),
        same_place_layer(g, x, g.width()),
    ]
    first = [keras.Input(x.shape[1:])] if g.flip() else []
    return keras.Sequential(first + inner[: g.between(1, 4)])(x)


@op(*ANY, weight=1.5)
def nested_functional(g, x):
    """A model called twice: on two tensors, or the second time on its own result."""
    inner_input = keras.Input(x.shape[1:])
    y = pointwise(g, project(g, inner_input, g.width()))
    y = project(g, y, channels(x))
    inner = keras.Model(inner_input, layers.Add()([inner_input, y]) if g.flip() else y)
    if g.flip():
        return inner(inner(x))
    return layers.Concatenate()([inner(x), inner(alike(g, x))])


# --- inputs and outputs --------------------------------------------------------------------------


def image_inputs(g, count=1):
    shape = (g.one_of((4, 5, 6, 8)), g.one_of((4, 5, 6, 8)), g.between(1, 4))
    return [g.add_input(shape) for _ in range(count)]


def image_pair(g):
    return image_inputs(g, count=2)


def latent_input(g):
    return [g.add_input((g.between(4, 12),))]


def token_input(g):
    tokens = g.add_input((g.between(4, 8),), dtype="int32")
    return [layers.Embedding(VOCABULARY, g.width())(tokens)]


def label_input(g):
    if g.flip():
        return [layers.Embedding(VOCABULARY, g.width())(g.add_input((), dtype="int32"))]
    embedded = layers.Embedding(VOCABULARY, g.width())(g.add_input((1,), dtype="int32"))
    return [layers.Flatten()(embedded)]


INPUTS = (
    (image_inputs,),
    (image_inputs,),
    (image_pair,),
    (latent_input,),
    (latent_input,),
    (token_input,),
    (image_inputs, label_input),
    (image_inputs, latent_input),
    (image_inputs, token_input),
    (latent_input, label_input),
    (latent_input, token_input),
)


def last_dense(g, x):
    """Not with a ReLU: over so few units it may be zero for all inputs."""
    return layers.Dense(g.between(1, 4), activation=g.one_of((None, "sigmoid", "tanh")))(x)


def head(g, x):
    """Return x, or x through a last layer."""
    if g.flip(0.4):
        return x
    if x.ndim == VECTOR:
        return last_dense(g, x)
    conv = layers.Conv2D if x.ndim == IMAGE else layers.Conv1D
    return conv(g.between(1, 4), 3, padding="same", activation=g.one_of((None, "tanh")))(x)


def outputs(g):
    """Return one or two outputs that need every live tensor."""
    ids = {id(x) for x in g.inputs}
    *rest, last = (x for x in g.pool if id(x) not in g.used)
    if rest:
        summary = joined([as_vector(g, x) for x in rest])
        way = g.between(0, 2)
        if way == 0:
            return [head(g, last), last_dense(g, summary)]
        if way == 1 and last.ndim != VECTOR:
            return [head(g, layers.Add()([last, over_places(g, summary, last)]))]
        return [last_dense(g, joined([summary, as_vector(g, last)]))]
    inner = [x for x in g.pool if id(x) in g.used and id(x) not in ids]
    if inner and g.flip(0.3):  # what an operation reads is an output too
        return [head(g, last), head(g, g.one_of(inner))]
    return [head(g, last)]


# --- weights -------------------------------------------------------------------------------------


def kernel_scale(variable):
    """Return a standard deviation under which a layer's results are about as large as its input.

    As Glorot's, for a kernel may have its inputs last but one or, transposed, last.
    """
    *places, inputs, units = variable.shape
    if "depthwise" in variable.name:
        return math.prod(places) ** -0.5
    return (math.prod(places) * (inputs + units) / 2) ** -0.5


def random_weight(rng, variable):
    """Return a value that no initializer gives."""
    shape, name = variable.shape, variable.name
    if name == "gamma":  # now and then negative: what is below zero after it was above before
        return rng.uniform(0.5, 1.5, shape) * rng.choice((-1, 1), shape, p=(0.2, 0.8))
    if name == "moving_variance":
        return rng.uniform(0.5, 1.5, shape)
    if name == "alpha":
        return rng.uniform(0.05, 0.4, shape)
    if name == "embeddings":
        return rng.normal(0, 1, shape)
    if "kernel" in name:
        return rng.normal(0, 1.3 * kernel_scale(variable), shape)
    return rng.normal(0, 0.4, shape)


# --- for the tests -------------------------------------------------------------------------------


def random_graph(seed):
    """Return the seed's model and the names of the operations it was drawn from, in order."""
    g = Graph(seed)
    for add_inputs in g.one_of(INPUTS):
        g.pool += add_inputs(g)
    for _ in range(g.between(3, 10)):
        grow(g)
    made = outputs(g)
    model = keras.Model(g.inputs, made if len(made) > 1 else made[0], name=f"random_{seed}")
    for variable in model.weights:
        variable.assign(random_weight(g.rng, variable).astype("float32"))
    return model, g.kinds


def random_model(seed):
    """Return the seed's model: always the same one, apart from names that Keras counts up."""
    return random_graph(seed)[0]


def random_inputs(model, seed, batch=3):
    """Return the model's inputs as a list of arrays."""
    rng = np.random.default_rng(seed)
    arrays = []
    for x in model.inputs:
        shape = (batch, *x.shape[1:])
        if x.dtype == "int32":
            arrays.append(rng.integers(0, VOCABULARY, shape, dtype="int32"))
        else:
            arrays.append(rng.normal(0, 1, shape).astype("float32"))
    return arrays
