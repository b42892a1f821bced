"""The table of how sparse a model is."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_ganprune import (
    Pruner,
    apply_masks,
    make_prunable,
    masks_from_zeros,
    sparsity_report,
    strip_pruning,
)
from keras_ganprune.errors import PruningWarning
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


def write_past_the_guards(variable, value):
    """Write as an optimizer of another library might: into the resource of TensorFlow."""
    tf.raw_ops.AssignVariableOp(
        resource=variable.value.handle, value=tf.constant(value, variable.dtype)
    )


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
    # A kept weight may be zero by itself. A write that no guard sees brings pruned entries to life.
    model.get_layer("stem").pointwise_kernel.assign(np.zeros((1, 1, 2, 4)))
    write_past_the_guards(model.get_layer("stem").depthwise_kernel, np.ones((3, 3, 2, 1)))
    depthwise, pointwise = report = sparsity_report(model)
    assert (depthwise.kept, depthwise.nonzero, depthwise.pruned_nonzero) == (9, 18, 9)
    assert (pointwise.kept, pointwise.nonzero, pointwise.pruned_nonzero) == (4, 0, 0)
    assert report.disagreements == (depthwise,)
    first = "Masks and weights disagree: 9 of 9 pruned entries are not zero, in 'stem/depthwise_kernel'."
    assert str(report).startswith(first)
    assert report.to_markdown().startswith(first)
    apply_masks(model)  # what the line says
    assert sparsity_report(model).disagreements == ()
    assert str(sparsity_report(model)).startswith("layer")


def test_zeros_without_masks_are_the_first_line_too(model):
    copy = keras.models.clone_model(model)
    head = copy.get_layer("head")
    head.kernel.assign(head.kernel * (np.arange(640).reshape(64, 10) % 4 == 0))
    with pytest.warns(PruningWarning, match="exactly zero"):
        report = sparsity_report(make_prunable(copy, scope="head"))
    assert [row.path for row in report.disagreements] == ["head/kernel"]
    assert str(report).startswith(
        "Masks and weights disagree: 480 of 640 entries are exactly zero, but their masks keep all, in "
        "'head/kernel'. Call `kgp.masks_from_zeros(model)`"
    )
    masks_from_zeros(copy, scope="head")  # what the line says
    assert sparsity_report(copy).disagreements == ()


def quantized(mode):
    def quantize(model):
        plain = strip_pruning(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras names every layer that it leaves alone
            plain.quantize(mode)
        return plain

    return quantize


def with_lora(model):
    model.get_layer("a").enable_lora(2)
    model.get_layer("a").lora_kernel_b.assign(np.ones((2, 20)))
    return model


# Route -> function of a model that was pruned at 0.75. The report counts 145 of 580 entries in each.
ROUTES = {
    "pruned": lambda model: model,
    "stripped": strip_pruning,
    "int8": quantized("int8"),
    "int4": quantized("int4"),
    "float8": quantized("float8"),
    "LoRA": with_lora,
}


@pytest.mark.full
@pytest.mark.parametrize("route", ROUTES)
def test_real_zeros_are_counted_on_every_route(route):
    net = keras.Sequential(
        [keras.Input((20,)), layers.Dense(20, name="a"), layers.Dense(9, name="b")]
    )
    Pruner(net).update(sparsity=0.75)
    report = sparsity_report(ROUTES[route](net))
    assert [(row.path, row.nonzero, row.total) for row in report] == [
        ("a/kernel", 100, 400),
        ("b/kernel", 45, 180),
    ]
    assert (report.kept, report.total, report.sparsity) == (145, 580, 0.75)
    assert report.masked == (route in ("pruned", "LoRA"))
    assert report.disagreements == ()


def test_a_stripped_part_of_a_model_with_masks_has_rows_too():
    net = keras.Sequential([keras.Input((20,)), layers.Dense(20, name="a")])
    Pruner(net).update(sparsity=0.75)
    whole = keras.Sequential([strip_pruning(net), layers.Dense(5, name="new")])
    report = sparsity_report(make_prunable(whole, scope="new"))
    assert [(row.path, row.masked, row.kept) for row in report] == [
        ("new/kernel", True, 100),
        (f"{whole.layers[0].name}/a/kernel", False, 100),
    ]
    assert "kernel (no mask)" in str(report)


def test_dicts(model):
    first, second = sparsity_report(model).to_dicts()
    assert first == {
        "layer": "stem",
        "weight": "depthwise_kernel",
        "shape": (3, 3, 2, 1),
        "kept": 9,
        "nonzero": 9,
        "total": 18,
        "masked": True,
        "pruned_nonzero": 0,
        "unmasked_zeros": 0,
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
    assert (len(report), report.kept, report.total, report.sparsity) == (1, 12, 12, 0.0)
    assert report.parameters == 15
    assert not report.masked
    assert "No weight has a mask, so `kept` counts the entries that are not zero." in str(report)


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
