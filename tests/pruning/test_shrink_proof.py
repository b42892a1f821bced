"""`shrink` gives the outputs of the user's own model, or says which layer parts and why.

Table: networks of `zoo` and `zoo_cuts` × routes. The comparison is with the user's model, never with a copy.
"""

import keras
import numpy as np
import pytest
from cases import cases
from keras import layers, ops
from zoo import ZOO, names
from zoo_cuts import CUT_ZOO, Cell, chain
from zoo_layers import FEATURES, normal

import keras_ganprune as kgp
from keras_ganprune.errors import (
    DifferentOutputsError,
    InvalidArgumentError,
    UnsupportedLayerError,
)
from keras_ganprune.layers.inference import run
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.pruning import _shrink_verify
from keras_ganprune.pruning.shrink_model import shrink_with_cuts
from keras_ganprune.pruning.structured.rules import registry

ROWS = {**{name: (lambda n=name: ZOO[n]()[0]) for name in names()}, **CUT_ZOO}
# One of each kind by default: state, function, constant, forgotten argument, several inputs.
FAST = (
    "stateful",
    "normalization",
    "own_relu",
    "fourier",
    "sloped",
    "lambda_global",
    "dict_of_inputs",
)
ROUTES = ("sparsity", "masks")


def rows(fast):
    return [name if name in fast else pytest.param(name, marks=pytest.mark.full) for name in ROWS]


def numbers(structure):
    found = keras.tree.flatten(structure)
    return [np.asarray(ops.convert_to_numpy(ops.cast(y, "float64"))) for y in found]


def state(model):
    """Return all that a run could move: weights, seeds, and the states of recurrent layers."""
    variables = list(model.variables)
    for layer in model._flatten_layers():
        variables += getattr(layer, "states", None) or []
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def assert_same(model, small, values=(), batch=None):
    """Compare on other inputs than `shrink` does."""
    x = probe_inputs(model, batch, batch=7, seed=5)
    tensors = [(v, ops.convert_to_tensor(value, dtype=v.dtype)) for v, value in values]
    expected, actual = numbers(run(model, x, tensors)), numbers(run(small, x))
    for e, a in zip(expected, actual, strict=True):
        assert a.shape == e.shape
        assert np.max(np.abs(e - a)) <= 2e-5 * np.max(np.abs(e))


@pytest.fixture
def rules(monkeypatch):
    """Let a test register rules; remove them afterwards."""
    monkeypatch.setattr(registry, "_LAYERS", dict(registry._LAYERS))


