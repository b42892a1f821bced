"""`shrink`: the smaller model can be loaded from its file, or it is said at once that it cannot."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import PruningNotice


class Block(layers.Layer):
    """A block that writes its own arguments only: what is in it is written first after the cut."""

    def __init__(self, case, **kwargs):
        super().__init__(**kwargs)
        self.case = case
        self.inner = INSIDE[case](self.dtype_policy)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        return {**super().get_config(), "case": self.case}


class Times(layers.Layer):
    """Has no `get_config`: Keras records the arguments, if all are plain values."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor


class Scale(Times):
    """Has weights, too."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="random_normal")

    def call(self, x):
        return x * self.scale * self.factor


class Forgets(Times):
    """Cannot be made from its configuration: its operations take its place."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.twice = 2 * factor

    def call(self, x):
        return x * self.twice


class WritesMore(Scale):
    """Writes a computed value, which its constructor does not take."""

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "doubled": 2 * self.factor}


class BuildsLate(layers.Layer):
    """Its inner layer is built by a call only, and Keras never calls it: it knows the shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = self.add_weight(shape=(1, 3), name="table")
        self.inner = layers.LayerNormalization()

    def call(self, x):
        return x + keras.ops.mean(self.inner(self.table))

    def compute_output_shape(self, shape):
        return shape


def bent(x):
    return keras.ops.tanh(x) + 0.1 * x


# What is in the block, made with the dtype policy of the block.
INSIDE = {
    "identity": lambda dtype: layers.Identity(dtype=dtype),
    "own without weights": lambda dtype: Times(3.0, dtype=dtype),
    "own with weights": lambda dtype: Scale(3.0, dtype=dtype),
    "of keras": lambda dtype: layers.Activation("tanh", dtype=dtype),
    "forgets": lambda dtype: Forgets(3.0, dtype=dtype),
    "writes more": lambda dtype: WritesMore(3.0, dtype=dtype),
    "builds late": lambda dtype: BuildsLate(dtype=dtype),
    "function": lambda dtype: layers.Activation(bent, dtype=dtype),
}
CLASSES = {cls.__name__: cls for cls in (Block, Times, Scale, Forgets, WritesMore, BuildsLate)}
X = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")


def shrunk(layer, keep=None):
    """Return a smaller model with a layer in it, and what was said."""
    x = keras.Input((5,))
    y = layers.Dense(8, "relu", name="a")(x)
    model = keras.Model(x, layers.Dense(2)(layer(y)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small = kgp.shrink(model, sparsity=0.5, keep=keep)
    return model, small, [str(w.message) for w in caught if w.category is PruningNotice]


def loads(small, path, objects=CLASSES):
    small.save(path)
    again = keras.models.load_model(path, custom_objects=objects)
    np.testing.assert_array_equal(small(X), again(X))


@pytest.mark.parametrize(
    "case",
    ["identity", "own without weights", "own with weights", "of keras", "forgets", "builds late"],
)
def test_it_loads(case, tmp_path):
    keep = layers.LayerNormalization if case == "builds late" else None
    _, small, said = shrunk(Block(case), keep)
    assert said == []
    loads(small, tmp_path / "small.keras")


@pytest.mark.parametrize(
    ("case", "part"),
    [
        ("writes more", "{'doubled': 6.0}). Let `WritesMore.from_config(layer.get_config())` work"),
        ("function", "Give `load_model` the function, `custom_objects={'bent': ...}`"),
    ],
)
def test_it_is_said_that_it_does_not_load(case, part, tmp_path):
    model, small, said = shrunk(Block(case, name="block"))
    assert len(said) == 1 and part in said[0], said
    with pytest.raises((TypeError, ValueError, NotImplementedError)):
        loads(small, tmp_path / "small.keras")
    # What the text offers works.
    if case == "function":
        loads(small, tmp_path / "function.keras", {**CLASSES, "bent": bent})
    small.save_weights(tmp_path / "small.weights.h5")
    expected = small(X)
    with pytest.warns(PruningNotice):
        again = kgp.shrink(model, sparsity=0.5)
    for weight in again.weights:
        weight.assign(keras.ops.zeros_like(weight))
    again.load_weights(tmp_path / "small.weights.h5")
    np.testing.assert_array_equal(expected, again(X))


def test_nothing_is_said_if_the_file_of_the_user_is_as_good():
    """Somebody who writes such a layer into their model knows what `load_model` needs."""
    assert shrunk(layers.Activation(bent))[2] == []
