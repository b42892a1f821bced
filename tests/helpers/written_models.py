"""Networks written as people write them: sizes read from tensors, weights of one's own, calls of all kinds.

`WRITTEN` has a function for each, which returns a new built model. `shrink` must give its outputs.
"""

import keras
import numpy as np
from keras import layers, ops

WIDTH, HEADS, LENGTH, TOKENS = 12, 3, 6, 30


def built(model, *arrays):
    """Return a subclassed model after a call on arrays."""
    model(*arrays)
    return model


def image(size=8, channels=3, batch=2):
    return np.zeros((batch, size, size, channels), "float32")


def tokens(length=LENGTH, batch=2):
    return np.zeros((batch, length), "int32")


# --- transformers ---------------------------------------------------------------------------------


class Attention(layers.Layer):
    """Heads by hand: the batch and the length are read from the tensor."""

    def __init__(self, width=WIDTH, heads=HEADS, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.width, self.heads, self.causal = width, heads, causal
        self.q, self.k, self.v = (layers.Dense(width, name=n) for n in "qkv")
        self.out = layers.Dense(width, name="out")

    def split(self, x, b, n):
        x = ops.reshape(x, (b, n, self.heads, self.width // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, x):
        b, n = ops.shape(x)[0], ops.shape(x)[1]
        q, k, v = (self.split(f(x), b, n) for f in (self.q, self.k, self.v))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / np.sqrt(self.width // self.heads)
        if self.causal:
            i = ops.arange(n)[:, None]
            j = ops.arange(n)
            mask = ops.cast(i >= j, scores.dtype)
            scores = scores - 1e9 * (1.0 - mask[None, None])
        y = ops.matmul(ops.softmax(scores, axis=-1), v)
        y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (b, n, self.width))
        return self.out(y)


class Block(layers.Layer):
    """A block of a transformer that consists of layers."""

    def __init__(self, width=WIDTH, hidden=16, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.norm1, self.norm2 = layers.LayerNormalization(), layers.LayerNormalization()
        self.attention = Attention(width, causal=causal)
        self.up, self.down = layers.Dense(hidden, "gelu"), layers.Dense(width)

    def call(self, x, training=None):
        x = x + self.attention(self.norm1(x))
        return x + self.down(self.up(self.norm2(x)))


class Patches(layers.Layer):
    """Patches of an image; the batch is read from the tensor."""

    def __init__(self, size=4, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, x):
        b, h, w, c = ops.shape(x)
        s = self.size
        x = ops.reshape(x, (b, h // s, s, w // s, s, c))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (b, (h // s) * (w // s), s * s * c))


class ClassToken(layers.Layer):
    """A token in front of the others. Its width is that of the input."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal")

    def call(self, x):
        b = ops.shape(x)[0]
        d = ops.shape(x)[-1]
        return ops.concatenate([ops.broadcast_to(self.token, (b, 1, d)), x], axis=1)


class Places(layers.Layer):
    """A table of positions with the length and the width of the input."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="random_normal", name="table")

    def call(self, x):
        return x + self.table[None]


class PlaceEmbedding(layers.Layer):
    """Tokens and positions; the length is read from the tensor."""

    def __init__(self, length=64, width=WIDTH, **kwargs):
        super().__init__(**kwargs)
        self.tokens, self.places = layers.Embedding(TOKENS, width), layers.Embedding(length, width)

    def call(self, x):
        places = ops.arange(ops.shape(x)[-1])
        return self.tokens(x) + self.places(places)


class LayerScale(layers.Layer):
    """A learned scale for each channel."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="random_normal")

    def call(self, x):
        return x * self.gamma


class DropPath(layers.Layer):
    """Drops whole samples in training."""

    def __init__(self, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x, training=None):
        if not training:
            return x
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        keep = 1.0 - self.rate
        return x / keep * ops.floor(keep + keras.random.uniform(shape, seed=self.seeds))


class ScaledBlock(layers.Layer):
    """A block with weights of its own beside its layers."""

    def __init__(self, width=WIDTH, hidden=16, **kwargs):
        super().__init__(**kwargs)
        self.width, self.hidden = width, hidden
        self.norm = layers.LayerNormalization()
        self.up, self.down = layers.Dense(hidden, "gelu"), layers.Dense(width)
        self.drop = DropPath()

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="random_normal")
        super().build(shape)

    def call(self, x, training=None):
        return x + self.drop(self.down(self.up(self.norm(x))) * self.gamma, training=training)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "hidden": self.hidden}


class MixerBlock(layers.Layer):
    """Mixes places, then channels."""

    def __init__(self, hidden=10, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden
        self.norm1, self.norm2 = layers.LayerNormalization(), layers.LayerNormalization()

    def build(self, shape):
        self.places = [layers.Dense(self.hidden, "gelu"), layers.Dense(shape[1])]
        self.channels = [layers.Dense(self.hidden, "gelu"), layers.Dense(shape[2])]

    def call(self, x):
        b, n, d = ops.shape(x)
        y = ops.transpose(self.norm1(x), (0, 2, 1))
        for layer in self.places:
            y = layer(y)
        x = x + ops.reshape(ops.transpose(y, (0, 2, 1)), (b, n, d))
        y = self.norm2(x)
        for layer in self.channels:
            y = layer(y)
        return x + y


def vit(size=8):
    x = keras.Input((size, size, 3))
    y = layers.Dense(WIDTH, name="project")(Patches()(x))
    y = Places()(ClassToken()(y))
    for _ in range(2):
        y = Block()(y)
    y = layers.LayerNormalization()(y)[:, 0]
    return keras.Model(x, layers.Dense(3)(layers.Dense(16, "relu", name="head")(y)))


def mixer():
    x = keras.Input((8, 8, 3))
    y = layers.Dense(WIDTH)(Patches()(x))
    y = MixerBlock()(MixerBlock()(y))
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))


def gpt(length=None, causal=True):
    x = keras.Input((length,), dtype="int32")
    y = PlaceEmbedding()(x)
    for _ in range(2):
        y = Block(causal=causal)(y)
    y = layers.LayerNormalization()(y)
    return keras.Model(x, layers.Dense(TOKENS)(layers.Dense(16, "relu", name="head")(y)))


class GPT(keras.Model):
    """A subclassed language model."""

    def __init__(self):
        super().__init__()
        self.embed = PlaceEmbedding()
        self.blocks = [Block(causal=True) for _ in range(2)]
        self.norm, self.head = layers.LayerNormalization(), layers.Dense(TOKENS)

    def call(self, x):
        y = self.embed(x)
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))


class Rotary(layers.Layer):
    """Rotates pairs of channels by the position (Llama)."""

    def call(self, x):
        n, d = ops.shape(x)[1], x.shape[-1]
        places = ops.cast(ops.arange(n), x.dtype)
        speed = 1.0 / (10000.0 ** (ops.cast(ops.arange(0, d, 2), x.dtype) / d))
        angle = ops.einsum("i,j->ij", places, speed)
        cos, sin = ops.cos(angle)[None], ops.sin(angle)[None]
        even, odd = x[..., ::2], x[..., 1::2]
        return ops.concatenate([even * cos - odd * sin, even * sin + odd * cos], axis=-1)


class RMSNorm(layers.Layer):
    """A norm with a scale of its own (Llama, T5, Gemma)."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return x * ops.rsqrt(variance + 1e-6) * self.scale


class GatedUnit(layers.Layer):
    """SwiGLU."""

    def __init__(self, hidden=16, width=WIDTH, **kwargs):
        super().__init__(**kwargs)
        self.gate = layers.Dense(hidden, use_bias=False)
        self.up = layers.Dense(hidden, use_bias=False)
        self.down = layers.Dense(width, use_bias=False)

    def call(self, x):
        return self.down(ops.silu(self.gate(x)) * self.up(x))


def llama():
    x = keras.Input((None,), dtype="int32")
    y = layers.Embedding(TOKENS, WIDTH)(x)
    for _ in range(2):
        y = y + Attention(causal=True)(Rotary()(RMSNorm()(y)))
        y = y + GatedUnit()(RMSNorm()(y))
    return keras.Model(x, layers.Dense(TOKENS, use_bias=False)(RMSNorm()(y)))


class RelativeBias(layers.Layer):
    """A learned bias for the distance of two positions (T5)."""

    def __init__(self, buckets=8, heads=HEADS, **kwargs):
        super().__init__(**kwargs)
        self.buckets, self.heads = buckets, heads

    def build(self, shape):
        self.bias = self.add_weight(shape=(self.buckets, self.heads), initializer="random_normal")

    def call(self, x):
        n = ops.shape(x)[1]
        distance = ops.arange(n)[None, :] - ops.arange(n)[:, None]
        bucket = ops.clip(ops.abs(distance), 0, self.buckets - 1)
        bias = ops.take(self.bias, bucket, axis=0)
        return ops.transpose(bias, (2, 0, 1))[None]

    def get_config(self):
        return {**super().get_config(), "buckets": self.buckets, "heads": self.heads}


class BiasedAttention(Attention):
    """Attention with a bias for each distance."""

    def call(self, inputs):
        x, bias = inputs
        b, n = ops.shape(x)[0], ops.shape(x)[1]
        q, k, v = (self.split(f(x), b, n) for f in (self.q, self.k, self.v))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) + bias
        y = ops.matmul(ops.softmax(scores), v)
        return self.out(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (b, n, self.width)))


def t5():
    x = keras.Input((None,), dtype="int32")
    y = layers.Embedding(TOKENS, WIDTH)(x)
    bias = RelativeBias()(y)
    for _ in range(2):
        y = y + BiasedAttention()([RMSNorm()(y), bias])
        y = y + GatedUnit()(RMSNorm()(y))
    return keras.Model(x, layers.Dense(TOKENS, use_bias=False)(RMSNorm()(y)))


# --- sizes read from tensors ----------------------------------------------------------------------


class Own(layers.Layer):
    """A layer without weights that runs a function."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


class Around(layers.Layer):
    """A layer that consists of two layers with a function between them."""

    def __init__(self, function, units=10, **kwargs):
        super().__init__(**kwargs)
        self.function, self.units = function, units
        self.one, self.two = layers.Dense(units, "relu"), layers.Dense(5)

    def call(self, x):
        return self.two(self.function(self.one(x)))


def around(function, shape=(8, 5)):
    """Return a model with a function between two Dense layers of a layer."""
    x = keras.Input(shape)
    y = layers.Dense(9, "relu", name="front")(x)
    return keras.Model(x, layers.Dense(2, name="back")(Around(function)(y)))


def merge_and_split(x):
    b, n, d = ops.shape(x)
    return ops.reshape(ops.reshape(x, (b * n, d)) * 2.0, (b, n, d))


def half_by_shape(x):
    return x[:, : ops.shape(x)[1] // 2]


def other_half(x):
    half = ops.shape(x)[1] // 2
    return ops.concatenate([x[:, half:], x[:, :half]], axis=1)


def split_in_two(x):
    one, two = ops.split(x, 2, axis=1)
    return one + two


def tiled_constant(x):
    row = ops.tile(ops.reshape(ops.arange(10, dtype=x.dtype), (1, 1, 10)), (ops.shape(x)[0], 1, 1))
    return x * (1.0 + row)


def ones_beside(x):
    b, n, _ = ops.shape(x)
    return ops.concatenate([x, ops.ones((b, n, 1))], axis=-1)


def zeros_state(x):
    state = ops.zeros((ops.shape(x)[0], 10))
    for i in range(3):
        state = ops.tanh(x[:, i] + state)
    return x + state[:, None]


def lower_triangle(x):
    n = ops.shape(x)[1]
    return ops.matmul(ops.tril(ops.ones((n, n))) / ops.cast(n, x.dtype), x)


def tri_mask(x):
    n = ops.shape(x)[1]
    return ops.matmul(ops.tri(n, dtype=x.dtype), x)


def eye_minus(x):
    n = ops.shape(x)[1]
    return ops.matmul(1.0 - ops.eye(n), x)


def batch_mask(x):
    b, n, _ = ops.shape(x)
    i, j = ops.arange(n)[:, None], ops.arange(n)
    mask = ops.cast(ops.reshape(i >= j, (1, n, n)), "float32")
    return ops.matmul(ops.broadcast_to(mask, (b, n, n)), x)


def by_length(x):
    n = ops.cast(ops.shape(x)[1], x.dtype)
    return ops.sum(x, axis=1, keepdims=True) / n + x


def flat_heads(x):
    b, n, _ = ops.shape(x)
    y = ops.reshape(x, (b, n, 2, 5))
    y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (b * 2, n, 5))
    y = y - ops.mean(y, axis=1, keepdims=True)
    return ops.reshape(ops.transpose(ops.reshape(y, (b, 2, n, 5)), (0, 2, 1, 3)), (b, n, 10))


def minus_one(x):
    return ops.reshape(ops.reshape(x, (-1, 10)), (ops.shape(x)[0], -1, 10))


def pixels(x):
    b, h, w, c = ops.shape(x)
    return ops.reshape(ops.reshape(x, (b, h * w, c)) * 0.5, (b, h, w, c))


def repeat_rows(x):
    return x + ops.repeat(ops.mean(x, axis=1, keepdims=True), ops.shape(x)[1], axis=1)


def like_linspace(x):
    n = ops.shape(x)[1]
    return x * ops.cast(ops.linspace(0.0, 1.0, 8), x.dtype)[None, :, None] + ops.zeros((n, 1))


SIZES = {
    "merge_and_split": merge_and_split,
    "half_by_shape": half_by_shape,
    "other_half": other_half,
    "split_in_two": split_in_two,
    "tiled_constant": tiled_constant,
    "ones_beside": ones_beside,
    "zeros_state": zeros_state,
    "lower_triangle": lower_triangle,
    "tri_mask": tri_mask,
    "eye_minus": eye_minus,
    "batch_mask": batch_mask,
    "by_length": by_length,
    "flat_heads": flat_heads,
    "minus_one": minus_one,
    "repeat_rows": repeat_rows,
    "like_linspace": like_linspace,
}
# Those that also work for a sequence of any length.
ANY_LENGTH = (
    "merge_and_split",
    "half_by_shape",
    "other_half",
    "split_in_two",
    "ones_beside",
    "lower_triangle",
    "eye_minus",
    "batch_mask",
    "by_length",
    "flat_heads",
    "minus_one",
    "repeat_rows",
)

WRITTEN = {
    "vit": vit,
    "mixer": mixer,
    "gpt": gpt,
    "gpt_fixed_length": lambda: gpt(LENGTH),
    "gpt_subclassed": lambda: built(GPT(), tokens()),
    "llama": llama,
    "t5": t5,
    "pixels": lambda: around(pixels, (4, 6, 5)),
}
WRITTEN |= {name: (lambda f=f: around(f)) for name, f in SIZES.items()}
WRITTEN |= {f"{name}_any": (lambda n=name: around(SIZES[n], (None, 5))) for name in ANY_LENGTH}


class DepthToSpace(layers.Layer):
    """Channels become pixels (ESPCN). No size of the image is known."""

    def call(self, x):
        b, h, w, c = ops.shape(x)
        x = ops.reshape(x, (b, h, w, 2, 2, c // 4))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (b, h * 2, w * 2, c // 4))


class Windows(layers.Layer):
    """Something for each window of an image of any size (Swin)."""

    def __init__(self, size=4, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, x):
        b, h, w, c = ops.shape(x)
        n = self.size
        y = ops.reshape(x, (b, h // n, n, w // n, n, c))
        y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, n * n, c))
        y = y - ops.mean(y, axis=1, keepdims=True)
        y = ops.reshape(y, (b, h // n, w // n, n, n, c))
        return ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (b, h, w, c))

    def compute_output_shape(self, shape):
        # JAX and PyTorch would try sizes that are no multiples of a window.
        return shape


class EinsumHeads(layers.Layer):
    """`EinsumDense` leaves the length open, and the code reads it from there (Gemma)."""

    def __init__(self, heads=HEADS, width=4, **kwargs):
        super().__init__(**kwargs)
        self.heads = layers.EinsumDense("bnd,dhk->bnhk", (None, heads, width), name="heads")
        self.out = layers.Dense(9, name="out")

    def call(self, x):
        y = ops.relu(self.heads(x))
        b, n, heads, width = ops.shape(y)
        return self.out(ops.reshape(y, (b, n, heads * width)))


def of_any_image(*inner):
    """Return a model for images of any size with layers between two convolutions."""
    x = keras.Input((None, None, 3))
    y = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    for layer in inner:
        y = layer(y)
    return keras.Model(x, layers.Conv2D(2, 1)(layers.Conv2D(6, 1, activation="relu")(y)))


# --- weights of one's own -------------------------------------------------------------------------


def between(*inner, shape=(8, 5), units=9):
    """Return a model with layers between two Dense layers."""
    x = keras.Input(shape)
    y = layers.Dense(units, "relu", name="front")(x)
    for layer in inner:
        y = layer(y)
    return keras.Model(x, layers.Dense(2, name="back")(y))


class ScaleAndShift(layers.Layer):
    """A scale and a shift, cast, reshaped and in a list."""

    def build(self, shape):
        d = shape[-1]
        self.both = [
            self.add_weight(shape=(d,), initializer="random_normal", name=n) for n in ("a", "b")
        ]

    def call(self, x):
        a, b = (ops.reshape(ops.cast(w, x.dtype), (1, 1, -1)) for w in self.both)
        return x * ops.convert_to_tensor(1.0 + a) + b


class SquareMix(layers.Layer):
    """A kernel from the channels of the input to as many others."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), initializer="random_normal")

    def call(self, x):
        return x + ops.matmul(x, self.kernel)


class Gate(layers.Layer):
    """A learned number for each of the channels, through a sigmoid."""

    def build(self, shape):
        self.w = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal")

    def call(self, x):
        return x * ops.sigmoid(self.w)


class SlicedTable(layers.Layer):
    """A long table of positions, of which the first are used."""

    def __init__(self, longest=20, **kwargs):
        super().__init__(**kwargs)
        self.longest = longest

    def build(self, shape):
        self.table = self.add_weight(
            shape=(self.longest, shape[-1]), initializer="random_normal", name="table"
        )

    def call(self, x):
        return x + self.table[: ops.shape(x)[1]]

    def get_config(self):
        return {**super().get_config(), "longest": self.longest}


class Moving(layers.Layer):
    """A moving mean that only training changes."""

    def build(self, shape):
        self.mean = self.add_weight(
            shape=(shape[-1],), initializer="random_normal", trainable=False
        )

    def call(self, x, training=None):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, axis=(0, 1)))
        return x - self.mean


class OwnDense(layers.Layer):
    """A dense layer by hand. Its width is an argument."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer="random_normal")
        self.b = self.add_weight(shape=(self.units,), initializer="random_normal")

    def call(self, x):
        return ops.relu(ops.matmul(x, self.w) + self.b)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class OwnConv(layers.Layer):
    """Convolutions by hand."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, shape):
        d = shape[-1]
        kinds = {"initializer": "random_normal"}
        self.filter = self.add_weight(shape=(3, 3, d, 1), name="filter", **kinds)
        self.kernel = self.add_weight(shape=(1, 1, d, self.filters), name="kernel", **kinds)
        self.up = self.add_weight(shape=(2, 2, self.filters, self.filters), name="up", **kinds)

    def call(self, x):
        x = ops.relu(ops.depthwise_conv(x, self.filter, padding="same"))
        x = ops.relu(ops.conv(x, self.kernel))
        return x + ops.conv_transpose(x, self.up, strides=1, padding="same")

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


class AdaIN(layers.Layer):
    """A style scales and shifts the channels of an image."""

    def build(self, shapes):
        image, style = shapes
        self.scale = self.add_weight(shape=(style[-1], image[-1]), initializer="random_normal")
        self.shift = self.add_weight(shape=(style[-1], image[-1]), initializer="random_normal")

    def call(self, inputs):
        x, w = inputs
        mean, variance = ops.moments(x, axes=(1, 2), keepdims=True)
        scale, shift = (ops.matmul(w, k)[:, None, None, :] for k in (self.scale, self.shift))
        return (1 + scale) * (x - mean) / ops.sqrt(variance + 1e-5) + shift


def ada_in():
    z = keras.Input((6,))
    w = layers.Dense(7, "tanh", name="style")(z)
    x = AdaIN()([layers.Reshape((4, 4, 8))(layers.Dense(4 * 4 * 8, name="stem")(z)), w])
    return keras.Model(z, layers.Conv2D(3, 3, name="image")(x))


OWN_WEIGHTS = {
    "pixel_shuffle_any": lambda: of_any_image(layers.Conv2D(16, 1), DepthToSpace()),
    "windows_any": lambda: of_any_image(Windows()),
    "einsum_heads": lambda: between(EinsumHeads()),
    "einsum_heads_any": lambda: between(EinsumHeads(), shape=(None, 5)),
    "own_conv": lambda: between(OwnConv(7), OwnConv(6), shape=(8, 8, 5)),
    "ada_in": ada_in,
    "class_token": lambda: between(ClassToken()),
    "places": lambda: between(Places()),
    "layer_scale": lambda: between(LayerScale()),
    "drop_path": lambda: between(DropPath()),
    "scaled_block": lambda: between(ScaledBlock(9)),
    "scale_and_shift": lambda: between(ScaleAndShift()),
    "square_mix": lambda: between(SquareMix()),
    "gate": lambda: between(Gate()),
    "sliced_table": lambda: between(SlicedTable()),
    "sliced_table_any": lambda: between(SlicedTable(), shape=(None, 5)),
    "moving": lambda: between(Moving()),
    "own_dense": lambda: between(OwnDense(7), OwnDense(6)),
    "rms_norm": lambda: between(RMSNorm()),
}
WRITTEN |= OWN_WEIGHTS


# --- calls ----------------------------------------------------------------------------------------


class Keywords(keras.Model):
    """Keyword tensors, dicts, lists, tuples and None."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = layers.Dense(8, "relu"), layers.Dense(8), layers.Dense(3)
        self.add = Pair()

    def call(self, inputs):
        y = self.one(inputs=inputs["x"])
        out = self.add(y, other=self.two(inputs["x"]), extra=None)
        return {"y": self.three(out["sum"]), "z": (self.three(out["both"][0]), None)[0]}


class Pair(layers.Layer):
    """Returns a dict with a list in it."""

    def call(self, x, other=None, extra=None):
        assert extra is None
        return {"sum": x + other, "both": [x * 2, other]}


class TwoArguments(keras.Model):
    """`call(x, t)`, as a diffusion model has it."""

    def __init__(self):
        super().__init__()
        self.embed, self.one, self.two = layers.Embedding(10, 8), layers.Dense(8), layers.Dense(4)

    def call(self, x, t):
        return self.two(ops.relu(self.one(x) + self.embed(t)))


class DictLayer(layers.Layer):
    """A layer with layers that takes a tuple and returns a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.one = layers.Dense(7, "relu")

    def call(self, inputs):
        x, y = inputs
        return {"a": self.one(x), "b": self.one(y) * 2, "c": [x]}


def keyword_call():
    x = keras.Input((5,))
    y = layers.Dense(16, "relu")(inputs=x)
    return keras.Model(x, layers.Dense(2)(inputs=layers.BatchNormalization()(inputs=y)))


def keyword_attention():
    x = keras.Input((4, 6))
    y = layers.MultiHeadAttention(3, 4)(query=x, value=x, key=x)
    return keras.Model(x, layers.Dense(2)(layers.Dense(8, "relu")(y)))


def dict_layer():
    x, y = keras.Input((5,)), keras.Input((5,))
    out = DictLayer()((x, y))
    return keras.Model([x, y], layers.Dense(2)(out["a"] + out["b"]))


def functions_in_graph():
    x = keras.Input((8, 6))
    y = keras.activations.relu(layers.Dense(10)(x)) * 2
    y = y[:, ::2]
    y = layers.Lambda(lambda t: ops.concatenate([t[..., :3], t[..., 3:]], -1))(1 - y / 3)
    y = layers.Activation(lambda t: ops.where(t > 0, t, 0.1 * t))(layers.Dense(9)(y))
    y = keras.activations.silu(layers.Dense(9)(y))
    return keras.Model(x, layers.Dense(2)(y[..., :7] - 0.5))


def nested_and_shared():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(9, "relu"), layers.Dense(6)])
    x = keras.Input((6,))
    a = keras.Input((6,))
    block = keras.Model(a, layers.Add()([inner(a), a]))
    y = block(block(x))
    return keras.Model(x, layers.Dense(2)(inner(y)))


