"""Kernels without masks are named with a call of `register_prunable` that really covers them."""

import ast
import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.errors import (
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers.prunable import PRUNABLE_CLASSES
from keras_ganprune.layers.upgrade import make_prunable


@pytest.fixture(autouse=True)
def registry():
    """Begin with the classes of Keras alone: classes of other tests have names of these tests too."""
    before = dict(PRUNABLE_CLASSES)
    for cls in before:
        if not cls.__module__.startswith("keras."):
            del PRUNABLE_CLASSES[cls]
    yield
    PRUNABLE_CLASSES.clear()
    PRUNABLE_CLASSES.update(before)


# --- layers of a user -----------------------------------------------------------------------------
# Each function defines a class anew, so that no test sees a class that another one has registered.


def own_kernel():
    class KernelMix(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 6))
            self.scale = self.add_weight(shape=(6,))

        def call(self, x):
            return x @ self.w * self.scale

    return KernelMix()


def kernels_in_containers():
    class Experts(layers.Layer):
        def build(self, shape):
            self.experts = [self.add_weight(shape=(shape[-1], 6)) for _ in range(2)]
            self.heads = {"left": self.add_weight(shape=(6, 6))}
            self.bias = self.add_weight(shape=(2, 6))

        def call(self, x):
            return (x @ self.experts[0] + x @ self.experts[1]) @ self.heads["left"] + self.bias[0]

    return Experts()


def second_kernel():
    class Dense2(layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.back = self.add_weight(shape=(self.units, 6))

        def call(self, x):
            return super().call(x) @ self.back

    return Dense2(4)


def table_of_scales():
    class ConditionalNorm(layers.BatchNormalization):
        def build(self, shape):
            super().build(shape)
            self.table = self.add_weight(shape=(10, shape[-1]))

        def call(self, x, training=None):
            return super().call(x, training=training) * self.table[0]

    return ConditionalNorm()


def cell_of_a_user():
    class Cell(layers.Layer):
        def __init__(self, units=6, **options):
            super().__init__(**options)
            self.units = self.state_size = self.output_size = units

        def build(self, shape):
            self.inside = self.add_weight(shape=(shape[-1], self.units))

        def call(self, x, states):
            out = ops.tanh(x @ self.inside + states[0])
            return out, [out]

    return keras.Sequential(
        [keras.Input((6,)), layers.Reshape((3, 2)), layers.RNN(Cell()), layers.Dense(6)]
    )


def second_kernel_in_a_cell():
    class Cell(layers.LSTMCell):
        def build(self, shape):
            super().build(shape)
            self.extra = self.add_weight(shape=(self.units, self.units))

        def call(self, x, states, training=None):
            out, states = super().call(x, states, training=training)
            return out @ self.extra, states

    class MyLSTM(layers.LSTM):
        def __init__(self, units, **options):
            super().__init__(units, **options)
            self.cell = Cell(units)

    return keras.Sequential([keras.Input((6,)), layers.Reshape((3, 2)), MyLSTM(6)])


def kernel_beside_a_layer():
    class KernelGate(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.inner = layers.Dense(6)

        def build(self, shape):
            self.inner.build(shape)
            self.w = self.add_weight(shape=(6, 6))

        def call(self, x):
            return self.inner(x) @ self.w

    return KernelGate()


def wrapper_with_a_kernel():
    class Shift(layers.Wrapper):
        def build(self, shape=None):
            super().build(shape)
            self.shift = self.add_weight(shape=(shape[-1], 6))

        def call(self, x):
            return self.layer(x) + x @ self.shift

    return Shift(layers.Dense(6))


def frozen_kernel():
    layer = own_kernel()
    layer.trainable = False
    return layer


def optional_kernel():
    class Maybe(layers.Layer):
        def __init__(self, gated, **options):
            super().__init__(**options)
            self.gated = gated

        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 6))
            if self.gated:
                self.gate = self.add_weight(shape=(shape[-1], 6))

        def call(self, x):
            return (x @ self.w) * (x @ self.gate if self.gated else 1.0)

    return keras.Sequential([keras.Input((6,)), Maybe(False), Maybe(True)])


def shared():
    layer = own_kernel()
    x = keras.Input((6,))
    return keras.Model(x, layer(layer(x)))


def model_of(part):
    if isinstance(part, keras.Model):
        return part
    return keras.Sequential([keras.Input((6,)), part])


