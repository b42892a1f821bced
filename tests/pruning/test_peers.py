"""The tests of other pruning libraries with their own numbers, and where this package differs.

They are those of TFMOT, jaxpruner and PyTorch. Their tests of schedules, N:M and block masks, ERK and RigL
are in schedules/, granularity/, test_allocation.py and test_modes.py.
"""

import h5py
import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.layers import mask_ops
from keras_ganprune.layers.tensors import to_numpy


def column(values):
    """Return a model of one kernel (n, 1) with given values, and its pruner."""
    values = np.asarray(values, "float32").reshape(-1, 1)
    model = keras.Sequential(
        [keras.Input((len(values),)), layers.Dense(1, use_bias=False, name="dense")]
    )
    model.layers[0].kernel.assign(values)
    return model, kgp.Pruner(model)


def kernel(model):
    return np.array(to_numpy(model.layers[0].kernel)).reshape(-1)


# --- how many stay (the table of counts) ---------------------------------------------------------

COUNTED = [(5, 0.5), (3, 0.5), (10, 0.9), (20, 0.9), (10, 0.0)]
RULES = {
    # Ours is that of TFMOT and jaxpruner: max(round(n (1 - s)), 1), halves to even.
    "tfmot": lambda n, s: max(round(n * (1 - s)), 1),
    "torch": lambda n, s: n - round(s * n),
    "nncf": lambda n, s: n - (int((n - 1) * s) + 1),
    "torch_pruning": lambda n, s: int(n * (1 - s)),
}
TABLE = {
    "tfmot": [2, 2, 1, 2, 10],
    "torch": [3, 1, 1, 2, 10],
    "nncf": [2, 1, 1, 2, 9],
    "torch_pruning": [2, 1, 0, 1, 10],
}


@pytest.mark.parametrize(("case", "n", "s"), [(i, n, s) for i, (n, s) in enumerate(COUNTED)])
def test_kept_counts_are_those_of_tfmot_and_of_no_other(case, n, s):
    assert {name: rule(n, s) for name, rule in RULES.items()} == {
        name: row[case] for name, row in TABLE.items()
    }
    assert mask_ops.kept_count(n, s) == TABLE["tfmot"][case]
    model, pruner = column(np.arange(1, n + 1))
    assert pruner.update(sparsity=s).kept == TABLE["tfmot"][case]
    assert np.count_nonzero(kernel(model)) == TABLE["tfmot"][case]


@pytest.mark.parametrize(
    ("values", "sparsity", "kept"),
    [
        (np.arange(1, 101), 0.9999, 1),  # ExtremelySparseMask
        (np.arange(1, 101), 0.5, 50),  # UpdateSingleMask
        (np.arange(1, 11), 0.200000018, 8),  # ConstructsMaskAndThreshold
        (np.arange(1, 18), 0.4, 10),  # PyTorch: 7 of 17 go
        (np.full(8, 0.3), 0.5, 4),  # eight equal ones; TFMOT would keep all
        (np.full(10, -1.0), 0.9, 1),
    ],
)
def test_single_masks(values, sparsity, kept):
    model, pruner = column(values)
    assert pruner.update(sparsity=sparsity).kept == kept
    found = kernel(model)
    assert np.count_nonzero(found) == kept
    # The largest stay; of equal ones, the first (as in jaxpruner).
    order = np.argsort(-np.abs(values), kind="stable")[:kept]
    assert set(np.flatnonzero(found)) == set(order.tolist())


def test_conditional_mask_update():
    model, pruner = column(np.random.default_rng(0).normal(size=100))
    left = []
    for sparsity in (0.0, 0.1, 0.1, 0.3, 0.3, 0.5):
        pruner.update(sparsity=sparsity)
        left.append(np.count_nonzero(kernel(model)))
    assert left == [100, 90, 90, 70, 70, 50]


