"""The table of how sparse a model is."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ganprune import Pruner, make_prunable, sparsity_report
from keras_ganprune.metrics import SparsityReport, SparsityRow


@pytest.fixture
def model():
    net = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.SeparableConv2D(4, 3, name="stem"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(10, name="head"),
        ]
    )
    Pruner(net, scope="stem").update(sparsity=0.5)
    return net


def test_rows(model):
    report = sparsity_report(model)
    assert [
        (r.layer, r.weight, r.shape, r.kept, r.nonzero, r.total, r.sparsity) for r in report
    ] == [
        ("stem", "depthwise_kernel", (3, 3, 2, 1), 9, 9, 18, 0.5),
        ("stem", "pointwise_kernel", (1, 1, 2, 4), 4, 4, 8, 0.5),
    ]
    assert (len(report), report.kept, report.total, report.sparsity) == (2, 13, 26, 0.5)


def test_parameters_are_counted_with_numpy(model):
    report = sparsity_report(model)
    values = model.get_weights()
    assert report.parameters == sum(v.size for v in values) == model.count_params()
    assert report.nonzero_parameters == sum(np.count_nonzero(v) for v in values)


def test_kept_comes_from_the_mask_and_nonzero_from_the_weight(model):
    # A kept weight may be zero by itself, and a pruned one alive until masks are applied again.
    model.get_layer("stem").pointwise_kernel.assign(np.zeros((1, 1, 2, 4)))
    model.get_layer("stem").depthwise_kernel.assign(np.ones((3, 3, 2, 1)))
    depthwise, pointwise = sparsity_report(model)
    assert (depthwise.kept, depthwise.nonzero) == (9, 18)
    assert (pointwise.kept, pointwise.nonzero) == (4, 0)


def test_dicts(model):
    first, second = sparsity_report(model).to_dicts()
    assert first == {
        "layer": "stem",
        "weight": "depthwise_kernel",
        "shape": (3, 3, 2, 1),
        "kept": 9,
        "nonzero": 9,
        "total": 18,
        "sparsity": 0.5,
    }
    assert second["weight"] == "pointwise_kernel"


def test_text():
    report = SparsityReport(
        (
            SparsityRow("body/stem", "kernel", (3, 3, 8, 64), 1000, 998, 4608),
            SparsityRow("head", "kernel", (2, 1), 1, 1, 2),
        ),
        parameters=5000,
        nonzero_parameters=1234,
    )
    assert str(report).splitlines() == [
        "layer      weight  shape      kept  total  sparsity",
        "───────────────────────────────────────────────────",
        "body/stem  kernel  3×3×8×64  1,000  4,608    0.7830",
        "head       kernel  2×1           1      2    0.5000",
        "───────────────────────────────────────────────────",
        "total                        1,001  4,610    0.7829",
        "1,234 of 5,000 parameters of the model are not zero.",
    ]
    assert repr(report) == str(report)
    assert report.to_markdown().splitlines() == [
        "| layer | weight | shape | kept | total | sparsity |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| body/stem | kernel | 3×3×8×64 | 1,000 | 4,608 | 0.7830 |",
        "| head | kernel | 2×1 | 1 | 2 | 0.5000 |",
        "| total |  |  | 1,001 | 4,610 | 0.7829 |",
    ]


def test_model_without_masks():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    report = sparsity_report(model)
    assert (len(report), report.kept, report.total, report.sparsity) == (0, 0, 0, 0.0)
    assert report.parameters == 15
    assert "total" in str(report)


def test_dense_masks():
    model = make_prunable(keras.Sequential([keras.Input((4,)), layers.Dense(3)]))
    report = sparsity_report(model)
    assert (report.kept, report.total, report.sparsity) == (12, 12, 0.0)


def test_shared_weights_are_counted_once():
    shared = layers.Dense(4, name="shared")
    x = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), shared])
    model = keras.Model(x, shared(inner(x)))
    Pruner(model).update(sparsity=0.5)
    report = sparsity_report(model)
    assert (len(report), report.total, report.kept) == (1, 16, 8)
    assert report.parameters == 20
    assert report.nonzero_parameters == 8


def test_a_single_layer():
    layer = layers.Dense(4, name="alone")
    layer.build((None, 2))
    Pruner(layer).update(sparsity=0.25)
    (row,) = sparsity_report(layer)
    assert (row.layer, row.kept, row.total) == ("alone", 6, 8)
