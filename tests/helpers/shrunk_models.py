"""Checks of a smaller model against the masked one, and small models to shrink.

Batches have 13 samples: Keras adds (b, t, 1) and (b, 1, 1) wrongly if b == t, so no other axis may have
this size.
"""

import json
import math
import zipfile

import keras
import numpy as np
from architectures import sample_inputs
from keras import layers, ops

import keras_ganprune as kgp

BATCH = 13


def outputs(model, x):
    found = keras.tree.flatten(model(x, training=False))
    return [np.asarray(ops.convert_to_numpy(y), dtype=np.float64) for y in found]


def assert_same(model, small, x, tolerance=1e-5, spread=1e-4):
    """Compare all outputs. Each must vary between samples by `spread` of its largest value."""
    expected, actual = outputs(model, x), outputs(small, x)
    assert [a.shape for a in actual] == [e.shape for e in expected]
    for e, a in zip(expected, actual, strict=True):
        scale = np.max(np.abs(e))
        assert np.max(np.abs(e - a)) <= tolerance * scale
        # An output that is the same for all inputs would prove nothing.
        assert np.max(np.ptp(e, axis=0)) > spread * scale


def all_layers(model):
    return model._flatten_layers(include_self=True)


def assert_plain(model):
    for layer in all_layers(model):
        assert not type(layer).__module__.startswith("keras_ganprune"), layer
    assert not kgp.masked_weights(model)


def count_left(model):
    """Return the number of parameters that the masks leave, counted from the groups."""
    gone = {}
    for group in kgp.channel_groups(model):
        maker = next(s for s in group.slices if s.weight.role == "out")
        mask = np.asarray(maker.weight.variable.constraint.mask)
        along = mask.any(axis=tuple(a for a in range(mask.ndim) if a != maker.weight.axis))
        kept = set(maker.units[along].tolist()) - {-1}
        for piece in group.slices:
            lost = sum(unit >= 0 and unit not in kept for unit in piece.units.tolist())
            key = id(piece.weight.variable), piece.weight.axis
            gone[key] = gone.get(key, 0) + lost
    return sum(
        math.prod(size - gone.get((id(w), axis), 0) for axis, size in enumerate(w.shape))
        for w in model.weights
    )


def train_one_step(model, seed=0):
    rng = np.random.default_rng(seed)
    x = sample_inputs(model, seed=seed)
    targets = [rng.standard_normal(y.shape, dtype="float32") for y in outputs(model, x)]
    return model.train_on_batch(x, targets)


def compile_any(model):
    losses = ["mse"] * len(keras.tree.flatten(model.outputs))
    model.compile(keras.optimizers.SGD(1e-3), losses, run_eagerly=True, jit_compile=False)


def assert_loads_anywhere(small, x, path):
    small.save(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    assert "keras_ganprune" not in json.dumps(config)
    loaded = keras.models.load_model(path)
    for expected, actual in zip(outputs(small, x), outputs(loaded, x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.max(np.abs(expected)))


def assert_trains(small):
    compile_any(small)
    before = [w.numpy() for w in small.trainable_variables]
    loss = train_one_step(small)
    assert np.all(np.isfinite(loss))
    after = [w.numpy() for w in small.trainable_variables]
    assert any(np.any(a != b) for a, b in zip(before, after, strict=True))
    assert all(np.all(np.isfinite(a)) for a in after)


def unmask(model, values):
    for weight in kgp.masked_weights(model):
        weight.mask.assign(np.ones(weight.mask.shape, bool))
    model.set_weights(values)


def small_mlp(**first):
    """Return 5 -> 8 -> 6 -> 2, with weights that are nowhere zero."""
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, "tanh", name="a", **first),
            layers.Dense(6, "tanh", name="b"),
            layers.Dense(2, name="c"),
        ]
    )
    return random_weights(model)


def random_weights(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "variance" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif "float" in variable.dtype:
            variable.assign(rng.normal(0.1, 0.5, variable.shape))
    return model


def noise_batch(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal((BATCH, *shape), dtype="float32")


def residual_mlp():
    z = keras.Input((5,), name="z")
    x = layers.Dense(8, name="first")(z)
    y = layers.Dense(6, "relu", name="inner")(x)
    y = layers.Dense(8, name="last")(y)
    return random_weights(
        keras.Model(z, layers.Dense(2, name="head")(layers.Add(name="add")([x, y])))
    )