# Case -> (what makes the layer, classes of its layers, number of parameters without masks).
OWN = {
    "a kernel": (own_kernel, ["KernelMix"], 36),
    "a list and a dict": (kernels_in_containers, ["Experts"], 108),
    "a second kernel of a Dense": (second_kernel, ["Dense2"], 24),
    "a table of a norm": (table_of_scales, ["ConditionalNorm"], 60),
    "a cell": (cell_of_a_user, ["Cell"], 12),
    "a second kernel in a cell": (second_kernel_in_a_cell, ["MyLSTM"], 36),
    "a kernel beside a layer": (kernel_beside_a_layer, ["KernelGate"], 36),
    "a wrapper": (wrapper_with_a_kernel, ["Shift"], 36),
    "a frozen kernel": (frozen_kernel, ["KernelMix"], 36),
    "kernels of some configurations": (optional_kernel, ["Maybe"], 108),
    "a shared layer": (shared, ["KernelMix"], 36),
}


def follow(row, model):
    """Make the call of `register_prunable` that a row of a `MaskCoverage` names."""
    name, names = re.search(r"`register_prunable\((\w+), (\[.*?\])\)`", row.fix).groups()
    classes = {type(layer) for layer in model._flatten_layers()}
    classes |= {getattr(cls, "plain_class", cls) for cls in classes}
    (cls,) = {cls for cls in classes if cls.__name__ == name and "Prunable" not in cls.__qualname__}
    return kgp.register_prunable(cls, ast.literal_eval(names))


@pytest.mark.parametrize(
    "when",
    ["before it is pruned", pytest.param("after it was pruned", marks=pytest.mark.full)],
)
@pytest.mark.parametrize("case", OWN)
def test_the_named_call_covers_the_kernels(case, when):
    make, names, parameters = OWN[case]
    model = model_of(make())
    found = kgp.mask_coverage(model)
    assert [row.name for row in found.not_covered] == names
    assert found.total - found.covered == found.not_covered[0].parameters == parameters
    assert "Not covered: " in str(found)
    if when == "after it was pruned" and found.covered:
        with pytest.warns(PruningWarning, match="Not covered: "):
            pruner = kgp.Pruner(model)
        pruner.update(sparsity=0.25)
        assert found.remark() in pruner.remarks and found.remark() not in pruner.remarks_to_print
        assert f"Not covered: {names[0]}" in str(kgp.sparsity_report(model))
    for row in found.not_covered:
        follow(row, model)
    whole = kgp.mask_coverage(model)
    assert whole.complete and whole.total == found.total and whole.remark() is None
    report = kgp.Pruner(model).update(sparsity=0.5)
    assert report.total == found.total
    assert "overed" not in str(kgp.sparsity_report(model))
    x = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    np.testing.assert_array_equal(model(x), kgp.strip_pruning(model)(x))


def test_what_is_no_kernel_is_not_named():
    class Vectors(layers.Layer):
        def build(self, shape):
            self.token = self.add_weight(shape=(1, 1, 6))
            self.scale = self.add_weight(shape=(6, 1, 1))
            self.bias_of_heads = self.add_weight(shape=(2, 3), name="bias")
            self.gamma = self.add_weight(shape=(2, 6))
            self.codebook = self.add_weight(shape=(6, 6), trainable=False)

        def call(self, x):
            return x * self.gamma[0]

    model = keras.Sequential([keras.Input((6,)), Vectors(), layers.Dense(3), layers.PReLU()])
    found = kgp.mask_coverage(model)
    assert (found.covered, found.total, found.not_covered) == (18, 18, ())
    assert found.share == 1.0 and found.lines() == []


class OfTheModel(keras.Model):
    """A model that holds a weight itself."""

    def __init__(self):
        super().__init__(name="net")
        self.dense = layers.Dense(4)

    def build(self, shape):
        self.dense.build(shape)
        self.latent = self.add_weight(shape=(4, 4), name="latent")

    def call(self, x):
        return self.dense(x) @ self.latent


class Nameless(layers.Layer):
    """A layer that keeps its kernel in no attribute."""

    def build(self, shape):
        self.add_weight(shape=(shape[-1], 4))

    def call(self, x):
        return x @ self.weights[0]


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        pytest.param(OfTheModel, "put the weights into a layer of your own", id="model"),
        pytest.param(lambda: model_of(Nameless()), "no attributes of the layer", id="nameless"),
    ],
)
def test_what_cannot_be_registered_is_said(make, fix):
    model = make()
    model(np.ones((1, 6)))
    (row,) = kgp.mask_coverage(model).not_covered
    assert fix in row.fix


def _heads():
    x = keras.Input((4, 6))
    return keras.Model(x, layers.Dense(2)(layers.MultiHeadAttention(2, 3)(x, x)))


