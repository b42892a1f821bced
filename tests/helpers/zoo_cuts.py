"""Networks in which a special layer itself is cut, or stands in front of a layer that is cut.

`CUT_ZOO` has a function for each, which returns a new model. `shrink` must give its outputs.
"""

import keras
import numpy as np
from keras import layers, ops
from zoo import sequential
from zoo_layers import FEATURES, Penalty, Swish, normal, relu, wave


class Cell(layers.Layer):
    """A recurrent cell whose `get_config` lacks an argument, with a constant."""

    def __init__(self, units, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units
        self.gain = gain
        self.mixing = normal(units, units)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x, states, training=None):
        h = ops.tanh(ops.matmul(x, self.kernel) * self.gain + ops.matmul(states[0], self.mixing))
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Times(keras.Operation):
    """An operation of a user, with a constant."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


class Sloped(layers.Dense):
    """A Dense layer that forgets an argument. Its activation uses the layer itself."""

    def __init__(self, units, slope=0.1, **kwargs):
        super().__init__(units, **kwargs)
        self.slope = slope
        self.activation = lambda x: ops.maximum(x, self.slope * x)


class Boosted(layers.Dense):
    """A Dense layer that forgets an argument which `build` needs, and writes a computed kernel."""

    def __init__(self, units, boost=1.0, **kwargs):
        super().__init__(units, **kwargs)
        self.boost = boost

    def build(self, shape):
        super().build(shape)
        self.factor = 2.0 * self.boost

    @property
    def kernel(self):
        return self._kernel * self.factor

    def get_config(self):
        return {**layers.Dense.get_config(self)}


class SavesItself(layers.Layer):
    """It saves a constant in a way of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = normal(FEATURES)

    def call(self, x):
        return x * ops.convert_to_tensor(self.table)

    def save_own_variables(self, store):
        store["table"] = self.table

    def load_own_variables(self, store):
        self.table = np.asarray(store["table"])


class NoConfiguration(layers.Layer):
    """A layer without weights that has no configuration."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor


def chain(*inner, shape=(FEATURES,), **options):
    """Return a Sequential model: a Dense layer that can be cut, some layers, and a last Dense layer."""
    return keras.Sequential(
        [
            keras.Input(shape, **options),
            layers.Dense(8, name="front"),
            *inner,
            layers.Dense(3, name="head"),
        ]
    )


def own_operation():
    x = keras.Input((FEATURES,))
    y = layers.Dense(8, "relu", name="hidden")(Times(normal(FEATURES))(x))
    return keras.Model(x, layers.Dense(3)(y))


def changed_activation():
    model = sequential(layers.Dense(8, "relu", name="changed"))
    model.get_layer("changed").activation = wave
    return model


def tf_idf():
    layer = layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(["the cat sat", "the dog ran", "a cat ran far"])
    return sequential(layer, shape=(), dtype="string")


def torch_module():
    import torch

    linear = torch.nn.Linear(FEATURES, 8)
    return sequential(layers.TorchModuleWrapper(linear, output_shape=(None, 8)))


def stateful_in_front():
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(4, 5, FEATURES)),
            layers.Dense(8, name="front"),
            layers.LSTM(6, stateful=True, unroll=True),
            layers.Dense(3, name="head"),
        ]
    )
    model(normal(4, 5, FEATURES))
    return model


CUT_ZOO = {
    "own_cell": lambda: sequential(layers.RNN(Cell(6, 2.0)), shape=(4, FEATURES)),
    "own_operation": own_operation,
    "layer_as_activation": lambda: sequential(
        layers.Dense(8, activation=layers.LeakyReLU(negative_slope=0.4))
    ),
    "lambda_in_wrapper": lambda: sequential(
        layers.TimeDistributed(layers.Dense(6, activation=lambda x: ops.sin(x))),
        layers.Flatten(),
        shape=(4, FEATURES),
    ),
    "own_relu_in_bidirectional": lambda: sequential(
        layers.Bidirectional(layers.GRU(4, activation=relu)), shape=(4, FEATURES)
    ),
    "own_object_in_spectral_norm": lambda: sequential(
        layers.SpectralNormalization(layers.Dense(6, activation=Swish(2.0)))
    ),
    "own_function_and_penalty": lambda: sequential(
        layers.Dense(8, activation=lambda x: ops.sin(x), kernel_regularizer=Penalty())
    ),
    "sloped": lambda: sequential(Sloped(8, 0.7)),
    "boosted": lambda: sequential(Boosted(8, 2.0)),
    "changed_activation": changed_activation,
    "saves_itself": lambda: sequential(SavesItself()),
    "no_configuration": lambda: sequential(NoConfiguration(normal(FEATURES))),
    "lambda_arguments": lambda: sequential(
        layers.Lambda(lambda x, w: x * w, arguments={"w": normal(FEATURES)})
    ),
    "stateful_in_front": stateful_in_front,
    "relu_between": lambda: chain(layers.Activation(relu)),
    "two_lambdas": lambda: sequential(layers.Lambda(wave), layers.Lambda(relu)),
}
if keras.backend.backend() == "tensorflow":
    CUT_ZOO["tf_idf"] = tf_idf
if keras.backend.backend() == "torch":
    CUT_ZOO["torch_module"] = torch_module
