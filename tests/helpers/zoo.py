"""Networks that a copy can get wrong: states, vocabularies, constants, own functions, odd configurations.

`ZOO` has a function for each of them, which returns a new model and a batch for it (None: any batch of its
own inputs). Each model has a Dense layer that can be pruned. `TENSORFLOW` has the names of those that need
TensorFlow's own operations.
"""

import keras
import numpy as np
from keras import layers, ops
from zoo_layers import (
    FEATURES,
    Arguments,
    Bound,
    Buffer,
    Callables,
    Codebook,
    Constants,
    Forgetful,
    ForgetfulUnits,
    Fourier,
    FrameworkVariable,
    Late,
    NoConfig,
    NoKwargs,
    Penalty,
    Sampling,
    Start,
    Swish,
    TrackedCodebook,
    W,
    gelu,
    leaky_relu,
    normal,
    relu,
    times_global,
    wave,
)

BACKEND = keras.backend.backend()


def sequential(*inner, shape=(FEATURES,), dtype=None, **options):
    """Return a Sequential model of some layers and two Dense layers."""
    return keras.Sequential(
        [
            keras.Input(shape, dtype=dtype, **options),
            *inner,
            layers.Dense(16, activation="tanh", name="hidden"),
            layers.Dense(3, name="head"),
        ]
    )


# --- models ---------------------------------------------------------------------------------------------


def _moved(model, *arrays):
    """Run a model in training, so that statistics and states move, and return it."""
    model(*arrays, training=True)
    return model


def conv_transpose():
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(4 * 4 * 4, name="hidden"),
            layers.Reshape((4, 4, 4)),
            layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(2, 3, padding="same", activation="tanh"),
        ]
    )


def stateful():
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(4, 5, FEATURES)),
            layers.LSTM(6, stateful=True, return_sequences=True),
            layers.GRU(5, stateful=True),
            layers.Dense(3, name="head"),
        ]
    )
    model(normal(4, 5, FEATURES))  # moves the states
    return model


def normalization():
    layer = layers.Normalization()
    layer.adapt(5.0 + 3.0 * normal(200, FEATURES))
    return sequential(layer)


def batch_norm():
    model = sequential(layers.BatchNormalization(momentum=0.5))
    return _moved(model, 5.0 + 3.0 * normal(64, FEATURES))


def string_lookup():
    lookup = layers.StringLookup(vocabulary=["red", "green", "blue"])
    return sequential(lookup, layers.Embedding(4, 5), layers.Flatten(), shape=(3,), dtype="string")


def integer_lookup():
    lookup = layers.IntegerLookup()
    lookup.adapt(np.asarray([[3], [50], [50], [1000]]))
    return sequential(lookup, layers.Embedding(4, 5), layers.Flatten(), shape=(3,), dtype="int64")


def text():
    layer = layers.TextVectorization(output_sequence_length=6)
    layer.adapt(["the cat sat", "the dog ran", "a cat ran far"])
    size = layer.vocabulary_size()
    return sequential(layer, layers.Embedding(size, 5), layers.Flatten(), shape=(), dtype="string")


def categories():
    return sequential(
        layers.CategoryEncoding(7, output_mode="multi_hot"), shape=(3,), dtype="int32"
    )


def discretization():
    edges = {"bin_boundaries": [-80.0, -20.0, 30.0, 90.0]}
    adapts = BACKEND == "tensorflow"
    layer = layers.Discretization(output_mode="one_hot", **({"num_bins": 5} if adapts else edges))
    if adapts:
        layer.adapt(100.0 * normal(200, 1))
    return sequential(layer, layers.Flatten(), shape=(1,))


def nested():
    inner = keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(8, "relu"), layers.BatchNormalization()],
        name="inner",
    )
    x = keras.Input((FEATURES,))
    inner_block = keras.Model(x, layers.Dense(FEATURES, "tanh")(x), name="block")
    return _moved(sequential(inner_block, inner), normal(8, FEATURES))


def shared():
    dense = layers.Dense(FEATURES, activation="tanh", name="shared")
    return sequential(dense, layers.LayerNormalization(), dense)


def repeated():
    activation = layers.LeakyReLU(0.3)
    block = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8), activation, layers.Dense(8), activation]
    )
    return sequential(layers.Dense(8), activation, block, activation)


def inputs_in(kind):
    def make():
        image = keras.Input((FEATURES,), name="image")
        label = keras.Input((), dtype="int32", name="label")
        x = layers.Dense(8, name="hidden")(image) + layers.Embedding(10, 8)(label)
        inputs = [image, label] if kind is list else {"image": image, "label": label}
        return keras.Model(inputs, layers.Dense(3, name="head")(ops.tanh(x)))

    return make


def unknown_sizes():
    x = keras.Input((None, None, 3))
    y = layers.Conv2D(4, 9, activation="relu")(x)
    return keras.Model(x, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(y)))


def mixed_precision():
    policy = keras.DTypePolicy("mixed_bfloat16")
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(16, "relu", dtype=policy),
            layers.BatchNormalization(dtype=policy),
            layers.Dense(3, dtype="float32", name="head"),
        ]
    )


def late_attribute():
    layer = Late()
    layer.offset = 2.5
    return sequential(layer)


def attention():
    x = keras.Input((6,), dtype="int32")
    y = layers.Embedding(20, 8, mask_zero=True)(x)
    y = layers.MultiHeadAttention(2, 4)(y, y) + y
    return keras.Model(x, layers.Dense(3, name="head")(layers.LSTM(5)(y)))