@pytest.mark.parametrize(
    ("make", "inner", "missing"),
    [
        pytest.param(lambda: model_of(layers.Dense(5)), lambda m: m.layers[0], 30, id="a layer"),
        pytest.param(
            _heads,
            lambda m: m.layers[1]._query_dense,
            36,
            id="inside attention",
            marks=pytest.mark.full,
        ),
    ],
)
def test_a_kernel_that_lora_computes_is_covered_after_the_merge(make, inner, missing):
    model = make()
    model(np.ones((1, *model.input_shape[1:])))
    whole = kgp.mask_coverage(model)
    inner(model).enable_lora(2)
    found = kgp.mask_coverage(model)
    assert (found.total, found.covered) == (whole.total, whole.total - missing)
    (row,) = found.not_covered
    assert "`kgp.merge_lora(model)`" in row.fix
    kgp.merge_lora(model)
    assert kgp.mask_coverage(model) == whole
    kgp.Pruner(model).update(sparsity=0.5)
    inner(model).enable_lora(2)
    assert kgp.mask_coverage(model).complete


def test_layers_outside_the_scope_are_covered():
    mix = own_kernel()
    model = keras.Sequential([keras.Input((6,)), mix, layers.Dense(6, name="a"), layers.Dense(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruner = kgp.Pruner(model, scope="a")  # the user has chosen
        assert pruner.remarks == []
    assert kgp.mask_coverage(model).total == 36 + 36 + 12
    assert kgp.mask_coverage(model, scope=layers.Dense).total == 36 + 12


def test_a_small_share_is_a_remark_only():
    model = keras.Sequential([keras.Input((6,)), own_kernel(), layers.Dense(2000)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruner = kgp.Pruner(model)
    assert pruner.remarks == pruner.remarks_to_print
    assert "Not covered: KernelMix" in pruner.remarks[0]


def test_fit_says_it_once():
    model = keras.Sequential([keras.Input((6,)), own_kernel(), layers.Dense(6)])
    model.compile("sgd", "mse")
    callback = kgp.Prune(0.5)
    x = np.ones((8, 6), "float32")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            model.fit(x, x, verbose=0, callbacks=[callback])
    said = [str(w.message) for w in seen if issubclass(w.category, PruningWarning)]
    assert len(said) == 1
    assert "Covered: 36 of 72 parameters in kernels" in said[0] and "`scope`" in said[0]


@pytest.mark.parametrize(
    "prune",
    [
        pytest.param(lambda m: kgp.Pruner(m, granularity="channel"), id="masked channels"),
        pytest.param(lambda m: kgp.shrink(m, sparsity=0.5), id="shrink"),
        pytest.param(lambda m: kgp.shrink(m, budget=kgp.Budget(macs=0.5)), id="a budget"),
    ],
)
def test_channels_of_own_layers_are_refused_by_name(prune):
    model = keras.Sequential([keras.Input((6,)), own_kernel(), own_kernel()])
    first, second = (layer.name for layer in model.layers)
    text = (
        f"(?s){first}: all channels stay, because the size 6 of .* is neither that of an input of "
    )
    text += rf"`KernelMix` '{first}' nor .*`register_rule\(KernelMix\)` can cut it.*{second}: "
    with pytest.raises(InvalidArgumentError, match=text):
        prune(model)


# --- classes that were defined again --------------------------------------------------------------


def test_a_class_that_was_defined_again_is_said():
    kgp.register_prunable(type(own_kernel()), ["w"])
    again = model_of(own_kernel())  # the cell of the class has run again, that of the call has not
    with pytest.raises(UnsupportedLayerError, match="another class object") as error:
        make_prunable(again)
    assert "`register_prunable(KernelMix, ['w'])` again" in str(error.value)
    (row,) = kgp.mask_coverage(again).not_covered
    follow(row, again)
    assert kgp.mask_coverage(make_prunable(again)).complete


def test_a_subclass_with_the_name_of_its_parent(tmp_path):
    twin = type("Dense", (layers.Dense,), {"__module__": "other_library.layers"})
    keras.saving.register_keras_serializable(package="other_library")(twin)
    model = keras.Sequential([keras.Input((6,)), twin(4), layers.Dense(2)])
    assert kgp.Pruner(model).update(sparsity=0.5).total == 32
    model.save(tmp_path / "model.keras")
    loaded = kgp.load_model(tmp_path / "model.keras")
    assert kgp.sparsity_report(loaded).kept == 16
    assert [layer.plain_class for layer in loaded.layers] == [twin, layers.Dense]


def test_a_model_of_the_old_class_is_still_pruned():
    old = own_kernel()
    kgp.register_prunable(type(old), ["w"])
    kgp.register_prunable(type(own_kernel()), ["w"])  # both cells have run again
    assert kgp.Pruner(model_of(old)).update(sparsity=0.5).total == 36


@pytest.mark.parametrize("registered", [False, True])
def test_a_scope_with_a_class_that_is_not_registered_says_so(registered):
    if registered:
        kgp.register_prunable(type(own_kernel()), ["w"])
    model = keras.Sequential([keras.Input((6,)), own_kernel(), layers.Dense(2)])
    reason = "another class object" if registered else "is not registered"
    with pytest.raises(InvalidArgumentError, match=rf"matches none of.*{reason}"):
        kgp.Pruner(model, scope=type(model.layers[0]))


def test_a_wrong_name_is_said_with_the_right_ones():
    layer = own_kernel()
    with pytest.raises(InvalidArgumentError, match=r"'kernel'\. Its methods set: scale, w\."):
        kgp.register_prunable(type(layer), ["kernel"])
    layer.__class__ = type("KernelMix", (type(layer),), {"late": property(lambda self: None)})
    kgp.register_prunable(type(layer), ["late"])
    with pytest.raises(
        UnsupportedLayerError, match=r"no weight `late`.*`register_prunable`: \['w'\]"
    ):
        make_prunable(model_of(layer))


# --- sublayers that are never called --------------------------------------------------------------


class Block(layers.Layer):
    """A block whose squeeze-and-excitation part is made in any case, and used if `use_se`."""

    def __init__(self, use_se=False, deep=False, **options):
        super().__init__(**options)
        self.conv = layers.Dense(6, name="conv")
        parts = [layers.Dense(2, name="down"), layers.Dense(6, name="up")]
        self.se = keras.Sequential(parts, name="se") if deep else layers.Dense(2, name="se")
        self.use_se = use_se

    def call(self, x):
        y = self.conv(x)
        return y + self.se(y)[..., :1] if self.use_se else y


class Net(keras.Model):
    def __init__(self, **options):
        super().__init__(name="net")
        self.block, self.head = Block(name="block", **options), layers.Dense(6, name="head")

    def call(self, x):
        return self.head(self.block(x))


class GAN(keras.Model):
    """A GAN without `call`, so it is never built itself."""

    def __init__(self, discriminator=True, **options):
        super().__init__(name="gan")
        self.generator, self.discriminator = Net(**options), Net(use_se=True)
        self.generator(np.ones((1, 6)))
        if discriminator:
            self.discriminator(np.ones((1, 6)))

    def train_step(self, data):
        return {"loss": ops.mean(self.discriminator(self.generator(data[0]), training=True))}


def net(called=True, **options):
    made = Net(**options)
    if called:
        made(np.ones((1, 6)))
    return made


@pytest.mark.parametrize(
    ("make", "unused", "masks"),
    [
        pytest.param(lambda: net(use_se=True), None, 3, id="it is used"),
        pytest.param(net, "block/se", 2, id="a layer"),
        pytest.param(lambda: net(deep=True), "block/se/down", 2, id="a Sequential"),
        pytest.param(GAN, "net/block/se", 5, id="in a GAN"),
    ],
)
def test_a_part_that_is_never_called_is_left_out_with_a_word(make, unused, masks):
    model = make()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pruner = kgp.Pruner(model)
    assert len(pruner.weights) == masks
    pruner.update(sparsity=0.5)
    said = [str(w.message) for w in seen]
    assert len(said) == (unused is not None)
    if unused:
        assert f"'{unused}'" in said[0] and "never called" in said[0]


@pytest.mark.parametrize(
    ("make", "scope"),
    [
        pytest.param(lambda: net(called=False), None, id="nothing is built"),
        pytest.param(lambda: GAN(discriminator=False), None, id="a whole network is not built"),
        pytest.param(net, "*/se", id="the scope has nothing else"),
    ],
)
def test_a_network_that_is_not_built_is_an_error(make, scope):
    with pytest.raises(UnbuiltModelError, match="must be built before it is pruned"):
        kgp.Pruner(make(), scope=scope)


def test_a_part_that_is_never_called_does_not_stop_fit():
    model = Net()
    model.compile("sgd", "mse")
    x = np.ones((8, 6), "float32")
    with pytest.warns(PruningWarning, match=r"'block/se' of 'net' was never called"):
        model.fit(x, x, verbose=0, callbacks=[kgp.Prune(0.5)])
    assert kgp.sparsity_report(model).sparsity == 0.5
