"""Zeros hold on every route: whatever writes into a masked weight, with no callback of this package there."""

import copy
import pickle

import keras
import numpy as np
import pytest
import writers
from keras import layers
from past_keras import WAYS, write_past_keras
from writers import BACKEND, RNG, X, Y, plain, pruned, train

import keras_ganprune as kgp
from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.guard import MaskConstraint, guard, unguard
from keras_ganprune.layers.mask_store import companion
from keras_ganprune.layers.tensors import to_numpy

full = pytest.mark.full
ON_TF = BACKEND == "tensorflow"
ROWS = [pytest.param(writer, id=name) for name, writer in writers.short().items()]
ROWS += [pytest.param(writer, id=name, marks=full) for name, writer in writers.LONG.items()]


@pytest.mark.parametrize("write", ROWS)
def test_a_pruned_weight_stays_zero(write, tmp_path):
    model = pruned()
    weights = kgp.masked_weights(model)
    before = to_numpy(weights[0].variable).copy()
    assert writers.holds(write, model, tmp_path)
    # The writer did write: a guard that drops whole writes would pass the line above.
    if getattr(weights[0].variable.constraint, "inner", None) is None:
        assert not np.array_equal(to_numpy(weights[0].variable), before)
    train(model, "sgd", 1)
    assert [int(np.count_nonzero(to_numpy(w.variable))) for w in weights] == [48, 51]


@pytest.mark.filterwarnings("ignore:Training ended at step")
@pytest.mark.parametrize("end", [5, pytest.param(100, marks=full)])
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(name, marks=() if name == "splice" else full)
        for name in "soft rigl set splice".split()
    ],
)
def test_a_later_fit_holds_the_masks_of_every_mode(mode, end):
    # The mode `splice` collects updates of pruned weights, which must not be let through afterwards.
    model = plain()
    schedule = kgp.PolynomialDecay(0.8, 1, end, initial_sparsity=0.2)
    prune = kgp.Prune(schedule, frequency=2, mode=mode)
    train(model, keras.optimizers.Adam(1e-2, use_ema=True), 3, [prune])
    if (
        BACKEND == "jax"
    ):  # Keras leaves weight and average in one array, which a step cannot donate twice.
        for weight in model.weights:
            weight.assign(keras.ops.copy(weight.value))
    kept = [int(np.count_nonzero(to_numpy(w.mask))) for w in kgp.masked_weights(model)]
    model.fit(X, Y, batch_size=8, verbose=0)
    weights = kgp.masked_weights(model)
    assert not any(to_numpy(w.variable)[~to_numpy(w.mask)].any() for w in weights)
    model.set_weights([np.ones_like(w) for w in model.get_weights()])
    assert [int(np.count_nonzero(to_numpy(w.variable))) for w in weights] == kept


def test_kept_entries_get_the_values_that_are_written():
    model = pruned()
    kernel = model.layers[0]._kernel
    mask = to_numpy(kgp.masked_weights(model)[0].mask)
    value = RNG.normal(size=(15, 16)).astype("float32")
    kernel.assign(value)
    np.testing.assert_array_equal(to_numpy(kernel), np.where(mask, value, 0))
    kernel.assign_add(value)
    np.testing.assert_array_equal(to_numpy(kernel), np.where(mask, value + value, 0))
    kernel.assign(np.full((15, 16), np.nan))
    np.testing.assert_array_equal(np.isnan(to_numpy(kernel)), mask)


def test_a_value_of_another_shape_is_refused():
    kernel = pruned().layers[0]._kernel
    with pytest.raises(ValueError, match="shape"):
        kernel.assign(np.ones((16,)))


def test_a_training_step_gives_what_it_gives_without_masks_where_nothing_is_pruned():
    results = []
    for prepare in (lambda m: m, kgp.make_prunable):
        keras.utils.set_random_seed(5)
        model = prepare(plain())
        train(model, keras.optimizers.AdamW(1e-2, use_ema=True), 3)
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-7)


def test_a_users_constraint_composes_whenever_it_is_set():
    model = pruned()
    kernel = model.layers[0]._kernel
    kernel.constraint = keras.constraints.UnitNorm(axis=0)
    assert isinstance(kernel.constraint, MaskConstraint)
    train(model, "sgd", 1)
    norms = np.linalg.norm(to_numpy(kernel), axis=0)
    np.testing.assert_allclose(norms[norms > 0], 1.0, rtol=1e-5)
    assert np.count_nonzero(to_numpy(kernel)) == 48
    kernel.constraint = None
    assert isinstance(kernel.constraint, MaskConstraint) and kernel.constraint.inner is None
    with pytest.raises(ValueError, match="function of a weight"):
        kernel.constraint = 3


def test_unguard_gives_the_variable_back():
    weight = keras.Variable(np.ones((2, 3), "float32"), name="w")
    weight.constraint = own = keras.constraints.NonNeg()
    cls = type(weight)
    mask = companion(weight, np.array([[1, 0, 1], [0, 1, 1]], bool), "mask")
    guard(weight, MaskConstraint(mask, weight.constraint))
    weight.assign(np.full((2, 3), 2.0))
    assert np.count_nonzero(to_numpy(weight)) == 4
    unguard(weight)
    assert type(weight) is cls and weight.constraint is own
    weight.assign(np.full((2, 3), 3.0))
    assert np.count_nonzero(to_numpy(weight)) == 6
    if ON_TF:
        weight.value.assign_add(np.ones((2, 3)))
        assert (to_numpy(weight) == 4).all()
    unguard(weight)  # a second time does nothing


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_a_copied_variable_is_guarded_by_a_mask_of_its_own(duplicate):
    kernel = pruned().layers[0]._kernel
    other = duplicate(kernel)
    assert type(other) is type(kernel) and other.constraint.mask is not kernel.constraint.mask
    other.assign(np.ones((15, 16)))
    if ON_TF:
        other.value.assign_add(np.ones((15, 16)))
    np.testing.assert_array_equal(to_numpy(other) != 0, to_numpy(kernel.constraint.mask))
    assert not np.array_equal(to_numpy(other), to_numpy(kernel))


