"""`OWL` and `Isomorphic`, against NumPy, on weights, channels and budgets."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.layers.kernel_kind import kernel_kind
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.structured.budget import fit


def mlp(*widths):
    return keras.Sequential([keras.Input((10,)), *(layers.Dense(n) for n in widths)])


def test_owl_keeps_more_where_outliers_are():
    model = mlp(40, 30, 20)
    rng = np.random.default_rng(0)
    for number, layer in enumerate(model.layers):
        values = np.sign(rng.normal(size=layer.kernel.shape)) * (
            1 + 0.1 * rng.random(layer.kernel.shape)
        )
        values.reshape(-1)[: (0, 5, 50)[number]] *= 100.0
        layer.kernel.assign(values)
    kernels = [np.abs(to_numpy(x.kernel)).astype(float) for x in model.layers]
    shares = np.array([np.mean(k > 3.0 * k.mean()) for k in kernels])
    scaled = (shares - shares.min()) / np.ptp(shares)
    sizes = np.array([k.size for k in kernels])
    density = 0.4 + 2 * 0.1 * (scaled - np.average(scaled, weights=sizes))
    report = kgp.Pruner(model, allocation=kgp.OWL(3.0, 0.1)).update(sparsity=0.6)
    kept = [row.kept for row in report.rows]
    assert np.abs(kept - density * sizes).max() <= 1.0
    assert sum(kept) == round(sizes.sum() * 0.4)
    assert kept[2] / sizes[2] > kept[1] / sizes[1] > kept[0] / sizes[0]


@pytest.mark.parametrize("sparsity", [0.02, 0.5, 0.98])
def test_owl_meets_extreme_totals(sparsity):
    model = mlp(40, 30, 20)
    model.layers[1].kernel.assign(np.eye(40, 30) * 50 + 0.01)
    report = kgp.Pruner(model, allocation=kgp.OWL(spread=1.0)).update(sparsity=sparsity)
    total = sum(row.total for row in report.rows)
    assert sum(row.kept for row in report.rows) == round(total * (1 - sparsity))
    assert all(0 < row.kept <= row.total for row in report.rows)


def two_kinds():
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="a3")(inputs)
    x = layers.Conv2D(8, 1, activation="relu", name="b1")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="c3")(x)
    x = layers.Conv2D(8, 1, activation="relu", name="d1")(x)
    model = keras.Model(inputs, layers.Conv2D(3, 3, padding="same", name="out")(x))
    for number, name in enumerate(("a3", "b1", "c3", "d1")):
        layer = model.get_layer(name)
        layer.kernel.assign(to_numpy(layer.kernel) * 10.0**number)
    return model


def test_isomorphic_ranks_kernels_of_one_size_together():
    model = two_kinds()
    report = kgp.Pruner(model, allocation="isomorphic", scope=["?3", "?1"]).update(sparsity=0.5)
    kept = {row.path.split("/")[-2]: row.kept for row in report.rows}
    total = {row.path.split("/")[-2]: row.total for row in report.rows}
    for kind in ("3", "1"):
        names = [name for name in kept if name.endswith(kind)]
        assert sum(kept[n] for n in names) == sum(total[n] for n in names) // 2
    assert kept["d1"] > kept["b1"] and kept["c3"] > kept["a3"]


@pytest.mark.full
def test_isomorphic_channels_and_budgets():
    model = two_kinds()
    groups = kgp.channel_groups(model)
    kinds = [group.kind for group in groups]
    assert kinds[0] == kinds[2] == "in Conv2D kernel 1x1, out Conv2D kernel 3x3"
    assert kinds[1] == "in Conv2D kernel 3x3, out Conv2D kernel 1x1" == kinds[3]
    small = kgp.shrink(model, sparsity=0.5, allocation="isomorphic")
    widths = [small.get_layer(n).kernel.shape[-1] for n in ("a3", "b1", "c3", "d1")]
    assert widths[0] + widths[2] == 8 == widths[1] + widths[3]
    scores = [np.arange(8.0) + 100 * i for i in range(len(groups))]
    keeps = fit(groups, scores, kgp.Budget(macs=0.5), ranking="isomorphic")
    sizes = [int(keep.sum()) for keep in keeps]
    assert sizes[2] > sizes[0] and sizes[3] > sizes[1]
    macs = kgp.profile(kgp.shrink(model, budget=kgp.Budget(macs=0.5), allocation="isomorphic")).macs
    assert macs / kgp.profile(model).macs == pytest.approx(0.5, abs=0.05)


def test_kinds_of_kernels():
    layer = layers.Conv2DTranspose(8, (4, 3))
    layer.build((None, 7, 7, 4))
    assert kernel_kind(layer, "kernel", tuple(layer.kernel.shape)) == "Conv2DTranspose kernel 4x3"
    model = mlp(3)
    assert kernel_kind(model.layers[0], "kernel", (10, 3)) == "Dense kernel"
    kgp.make_prunable(model)
    assert kernel_kind(model.layers[0], "kernel", (10, 3)) == "Dense kernel"
