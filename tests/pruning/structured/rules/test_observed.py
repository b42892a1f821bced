"""Functions without a rule: they are run, and what they do to the channels is seen."""

import keras
import numpy as np
import pytest
from cases import cases
from keras import activations, ops
from rule_networks import assert_cut_gives_the_same, conv, dense, head, model_of

import keras_ganprune as kgp
from keras_ganprune.pruning.structured.rules import ops as rules_of_ops
from keras_ganprune.pruning.structured.rules.elementwise import keeps_zero

SEQUENCE, IMAGE = (4, 8), (6, 6, 3)
# Activations that mix the channels.
MIXING = {"glu", "log_softmax", "softmax", "sparsemax"}


def names_of_activations():
    """Return the names of Keras's activations. The others in the module take no tensor."""
    others = {"deserialize", "serialize", "get", "linear", "threshold"}
    return [n for n in dir(activations) if n[0] != "_" and n[0].islower() and n not in others]


def of_one(function):
    """Return a network with a function behind a convolution."""
    return model_of(IMAGE, lambda x: head(function(conv(8, "a")(x)), "b"))


def of_two(function, shape=SEQUENCE):
    return model_of(shape, lambda x: head(function(dense(6, "a")(x), dense(6, "b")(x)), "c"))


@cases(("relu", "leaky_relu", "sigmoid", "softmax", "glu", "gelu"), "name", names_of_activations())
def test_every_activation_of_keras(name):
    function = activations.get(name)
    if not callable(function):
        pytest.skip("a module")
    networks = []
    if name != "glu":  # Keras gives `Activation("glu")` a wrong shape.
        networks.append(of_one(lambda x: keras.layers.Activation(function)(x)))
    try:
        networks.append(of_one(function))
    except (ValueError, AttributeError):
        pass  # Keras itself does not take a symbol here.
    for network in networks:
        groups = kgp.channel_groups(network)
        assert [g.size for g in groups] == ([] if name in MIXING else [8])
        if name in MIXING:
            assert "mixes them" in groups.stay["a"]
        assert_cut_gives_the_same(network)


