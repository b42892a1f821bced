"""The functions, layers and models of a user's own that the networks of `zoo` are made of."""

import keras
import numpy as np
from keras import layers, ops

RNG = np.random.default_rng(7)
BACKEND = keras.backend.backend()
FEATURES = 12


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


# --- functions with the names of Keras's ------------------------------------------------------------


def relu(x):
    return ops.sin(3.0 * x)


def gelu(x):
    return x * ops.sigmoid(5.0 * x)


def leaky_relu(x):
    return ops.maximum(x, 0.7 * x)


def wave(x):
    return ops.cos(2.0 * x)


class Swish:
    """A callable object without configuration."""

    def __init__(self, beta):
        self.beta = beta

    def __call__(self, x):
        return x * ops.sigmoid(self.beta * x)


W = normal(FEATURES, FEATURES)


def times_global(x):
    return ops.matmul(x, W)


# --- own layers -----------------------------------------------------------------------------------------


class Fourier(layers.Layer):
    """Random features, drawn in `__init__`."""

    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.frequencies = normal(FEATURES, width)
        self.phases = ops.convert_to_tensor(normal(width))

    def call(self, x):
        return ops.sin(ops.matmul(x, self.frequencies) + self.phases)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class Codebook(layers.Layer):
    """A table that is no weight: an untracked variable of the backend."""

    def __init__(self, size=10, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        table = normal(size, FEATURES)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            table = tf.Variable(table, trainable=False)
        elif BACKEND == "torch":
            import torch

            table = torch.nn.Parameter(torch.tensor(table), requires_grad=False)
        else:
            table = ops.convert_to_tensor(table)
        object.__setattr__(self, "table", [table])

    def call(self, x):
        nearest = ops.argmax(ops.matmul(x, ops.transpose(ops.convert_to_tensor(self.table[0]))), -1)
        return ops.take(ops.convert_to_tensor(self.table[0]), nearest, axis=0)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


class TrackedCodebook(layers.Layer):
    """A table that Keras tracks: an attribute set in `__init__`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = keras.Variable(normal(10, FEATURES), trainable=False, name="table")

    def call(self, x):
        nearest = ops.argmax(ops.matmul(x, ops.transpose(self.table)), -1)
        return ops.take(self.table, nearest, axis=0)


class FrameworkVariable(layers.Layer):
    """A `tf.Variable` as an attribute (an array on other backends)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.scale = normal(FEATURES)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            self.scale = tf.Variable(self.scale)

    def call(self, x):
        return x * ops.convert_to_tensor(self.scale)


class Buffer(layers.Layer):
    """A buffer of PyTorch (an array on other backends)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if BACKEND == "torch":
            import torch

            self.register_buffer("shift", torch.tensor(normal(FEATURES)))
        else:
            self.shift = normal(FEATURES)

    def call(self, x):
        return x + ops.convert_to_tensor(self.shift)


class NoKwargs(layers.Layer):
    """Its `__init__` takes no `name`, `dtype` or `trainable`."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Forgetful(layers.Layer):
    """Its `get_config` lacks an argument."""

    def __init__(self, power=1.0, shifts=(0.0, 0.0), **kwargs):
        super().__init__(**kwargs)
        self.power = power
        self.shifts = shifts

    def call(self, x):
        return ops.tanh(x) * self.power + self.shifts[0] - self.shifts[1]


class ForgetfulUnits(layers.Layer):
    """Its `get_config` lacks an argument that has no default."""

    def __init__(self, power, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def call(self, x):
        return ops.tanh(x) * self.power

    def get_config(self):
        return super().get_config()


class Callables(layers.Layer):
    """It keeps functions and a helper object with an array."""

    class Helper:
        def __init__(self):
            self.matrix = normal(FEATURES, FEATURES)

    def __init__(self, function=ops.tanh, **kwargs):
        super().__init__(**kwargs)
        self.functions = [function, lambda x: x + 0.5]
        self.helper = self.Helper()

    def call(self, x):
        for function in self.functions:
            x = function(x)
        return ops.matmul(x, self.helper.matrix)


class Late(layers.Layer):
    """It gets an attribute after it was made."""

    offset = 0.0

    def call(self, x):
        return x + self.offset


class Sampling(layers.Layer):
    """It draws random numbers in inference, from a seed generator."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=self.generator)


class Penalty:
    """A regularizer without configuration."""

    def __call__(self, w):
        return 0.01 * ops.sum(ops.square(w))


class Start(keras.initializers.Initializer):
    """An initializer without configuration."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, shape, dtype=None):
        return self.scale * ops.ones(shape, dtype)


class Bound(keras.constraints.Constraint):
    """A constraint without configuration."""

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, w):
        return ops.clip(w, -self.limit, self.limit)


class Constants(keras.Model):
    """A subclassed model with constants of its own."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.mixing = normal(FEATURES, FEATURES)
        self.factor = factor
        self.hidden = layers.Dense(16, activation="relu", name="hidden")
        self.head = layers.Dense(3, name="head")

    def call(self, x):
        return self.factor * self.head(self.hidden(ops.matmul(x, self.mixing)))


class Arguments(keras.Model):
    """A subclassed model with two positional arguments, the second one ints."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(16, activation="relu", name="hidden")
        self.time = layers.Embedding(100, 16, name="time")
        self.head = layers.Dense(3, name="head")

    def call(self, x, t):
        return self.head(self.hidden(x) + self.time(t))


class NoConfig(keras.Model):
    """A subclassed model whose arguments have no configuration."""

    def __init__(self, inner, head):
        super().__init__()
        self.inner, self.head = inner, head

    def call(self, x):
        return self.head(self.inner(x))

    def get_config(self):
        raise NotImplementedError
