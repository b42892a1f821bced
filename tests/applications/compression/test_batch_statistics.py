"""A pruned network that was trained for a short time has the batch statistics of its own weights."""

import keras
import numpy as np
import pytest
from cases import cases

import keras_ganprune as kgp
from keras_ganprune.applications.compression.training import Trainer

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")


def classifier(momentum):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16),
            keras.layers.BatchNormalization(momentum=momentum, name="norm"),
            keras.layers.ReLU(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    return model


def statistics(model):
    norm = model.get_layer("norm")
    return [keras.ops.convert_to_numpy(v) for v in (norm.moving_mean, norm.moving_variance)]


@cases((0.99,), "momentum", [0.99, 0.1])
@pytest.mark.parametrize("goal", [{"sparsity": 0.5}, {"budget": kgp.Budget(macs=0.5)}], ids=str)
@pytest.mark.full
def test_batch_statistics_are_measured_where_moving_averages_lag(momentum, goal):
    measured_anew = momentum == 0.99
    result = kgp.compress(
        classifier(momentum), (X, Y), **goal, epochs=8, baseline=False, seed=0, verbose=0
    )
    found = statistics(result.network)
    kgp.recalibrate_batch_norm(result.network, X[: Trainer.recalibrated])
    same = [
        np.allclose(a, b, atol=1e-6) for a, b in zip(found, statistics(result.network), strict=True)
    ]
    assert all(same) == measured_anew
    assert ("recalibrate_batch_norm" in str(result.recipe)) == measured_anew
    # What is shipped is the network of the model.
    assert all(map(np.array_equal, found, statistics(result.model)))