# Name -> (network, sizes of its groups, a part of the reason why 'a' stays).
NETWORKS = {
    "softmax over places": (lambda: of_one(keras.layers.Softmax(axis=2)), [8], ""),
    "softmax over two axes": (lambda: of_one(keras.layers.Softmax(axis=[1, 2])), [8], ""),
    "softmax over all": (lambda: of_one(keras.layers.Softmax(axis=[1, 2, 3])), [], "mixes them"),
    "softmax of an operation": (lambda: of_one(lambda x: ops.softmax(x, axis=1)), [8], ""),
    "softmax in a convolution": (
        lambda: model_of(IMAGE, lambda x: head(conv(8, "a", activation=over_places)(x), "b")),
        [8],
        "",
    ),
    "log_softmax": (lambda: of_one(lambda x: ops.log_softmax(x, axis=1)), [8], ""),
    "cumsum over places": (lambda: of_one(lambda x: ops.cumsum(x, axis=1)), [8], ""),
    "cumsum over channels": (lambda: of_one(lambda x: ops.cumsum(x, axis=-1)), [], "mixes them"),
    "flip": (lambda: of_one(lambda x: ops.flip(x, axis=1)), [8], ""),
    "sort": (lambda: of_one(lambda x: ops.sort(x, axis=2)), [8], ""),
    "sort channels": (lambda: of_one(lambda x: ops.sort(x)), [], "mixes them"),
    "moveaxis": (
        lambda: of_one(lambda x: ops.transpose(ops.moveaxis(x, -1, 1), (0, 2, 3, 1))),
        [8],
        "",
    ),
    "rot90": (lambda: of_one(lambda x: ops.rot90(x, axes=(1, 2))), [8], ""),
    "prod": (lambda: of_one(lambda x: ops.prod(x, axis=1)), [8], ""),
    "logsumexp": (lambda: of_one(lambda x: ops.logsumexp(x, axis=(1, 2))), [8], ""),
    "median": (lambda: of_one(lambda x: ops.median(x, axis=1)), [8], ""),
    "quantile": (lambda: of_one(lambda x: ops.quantile(x, 0.3, axis=1)), [8], ""),
    "max pool": (lambda: of_one(lambda x: ops.max_pool(x, 2)), [8], ""),
    "resize": (lambda: of_one(lambda x: ops.image.resize(x, (3, 3))), [8], ""),
    "gaussian blur": (lambda: of_one(lambda x: ops.image.gaussian_blur(x)), [8], ""),
    "one_hot": (
        lambda: of_one(lambda x: ops.one_hot(ops.cast(ops.clip(x, 0, 2), "int32"), 3, axis=1)),
        [8],
        "",
    ),
    "repeat": (lambda: of_one(lambda x: ops.repeat(x, 2, axis=1)), [8], ""),
    "tile": (lambda: of_one(lambda x: ops.tile(x, (1, 2, 1, 1))), [8], ""),
    "tile channels": (lambda: of_one(lambda x: ops.tile(x, (1, 1, 1, 2))), [], "repeats them"),
    "take of places": (lambda: of_one(lambda x: ops.take(x, np.array([0, 2]), axis=1)), [8], ""),
    "take of channels": (
        lambda: of_one(lambda x: ops.take(x, np.array([0, 2]), axis=-1)),
        [],
        "picks some of them",
    ),
    "stack": (lambda: of_one(lambda x: ops.stack([x, 2 * x], axis=1)), [8], ""),
    "logaddexp": (lambda: of_two(ops.logaddexp), [6], ""),
    "arctan2": (lambda: of_two(ops.arctan2), [6], ""),
    "hypot": (lambda: of_two(ops.hypot), [6], ""),
    "where": (lambda: of_two(lambda a, b: ops.where(a > 0.3, a, b)), [6], ""),
    "where with a number": (lambda: of_two(lambda a, b: ops.where(a > b, a, 0.5)), [6], ""),
    "compared": (lambda: of_two(lambda a, b: ops.cast(ops.greater(a, b), "float32")), [6], ""),
    "logical": (
        lambda: of_two(lambda a, b: ops.where(ops.logical_and(a > 0, b > 0.1), a, b)),
        [6],
        "",
    ),
    "one entry for each place": (
        lambda: of_two(lambda a, b: ops.arctan2(a, ops.max(b, axis=1, keepdims=True))),
        [6],
        "",
    ),
    "a constant for each": (
        lambda: of_one(lambda x: ops.arctan2(x, np.arange(1.0, 9.0, dtype="float32"))),
        [],
        "mixes them",
    ),
    "squared difference": (lambda: of_two(lambda a, b: ops.square(a - b)), [6], ""),
    "remainder": (lambda: of_two(ops.mod), [], "must not get a zero"),
    "remainder of a number": (lambda: of_one(lambda x: ops.mod(x, 2.0)), [8], ""),
    "arccosh of what is never zero": (
        lambda: of_one(lambda x: ops.arccosh(ops.cosh(x) + 1.0)),
        [],
        "must not get a zero",
    ),
    "sum of all": (lambda: of_two(lambda a, b: ops.inner(a, b)), [], "mixes them"),
}


def over_places(x):
    return ops.softmax(x, axis=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_an_operation_does_to_channels_is_seen(name):
    make, sizes, why = NETWORKS[name]
    model = make()
    groups = kgp.channel_groups(model)
    assert [g.size for g in groups] == sizes
    assert why in groups.stay.get("a", "")
    assert_cut_gives_the_same(model)


@pytest.mark.parametrize("function", [lambda x: x[:, :1], lambda x: 1 / 0])
def test_functions_of_a_user(function):
    model = model_of((5,), lambda x: head(keras.layers.Activation(function)(dense(8, "a")(x)), "b"))
    groups = kgp.channel_groups(model)
    assert [g.size for g in groups] == []


def test_keeps_zero():
    for name in ("relu", "gelu", "tanh", "silu", "leaky_relu", "softsign", "hard_tanh"):
        assert keeps_zero(activations.get(name)), name
    for name in ("sigmoid", "softplus", "exponential", "squareplus"):
        assert not keeps_zero(activations.get(name)), name


@pytest.mark.parametrize("name", rules_of_ops.ZERO_TO_ZERO)
def test_listed_operations_keep_zero(name):
    """The list says what running the operations shows."""
    module = keras.src.ops
    found = [
        getattr(m, name)
        for m in (module.numpy, module.nn, module.math, module.core)
        if hasattr(m, name)
    ]
    for cls in found:
        arguments = {"Cast": {"dtype": "float32"}}.get(name, {})
        assert not np.any(ops.convert_to_numpy(cls(**arguments)(ops.zeros((2, 3)))))
