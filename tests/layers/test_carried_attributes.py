"""Attributes that a layer or model got after its construction: carried to every copy, or refused by name."""

import collections
import copy
import dataclasses
import enum
import functools
import importlib.util
import random
import re
import threading
import types
import warnings

import keras
import numpy as np
import pytest
from cases import cases
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.copy_state import attributes
from keras_ganprune.layers.traversal import walk
from keras_ganprune.pruning.structured.rules import registry

BACKEND = keras.backend.backend()
full = pytest.mark.full
needs_tensorflow = pytest.mark.skipif(
    BACKEND != "tensorflow" or importlib.util.find_spec("tensorflow") is None,
    reason="needs TensorFlow",
)


class Mode(enum.Enum):
    PLUS = 1
    MINUS = 2


class Slotted:
    __slots__ = ("__weakref__", "high", "low")

    def __init__(self, low, high):
        self.low, self.high = low, high


@dataclasses.dataclass(frozen=True)
class Frozen:
    shift: float
    steps: tuple = ()


class Helper:
    """An object of a user that holds what may be anything."""

    def __init__(self, **values):
        vars(self).update(values)


Pair = collections.namedtuple("Pair", "left right")
MARK = object()


def shifted(x):
    return x + 3.0


def numbers(rng):
    """Return the next number of a generator, which stays as it is."""
    return float(copy.deepcopy(rng).random())


class Own(layers.Layer):
    """A layer with one attribute of any kind, and a function that reads a number from it."""

    start = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.value = type(self).start() if type(self).start else None

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


