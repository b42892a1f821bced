"""The state of optimizers after a cut, against NumPy and against an optimizer without a cut."""

import re
import warnings

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers
from narrow_networks import KEEP, MLP, Net, by_hand, gradients, mlp, narrowed, state

from keras_ganprune.errors import PruningWarning
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.replace_networks import replace_networks

OPTIMIZERS = {
    "sgd": (lambda: optimizers.SGD(0.1, momentum=0.9), 1),
    "plain sgd": (lambda: optimizers.SGD(0.1), 0),
    "rmsprop": (lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True), 3),
    "adam": (lambda: optimizers.Adam(0.01, amsgrad=True), 3),
    "adamw": (lambda: optimizers.AdamW(0.01), 2),
    "adamax": (lambda: optimizers.Adamax(0.01), 2),
    "adadelta": (lambda: optimizers.Adadelta(0.1), 2),
    "nadam": (lambda: optimizers.Nadam(0.01), 2),
    "adagrad": (lambda: optimizers.Adagrad(0.1), 1),
    "lion": (lambda: optimizers.Lion(0.01), 1),
    "ftrl": (lambda: optimizers.Ftrl(0.1), 2),
    "ema": (lambda: optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2), 3),
    "accumulation": (lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2), 3),
    "loss scale": (lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01)), 2),
    "schedule": (
        lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), momentum=0.9),
        1,
    ),
    "clip": (lambda: optimizers.SGD(0.1, momentum=0.9, clipvalue=0.3), 1),
}


DEFAULT = {"adam", "ema", "loss scale"}
EACH_OPTIMIZER = [
    pytest.param(name, marks=() if name in DEFAULT else pytest.mark.full) for name in OPTIMIZERS
]


@pytest.mark.parametrize("name", EACH_OPTIMIZER)
def test_slots_are_cut_and_the_next_step_is_that_of_the_uncut_optimizer(name):
    make, count = OPTIMIZERS[name]
    cut, uncut = (Net(mlp(5), make()) for _ in range(2))
    uncut.net.set_weights(cut.net.get_weights())
    for seed in range(3):
        for model in (cut, uncut):
            grads = gradients(model.net.trainable_weights, seed)
            model.opt.apply(grads, model.net.trainable_weights)
    before, optimizer = state(cut.opt), cut.opt
    assert len(before) == count

    replace_networks(cut, [narrowed(cut.net, mlp(3), MLP)])

    assert cut.opt is optimizer
    after = state(cut.opt)
    assert list(after) == list(before)
    for key, slots in before.items():
        for slot, index, found in zip(slots, MLP, after[key], strict=True):
            np.testing.assert_array_equal(found, by_hand(slot, index))
    # These optimizers are elementwise, so a cut before a step and after it is the same.
    for seed in (3, 4, 5):
        grads = gradients(uncut.net.trainable_weights, seed)
        uncut.opt.apply(grads, uncut.net.trainable_weights)
        grads = [tf.constant(by_hand(np.array(g), i)) for g, i in zip(grads, MLP, strict=True)]
        cut.opt.apply(grads, cut.net.trainable_weights)
    for old, index, new in zip(uncut.net.weights, MLP, cut.net.weights, strict=True):
        np.testing.assert_allclose(nets.value(new), by_hand(nets.value(old), index), rtol=1e-6)
    assert int(cut.opt.iterations) == int(uncut.opt.iterations)


