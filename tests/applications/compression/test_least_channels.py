"""No layer is left with so few channels that nothing passes through it."""

import math

import keras
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")


def classifier():
    """Return a network with a branch of which a ranking would keep one channel: the others do nothing."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    large = layers.Dense(2)(layers.Dense(64, "relu", name="large")(inputs))
    small = layers.Dense(2, name="faint")(layers.Dense(32, "relu", name="small")(inputs))
    model = keras.Model(inputs, layers.Add()([large, small]))
    faint = model.get_layer("faint")
    used = np.where(np.arange(32)[:, None] == 3, 1.0, 1e-7)
    faint.kernel.assign(used * faint.kernel)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-4), loss)
    return model


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_every_group_keeps_a_quarter_of_an_equal_width(share):
    result = kgp.compress(
        classifier(), (X, Y), budget={"macs": share}, epochs=4, baseline=False, verbose=0
    )
    least = 0.25 * math.sqrt(share)
    assert result.network.get_layer("small").units == math.ceil(32 * least)
    assert f"GlobalRanking(minimum={round(least, 6):.6g})" in str(result.recipe)


@pytest.mark.full
def test_a_budget_that_needs_less_is_met_all_the_same():
    """The layer behind the first one keeps its inputs, so that little is left for the budget."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(4, "relu", name="narrow"), layers.Dense(2)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    result = kgp.compress(model, (X, Y), budget={"macs": 0.25}, epochs=4, baseline=False, verbose=0)
    assert result.network.get_layer("narrow").units == 1
