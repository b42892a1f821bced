"""Names with characters that patterns use: the exact name of a layer comes before any pattern."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.name_patterns import matching
from keras_ganprune.pruning.structured.budget import Budget

LAYERS = {
    "enc[0]": ["enc[0]"],
    "enc0": ["enc0"],
    "e*": ["e*"],
    "*": ["*"],
    "a?": ["a?"],
    "ab": ["ab"],
    "x\\y": ["x\\y"],
    "up_1": ["up_1"],
    "up_2": ["up_2"],
    "b[1]/c": ["b[1]/c", "c"],
    "b1/c": ["b1/c", "c"],
    "b*/c*": ["b*/c*", "c*"],
}


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("enc[0]", ["enc[0]"]),
        ("enc[0]*", ["enc[0]"]),
        ("enc*", ["enc[0]", "enc0"]),
        ("e*", ["e*"]),
        ("*", ["*"]),
        ("**", list(LAYERS)),
        ("a?", ["a?"]),
        ("a*", ["a?", "ab"]),
        ("x\\y", ["x\\y"]),
        ("x\\*", ["x\\y"]),
        ("up_[12]", ["up_1", "up_2"]),
        ("up_[!1]", ["up_2"]),
        ("b[1]/c", ["b[1]/c"]),
        ("b[1]/*", ["b[1]/c"]),
        ("b*/*", ["b*/c*"]),
        ("b*/c", ["b[1]/c", "b1/c"]),
        ("c", ["b[1]/c", "b1/c"]),
        ("c*", ["b*/c*"]),
        ("enc[[]0]", ["enc[0]"]),
        ("enc[1]", []),
        ("nope*", []),
    ],
)
def test_exact_names_come_first(rule, found):
    names = list(LAYERS)
    assert [names[i] for i in matching(rule, list(LAYERS.values()))] == found


NAMES = ["enc[0]", "enc0", "a*", "ab", "up_1", "up_2"]
ROWS = [
    ("enc[0]", ["enc[0]"]),
    ("a*", ["a*"]),
    ("up_*", ["up_1", "up_2"]),
]


def network():
    hidden = [keras.layers.Dense(8, name=name) for name in NAMES]
    return keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(2, name="out")])


def by_scope(rule):
    return [weight.layer.name for weight in kgp.Pruner(network(), scope=rule).weights]


def by_scope_of_channels(rule):
    model = network()
    kgp.Pruner(model, scope=rule, granularity="channel").update(sparsity=0.5)
    return without_units(model)


def by_allocation(rule):
    model = network()
    report = kgp.Pruner(model, allocation={rule: 0.75}).update(sparsity=0.3)
    return [row.path.split("/")[0] for row in report.rows if row.kept == 16]


def by_limits(rule):
    small = kgp.shrink(network(), budget=Budget(parameters=0.4), limits={rule: 0.0})
    return full_sized(small)


def by_keep(rule):
    return full_sized(kgp.shrink(network(), sparsity=0.5, keep=rule))


def without_units(model):
    layers = [model.get_layer(name) for name in NAMES]
    kernels = {layer.name: np.asarray(keras.ops.convert_to_numpy(layer.kernel)) for layer in layers}
    return [name for name, kernel in kernels.items() if (kernel == 0).all(axis=0).any()]


def full_sized(model):
    return [name for name in NAMES if model.get_layer(name).units == 8]


@pytest.mark.parametrize(("rule", "found"), ROWS)
@pytest.mark.parametrize(
    "route", [by_scope, by_scope_of_channels, by_allocation, by_limits, by_keep]
)
def test_wherever_names_are_taken(route, rule, found):
    assert route(rule) == found


@pytest.mark.parametrize("granularity", ["unstructured", "channel"])
def test_a_name_of_one_network_is_no_pattern_for_the_other(granularity):
    models = [
        keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(8, name=name), keras.layers.Dense(2)]
        )
        for name in ("a*", "ab")
    ]
    pruner = kgp.Pruner(*models, scope="a*", granularity=granularity)
    assert {weight.layer.name for weight in pruner.ranked} == {"a*"}


def test_each_network_may_have_one_of_the_names():
    models = [
        keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(8, name=name), keras.layers.Dense(2)]
        )
        for name in ("left", "right")
    ]
    pruner = kgp.Pruner(*models, scope=["left", "right"], granularity="channel")
    assert [weight.layer.name for weight in pruner.ranked] == ["left", "right"]
    with pytest.raises(InvalidArgumentError, match="Unknown layer in `scope`: 'middle'"):
        kgp.Pruner(*models, scope=["left", "middle"], granularity="channel")