# name -> (what the constructor makes, the value that the user sets, what is read from it).
KINDS = {
    "int": (lambda: 1, lambda: 2, int),
    "nan": (lambda: 0.0, lambda: float("nan"), repr),
    "minus_zero": (lambda: 0.0, lambda: -0.0, repr),
    "bool_for_int": (lambda: 1, lambda: True, repr),
    "bytes": (lambda: b"a", lambda: b"b", repr),
    "set": (lambda: {1}, lambda: {1, 2}, sorted),
    "set_from_none": (lambda: None, lambda: {1, 2}, sorted),
    "frozenset": (lambda: frozenset("a"), lambda: frozenset("ab"), sorted),
    "range": (lambda: range(3), lambda: range(5), list),
    "slice": (lambda: slice(1), lambda: slice(2, 3), repr),
    "deque": (lambda: collections.deque([1]), lambda: collections.deque([1, 2], maxlen=4), repr),
    "counter": (collections.Counter, lambda: collections.Counter("aab"), repr),
    "defaultdict": (dict, lambda: collections.defaultdict(list, a=[1]), dict),
    "ordered": (collections.OrderedDict, lambda: collections.OrderedDict(b=1, a=2), list),
    "enum": (lambda: Mode.PLUS, lambda: Mode.MINUS, lambda v: v is Mode.MINUS),
    "enum_from_none": (lambda: None, lambda: Mode.MINUS, lambda v: v is Mode.MINUS),
    "slots": (lambda: Slotted(1, 2), lambda: Slotted(1, 3), lambda v: v.high),
    "type": (lambda: int, lambda: Mode, lambda v: v is Mode),
    "module": (lambda: None, lambda: re, lambda v: v is re),
    "mark": (lambda: None, lambda: MARK, lambda v: v is MARK),
    "proxy": (
        lambda: types.MappingProxyType({"a": 1}),
        lambda: types.MappingProxyType({"b": 2}),
        dict,
    ),
    "dict_lost_keys": (lambda: {"a": 1, "b": 2}, lambda: {"a": 1}, dict),
    "dict_order": (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}, list),
    "dict_int_keys": (lambda: {}, lambda: {1: "a", (2, 3): "b"}, dict),
    "list_shorter": (lambda: [1, 2, 3], lambda: [1], list),
    "list_emptied": (lambda: [1, 2, 3], list, list),
    "list_of_functions": (lambda: [np.sin], lambda: [shifted, np.cos], lambda v: v[0](1.0)),
    "callable_from_none": (lambda: None, lambda: shifted, lambda v: v(1.0)),
    "lambda": (lambda: None, lambda: lambda x: x + 7, lambda v: v(1.0)),
    "partial": (lambda: None, lambda: functools.partial(max, 5), lambda v: v(1)),
    "bound_method": (lambda: None, lambda: Slotted(1, 2).__repr__, lambda v: bool(v())),
    "callable_object": (lambda: None, lambda: Helper(f=shifted), lambda v: v.f(2.0)),
    "tuple_grew": (lambda: (1,), lambda: (1, 2, 3), tuple),
    "tuple_of_lists": (lambda: (), lambda: ([1], {"a": (2,)}), repr),
    "namedtuple": (lambda: Pair(1, 2), lambda: Pair(1, [3]), repr),
    "dataclass": (lambda: Frozen(1.0), lambda: Frozen(2.0, (1,)), repr),
    "namespace": (types.SimpleNamespace, lambda: types.SimpleNamespace(a=[1]), repr),
    "numpy_scalar": (lambda: 1.0, lambda: np.float32(2.0), repr),
    "numpy_bool": (lambda: False, lambda: np.bool_(True), repr),
    "numpy_dtype": (lambda: None, lambda: np.dtype("int8"), repr),
    "array": (lambda: np.zeros(2), lambda: np.ones(3), list),
    "object_array": (lambda: None, lambda: np.array(["a", None], object), list),
    "nested": (
        lambda: {"a": [{1}]},
        lambda: {"a": [{1, 2}, Helper(x=Frozen(4.0))]},
        lambda v: (sorted(v["a"][0]), v["a"][1].x.shift),
    ),
    "object": (lambda: Helper(a=1), lambda: Helper(a=2, b=[shifted]), lambda v: (v.a, len(v.b))),
    "object_lost": (lambda: Helper(a=1, b=2), lambda: Helper(a=1), lambda v: sorted(vars(v))),
    "pattern": (lambda: re.compile("a"), lambda: re.compile("b", re.IGNORECASE), repr),
    "numpy_generator": (
        lambda: np.random.default_rng(0),
        lambda: np.random.default_rng(5),
        numbers,
    ),
    "random": (lambda: random.Random(0), lambda: random.Random(5), numbers),
    "tensor": (
        lambda: None,
        lambda: ops.convert_to_tensor([1.0, 2.0]),
        lambda v: list(np.array(v)),
    ),
    "variable": (
        lambda: None,
        lambda: Helper(v=keras.Variable([1.0, 5.0])),
        lambda v: ops.convert_to_numpy(v.v).tolist(),
    ),
    "initializer": (
        lambda: None,
        lambda: keras.initializers.Constant(3.0),
        lambda v: v.get_config(),
    ),
    "regularizer": (lambda: None, lambda: keras.regularizers.L2(0.5), lambda v: v.get_config()),
    "loss": (lambda: None, lambda: keras.losses.Huber(0.5), lambda v: v.get_config()),
    "lock": (threading.Lock, threading.Lock, lambda v: v.locked()),
    "layer_inside": (
        lambda: Helper(layer=layers.Rescaling(2.0)),
        lambda: Helper(layer=layers.Rescaling(2.0)),
        lambda v: v.layer.scale,
    ),
    "complex": (lambda: 1j, lambda: complex(0.0, -0.0), repr),
}
# Kinds that cannot be copied, with a part of the reason.
REFUSED = {
    "lock_from_none": (lambda: None, threading.Lock, "lock"),
    "generator": (lambda: None, lambda: (i for i in range(3)), "generator"),
    "iterator_in_list": (list, lambda: [(i for i in range(3))], "generator"),
    "other_layer_inside": (
        lambda: None,
        lambda: Helper(layer=layers.Dense(2, name="outside")),
        "'outside'",
    ),
}


def along(layer, channels, x):
    channels.along(layer, "scale", -1, x[-1])
    return x