@pytest.mark.parametrize("name", EACH_OPTIMIZER)
def test_variables_have_the_order_of_a_new_optimizer(name):
    make, _ = OPTIMIZERS[name]
    model = Net(mlp(5), make())
    model.opt.build(model.net.trainable_weights)
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    new = make()
    new.build(model.net.trainable_weights)
    found, wanted = (
        [(tuple(v.shape), re.sub(r"^variable_\d+$", "", v.name), v.dtype) for v in o.variables]
        for o in (model.opt, new)
    )
    assert found == wanted
    # So each reads the file of the other.
    store = {}
    model.opt.save_own_variables(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new.load_own_variables({k: np.asarray(v) for k, v in store.items()})


def test_a_changed_learning_rate_and_the_scale_of_losses_stay():
    model = Net(mlp(5), optimizers.LossScaleOptimizer(optimizers.Adam(0.01)))
    model.opt.build(model.net.trainable_weights)
    model.opt.learning_rate = 0.25
    model.opt.dynamic_scale.assign(8.0)
    model.opt.step_counter.assign(5)
    rate = model.opt.inner_optimizer.learning_rate
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert model.opt.inner_optimizer.learning_rate is rate
    assert float(rate) == 0.25
    assert float(model.opt.dynamic_scale) == 8.0
    assert int(model.opt.step_counter) == 5


def test_nadams_product_stays():
    model = Net(mlp(5), optimizers.Nadam())
    model.opt.apply(gradients(model.net.weights, 0), model.net.weights)
    product = float(model.opt._u_product)
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert float(model.opt._u_product) == product != 1.0


@pytest.mark.parametrize("square", [False, True])
def test_factored_slots_of_adafactor(square):
    # The shape of a square kernel does not tell which axis a slot lacks.
    inputs = 5 if square else 4
    model = Net(mlp(5, inputs), optimizers.Adafactor(0.01))
    model.opt.apply(gradients(model.net.weights, 0), model.net.weights)
    r, c = ([np.array(nets.value(v)) for v in getattr(model.opt, n)] for n in ("_r", "_c"))
    replace_networks(model, [narrowed(model.net, mlp(3, inputs), MLP)])
    after_r, after_c = ([nets.value(v) for v in getattr(model.opt, n)] for n in ("_r", "_c"))
    np.testing.assert_array_equal(after_r[0], r[0])
    np.testing.assert_array_equal(after_c[0], c[0][KEEP])
    np.testing.assert_array_equal(after_r[2], r[2][KEEP])
    np.testing.assert_array_equal(after_c[2], c[2])
    model.opt.apply(gradients(model.net.weights, 1), model.net.weights)


def test_a_slot_of_another_shape_is_reset():
    class Doubled(optimizers.SGD):
        def build(self, variables):
            super().build(variables)
            self.doubled = [self.add_variable((2 * v.shape[0],), name="doubled") for v in variables]

    model = Net(mlp(5), Doubled(0.1, momentum=0.9))
    model.opt.build(model.net.weights)
    for slot in model.opt.doubled:
        slot.assign(np.ones(slot.shape))
    with pytest.warns(PruningWarning, match="was reset.*`doubled`"):
        replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert [float(np.sum(nets.value(v))) for v in model.opt.doubled] == [0, 0, 0, 0]


def test_variables_of_the_constructor_stay():
    class Counting(optimizers.SGD):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.seen = self.add_variable((), name="seen")

    model = Net(mlp(5), Counting(0.1, momentum=0.9))
    model.opt.build(model.net.weights)
    model.opt.seen.assign(7.0)
    names, seen = [v.name.split("/")[-1] for v in model.opt.variables][:3], model.opt.seen
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert model.opt.seen is seen
    assert [v.name.split("/")[-1] for v in model.opt.variables][:3] == names
    assert len(model.opt.variables) == 3 + 4


def test_slots_in_a_list_that_init_makes():
    class Appending(optimizers.SGD):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.more = []

        def build(self, variables):
            super().build(variables)
            for v in variables:
                self.more.append(self.add_variable(v.shape, "ones"))

    model = Net(mlp(5), Appending(0.1))
    model.opt.build(model.net.weights)
    model.opt.more[2].assign(np.arange(15.0).reshape(5, 3))
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    assert len(model.opt.more) == 4
    np.testing.assert_array_equal(nets.value(model.opt.more[2]), np.arange(15).reshape(5, 3)[KEEP])


def test_exclusions_from_weight_decay_stay():
    model = Net(mlp(5), optimizers.AdamW(0.1, weight_decay=0.5))
    model.opt.exclude_from_weight_decay([model.net.weights[0]])
    model.opt.apply(gradients(model.net.weights, 0), model.net.weights)
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    decays = [model.opt._use_weight_decay(w) for w in model.net.weights]
    assert decays == [False, True, True, True]


@pytest.mark.skipif(not hasattr(optimizers, "MultiOptimizer"), reason="older Keras")
def test_a_multi_optimizer():
    kernels, others = optimizers.Adam(0.01), optimizers.SGD(0.1, momentum=0.9)
    both = optimizers.MultiOptimizer(lambda v: kernels if "kernel" in v.path else others)
    model = Net(mlp(5), both)
    model.opt.apply(gradients(model.net.weights, 0), model.net.weights)
    before = state(kernels)["Adam", "_momentums"]
    replace_networks(model, [narrowed(model.net, mlp(3), MLP)])
    after = state(kernels)["Adam", "_momentums"]
    np.testing.assert_array_equal(after[1], before[1][KEEP])
    assert len(after) == 2
    model.opt.apply(gradients(model.net.weights, 1), model.net.weights)
    assert int(kernels.iterations) == 2


def test_one_optimizer_for_two_networks():
    model = Net(mlp(5), optimizers.Adam(0.01), other=mlp(5))
    trained = [*model.net.weights, *model.other.weights]
    model.opt.apply(gradients(trained, 0), trained)
    before = state(model.opt)["Adam", "_momentums"]
    replace_networks(model, [narrowed(model.other, mlp(3), MLP)])
    after = state(model.opt)["Adam", "_momentums"]
    for old, new in zip(before[:4], after[:4], strict=True):
        np.testing.assert_array_equal(new, old)
    np.testing.assert_array_equal(after[6], before[6][KEEP])
    trained = [*model.net.weights, *model.other.weights]
    model.opt.apply(gradients(trained, 1), trained)


def test_slots_have_the_order_of_the_new_weights():
    class Crossed(keras.Model):
        """Its layers are in another order than their calls."""

        def __init__(self):
            super().__init__()
            self.last = layers.Dense(3)
            self.first = layers.Dense(5, activation="tanh")

        def call(self, x):
            return self.last(self.first(x))

    old, new, other = Crossed(), mlp(3), mlp(5)
    old(np.ones((1, 4)))
    model = Net(old, optimizers.Adam(0.01, use_ema=True), other=other)
    trained = [*old.weights, *other.weights]
    model.opt.apply(gradients(trained, 0), trained)
    before = state(model.opt)
    old_weights = [*old.first.weights, *old.last.weights]
    cuts = [Cut(*row) for row in zip(old_weights, new.weights, MLP, strict=True)]
    for cut in cuts:
        cut.new.assign(cut.slice(nets.value(cut.old)))
    replace_networks(model, [(old, new, cuts)])
    after = state(model.opt)
    for key, slots in before.items():
        slots = [*slots[2:4], *slots[:2]]
        for slot, index, found in zip(slots, MLP, after[key][:4], strict=True):
            np.testing.assert_array_equal(found, by_hand(slot, index))
    # Keras puts the averages into the weights by their order.
    model.opt.finalize_variable_values([*new.weights, *other.weights])
    averages = after["Adam", "_model_variables_moving_average"]
    for weight, average in zip([*new.weights, *other.weights], averages, strict=True):
        np.testing.assert_array_equal(nets.value(weight), average)


def test_slots_of_a_removed_layer_are_removed():
    old = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="a"), layers.Dense(2)])
    new = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model = Net(old, optimizers.Adam(0.01))
    model.opt.apply(gradients(old.weights, 0), old.weights)
    before = state(model.opt)["Adam", "_momentums"]
    cuts = [
        Cut(v, w, (None,) * len(w.shape)) for v, w in zip(old.weights[2:], new.weights, strict=True)
    ]
    replace_networks(model, [(old, new, cuts)])
    for one, other in zip(before[2:], state(model.opt)["Adam", "_momentums"], strict=True):
        np.testing.assert_array_equal(one, other)