@cases(("masks",), "route", ROUTES)
@pytest.mark.parametrize("name", rows(FAST))
def test_the_outputs_are_those_of_the_users_model(name, route):
    try:
        model = ROWS[name]()
    except ImportError as error:
        pytest.skip(str(error))  # Keras's preprocessing layers need TensorFlow
    if route == "masks":
        kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    before = state(model)
    sparsity = 0.5 if route == "sparsity" else None
    result = shrink_with_cuts(model, sparsity=sparsity)
    assert result.model.count_params() < model.count_params()
    values = result.groups.masked_values(result.keeps).values() if sparsity else ()
    assert_same(model, result.model, values)
    after = state(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_new_layers_are_other_objects():
    # A vocabulary, a function or a constant may be shared; a layer may not.
    for name in ("lambda_named", "own_relu", "no_configuration", "normalization"):
        model = ROWS[name]()
        small = kgp.shrink(model, sparsity=0.5)
        assert not {id(x) for x in model._flatten_layers()} & {
            id(x) for x in small._flatten_layers()
        }
        assert model.layers[0].output.shape[0] is None  # raises if the layer was called twice
        assert len({layer.name for layer in small.layers}) == len(small.layers)


# --- rounding and errors -------------------------------------------------------------------------


def deep(*inner):
    """Return a chaotic network: each layer makes a difference of its input larger.

    The long sum of the first layers is rounded in another way when it is shorter.
    """
    starts = [keras.initializers.RandomNormal(stddev=2.0, seed=i) for i in range(30)]
    stack = [layers.Dense(24, "tanh", kernel_initializer=start) for start in starts]
    wide = layers.Dense(3000, "tanh")
    return keras.Sequential([keras.Input((FEATURES,)), wide, *stack, *inner, layers.Dense(3)])


def test_rounding_that_adds_up_is_no_error(monkeypatch):
    found = []

    def first_parted(*arguments):
        found.append(original(*arguments))
        return found[-1]

    original = _shrink_verify.first_parted
    monkeypatch.setattr(_shrink_verify, "first_parted", first_parted)
    kgp.shrink(deep(), sparsity=0.3)
    assert found == [None]  # the outputs differed, and no layer was wrong


def test_a_wrong_layer_of_a_chaotic_network_is_found(rules):
    class Leaky(layers.Layer):
        """It leaks a little of all channels into each."""

        def call(self, x):
            return x + 0.01 * ops.mean(x, axis=-1, keepdims=True)

    kgp.register_rule(Leaky)(lambda layer, channels, x: x)
    with pytest.raises(DifferentOutputsError, match=r"part at 'leaky' \(Leaky\)"):
        kgp.shrink(deep(Leaky(name="leaky"), layers.Dense(8, "tanh")), sparsity=0.3)


class PerChannel(layers.Layer):
    """A constant per channel that no rule can cut."""

    def build(self, shape):
        self.factors = np.linspace(1.0, 2.0, shape[-1]).astype("float32")

    def call(self, x):
        return x * self.factors


class Unsaved(layers.Dense):
    """A random constant per channel in a layer that follows the rule of Dense."""

    def build(self, shape):
        super().build(shape)
        self.gains = normal(self.units)

    @property
    def kernel(self):
        return self._kernel * self.gains


class NeedsConfig(layers.Layer):
    """It has weights, and no configuration."""

    def __init__(self, factors):
        super().__init__()
        self.factors = factors

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale * self.factors


class Noisy(layers.Layer):
    """It draws random numbers for each channel, without a seed that could be copied."""

    def call(self, x):
        return x + np.random.default_rng().normal(size=x.shape[-1]).astype("float32")


def replaced_call():
    model = sequential_of(layers.Dense(8, "relu", name="patched"))
    layer = model.get_layer("patched")
    original = layer.call
    object.__setattr__(layer, "call", lambda x, training=None: ops.sin(original(x)))
    return model


def sequential_of(*stack):
    return keras.Sequential([keras.Input((FEATURES,)), *stack, layers.Dense(3, name="head")])


def rule_of_per_channel():
    kgp.register_rule(PerChannel)(lambda layer, channels, x: x)


def rule_of_noisy():
    kgp.register_rule(Noisy)(lambda layer, channels, x: x)


BLAMED = {
    "rule": (
        lambda: chain(PerChannel(name="mine")),
        rule_of_per_channel,
        r"'mine' \(PerChannel\).*`register_rule\(PerChannel\)` leaves something out.*keep=\['mine'\]",
    ),
    "subclass": (
        lambda: sequential_of(Unsaved(8, name="mine")),
        None,
        r"'mine' \(Unsaved\).*follows the rule of `Dense`, but its copy.*`Unsaved.get_config` must",
    ),
    "random": (lambda: chain(Noisy(name="mine")), rule_of_noisy, r"'mine' \(Noisy\).*draws random"),
    "nan": (lambda: chain(layers.Lambda(lambda x: x * np.nan)), None, "Channels cannot|NaN"),
}


@pytest.mark.parametrize("route", [*ROUTES])
@pytest.mark.parametrize("case", BLAMED)
def test_the_layer_and_its_reason_are_named(case, route, rules):
    make, register, text = BLAMED[case]
    if register is not None:
        register()
    model = make()
    with pytest.raises((DifferentOutputsError, UnsupportedLayerError), match=text) as caught:
        if route == "masks":
            kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
        kgp.shrink(model, sparsity=0.5 if route == "sparsity" else None)
    if case not in ("rule", "nan"):
        assert "register_rule" not in str(caught.value)


def test_what_an_error_advises_works(rules):
    rule_of_per_channel()
    # `keep` leaves the channels of the layer, and so those of the layer in front of it.
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(8, name="front"),
            PerChannel(name="mine"),
            layers.Dense(6, name="behind"),
            layers.Dense(3, name="head"),
        ]
    )
    with pytest.raises(DifferentOutputsError):
        kgp.shrink(model, sparsity=0.5)
    small = kgp.shrink(model, sparsity=0.5, keep=["mine"])
    assert [layer.units for layer in small.layers if hasattr(layer, "units")] == [8, 3, 3]
    assert kgp.shrink(model, sparsity=0.5, verify=False).count_params() < small.count_params()