def scale_constant():
    x = keras.Input((FEATURES,))
    y = layers.Dense(16, "relu", name="hidden")(x * W[0] - 1.5)
    return keras.Model(x, layers.Dense(3, name="head")(y))


def no_config():
    model = NoConfig(
        layers.Dense(16, activation=lambda x: ops.sin(x)), layers.Dense(3, name="head")
    )
    model(normal(2, FEATURES))
    return model


def called(make, *arrays):
    def build():
        model = make()
        model(*arrays)
        return model

    return build


TENSORFLOW = {"string_lookup", "integer_lookup", "text", "hashing"}

ZOO = {
    "dense": lambda: (sequential(), None),
    "conv_transpose": lambda: (conv_transpose(), None),
    "gru": lambda: (sequential(layers.GRU(6), shape=(5, FEATURES)), None),
    "bidirectional": lambda: (
        sequential(layers.Bidirectional(layers.LSTM(4)), shape=(5, FEATURES)),
        None,
    ),
    "stateful": lambda: (stateful(), None),
    "embedding": lambda: (
        sequential(layers.Embedding(50, 4), layers.Flatten(), shape=(5,), dtype="int32"),
        None,
    ),
    "attention": lambda: (attention(), None),
    "spectral_norm": lambda: (
        _moved(sequential(layers.SpectralNormalization(layers.Dense(8))), normal(8, FEATURES)),
        None,
    ),
    "normalization": lambda: (normalization(), None),
    "normalization_arguments": lambda: (
        sequential(layers.Normalization(mean=5.0, variance=9.0)),
        None,
    ),
    "batch_norm": lambda: (batch_norm(), None),
    "rescaling": lambda: (sequential(layers.Rescaling(1 / 127.5, -1.0)), None),
    "string_lookup": lambda: (string_lookup(), None),
    "integer_lookup": lambda: (integer_lookup(), None),
    "text": lambda: (text(), None),
    "category_encoding": lambda: (categories(), None),
    "discretization": lambda: (discretization(), None),
    "hashing": lambda: (
        sequential(
            layers.Hashing(8), layers.Embedding(8, 4), layers.Flatten(), shape=(3,), dtype="int32"
        ),
        None,
    ),
    "dropout": lambda: (_moved(sequential(layers.Dropout(0.5, seed=3)), normal(4, FEATURES)), None),
    "sampling": lambda: (sequential(Sampling()), None),
    "fourier": lambda: (sequential(Fourier()), None),
    "codebook": lambda: (sequential(Codebook()), None),
    "tracked_codebook": lambda: (sequential(TrackedCodebook()), None),
    "framework_variable": lambda: (sequential(FrameworkVariable()), None),
    "buffer": lambda: (sequential(Buffer()), None),
    "own_relu": lambda: (sequential(layers.Dense(8, activation=relu)), None),
    "own_gelu": lambda: (
        sequential(layers.Conv1D(8, 3, activation=gelu), layers.Flatten(), shape=(5, 3)),
        None,
    ),
    "own_leaky_relu": lambda: (sequential(layers.Activation(leaky_relu)), None),
    "activation_function": lambda: (sequential(layers.Activation(wave)), None),
    "activation_lambda": lambda: (
        sequential(layers.Dense(8, activation=lambda x: ops.sin(x))),
        None,
    ),
    "activation_object": lambda: (sequential(layers.Dense(8, activation=Swish(1.7))), None),
    "activation_in_rnn": lambda: (
        sequential(layers.GRU(6, activation=wave), shape=(5, FEATURES)),
        None,
    ),
    "lambda_global": lambda: (sequential(layers.Lambda(lambda t: ops.matmul(t, W))), None),
    "lambda_named": lambda: (sequential(layers.Lambda(times_global)), None),
    "no_kwargs": lambda: (sequential(NoKwargs(2.5)), None),
    "forgetful": lambda: (sequential(Forgetful(power=2.0, shifts=(0.5, 0.25))), None),
    "forgetful_units": lambda: (sequential(ForgetfulUnits(2.0)), None),
    "callables": lambda: (sequential(Callables(wave)), None),
    "late_attribute": lambda: (late_attribute(), None),
    "regularizer": lambda: (sequential(layers.Dense(8, kernel_regularizer=Penalty())), None),
    "initializer": lambda: (sequential(layers.Dense(8, kernel_initializer=Start(0.3))), None),
    "constraint": lambda: (sequential(layers.Dense(8, kernel_constraint=Bound(0.3))), None),
    "nested": lambda: (nested(), None),
    "shared": lambda: (shared(), None),
    "repeated": lambda: (repeated(), None),
    "constant_operation": lambda: (scale_constant(), None),
    "subclassed": lambda: (called(lambda: Constants(factor=2.0), normal(2, FEATURES))(), None),
    "two_arguments": lambda: (
        called(Arguments, normal(2, FEATURES), np.zeros(2, "int32"))(),
        None,
    ),
    "no_config": lambda: (no_config(), None),
    "list_of_inputs": lambda: (inputs_in(list)(), None),
    "dict_of_inputs": lambda: (inputs_in(dict)(), None),
    "unknown_sizes": lambda: (unknown_sizes(), None),
    "mixed_precision": lambda: (mixed_precision(), None),
}


def names():
    """Return the names of the networks that this backend can build."""
    return [name for name in ZOO if BACKEND == "tensorflow" or name not in TENSORFLOW]
