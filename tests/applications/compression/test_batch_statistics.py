"""A sparse network that was trained for a short time has the batch statistics of its own weights."""

import keras
import numpy as np
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


@cases(1, ("momentum", "measured_anew"), [(0.99, True), (0.1, False)])
def test_batch_statistics_are_measured_where_moving_averages_lag(momentum, measured_anew):
    result = kgp.compress(
        classifier(momentum), (X, Y), sparsity=0.5, epochs=4, baseline=False, seed=0, verbose=0
    )
    found = statistics(result.network)
    kgp.recalibrate_batch_norm(result.network, X[: Trainer.recalibrated])
    same = [
        np.allclose(a, b, atol=1e-6) for a, b in zip(found, statistics(result.network), strict=True)
    ]
    assert all(same) == measured_anew
    assert ("recalibrate_batch_norm" in str(result.recipe)) == measured_anew