@pytest.mark.parametrize("normalize", [None, "l2"])
def test_global_masks_of_jaxpruner(normalize):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(1, use_bias=False), layers.Dense(2, use_bias=False)]
    )
    model.layers[0].kernel.assign(np.array([[0.1], [0.9], [-0.2], [0.5]]))
    model.layers[1].kernel.assign(np.array([[0.7, 0.8]]))
    pruner = kgp.Pruner(model, allocation=kgp.GlobalRanking(normalize))
    pruner.update(sparsity=0.5)
    found = [to_numpy(w.mask).reshape(-1).astype(int).tolist() for w in pruner.weights]
    assert found == [[0, 1, 0, 0], [1, 1]]


def test_the_end_step_is_reached_where_tfmot_stops_short():
    schedule = kgp.PolynomialDecay(0.8, 0, 1000)
    steps = [step for step in range(1001) if schedule.is_update_step(step, 300)]
    assert steps == [0, 300, 600, 900, 1000]
    assert schedule(900) == pytest.approx(0.7992) and schedule(steps[-1]) == 0.8


# --- inside fit ----------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="test_peers")
class Attention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 4)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        return self.attention(x, x)


NETWORKS = {
    "dense": lambda: [keras.Input((6,)), layers.Dense(10)],
    "conv2d": lambda: [keras.Input((6, 6, 4)), layers.Conv2D(8, 3)],
    "transpose": lambda: [keras.Input((4, 4, 4)), layers.Conv2DTranspose(8, 3)],  # TFMOT: NaN
    "depthwise": lambda: [keras.Input((6, 6, 4)), layers.DepthwiseConv2D(3, depth_multiplier=2)],
    "lstm": lambda: [keras.Input((5, 4)), layers.LSTM(6)],
    "gru": lambda: [keras.Input((5, 4)), layers.GRU(6)],
    "attention": lambda: [keras.Input((5, 8)), Attention()],
    "embedding": lambda: [keras.Input((3,), dtype="int32"), layers.Embedding(8, 4)],
    "nested": lambda: [
        keras.Input((6,)),
        keras.Sequential([keras.Input((6,)), layers.Dense(8)]),
        layers.Dense(4),
    ],
}


