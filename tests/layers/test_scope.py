"""Which layers are eligible: by class, name, path, regular expression, layer, function, list."""

import re

import keras
import pytest

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.layers import scope

DENSE = keras.layers.Dense(1, name="head")
CONV = keras.layers.Conv2D(1, 3, name="stem")
INNER = keras.layers.Dense(1, name="block_1")
LAYERS = [("stem", CONV), ("body/block_1", INNER), ("head", DENSE)]


@pytest.mark.parametrize(
    ("rule", "paths"),
    [
        (None, ["stem", "body/block_1", "head"]),
        (keras.layers.Dense, ["body/block_1", "head"]),
        (keras.layers.Layer, ["stem", "body/block_1", "head"]),
        ("head", ["head"]),
        ("block_1", ["body/block_1"]),  # the name of the layer alone
        ("body/block_1", ["body/block_1"]),
        ("body/*", ["body/block_1"]),
        ("*", ["stem", "body/block_1", "head"]),
        (re.compile(r"block_\d"), ["body/block_1"]),
        (re.compile("^(stem|head)$"), ["stem", "head"]),
        (CONV, ["stem"]),
        (lambda layer: layer.name.startswith("h"), ["head"]),
        (["head", keras.layers.Conv2D], ["stem", "head"]),  # in the order of the network
        (("head", "head"), ["head"]),
        ({"stem"}, ["stem"]),
    ],
    ids=lambda value: (
        "a function" if callable(value) and not isinstance(value, type) else str(value)
    ),
)
def test_select(rule, paths):
    assert [path for path, _ in scope.select(LAYERS, rule)] == paths


def test_none_is_a_copy():
    chosen = scope.select(LAYERS, None)
    chosen.clear()
    assert len(LAYERS) == 3


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (
            "haed",
            r"Unknown layer in `scope`: 'haed'\. Did you mean 'head'\?\nKnown: body/block_1, ",
        ),
        (["head", "tail*"], r"Unknown layer in `scope`: 'tail\*'"),
        (re.compile("conv"), r"at least one prunable layer\. 'conv' matches none of: stem, body"),
        (keras.layers.LSTM, r"LSTM.* matches none of: stem"),
        (lambda layer: False, r"matches none of: stem"),
        (keras.layers.Dense(1), r"matches none of: stem"),
        ([], r"`scope` must .* Received: \[\]"),
    ],
    ids=lambda value: (
        "a function" if callable(value) and not isinstance(value, type) else str(value)
    ),
)
def test_select_nothing(rule, text):
    with pytest.raises(InvalidArgumentError, match=f"(?s){text}"):
        scope.select(LAYERS, rule)


@pytest.mark.parametrize("rule", [3, 0.5, [3], [None]])
def test_wrong_kind(rule):
    with pytest.raises(ArgumentTypeError, match=r"`scope` must be a layer class, .* Received: "):
        scope.select(LAYERS, rule)