def test_older_masks_come_back_with_their_weights(tmp_path):
    model = plain()
    kgp.Pruner(model).update(sparsity=0.5)
    model.save_weights(tmp_path / "half.weights.h5")
    saved = [w.copy() for w in model.get_weights()]
    kgp.Pruner(model).update(sparsity=0.9)
    model.load_weights(tmp_path / "half.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(saved, model.get_weights(), strict=True))


def test_a_file_that_does_not_fit_leaves_the_guard_on(tmp_path):
    other = keras.Sequential([keras.Input((15,)), layers.Dense(7), layers.Dense(16, name="head")])
    kgp.Pruner(other).update(sparsity=0.1)
    other.save_weights(tmp_path / "other.weights.h5")
    model = pruned()
    with pytest.raises(Exception, match=r"shape|masks"):
        model.load_weights(tmp_path / "other.weights.h5")
    model.set_weights([np.ones_like(w) for w in model.get_weights()])
    assert [np.count_nonzero(w) for w in model.get_weights()[::2]] == [48, 51]


def test_values_written_past_every_guard_are_said_and_mended(tmp_path):
    model = pruned()
    kept = model.get_weights()
    write_past_keras(model, [np.ones_like(w) for w in kept])
    with pytest.warns(PruningWarning, match=r"values under their masks: .*kernel.*apply_masks"):
        model.save(tmp_path / "model.keras")
    with pytest.warns(PruningWarning, match="had values under the mask"):
        stripped = kgp.strip_pruning(model)
    assert np.count_nonzero(stripped.layers[0].kernel) == 48
    write_past_keras(model, [np.ones_like(w) for w in kept])
    kgp.apply_masks(model)
    assert np.count_nonzero(to_numpy(model.layers[0]._kernel)) == 48


# What sets values that were written past every guard to zero. A plain `fit` is among them.
MENDS = {
    "fit with SGD": lambda m, x, y: m.fit(x, y, batch_size=8, verbose=0),
    "fit with Adam": lambda m, x, y: train_on(m, x, y, "adam"),
    "apply_masks": lambda m, x, y: kgp.apply_masks(m),
    "set_weights": lambda m, x, y: m.set_weights(m.get_weights()),
}
if BACKEND != "jax":  # There a mask cannot change after a plain `fit`.
    MENDS["Pruner.update"] = lambda m, x, y: kgp.Pruner(m).update(sparsity=0.8)


def train_on(model, x, y, optimizer):
    model.compile(optimizer, "mse")
    model.fit(x, y, batch_size=8, verbose=0)


def embedding():
    """Return a model whose table gets gradients of some rows, on TensorFlow, and its data."""
    model = keras.Sequential(
        [keras.Input((5,)), layers.Embedding(50, 8), layers.Flatten(), layers.Dense(16)]
    )
    return model, RNG.integers(0, 40, (32, 5)), Y


MAKERS = {"Dense": lambda: (plain(), X, Y), "Embedding": embedding}
# By default a table only where it is written row by row.
FAST = {(way, "Embedding" if way == "raw rows" else "Dense") for way in WAYS}


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        pytest.param(way, kind, marks=() if (way, kind) in FAST else full)
        for way in WAYS
        for kind in MAKERS
    ],
)
def test_a_plain_fit_and_every_named_call_mend_what_was_written_past_the_guard(way, kind, tmp_path):
    model, x, y = MAKERS[kind]()
    kgp.Pruner(model).update(sparsity=0.8)
    train_on(model, x, y, "sgd")  # the step is traced before anything is written
    weights = kgp.masked_weights(model)

    def leaks():
        return sum(np.count_nonzero(to_numpy(w.variable)[~to_numpy(w.mask)]) for w in weights)

    for name, mend in MENDS.items():
        for weight in weights:
            WAYS[way](weight.variable, np.ones(weight.mask.shape, "float32"))
        assert leaks() > 0
        assert "not zero" in kgp.sparsity_report(model).warnings()[0]
        mend(model, x, y)
        assert (name, leaks()) == (name, 0)
    assert kgp.sparsity_report(model).warnings() == []


def test_values_written_past_every_guard_in_a_fit_are_said_at_its_end():
    model = plain()

    def write(epoch, logs):
        write_past_keras(model, [np.ones_like(w) for w in model.get_weights()])

    writes = keras.callbacks.LambdaCallback(on_epoch_end=write)
    with pytest.warns(PruningWarning, match=r"had values under the mask at the end of an epoch"):
        train(model, "sgd", 2, [writes, kgp.Prune(0.8)])
    assert [np.count_nonzero(w) for w in model.get_weights()[::2]] == [48, 51]


@pytest.mark.skipif(not ON_TF, reason="tf.distribute needs TensorFlow")
def test_replicas_are_guarded_too():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = plain()
        kgp.Pruner(model).update(sparsity=0.8)
        model.compile(keras.optimizers.Adam(1e-2, use_ema=True), "mse")
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    model.layers[0]._kernel.assign(np.ones((15, 16)))
    kernel = model.layers[0]._kernel.value
    parts = strategy.experimental_local_results(kernel)
    assert [int(np.count_nonzero(part)) for part in parts] == [48, 48]
