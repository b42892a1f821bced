"""`SoftShrinkage`: at an update pruned weights become smaller, and at the end they are zero."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.tensors import to_numpy


def dense():
    keras.utils.set_random_seed(2)
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, use_bias=False)])


def value(model):
    return np.array(to_numpy(model.layers[0].kernel))


def largest(array, n):
    keep = np.zeros(array.size, bool)
    keep[np.argsort(-np.abs(array).ravel(), kind="stable")[:n]] = True
    return keep.reshape(array.shape)


def test_an_update_multiplies_what_is_pruned():
    model = dense()
    before = value(model)
    pruner = kgp.Pruner(model, mode=kgp.SoftShrinkage(0.25, "constant"))
    pruner.update(sparsity=0.5)
    first = np.where(largest(before, 24), before, np.float32(0.25) * before)
    np.testing.assert_allclose(value(model), first, 1e-6)
    assert not pruner.held and pruner.sparsity == 0.5
    pruner.update(sparsity=0.75)
    second = np.where(largest(first, 12), first, np.float32(0.25) * first)
    np.testing.assert_allclose(value(model), second, 1e-6)
    pruner.hold()
    np.testing.assert_allclose(value(model), np.where(largest(second, 12), second, 0), 1e-6)


def test_the_factor_falls_with_the_schedule():
    model = dense()
    before = value(model)
    kgp.Pruner(model, mode=kgp.SoftShrinkage(0.5)).update(sparsity=0.5, progress=0.5)
    factor = 0.5 * (1 + np.cos(np.pi * 0.5)) / 2
    np.testing.assert_allclose(
        value(model), np.where(largest(before, 24), before, factor * before), 1e-6
    )


class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.nonzero = []

    def on_train_batch_end(self, batch, logs=None):
        self.nonzero.append(np.count_nonzero(to_numpy(self.model.layers[0].kernel)))


@pytest.mark.parametrize(
    "granularity", ["unstructured", pytest.param("channel", marks=pytest.mark.full)]
)
def test_in_fit_nothing_is_zero_until_the_end(granularity):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "tanh", use_bias=False), layers.Dense(3)]
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=False)
    schedule = kgp.Linear(0.5, begin_step=1, end_step=9)
    prune = kgp.Prune(
        schedule, frequency=2, granularity=granularity, mode="soft_shrinkage", verbose=0
    )
    x = np.random.default_rng(0).normal(size=(48, 6))
    seen = Seen()
    model.fit(x, x[:, :3], batch_size=4, verbose=0, callbacks=[prune, seen])
    assert seen.nonzero == 8 * [48] + 4 * [24]
    report = kgp.sparsity_report(model)
    assert prune.pruner.held and report.sparsity > 0.4
    if granularity == "channel":
        assert kgp.shrink(model).layers[0].units == 4


def test_a_network_by_its_share_of_the_macs():
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(3)])
    granularity = kgp.Channel(of="macs")
    pruner = kgp.Pruner(model, granularity=granularity, mode=kgp.SoftShrinkage(0.5, "constant"))
    before = np.array(to_numpy(model.layers[0].kernel))
    pruner.update(sparsity=0.5)
    ratio = np.linalg.norm(to_numpy(model.layers[0].kernel), axis=0)
    ratio = ratio / np.linalg.norm(before, axis=0)
    np.testing.assert_allclose(np.sort(ratio), [0.5] * 4 + [1.0] * 4, 1e-5)


@pytest.mark.parametrize("factor", [0.0, 1.0, -0.1, "half"])
def test_refused(factor):
    with pytest.raises(InvalidArgumentError, match="factor"):
        kgp.SoftShrinkage(factor)