def built(name):
    """Return a compiled model of one kind of layer, and data for it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([*NETWORKS[name](), layers.Flatten(), layers.Dense(4)])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    rng = np.random.default_rng(0)
    shape = (16, *model.input_shape[1:])
    x = rng.integers(0, 8, shape) if name == "embedding" else rng.normal(size=shape)
    return model, x.astype(model.inputs[0].dtype), rng.normal(size=(16, 4)).astype("float32")


def train(model, x, y, *callbacks, epochs=2, batch_size=4):
    model.fit(x, y, batch_size, epochs, verbose=0, shuffle=False, callbacks=list(callbacks))


@pytest.mark.parametrize(
    "name",
    [
        name if name == "transpose" else pytest.param(name, marks=pytest.mark.full)
        for name in NETWORKS
    ],
)
def test_half_of_every_kernel_after_one_fit_and_stripped_is_the_same(name):
    model, x, y = built(name)
    before = model.predict(x, verbose=0)
    kgp.make_prunable(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)  # Pretrained...
    train(model, x, y, kgp.Prune(0.5, frequency=2, verbose=0))
    report = kgp.sparsity_report(model)
    assert len(report) >= 2
    for row in report:
        assert row.kept == row.nonzero == max(1, round(row.total * 0.5))
    plain = kgp.strip_pruning(model)
    np.testing.assert_array_equal(plain.predict(x, verbose=0), model.predict(x, verbose=0))
    assert not kgp.masked_weights(plain)


@pytest.mark.full
def test_zero_sparsity_is_no_op():
    ours, x, y = built("conv2d")
    train(ours, x, y, kgp.Prune(0.0, frequency=1, verbose=0))
    theirs, x, y = built("conv2d")
    train(theirs, x, y)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


@pytest.mark.full
def test_high_sparsity_keeps_one_of_each_tensor():
    model, x, y = built("dense")
    train(model, x, y, kgp.Prune(0.99, verbose=0))
    assert [row.kept for row in kgp.sparsity_report(model)] == [1, 1]


def test_a_mask_of_ones_changes_neither_outputs_nor_gradients():
    model, x, y = built("transpose")

    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        return [np.array(g) for g in tape.gradient(loss, model.trainable_weights)]

    weights, wanted, out = model.weights, gradients(), model.predict(x, verbose=0)
    kgp.Pruner(model).update(sparsity=0.0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), out)
    for a, b in zip(gradients(), wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    # The parameters are the same objects, in the same order.
    assert all(a is b for a, b in zip(model.weights, weights, strict=True))


def test_pruning_again_only_adds_zeros():
    model, pruner = column(np.random.default_rng(1).normal(size=40))
    seen = [np.ones(40, bool)]
    for sparsity in (0.2, 0.5, 0.5, 0.9):
        pruner.update(sparsity=sparsity)
        seen.append(kernel(model) != 0)
        assert not np.any(seen[-1] & ~seen[-2])
    assert seen[-1].sum() == 4


@pytest.mark.full
def test_stop_and_restart_and_past_the_end_step(tmp_path):
    def prune():
        return kgp.Prune(
            kgp.PolynomialDecay(0.6, 1, 4, initial_sparsity=0.2), frequency=1, verbose=0
        )

    def sparsities(model):
        return [(row.kept, max(1, round(row.total * 0.4))) for row in kgp.sparsity_report(model)]

    model, x, y = built("conv2d")
    with pytest.warns(kgp.PruningWarning, match="Training ended at step 1, before"):
        train(model, x[:4], y[:4], prune(), epochs=1)
    kept = [row.kept for row in kgp.sparsity_report(model)]
    assert kept == [round(row.total * 0.8) for row in kgp.sparsity_report(model)]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    train(again, x[:12], y[:12], prune(), epochs=1)
    assert int(again.optimizer.iterations) == 4
    assert all(a == b for a, b in sparsities(again))
    train(again, x, y, prune())
    assert all(a == b for a, b in sparsities(again))


def test_custom_training_loop():
    model, x, y = built("conv2d")
    optimizer, pruner = keras.optimizers.Adam(1e-2), kgp.Pruner(model)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        weights = model.trainable_weights
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    for _ in range(2):
        pruner.update(sparsity=0.5)
        step()
    assert [row.nonzero for row in kgp.sparsity_report(model)] == [
        round(row.total * 0.5) for row in kgp.sparsity_report(model)
    ]


@pytest.mark.full
def test_three_batches_are_three_steps_and_inference_is_none():
    model, x, y = built("dense")
    callback = kgp.Prune(kgp.Linear(0.6, 1, 3), frequency=1, verbose=0)
    train(model, x[:12], y[:12], callback, epochs=1)
    assert [step for step, *_ in callback.updates] == [1, 2, 3]
    store = model.layers[0].pruning_masks
    assert store.step == 3
    model.predict(x, verbose=0)
    model.evaluate(x, y, verbose=0)
    assert store.step == 3 and int(model.optimizer.iterations) == 3


@pytest.mark.parametrize(
    "kind", ["model.keras", pytest.param("model.weights.h5", marks=pytest.mark.full)]
)
def test_checkpoints_are_sparse(kind, tmp_path):
    """TFMOT's test CheckpointsNotSparse writes down that its are not."""
    model, x, y = built("conv2d")
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / kind, save_freq=2, save_weights_only=kind.endswith("h5")
    )
    train(model, x, y, kgp.Prune(0.5, verbose=0), checkpoint)
    path = tmp_path / kind
    if kind.endswith("keras"):
        import zipfile

        path = zipfile.ZipFile(path).extract("model.weights.h5", tmp_path)
    found = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.append(np.array(item))
                if isinstance(item, h5py.Dataset) and name.startswith("layers") and item.ndim > 1
                else None
            )
        )
    assert len(found) == 2
    for array in found:
        assert np.count_nonzero(array) == round(array.size * 0.5)


@pytest.mark.full
def test_distributed(tmp_path):
    with nets.both_replicas().scope():
        model, x, y = built("conv2d")
    train(model, x, y, kgp.Prune(0.5, verbose=0))
    model.save(tmp_path / "model.keras")
    for network in (model, keras.saving.load_model(tmp_path / "model.keras")):
        assert [row.nonzero for row in kgp.sparsity_report(network)] == [
            round(row.total * 0.5) for row in kgp.sparsity_report(network)
        ]