class Nested(keras.Model):
    """A subclassed model in a functional one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.one, self.two = (
            layers.Conv2D(8, 3, padding="same"),
            layers.Conv2D(6, 3, padding="same"),
        )

    def call(self, x):
        b, h, w, _ = ops.shape(x)
        y = self.two(ops.relu(self.one(x)))
        return ops.reshape(y, (b, h, w, 6))


def nested_subclassed():
    x = keras.Input((8, 8, 3))
    y = Nested()(layers.Conv2D(5, 1)(x))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(y)))


def unet(depth=4):
    """A U-Net for images of any size."""
    x = y = keras.Input((None, None, 3))
    skips = []
    for i in range(depth):
        y = layers.Conv2D(4 + i, 3, padding="same", activation="relu")(y)
        skips.append(y)
        y = layers.MaxPooling2D()(y)
    for skip in skips[::-1]:
        y = layers.Conv2DTranspose(4, 2, strides=2)(y)
        y = layers.Conv2D(5, 3, padding="same")(layers.Concatenate()([y, skip]))
    return keras.Model(x, layers.Conv2D(1, 1)(y))


def far_below(size=75):
    """It needs images of a least size."""
    x = keras.Input((None, None, 3))
    y = layers.Conv2D(6, 9, strides=4, activation="relu")(x)
    y = layers.Conv2D(6, 9, strides=2)(y)
    return keras.Model(
        x, layers.GlobalMaxPooling2D()(layers.Dense(3)(layers.Conv2D(4, 5)(y)[:, :size]))
    )


def equal_lengths():
    x, y = keras.Input((None, 4)), keras.Input((None, 4))
    z = layers.Concatenate()([layers.Dense(8, "relu")(x), layers.Dense(8)(y)])
    return keras.Model([x, y], layers.Dense(2)(z))


class BatchDeviation(layers.Layer):
    """Minibatch standard deviation in groups of four samples (StyleGAN)."""

    def call(self, x):
        b, h, w, c = ops.shape(x)
        y = ops.reshape(x, (4, b // 4, h, w, c))
        y = ops.sqrt(ops.var(y, axis=0) + 1e-8)
        y = ops.mean(y, axis=(1, 2, 3), keepdims=True)
        y = ops.broadcast_to(ops.tile(y, (4, 1, 1, 1)), (b, h, w, 1))
        return ops.concatenate([x, y], axis=-1)


def batch_deviation():
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(8, 3, activation="relu")(x)
    y = layers.Conv2D(6, 3, activation="relu")(BatchDeviation()(y))
    return keras.Model(x, layers.Dense(1)(layers.Flatten()(y)))


class OnBatch(keras.Model):
    """Called on a batch, never built with a shape."""

    def __init__(self):
        super().__init__()
        self.one, self.two = layers.Conv2D(8, 3, activation="relu"), layers.Conv2D(8, 3)
        self.flat, self.head = layers.Flatten(), layers.Dense(3)

    def call(self, x):
        return self.head(self.flat(self.two(self.one(x))))


class BodyOnBatch(keras.Model):
    """A Sequential in it has the batch size of the first call."""

    def __init__(self):
        super().__init__()
        self.body = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(7, "relu")])
        self.head = layers.Dense(3)

    def call(self, x):
        return self.head(self.body(x))


def larger_input():
    x = keras.Input((None, None, 3))
    y = layers.Conv2D(5, 3, padding="same", activation="relu")(x)
    body = keras.Model(x, layers.Conv2D(6, 3, strides=2)(y))
    x = keras.Input((12, 12, 3))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(body(x))))


CALLS = {
    "body_on_batch": lambda: built(BodyOnBatch(), np.zeros((4, 5), "float32")),
    "larger_input": larger_input,
    "keywords": lambda: built(Keywords(), {"x": np.zeros((4, 5), "float32")}),
    "two_arguments": lambda: built(
        TwoArguments(), np.zeros((4, 5), "float32"), np.zeros(4, "int32")
    ),
    "keyword_call": keyword_call,
    "keyword_attention": keyword_attention,
    "dict_layer": dict_layer,
    "functions_in_graph": functions_in_graph,
    "nested_and_shared": nested_and_shared,
    "nested_subclassed": nested_subclassed,
    "unet": unet,
    "far_below": far_below,
    "equal_lengths": equal_lengths,
    "batch_deviation": batch_deviation,
    "on_batch": lambda: built(OnBatch(), image(8)),
}
WRITTEN |= CALLS
if keras.backend.backend() != "tensorflow":
    # Keras itself cannot build them with unknown sizes on these backends.
    for name in ("split_in_two_any", "sliced_table_any", "batch_deviation"):
        del WRITTEN[name]
