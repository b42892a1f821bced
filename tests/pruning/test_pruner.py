"""Masks equal those of a few lines of NumPy, and hold in a hand-written loop."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import cases
from keras import layers

from keras_ganprune import Pruner, PruningWarning, masked_weights
from keras_ganprune.errors import (
    ArgumentTypeError,
    DivergedError,
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.pruning.criteria import Criterion, Magnitude


def network(name="net"):
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(5, 3, name="stem"),
            layers.Flatten(),
            layers.Dense(7, name="middle"),
            layers.Dense(3, name="head"),
        ],
        name=name,
    )


def kernels(model):
    return [w.numpy() for w in model.weights if w.name == "kernel"]


def masks_of(pruner):
    return [w.mask.numpy() for w in pruner.weights]


def top_k(scores, keep):
    """Oracle: stable sort by falling score, ties to the lower index."""
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores.ravel().astype(np.float64), kind="stable")[:keep]] = True
    return mask.reshape(scores.shape)


def kept(size, sparsity):
    return max(1, round(size * (1 - sparsity)))


# --- what is chosen ------------------------------------------------------------------------------


@cases(("magnitude", "l2"), "criterion", ["magnitude", "l1", "l2", Magnitude("l2")])
@cases((0.0, 0.8, 0.9999), "sparsity", [0.0, 0.5, 0.8, 0.99, 0.9999])
def test_uniform(criterion, sparsity):
    model = network()
    before = kernels(model)
    pruner = Pruner(model, criterion=criterion)
    report = pruner.update(sparsity=sparsity)
    for weight, mask, after in zip(before, masks_of(pruner), kernels(model), strict=True):
        wanted = top_k(np.abs(weight), kept(weight.size, sparsity))
        np.testing.assert_array_equal(mask, wanted)
        np.testing.assert_array_equal(after, np.where(wanted, weight, 0))
    assert [row.kept for row in report] == [kept(w.size, sparsity) for w in before]


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.95])
def test_global_ranking(sparsity):
    model = network()
    model.get_layer("head").kernel.assign(model.get_layer("head").kernel * 1e-3)
    before = kernels(model)
    pruner = Pruner(model, allocation="global_ranking")
    pruner.update(sparsity=sparsity)
    # The best of each tensor is safe; the others compete in one list.
    scores = [np.abs(w) for w in before]
    for s in scores:
        s.flat[s.argmax()] = np.inf
    flat = top_k(
        np.concatenate([s.ravel() for s in scores]), kept(sum(s.size for s in scores), sparsity)
    )
    np.testing.assert_array_equal(np.concatenate([m.ravel() for m in masks_of(pruner)]), flat)
    if sparsity == 0.8:
        assert [m.sum() for m in masks_of(pruner)][-1] == 1
    for weight, mask, after in zip(before, masks_of(pruner), kernels(model), strict=True):
        np.testing.assert_array_equal(after, np.where(mask, weight, 0))


@pytest.mark.parametrize("allocation", ["uniform", "global_ranking"])
@pytest.mark.parametrize(
    "values",
    [
        lambda n: np.ones(n),
        lambda n: np.zeros(n),
        lambda n: np.where(np.arange(n) % 2, 1.0, -1.0),
        lambda n: np.arange(n) % 3 - 1.0,
    ],
    ids=["constant", "zero", "signs", "three_levels"],
)
@pytest.mark.filterwarnings("ignore:.*weights are exactly zero, but their masks keep all")
def test_counts_are_exact_with_ties(allocation, values):
    model = network()
    for variable in model.weights:
        if variable.name == "kernel":
            variable.assign(values(int(np.prod(variable.shape))).reshape(variable.shape))
    pruner = Pruner(model, allocation=allocation)
    total = sum(int(np.prod(w.mask.shape)) for w in pruner.weights)
    for sparsity in (0.1, 0.37, 0.5, 0.8):
        report = pruner.update(sparsity=sparsity)
        if allocation == "uniform":
            assert [row.kept for row in report] == [kept(row.total, sparsity) for row in report]
        else:
            assert report.kept == kept(total, sparsity)
        assert report.kept == sum(m.sum() for m in masks_of(pruner))


def test_constant_tensor_keeps_the_lower_indices():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(4, kernel_initializer="ones")])
    pruner = Pruner(model)
    pruner.update(sparsity=0.5)
    np.testing.assert_array_equal(kernels(model)[0], [[1, 1, 1, 1], [0, 0, 0, 0]])


def test_threshold_below_goes_equal_stays():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    model.layers[0].kernel.assign([[0.5, -0.5, 0.25], [-0.4999, 0.5001, 0.0]])
    report = Pruner(model).update(threshold=0.5)
    np.testing.assert_array_equal(
        model.layers[0].pruning_masks.masks["kernel"].numpy(),
        [[True, True, False], [False, True, False]],
    )
    assert (report.quantity, report.requested, report.kept, report.total) == (
        "threshold",
        0.5,
        3,
        6,
    )
    assert report.achieved == 0.5


def test_threshold_zero_prunes_nothing():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, kernel_initializer="zeros")])
    assert Pruner(model).update(threshold=0.0).kept == 6


def test_threshold_above_everything_keeps_the_largest():
    model = network()
    before = kernels(model)
    pruner = Pruner(model)
    with pytest.warns(PruningWarning, match=r"Threshold 9 is above every score of '.*', and would"):
        report = pruner.update(threshold=9.0)
    assert [row.kept for row in report] == [1, 1, 1]
    for weight, mask in zip(before, masks_of(pruner), strict=True):
        assert mask.ravel()[np.abs(weight).argmax()]


def test_never_less_than_one_weight():
    model = network()
    report = Pruner(model).update(sparsity=0.9999)
    assert [row.kept for row in report] == [1, 1, 1]
    with pytest.warns(PruningWarning, match=r"3 weights kept, not 1.* every tensor is kept"):
        report = Pruner(network(), allocation="global_ranking").update(sparsity=0.9999)
    assert report.kept == 3


def test_zero_sparsity_changes_nothing():
    model = network()
    before = model.get_weights()
    report = Pruner(model).update(sparsity=0.0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert report.achieved == 0.0
    assert report.newly_pruned == 0


def test_biases_are_not_pruned():
    model = network()
    pruner = Pruner(model)
    for variable in model.weights:
        variable.assign(np.full(variable.shape, 1e-6))
    pruner.update(sparsity=0.9)
    assert [w.path for w in pruner.weights] == ["stem/kernel", "middle/kernel", "head/kernel"]
    for variable in model.weights:
        if variable.name == "bias":
            assert np.count_nonzero(variable.numpy()) == variable.numpy().size


# --- hard masks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", ["uniform", "global_ranking"])
def test_hard_masks_only_lose(allocation):
    model = network()
    pruner = Pruner(model, allocation=allocation)
    rng = np.random.default_rng(0)
    previous = masks_of(pruner)
    for sparsity in (0.2, 0.5, 0.5, 0.7, 0.9):
        # Other weights are the small ones each time, yet none that went comes back.
        for weight in pruner.weights:
            weight.variable.assign(rng.normal(size=weight.mask.shape))
        pruner.update(sparsity=sparsity)
        now = masks_of(pruner)
        for new, old, weight in zip(now, previous, pruner.weights, strict=True):
            assert not np.any(new & ~old)
            np.testing.assert_array_equal(weight.variable.numpy()[~new], 0)
        previous = now


def test_hard_masks_do_not_return_for_a_lower_target():
    pruner = Pruner(network())
    pruner.update(sparsity=0.8)
    before = masks_of(pruner)
    with pytest.warns(
        PruningWarning, match=r"0\.5 was requested, 0\.8\d* achieved .* `hard` masks"
    ):
        report = pruner.update(sparsity=0.5)
    assert report.newly_pruned == 0
    assert report.achieved == pytest.approx(0.8, abs=0.01)
    for now, then in zip(masks_of(pruner), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_hard_masks_under_a_falling_threshold():
    pruner = Pruner(network())
    first = pruner.update(threshold=0.1)
    assert 0 < first.newly_pruned < first.total
    second = pruner.update(threshold=0.05)  # weights of a mask that stays are zero, not small
    assert second.kept <= first.kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a threshold promises no sparsity, so nothing was missed
        assert pruner.update(threshold=0.0).kept == second.kept


def test_two_calls_are_one():
    once, twice = network(), network()
    twice.set_weights(once.get_weights())
    Pruner(once).update(sparsity=0.7)
    pruner = Pruner(twice)
    pruner.update(sparsity=0.7)
    assert pruner.update(sparsity=0.7).newly_pruned == 0
    for a, b in zip(once.get_weights(), twice.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- the report ----------------------------------------------------------------------------------


def test_report_fields():
    model = network()
    pruner = Pruner(model, scope=["middle", "head"])
    report = pruner.update(sparsity=0.5)
    assert (report.quantity, report.requested) == ("sparsity", 0.5)
    assert [(r.path, r.shape, r.kept, r.total) for r in report.rows] == [
        ("middle/kernel", (180, 7), 630, 1260),
        ("head/kernel", (7, 3), 10, 21),
    ]
    assert [r.sparsity for r in report] == [0.5, 1 - 10 / 21]
    assert len(report) == 2
    assert (report.kept, report.total, report.newly_pruned) == (640, 1281, 641)
    assert report.achieved == pytest.approx(1 - 640 / 1281)
    assert report.achieved == pytest.approx(pruner.sparsity)
    assert str(report) == (
        "sparsity 0.5 requested, sparsity 0.5004 achieved: 640 of 1,281 weights kept in 2 tensors"
    )
    later = pruner.update(sparsity=0.75)
    assert later.newly_pruned == 640 - later.kept
    assert report.kept == 640  # a report is a record, not a view


def test_repr():
    text = repr(Pruner(network("gen"), network("disc"), criterion="l2"))
    assert text == (
        "<Pruner of gen, disc: Magnitude(norm='l2'), Unstructured(), "
        "Uniform(minimum=1), Hard(), 6 tensors, sparsity 0.0000>"
    )


def test_sparsity_before_any_update():
    assert Pruner(network()).sparsity == 0.0


def test_scope_leaves_the_rest_alone():
    model = network()
    stem = model.get_layer("stem").kernel.numpy()
    pruner = Pruner(model, scope=layers.Dense)
    assert type(model.get_layer("stem")) is layers.Conv2D
    pruner.update(sparsity=0.9)
    np.testing.assert_array_equal(model.get_layer("stem").kernel.numpy(), stem)


def test_two_pruners_share_a_model():
    model = network()
    dense = Pruner(model, scope=layers.Dense)
    conv = Pruner(model, scope="stem")
    dense.update(sparsity=0.9)
    conv.update(sparsity=0.2)
    assert [m.sum() for m in masks_of(conv)] == [72]
    assert dense.sparsity == pytest.approx(0.9, abs=0.01)
    assert len(masked_weights(model)) == 3


def test_several_models_and_a_shared_layer():
    shared = layers.Dense(4, name="shared")
    first = keras.Sequential([keras.Input((4,)), shared, layers.Dense(2, name="a")])
    second = keras.Sequential([keras.Input((4,)), shared, layers.Dense(3, name="b")])
    pruner = Pruner(first, second, allocation="global_ranking")
    assert [w.mask.shape for w in pruner.weights] == [(4, 4), (4, 2), (4, 3)]
    assert pruner.update(sparsity=0.5).kept == 18


# --- user criteria -------------------------------------------------------------------------------


class Saliency(Criterion):
    needs_gradient = True

    def score(self, weight, gradient=None):
        return np.abs(weight * gradient)


@pytest.mark.parametrize("as_dict", [False, True])
def test_gradients(as_dict):
    model = network()
    before = kernels(model)
    rng = np.random.default_rng(1)
    gradients = [rng.normal(size=w.shape).astype("float32") for w in before]
    pruner = Pruner(model, criterion=Saliency())
    passed = gradients
    if as_dict:
        passed = {w.path: g for w, g in zip(pruner.weights, gradients, strict=True)}
    pruner.update(sparsity=0.5, gradients=passed)
    for weight, gradient, mask in zip(before, gradients, masks_of(pruner), strict=True):
        wanted = top_k(np.abs(weight * gradient), kept(weight.size, 0.5))
        np.testing.assert_array_equal(mask, wanted)


@pytest.mark.parametrize(
    ("gradients", "text"),
    [
        (None, r"Saliency\(\) needs gradients\. Pass `gradients=`"),
        ([], r"must match the pruned weights, of shapes .* Received: \[\]"),
        ([np.ones(3)] * 3, r"must match the pruned weights.* Received: \[\(3,\), \(3,\)"),
        ({"stem/kernel": np.ones((3, 3, 2, 5))}, r"Received: \[\(3, 3, 2, 5\), None, None\]"),
    ],
    ids=["missing", "empty", "shapes", "incomplete"],
)
def test_bad_gradients(gradients, text):
    pruner = Pruner(network(), criterion=Saliency())
    with pytest.raises(InvalidArgumentError, match=text):
        pruner.update(sparsity=0.5, gradients=gradients)
    assert pruner.sparsity == 0.0


def test_gradients_that_are_not_finite():
    pruner = Pruner(network(), criterion=Saliency())
    gradients = [np.full(w.mask.shape, np.nan) for w in pruner.weights]
    with pytest.raises(DivergedError, match=r"The gradient of 'stem/kernel' has 90 value\(s\)"):
        pruner.update(sparsity=0.5, gradients=gradients)
    assert pruner.sparsity == 0.0


class FromFunction(Criterion):
    def __init__(self, function):
        self.function = function

    def score(self, weight, gradient=None):
        return self.function(weight)


@pytest.mark.parametrize(
    "function",
    [
        lambda w: w,  # the weight itself: nothing may be written into it
        lambda w: w[...],  # a view of it
        lambda w: np.arange(w.size).reshape(w.shape),  # ints cannot hold -inf
        lambda w: np.abs(w) > 0.1,
        lambda w: w.astype(np.float64) ** 3,
    ],
    ids=["weight", "view", "int", "bool", "float64"],
)
def test_scores_of_any_kind(function):
    model = network()
    before = kernels(model)
    pruner = Pruner(model, criterion=FromFunction(function))
    pruner.update(sparsity=0.4)
    for weight, mask, after in zip(before, masks_of(pruner), kernels(model), strict=True):
        wanted = top_k(np.asarray(function(weight)), kept(weight.size, 0.4))
        np.testing.assert_array_equal(mask, wanted)
        np.testing.assert_array_equal(after, np.where(wanted, weight, 0))
    assert pruner.update(sparsity=0.8).kept == sum(kept(w.size, 0.8) for w in before)


@pytest.mark.parametrize("allocation", ["uniform", "global_ranking"])
def test_an_infinite_score_protects(allocation):
    def first_row_stays(weight):
        scores = np.abs(weight)
        scores[0] = np.inf
        return scores

    pruner = Pruner(network(), criterion=FromFunction(first_row_stays), allocation=allocation)
    pruner.update(sparsity=0.5)
    for mask in masks_of(pruner):
        assert mask[0].all()


def test_a_failing_criterion_changes_nothing():
    def fails_at_the_head(weight):
        return np.abs(weight) if weight.shape[-1] != 3 else np.full(weight.shape, np.nan)

    model = network()
    before = model.get_weights()
    pruner = Pruner(model, criterion=FromFunction(fails_at_the_head))
    with pytest.raises(InvalidArgumentError, match=r"must not be NaN.* gave NaN for 'head/kernel'"):
        pruner.update(sparsity=0.5)
    assert pruner.sparsity == 0.0
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", ["uniform", "global_ranking"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_diverged_weights(allocation, value):
    model = network()
    pruner = Pruner(model, allocation=allocation)
    pruner.update(sparsity=0.3)
    before = masks_of(pruner)
    head = model.get_layer("head").kernel
    broken = head.numpy()
    broken[2, 1] = value
    head.assign(broken)  # the last of three tensors
    with pytest.raises(DivergedError, match=r"'head/kernel' has 1 value\(s\) .* are unchanged"):
        pruner.update(sparsity=0.9)
    if allocation == "uniform":
        with pytest.raises(FloatingPointError, match="Training has diverged"):
            pruner.update(threshold=0.1)
    for now, then in zip(masks_of(pruner), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, r"exactly one of `sparsity` and `threshold`"),
        ({"sparsity": 0.5, "threshold": 0.1}, r"exactly one .* sparsity=0\.5, threshold=0\.1"),
        ({"sparsity": 80}, r"Received: 80\. For 80 %, pass 0\.8"),
        ({"sparsity": -0.1}, r"Received: -0\.1"),
        ({"sparsity": 1.0}, r"Received: 1\.0"),
        ({"sparsity": float("nan")}, r"Received: nan"),
        ({"sparsity": "0.5"}, r"Received: '0\.5'"),
        ({"threshold": -1.0}, r"`threshold` must be a finite, non-negative number.* -1\.0"),
        ({"threshold": float("nan")}, r"`threshold` must be .* Received: nan"),
        ({"threshold": float("inf")}, r"`threshold` must be .* Received: inf"),
        ({"threshold": "0.1"}, r"`threshold` must be .* Received: '0\.1'"),
        ({"threshold": True}, r"`threshold` must be .* Received: True"),
    ],
)
def test_bad_targets(arguments, text):
    pruner = Pruner(network())
    with pytest.raises(InvalidArgumentError, match=text):
        pruner.update(**arguments)
    assert pruner.sparsity == 0.0


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Pruner(), InvalidArgumentError, "at least one model"),
        (lambda: Pruner(None), ArgumentTypeError, "must be a Keras 3 model or layer"),
        (
            lambda: Pruner(keras.Sequential([layers.Dense(2)])),
            UnbuiltModelError,
            r"must be built before it is pruned.* `model\.build\(input_shape\)`",
        ),
        (
            lambda: Pruner(keras.Sequential([keras.Input((2,)), layers.ReLU()])),
            UnsupportedLayerError,
            "no layer that can be pruned",
        ),
        (
            lambda: Pruner(network(), criterion="magnitud"),
            InvalidArgumentError,
            "Unknown criterion 'magnitud'.* Did you mean 'magnitude'",
        ),
        (
            lambda: Pruner(network(), granularity="unstructred"),
            InvalidArgumentError,
            "Did you mean 'unstructured'",
        ),
        (
            lambda: Pruner(network(), allocation="unifrom"),
            InvalidArgumentError,
            "Did you mean 'uniform'",
        ),
        (lambda: Pruner(network(), criterion=3), ArgumentTypeError, "The criterion must be"),
        (
            lambda: Pruner(network(), mode="gentle"),
            InvalidArgumentError,
            r"Unknown mode 'gentle'",
        ),
        (lambda: Pruner(network(), scope="hed"), InvalidArgumentError, "Did you mean 'head'"),
        (lambda: Pruner(network(), scope=[]), InvalidArgumentError, "at least one layer"),
    ],
)
def test_bad_arguments(make, error, text):
    with pytest.raises(error, match=f"(?s){text}"):
        make()


def test_bad_arguments_leave_the_model_plain():
    model = network()
    for arguments in ({"criterion": "magnitud"}, {"mode": "gentle"}, {"scope": "hed"}):
        with pytest.raises(InvalidArgumentError, match=r"Unknown|must be"):
            Pruner(model, **arguments)
    assert type(model.get_layer("head")) is layers.Dense


# --- a loop of one's own -------------------------------------------------------------------------


def training_step(model, optimizer, traces):
    @tf.function
    def step(x, y):
        traces.append(1)  # runs only while tracing
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return step


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: keras.optimizers.Adam(0.01),
        pytest.param(
            lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1), marks=pytest.mark.full
        ),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_hand_written_loop(optimizer):
    model, traces = network(), []
    rng = np.random.default_rng(3)
    x = tf.constant(rng.normal(size=(16, 8, 8, 2)), tf.float32)
    y = tf.constant(rng.normal(size=(16, 3)), tf.float32)
    pruner = Pruner(model)
    step = training_step(model, optimizer(), traces)
    first = float(step(x, y))
    for i in range(12):
        step(x, y)
        if i % 3 == 0:
            pruner.update(sparsity=0.2 + 0.05 * i)
        for weight in pruner.weights:
            mask = weight.mask.numpy()
            np.testing.assert_array_equal(weight.variable.numpy()[~mask], 0)
            assert np.all(weight.variable.numpy()[mask] != 0)
    assert pruner.sparsity == pytest.approx(0.65, abs=0.01)
    assert float(step(x, y)) < first


def test_changing_masks_does_not_retrace():
    model, traces = network(), []
    pruner = Pruner(model)
    x, y = tf.ones((4, 8, 8, 2)), tf.ones((4, 3))
    step = training_step(model, keras.optimizers.Adam(0.01), traces)
    step(x, y)
    count = len(traces)
    assert count >= 1
    for sparsity in (0.1, 0.5, 0.9):
        pruner.update(sparsity=sparsity)
        step(x, y)
        for weight in pruner.weights:
            assert not np.any(weight.variable.numpy()[~weight.mask.numpy()])
    assert len(traces) == count


def test_step_traced_before_the_pruner_needs_apply():
    # The documented limit: a graph of the user's own that was made dense stays dense.
    model, traces = network(), []
    x, y = tf.ones((4, 8, 8, 2)), tf.ones((4, 3))
    step = training_step(model, keras.optimizers.Adam(0.01), traces)
    step(x, y)
    pruner = Pruner(model)
    pruner.update(sparsity=0.5)
    step(x, y)
    pruner.apply()
    for weight in pruner.weights:
        assert not np.any(weight.variable.numpy()[~weight.mask.numpy()])


def test_apply_after_set_weights():
    model = network()
    dense = model.get_weights()
    pruner = Pruner(model)
    pruner.update(sparsity=0.6)
    pruned = model.get_weights()
    model.set_weights(dense)
    pruner.apply()
    for now, then in zip(model.get_weights(), pruned, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_weight_types(dtype):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, dtype=dtype)])
    before = np.asarray(keras.ops.convert_to_numpy(model.layers[0].kernel)).astype(np.float64)
    pruner = Pruner(model)
    assert pruner.update(sparsity=0.5).kept == 15
    np.testing.assert_array_equal(masks_of(pruner)[0], top_k(np.abs(before), 15))
    assert model.layers[0].kernel.dtype == dtype


def test_a_scope_may_match_in_one_of_several_models_only():
    first = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="only_here")])
    second = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="not_this")])
    pruner = Pruner(first, second, scope="only_here")
    assert [w.path for w in pruner.weights] == ["only_here/kernel"]
    assert pruner.update(sparsity=0.5).kept == 6
    assert type(second.layers[0]) is keras.layers.Dense
    with pytest.raises(InvalidArgumentError, match="Unknown layer in `scope`"):
        Pruner(first, second, scope="nowhere")