def model_with(start, after):
    """Return a pruned model whose layer has got a value after it was built, and the layer."""
    cls = type("Own", (Own,), {"start": staticmethod(start)})
    kgp.register_rule(cls)(along)
    layer = cls(name="own")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, name="first"),
            layer,
            layers.Dense(8, name="hidden"),
            layers.Dense(2, name="last"),
        ]
    )
    kgp.make_prunable(model)
    layer.value = after()
    return model, layer


# Name of a route -> function of a model that returns the copy.
ROUTES = {
    "strip": kgp.strip_pruning,
    # The own layer loses channels, or keeps them all.
    "shrink": lambda model: kgp.shrink(model, sparsity=0.5),
    "shrink_others": lambda model: kgp.shrink(model, sparsity=0.5, keep=["first", "own"]),
}
SHORT = ("set", "dict_lost_keys", "callable_from_none", "slots", "enum", "nested", "tuple_grew")
# One of each kind of value by default; these differ from another one in a detail.
ALIKE = {
    *("bool_for_int", "minus_zero", "bytes", "set_from_none", "frozenset", "range", "slice"),
    *("counter", "ordered", "enum_from_none", "dict_order", "dict_int_keys", "list_emptied"),
    *("lambda", "bound_method", "callable_object", "tuple_of_lists", "namespace", "numpy_bool"),
    *("numpy_dtype", "object_array", "object_lost", "random"),
}
CELLS = [
    pytest.param(
        route,
        kind,
        marks=() if (route == "strip" and kind not in ALIKE) or kind in SHORT else full,
    )
    for route in ROUTES
    for kind in KINDS
]


@pytest.fixture(autouse=True)
def rules(monkeypatch):
    """Let a test register rules; remove them afterwards."""
    monkeypatch.setattr(registry, "_LAYERS", dict(registry._LAYERS))


def copied(route, model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ROUTES[route](model)


def own_layer(model):
    return next(layer for _, layer in walk(model) if layer.name == "own")


@pytest.mark.parametrize(("route", "kind"), CELLS)
def test_attributes_are_carried(route, kind):
    start, after, read = KINDS[kind]
    model, layer = model_with(start, after)
    before = read(layer.value)
    result = own_layer(copied(route, model))
    assert result is not layer
    assert type(result.value) is type(layer.value)
    assert read(result.value) == before
    assert read(layer.value) == before


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_carried_is_refused_by_name(route, kind):
    start, after, text = REFUSED[kind]
    model, _ = model_with(start, after)
    with pytest.raises(UnsupportedLayerError, match=rf"(?s)'own'.*`value`.*{text}"):
        copied(route, model)
    assert kgp.strip_pruning(model, copy=False) is model


def _all_of_keras(model, x, y):
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    model.train_on_batch(x, y)
    model.predict_on_batch(x)


HISTORIES = {
    "hard": {"mode": "hard"},
    "soft": {"mode": "soft"},
    "rigl": {"mode": "rigl"},
    "gradient": {"criterion": "gradient"},
}


@cases(("gradient",), "history", HISTORIES)
def test_what_training_leaves_on_a_model_is_no_part_of_its_copy(history):
    x, y = np.ones((8, 4), "float32"), np.ones((8, 2), "float32")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "tanh"), layers.Dense(2)])
    plain = {name for name, _ in attributes(model)}
    model.compile(keras.optimizers.Adam(use_ema=True), "mse")
    prune = kgp.Prune(0.5, frequency=1, verbose=0, **HISTORIES[history])
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[prune, kgp.NaNGuard()])
    _all_of_keras(model, x, y)
    # A name that is missing in `copy_state` would be carried, or refused.
    assert {name for name, _ in attributes(model)} == plain
    copies = kgp.strip_pruning(model), kgp.shrink(model, strict=False)
    for copy_of_it in copies:
        assert np.array_equal(ops.convert_to_numpy(copy_of_it(x)), ops.convert_to_numpy(model(x)))
