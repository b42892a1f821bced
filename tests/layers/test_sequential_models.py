"""Copies, cuts and files of models with many layers: no work grows with the square of their number."""

import sys
import threading

import keras
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.layers.sequential_models import built_once

full = pytest.mark.full


class OwnSequential(keras.Sequential):
    """A class of a user's own."""


@keras.saving.register_keras_serializable("many_layers")
class Stack(keras.Model):
    """A subclassed model."""

    def __init__(self, number, **kwargs):
        super().__init__(**kwargs)
        self.number = number
        self.stack = [dense() for _ in range(number)]

    def call(self, x):
        """Call one layer after the other."""
        for layer in self.stack:
            x = layer(x)
        return x

    def get_config(self):
        """Return the argument of the constructor."""
        return {**super().get_config(), "number": self.number}


def dense():
    return layers.Dense(4, activation="relu")


def sequential(number, cls=keras.Sequential):
    return cls([keras.Input((4,)), *(dense() for _ in range(number))])


def subclassed(number):
    model = Stack(number)
    model(np.ones((2, 4), "float32"))
    return model


def functional(number):
    x = inputs = keras.Input((4,))
    for _ in range(number):
        x = dense()(x)
    return keras.Model(inputs, x)


def residual(number):
    x = inputs = keras.Input((4,))
    for _ in range(number):
        x = layers.Add()([x, layers.Dense(4)(dense()(x))])
    return keras.Model(inputs, layers.Dense(1)(x))


def nested(number):
    parts = [sequential(5) for _ in range(number // 5)]
    return keras.Sequential([keras.Input((4,)), *parts])


def gan(number):
    return kgp.GANModel(sequential(number), sequential(number), latent_dim=4)


MODELS = {
    "sequential": sequential,
    "subclass": lambda number: sequential(number, OwnSequential),
    "functional": functional,
    "residual": residual,
    "nested": nested,
    "subclassed": subclassed,
    "gan": gan,
}
ROUTES = {
    "strip": kgp.strip_pruning,
    "in_place": lambda model: kgp.strip_pruning(model, copy=False),
    "shrink": kgp.shrink,
    "save": lambda model, path: model.save(path),
    "load": lambda path: kgp.load_model(path, custom_objects={"OwnSequential": OwnSequential}),
    "masks": lambda model: kgp.Pruner(model),
    "report": kgp.sparsity_report,
    "zeros": kgp.masks_from_zeros,
}
DEFAULT = [(route, "sequential") for route in ("shrink",)]


def calls_of(function):
    """Return how many Python functions are called, which no other load on the machine changes."""
    count = 0

    def counting(frame, event, argument):
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def work(route, network, number, folder):
    model = MODELS[network](number)
    networks = [model.generator, model.discriminator] if network == "gan" else [model]
    if route not in ("masks", "zeros"):
        channel = route == "shrink"
        kgp.Pruner(*networks, granularity="channel" if channel else "unstructured").update(
            sparsity=0.5
        )
    path = folder / f"{number}.keras"
    if route == "save":
        return calls_of(lambda: ROUTES[route](model, path))
    if route == "load":
        model.save(path)
        return calls_of(lambda: ROUTES[route](path))
    return calls_of(lambda: ROUTES[route](model))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("route", "network"),
    [
        pytest.param(route, network, marks=() if (route, network) in DEFAULT else full)
        for route in ROUTES
        for network in MODELS
        if network != "gan" or route in ("strip", "in_place", "save", "load")
    ],
)
def test_the_work_grows_with_the_number_of_layers(route, network, tmp_path):
    work(route, network, 5, tmp_path)  # the first call fills caches
    few, some, many = (work(route, network, number, tmp_path) for number in (5, 10, 20))
    # 2 for work that grows with the layers, 4 for work that grows with their square.
    assert (many - some) / (some - few) < 2.3


# --- what is made is what Keras makes ---------------------------------------------------------------


class WithOtherAdd(keras.Sequential):
    """A class with an `add` of its own."""

    def add(self, layer, rebuild=True):
        """Add a layer under another name."""
        layer.name = f"own_{layer.name}" if not layer.name.startswith("own_") else layer.name
        super().add(layer, rebuild)


def config_of(model):
    config = model.get_config()
    return {**config, "name": ""}


SAME = {
    "plain": lambda: sequential(3),
    "without_input": lambda: keras.Sequential([dense(), dense()]),
    "built_later": lambda: built(keras.Sequential([dense(), dense()])),
    "empty": lambda: keras.Sequential(),
    "one_input": lambda: keras.Sequential([keras.Input((4,))]),
    "one_layer": lambda: keras.Sequential([dense()]),
    "inner_first": lambda: keras.Sequential([sequential(2), dense()]),
    "nested": lambda: nested(10),
    "subclass": lambda: sequential(3, OwnSequential),
    "other_add": lambda: sequential(3, WithOtherAdd),
    "frozen": lambda: frozen(sequential(3)),
    "state": lambda: keras.Sequential([keras.Input((4, 4)), layers.GRU(4), layers.Dropout(0.5)]),
    "lambda_input": lambda: keras.Sequential(
        [keras.Input((4,), dtype="int32"), layers.Embedding(5, 4)]
    ),
}


def built(model):
    model.build((None, 4))
    return model


def frozen(model):
    model.trainable = model.layers[0].trainable = False
    return model


@pytest.mark.parametrize("name", SAME)
def test_a_model_is_what_keras_makes(name):
    model = SAME[name]()
    config = model.get_config()
    expected = type(model).from_config(config)
    with built_once():
        made = type(model).from_config(config)
    assert type(made) is type(expected) and made.built == expected.built
    assert made.get_config() == expected.get_config()
    assert [layer.name for layer in made.layers] == [layer.name for layer in expected.layers]
    assert [w.shape for w in made.weights] == [w.shape for w in expected.weights]
    assert (made._functional is None) == (expected._functional is None)
    assert [layer.trainable for layer in made.layers] == [
        layer.trainable for layer in expected.layers
    ]


def test_the_method_of_keras_is_there_again_behind_the_last_context():
    before = vars(keras.Sequential)["from_config"].__func__
    inside, leave = threading.Event(), threading.Event()

    def other():
        with built_once():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with pytest.raises(ValueError, match="from inside"), built_once():
        thread.start()
        inside.wait(10)
        raise ValueError("from inside")
    assert vars(keras.Sequential)["from_config"].__func__ is not before
    leave.set()
    thread.join()
    assert vars(keras.Sequential)["from_config"].__func__ is before


@pytest.mark.parametrize(
    "config", [{}, {"name": "x"}, {"name": "x", "layers": [{"class_name": "Nope"}]}]
)
def test_a_wrong_configuration_gets_the_error_of_keras(config):
    errors = []
    for context in (False, True):
        with pytest.raises(Exception) as error:
            if context:
                with built_once():
                    keras.Sequential.from_config(config)
            else:
                keras.Sequential.from_config(config)
        errors.append((type(error.value), str(error.value)))
    assert errors[0] == errors[1]
