"""Threads: tracing patches Keras, one thread at a time, and the other threads do not see it."""

from concurrent.futures import ThreadPoolExecutor

import keras
from keras import layers, ops

import keras_ganprune as kgp


def another_model():
    """Build a model, as another thread may do meanwhile."""
    x = keras.Input((3,))
    y = layers.Dense(2)(x)
    return (x == 1, tuple(y[:, :1].shape), tuple(ops.arange(4).shape))


class Busy(layers.Layer):
    """While its `call` is traced, another thread builds a model."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x):
        with ThreadPoolExecutor(1) as pool:
            self.seen.append(pool.submit(another_model).result())
        return ops.relu(x) + ops.arange(6, dtype="float32")


def network(layer):
    x = keras.Input((5,))
    return keras.Model(x, layers.Dense(2)(layer(layers.Dense(6)(x))))


def test_another_thread_sees_keras_as_it_is():
    layer = Busy()
    model = network(layer)
    layer.seen.clear()
    kgp.channel_groups(model)
    assert set(layer.seen) == {(False, (None, 1), (4,))}


class Body(layers.Layer):
    """A layer that is traced: sizes are read from the tensor."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        b, n = ops.shape(x)
        return ops.reshape(self.dense(ops.relu(ops.reshape(x, (b, n)))), (b, 6))


def test_two_threads_shrink_at_once():
    models = [network(Body()) for _ in range(4)]
    with ThreadPoolExecutor(2) as pool:
        small = list(pool.map(lambda model: kgp.shrink(model, sparsity=0.5), models))
    assert {m.count_params() for m in small} == {18 + 12 + 8}