def test_a_layer_with_weights_needs_a_configuration():
    model = sequential_of(NeedsConfig(normal(FEATURES)), layers.Dense(8))
    with pytest.raises(UnsupportedLayerError, match=r"`NeedsConfig` 'needs_config\w*' must define"):
        kgp.shrink(model, sparsity=0.5)


def test_a_python_branch_over_values_is_found():
    class Branches(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.head = layers.Dense(8, "relu"), layers.Dense(2)

        def build(self, shape):
            self.one.build(shape)
            self.head.build((None, 8))

        def call(self, x):
            y = self.one(x)
            # Symbols have no values.
            if not isinstance(x, keras.KerasTensor) and float(ops.sum(ops.abs(x))) > 0:
                y = y * 2.0
            return self.head(y)

    model = Branches()
    model.build((None, 5))
    with pytest.raises(
        DifferentOutputsError, match=r"'branches\w*' makes on `keras.Input`s.*where"
    ):
        kgp.shrink(model, sparsity=0.5)


# --- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dense", "dict_of_inputs", "list_of_inputs", "two_arguments"])
def test_a_batch_of_the_user_is_used(name, monkeypatch):
    model = ROWS[name]()
    batch = ZOO[name]()[1]
    if batch is None:
        batch = probe_inputs(model, batch=3)
    seen = []
    monkeypatch.setattr(_shrink_verify, "run", lambda m, x, v=(): seen.append(x) or run(m, x, v))
    small = kgp.shrink(model, sparsity=0.5, inputs=batch)
    for given, used in zip(*map(keras.tree.flatten, (batch, seen[0])), strict=True):
        assert np.array_equal(given, used)
    assert_same(model, small, shrink_values(model, batch), batch)


def shrink_values(model, batch):
    result = shrink_with_cuts(model, sparsity=0.5, inputs=batch)
    return result.groups.masked_values(result.keeps).values()


def test_inputs_that_do_not_fit():
    model = ROWS["dense"]()
    for inputs in (normal(3, FEATURES + 1), [normal(3, FEATURES)] * 2):
        with pytest.raises(InvalidArgumentError, match="`inputs` must fit the inputs of"):
            kgp.shrink(model, sparsity=0.5, inputs=inputs)


def test_a_call_of_one_layer_is_carried():
    model = replaced_call()
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    small = kgp.shrink(model)
    assert small.get_layer("patched").call is not model.get_layer("patched").call
    assert_same(model, small)


def test_a_cell_keeps_its_constant():
    cell = Cell(4, 3.0)
    model = keras.Sequential(
        [keras.Input((3, FEATURES)), layers.RNN(cell), layers.Dense(8), layers.Dense(2)]
    )
    small = kgp.shrink(model, sparsity=0.5)
    assert small.layers[0].cell is not cell
    assert np.array_equal(small.layers[0].cell.mixing, cell.mixing)
