"""`Shrink` in `fit`: the new network gives the outputs of the old one, or nothing is replaced.

Table: networks of `zoo` and `zoo_cuts`. What a layer has beside its weights survives the cut.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from zoo import ZOO, names, sequential
from zoo_cuts import CUT_ZOO, chain
from zoo_layers import FEATURES, normal, relu

import keras_ganprune as kgp
from keras_ganprune.errors import DifferentOutputsError
from keras_ganprune.layers.inference import run
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.pruning.structured.rules import registry

# Without a network that must be told its inputs, which `Shrink` cannot be.
ROWS = {
    **{name: (lambda n=name: ZOO[n]()[0]) for name in names() if name != "two_arguments"},
    **CUT_ZOO,
}
FAST = ("stateful", "normalization", "own_relu")


class Trainer(keras.Model):
    """A model that trains a network, and has an average of it perhaps."""

    def __init__(self, network, average=None):
        super().__init__()
        self.network = network
        if average is not None:
            average.trainable = False
            self.average = average

    def call(self, x, training=None):
        return self.network(x, training=training)


def fit(trainer, x, *callbacks):
    """Train for one step on one batch."""
    y = ops.zeros_like(run(trainer.network, x))
    if getattr(getattr(x, "dtype", None), "kind", "") == "O":
        x = ops.convert_to_tensor(x, dtype="string")
    n = len(keras.tree.flatten(x)[0])
    data = {"batch_size": n, "epochs": 1, "shuffle": False, "verbose": 0}
    return trainer.fit(x, ops.convert_to_numpy(y), callbacks=list(callbacks), **data).history[
        "loss"
    ]


def masked_trainer(network, average=None):
    """Return a trainer of a network that has lost half of its channels, and its optimizer."""
    kgp.Pruner(network, granularity="channel").update(sparsity=0.5)
    if average is not None:
        kgp.copy_masks(network, average)
    trainer = Trainer(network, average)
    # On TensorFlow, tracing costs more than a step.
    eager = keras.backend.backend() == "tensorflow"
    trainer.compile(keras.optimizers.Adam(1e-3), "mse", run_eagerly=eager)
    return trainer


def numbers(structure):
    found = keras.tree.flatten(structure)
    return [np.asarray(ops.convert_to_numpy(ops.cast(y, "float64"))) for y in found]


def assert_same(old, new):
    x = probe_inputs(old, batch=7, seed=5)
    for e, a in zip(numbers(run(old, x)), numbers(run(new, x)), strict=True):
        assert a.shape == e.shape
        assert np.max(np.abs(e - a)) <= 2e-5 * np.max(np.abs(e))


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.full) for n in ROWS]
)
def test_the_outputs_and_the_state_of_the_old_network(name):
    try:
        network = ROWS[name]()
    except ImportError as error:
        pytest.skip(str(error))  # Keras's preprocessing layers need TensorFlow
    if keras.backend.backend() == "torch" and name.startswith("stateful"):
        pytest.skip("Keras cannot train a stateful recurrent layer on PyTorch")
    x = probe_inputs(network, batch=4)
    trainer = masked_trainer(network)
    fit(trainer, x, kgp.Shrink(1, "network", verbose=0))
    small = trainer.network
    assert small is not network and small.count_params() < network.count_params()
    assert_same(network, small)
    assert np.all(np.isfinite(fit(trainer, x)))  # training goes on


def with_statistics(mean):
    layer = layers.Normalization()
    layer.adapt(mean + 3.0 * normal(200, FEATURES))
    return sequential(layer, layers.Dense(8, activation=relu))


def test_an_average_keeps_its_own_state_and_functions():
    network, average = with_statistics(5.0), with_statistics(-2.0)
    average.layers[1].activation = ops.tanh
    trainer = masked_trainer(network, average)
    fit(trainer, probe_inputs(network), kgp.Shrink(1, "network", copies="average", verbose=0))
    assert trainer.average is not average and not trainer.average.trainable
    assert_same(network, trainer.network)
    assert_same(average, trainer.average)
    means = [float(ops.convert_to_numpy(n.layers[0].mean).mean()) for n in (network, average)]
    assert means[0] > 3 > 0 > means[1]
    assert np.allclose(ops.convert_to_numpy(trainer.average.layers[0].mean).mean(), means[1])


class Mixes(layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=-1, keepdims=True)


def patched():
    """Return a network whose first layer object has another `call` than its class, which mixes channels."""
    network = sequential()
    layer = network.layers[0]
    original = layer.call

    def mixing(x, training=None):
        return original(x) - ops.mean(original(x), axis=-1, keepdims=True)

    object.__setattr__(layer, "call", mixing)
    return network


@pytest.mark.parametrize(
    ("make", "average", "text"),
    [
        (lambda: chain(Mixes(name="mixes"), layers.Dense(6)), None, r"'mixes' \(Mixes\)"),
        (sequential, patched, r"'hidden' \(Dense\).*The `call` of this one"),
    ],
    ids=["network", "average"],
)
def test_nothing_is_replaced_if_the_outputs_differ(make, average, text, monkeypatch):
    monkeypatch.setattr(registry, "_LAYERS", dict(registry._LAYERS))
    kgp.register_rule(Mixes)(lambda layer, channels, x: x)
    network, copy = make(), average() if average else None
    trainer = masked_trainer(network, copy)
    x = probe_inputs(network)
    fit(trainer, x)
    before = [id(v) for v in trainer.optimizer.variables]
    shapes = [tuple(w.shape) for w in network.weights]
    shrink = kgp.Shrink(2, "network", copies=["average"] if average else None, verbose=0)
    with pytest.raises(DifferentOutputsError, match=text):
        fit(trainer, x, shrink)
    assert trainer.network is network and (copy is None or trainer.average is copy)
    assert [id(v) for v in trainer.optimizer.variables] == before
    assert [tuple(w.shape) for w in network.weights] == shapes and shrink.events == []
    assert np.all(np.isfinite(fit(trainer, x)))


def test_a_check_can_be_left_out(monkeypatch):
    monkeypatch.setattr(registry, "_LAYERS", dict(registry._LAYERS))
    kgp.register_rule(Mixes)(lambda layer, channels, x: x)
    network = chain(Mixes(), layers.Dense(6))
    trainer = masked_trainer(network)
    fit(trainer, probe_inputs(network), kgp.Shrink(1, "network", verify=False, verbose=0))
    assert trainer.network.count_params() < network.count_params()
