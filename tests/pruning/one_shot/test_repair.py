"""`repair`: least squares of NumPy on each output's kept weights, for every kind of layer."""

import copy

import keras
import networks as nets
import numpy as np
import pytest
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    DivergedError,
    InvalidArgumentError,
    UnbuiltModelError,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def value(variable):
    return np.array(nets.value(variable))


def pruned_and_dense(model, sparsity=0.5, **options):
    """Prune a model in place; return it and its dense copy."""
    for number, variable in enumerate(model.trainable_variables):  # biases of Keras begin at 0
        variable.assign(normal(*variable.shape, seed=number))
    dense = keras.models.clone_model(model)
    dense.set_weights(model.get_weights())
    kgp.Pruner(model, **options).update(sparsity=sparsity)
    return model, dense


def single(layer, shape, **options):
    return pruned_and_dense(keras.Sequential([keras.Input(shape), layer]), **options)


def solved(matrix, target, keep):
    """Return the weights that minimize ||matrix @ w - target||, with w = 0 where `keep` is False."""
    result = np.zeros(len(keep))
    result[keep] = np.linalg.lstsq(matrix[:, keep], target, rcond=None)[0]
    return result


def matrix_of(model, x):
    """Return the matrix of a model without activation that is linear in its weights: one column each."""
    before, columns = model.get_weights(), []
    for i, array in enumerate(before):
        for j in range(array.size):
            unit = [np.zeros_like(a) for a in before]
            unit[i].flat[j] = 1.0
            model.set_weights(unit)
            columns.append(np.asarray(ops.convert_to_numpy(model(x)), "float64").ravel())
    model.set_weights(before)
    return np.stack(columns, axis=1)


def flat(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


def test_dense_is_least_squares_on_each_support():
    model, dense = single(layers.Dense(5, "tanh"), (8,))
    x = normal(200, 8)
    # The masks after some inputs became dependent, so that what is removed matters.
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    kernel, bias = (value(v) for v in dense.layers[0].variables)
    keep = value(model.layers[0].pruning_masks.masks["kernel"])
    with_ones = np.c_[x, np.ones(200)].astype("float64")
    kgp.repair(model, dense, x, match_moments=False, ridge=0.0, iterations=60)
    for j in range(5):
        best = solved(with_ones, x @ kernel[:, j] + bias[j], np.r_[keep[:, j], True])
        found = np.r_[value(model.layers[0].kernel)[:, j], value(model.layers[0].bias)[j]]
        np.testing.assert_allclose(found, best, atol=1e-3)


def test_the_ridge_pulls_towards_the_weights_before():
    model, dense = single(layers.Dense(1, use_bias=False), (6,))
    x = normal(20, 6)
    keep = value(model.layers[0].pruning_masks.masks["kernel"])[:, 0]
    old, target = value(model.layers[0].kernel)[:, 0], x @ value(dense.layers[0].kernel)[:, 0]
    part = x[:, keep].astype("float64")
    gram = part.T @ part
    change = np.linalg.solve(gram + 0.5 * np.diag(np.diag(gram)), part.T @ (target - x @ old))
    kgp.repair(model, dense, x, ridge=0.5, iterations=50, match_moments=False)
    np.testing.assert_allclose(
        value(model.layers[0].kernel)[keep, 0], old[keep] + change, atol=1e-4
    )


LAYERS = {
    "conv_1d": (lambda: layers.Conv1D(2, 3, padding="same"), (6, 3)),
    "conv_2d": (lambda: layers.Conv2D(3, 3, strides=2, activation="relu"), (7, 7, 2)),
    "conv_3d": (lambda: layers.Conv3D(2, 2), (3, 3, 3, 2)),
    "conv_2d_groups": (lambda: layers.Conv2D(4, 2, groups=2), (4, 4, 4)),
    "conv_1d_transpose": (lambda: layers.Conv1DTranspose(2, 3, strides=2), (4, 3)),
    "conv_2d_transpose": (
        lambda: layers.Conv2DTranspose(2, 4, strides=2, padding="same", activation="tanh"),
        (3, 3, 3),
    ),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 2)),
    "einsum": (lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), (3, 4)),
    "without_bias": (lambda: layers.Dense(4, use_bias=False), (6,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_is_least_squares(name):
    make, shape = LAYERS[name]
    model, dense = single(make(), shape)
    x = normal(40, *shape)
    plain = keras.models.clone_model(dense)  # without the activation
    plain.layers[0].activation = keras.activations.linear
    matrix = matrix_of(plain, x)
    keep = np.concatenate([np.ones(w.shape, bool).ravel() for w in model.get_weights()])
    mask = value(model.layers[0].pruning_masks.masks["kernel"]).ravel()
    keep[: mask.size] = mask
    target = matrix @ flat(dense)
    best = np.linalg.norm(matrix @ solved(matrix, target, keep) - target) / np.linalg.norm(target)
    report = kgp.repair(model, dense, x, match_moments=False, ridge=0.0, iterations=100)
    (row,) = report.rows
    found = np.linalg.norm(matrix @ flat(model) - target) / np.linalg.norm(target)
    assert row.before > row.after
    np.testing.assert_allclose([row.after, found], best, rtol=1e-3)
    assert not np.any(value(model.layers[0].kernel).ravel()[~mask])


@pytest.mark.parametrize("kind", [layers.SeparableConv1D, layers.SeparableConv2D])
def test_the_pointwise_kernel_of_a_separable_layer(kind):
    shape = (6, 3) if kind is layers.SeparableConv1D else (5, 5, 3)
    model, dense = single(kind(4, 3), shape)
    x = normal(60, *shape)
    target = np.asarray(ops.convert_to_numpy(dense(x)), "float64").ravel()
    plain = keras.models.clone_model(dense)
    depthwise, pointwise, bias = model.get_weights()
    columns = []
    for unit in np.eye(pointwise.size + bias.size, dtype="float32"):
        parts = unit[: pointwise.size].reshape(pointwise.shape), unit[pointwise.size :]
        plain.set_weights([depthwise, *parts])
        columns.append(np.asarray(ops.convert_to_numpy(plain(x)), "float64").ravel())
    keep = value(model.layers[0].pruning_masks.masks["pointwise_kernel"]).ravel()
    matrix = np.stack(columns, axis=1)
    best = matrix @ solved(matrix, target, np.r_[keep, np.ones(4, bool)]) - target
    (row,) = kgp.repair(model, dense, x, match_moments=False, ridge=0.0, iterations=100).rows
    np.testing.assert_allclose(row.after, np.linalg.norm(best) / np.linalg.norm(target), rtol=1e-3)
    np.testing.assert_array_equal(value(model.layers[0].depthwise_kernel), depthwise)


def test_a_removed_channel_is_folded_into_the_next_kernel():
    """Inputs that repeat each other: what a removed unit carried is carried by the others."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, name="a"), layers.Dense(3, name="b")]
    )
    model, dense = pruned_and_dense(model, 1 / 3, granularity="channel")
    x = normal(100, 4)
    report = kgp.repair(model, dense, x, match_moments=False, ridge=0.0, iterations=100)
    assert report.before > 0.1
    assert report.after < 1e-3  # 4 of 6 linear units carry all of 4 inputs
    assert report.rows[0].after == 0.0  # the units that stay are as before
    assert not np.any(
        value(model.layers[0].kernel)[:, ~value(model.layers[0].pruning_masks.masks["bias"])]
    )


def test_a_layer_that_is_called_twice():
    shared = layers.Dense(4)
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], layers.Concatenate()([shared(a), shared(b)]))
    model, dense = pruned_and_dense(model)
    x, y = normal(50, 4), normal(50, 4, seed=1) + 1.0
    kernel, bias = (value(v) for v in dense.layers[2].variables)
    keep = value(model.layers[2].pruning_masks.masks["kernel"])
    both = np.r_[x, y]
    kgp.repair(model, dense, [x, y], match_moments=False, ridge=0.0, iterations=60)
    best = solved(np.c_[both, np.ones(100)], both @ kernel[:, 0] + bias[0], np.r_[keep[:, 0], True])
    np.testing.assert_allclose(value(model.layers[2].kernel)[:, 0], best[:4], atol=1e-3)


@keras.saving.register_keras_serializable("tests")
class Own(keras.Model):
    """A subclassed network with attention and spectral normalization."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.SpectralNormalization(layers.Dense(8, "relu"))
        self.attention = layers.MultiHeadAttention(2, 4)
        self.last = layers.Dense(3)

    def call(self, x, training=False):
        x = self.first(x, training=training)
        return self.last(x + self.attention(x, x))


@pytest.mark.full
def test_a_subclassed_network():
    model = Own()
    model(normal(2, 5, 6))
    dense = kgp.strip_pruning(model)
    kgp.Pruner(model).update(sparsity=0.5)
    report = kgp.repair(model, dense, normal(64, 5, 6))
    assert len(report.rows) == 6 and not report.left_out
    assert all(row.after <= row.before for row in report.rows)
    assert report.after < 0.8 * report.before
    assert kgp.sparsity_report(model).sparsity == 0.5


def test_batch_normalization_gets_the_moments_of_the_dense_network():
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6), layers.BatchNormalization(), layers.Activation("relu")]
    )
    model.layers[1].moving_mean.assign(normal(6))
    model, dense = pruned_and_dense(model, 0.7)
    x = normal(300, 8) + 1.0
    report = kgp.repair(model, dense, x)
    assert report.statistics == 1
    cut = [keras.Sequential([keras.Input((8,)), *m.layers[:2]]) for m in (model, dense)]
    found, wanted = (np.asarray(ops.convert_to_numpy(m(x))) for m in cut)
    np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(found.std(axis=0), wanted.std(axis=0), rtol=1e-3)


@pytest.mark.parametrize("name", ["conv_2d", "conv_2d_transpose", "depthwise", "without_bias"])
def test_output_channels_get_the_moments_of_the_dense_network(name):
    make, shape = LAYERS[name]
    model, dense = single(make(), shape)
    # Inputs that depend on each other: only then the kept weights can do what the pruned ones did.
    x = (normal(60, 3) @ normal(3, int(np.prod(shape)), seed=1)).reshape(60, *shape)
    kgp.repair(model, dense, x)
    for each in (model, dense):
        each.layers[0].activation = keras.activations.linear
    found, wanted = (np.asarray(ops.convert_to_numpy(m(x))) for m in (model, dense))
    axes = tuple(range(found.ndim - 1))
    np.testing.assert_allclose(found.std(axis=axes), wanted.std(axis=axes), rtol=1e-3)
    if name != "without_bias":
        np.testing.assert_allclose(found.mean(axis=axes), wanted.mean(axis=axes), atol=1e-3)


def gan_and_copy(**options):
    gan = kgp.GANModel(*nets.mlp_pair(), latent_dim=nets.LATENT, **options)
    for variable in gan.generator.trainable_variables:
        variable.assign(normal(*variable.shape, seed=3))
    if gan.ema_generator is not None:
        gan.ema_generator.set_weights(gan.generator.get_weights())
    return gan, copy.deepcopy(gan)


def test_a_gan_draws_latents_and_repairs_both_generators():
    gan, dense = gan_and_copy(ema_decay=0.9)
    kgp.Pruner(gan.generator).update(sparsity=0.5)
    kgp.copy_masks(gan.generator, gan.ema_generator)
    report = kgp.repair(gan, dense, samples=100)
    assert report.samples == 100 and report.after < report.before
    for one, other in zip(gan.generator.weights, gan.ema_generator.weights, strict=True):
        np.testing.assert_allclose(value(one), value(other), atol=1e-5)
    with pytest.raises(InvalidArgumentError, match="copy of the whole GAN"):
        kgp.repair(gan, dense.generator)


@pytest.mark.full
def test_a_conditional_gan_takes_what_fit_takes():
    gan = kgp.GANModel(*nets.conditional_pair(), latent_dim=nets.LATENT, conditional=True)
    dense = copy.deepcopy(gan)
    kgp.Pruner(gan.generator).update(sparsity=0.5)
    with pytest.raises(DataError, match="what `fit` of"):
        kgp.repair(gan, dense)
    report = kgp.repair(gan, dense, (nets.images(), nets.labels()))
    assert report.samples == 32 and report.after < report.before


def test_layers_are_never_worse_and_frozen_ones_stay():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, "relu", name="a"), layers.Dense(2, name="b")]
    )
    model, dense = pruned_and_dense(model, scope="a")
    model.layers[1].trainable = False
    before = value(model.layers[1].kernel)
    report = kgp.repair(model, dense, normal(30, 6), iterations=1)
    assert [row.path for row in report.rows] == ["a"]
    assert report.rows[0].after <= report.rows[0].before
    np.testing.assert_array_equal(value(model.layers[1].kernel), before)


def test_a_layer_that_is_not_linear_in_its_kernel_is_left_out():
    @keras.saving.register_keras_serializable("tests")
    class Squared(layers.Dense):
        def call(self, inputs, training=None):
            return super().call(inputs) ** 2

    model = kgp.make_prunable(
        keras.Sequential([keras.Input((4,)), layers.Dense(3), Squared(2, name="s")])
    )
    dense = kgp.strip_pruning(model)
    kgp.Pruner(model).update(sparsity=0.5)
    assert kgp.repair(model, dense, normal(30, 4)).left_out == ("s",)


def test_mixed_precision_is_solved_in_float32():
    layer = layers.Dense(4, dtype="mixed_bfloat16")
    model, dense = single(layer, (8,))
    report = kgp.repair(model, dense, normal(100, 8))
    assert report.rows[0].after < report.rows[0].before


@pytest.mark.full
def test_data_of_every_form():
    model, dense = single(layers.Dense(4), (8,))
    x, before = normal(100, 8), model.get_weights()
    found = []
    for data in (x, (x, x[:, 0]), [x[:60], x[60:]], ops.convert_to_tensor(x)):
        model.set_weights(before)
        report = kgp.repair(model, dense, data)
        assert report.samples == 100
        found.append(value(model.layers[0].kernel))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)
    assert kgp.repair(model, dense, x, samples=7).samples == 7


def test_the_report_shows_itself():
    model, dense = single(layers.Dense(4, name="a"), (8,))
    report = kgp.repair(model, dense, normal(100, 8))
    assert "error of the output" in repr(report)
    assert str(report).splitlines()[2].startswith("a  ")
    assert "<table" in report._repr_html_()
    assert report.to_dicts()[0]["kept"] == 20


def test_refusals():
    x = normal(20, 8)
    model, dense = single(layers.Dense(4), (8,))
    with pytest.raises(ArgumentTypeError, match="`pruned` must be a Keras model"):
        kgp.repair(3, dense, x)
    with pytest.raises(InvalidArgumentError, match="must have masks"):
        kgp.repair(dense, dense, x)
    with pytest.raises(InvalidArgumentError, match="shares weights"):
        kgp.repair(model, model, x)
    with pytest.raises(InvalidArgumentError, match="before pruning"):
        kgp.repair(model, kgp.strip_pruning(model), x)
    with pytest.raises(InvalidArgumentError, match="must have the layers of"):
        kgp.repair(model, keras.Sequential([keras.Input((8,)), layers.Dense(5)]), x)
    with pytest.raises(UnbuiltModelError, match="must be built"):
        kgp.repair(model, keras.Sequential([layers.Dense(4)]), x)
    with pytest.raises(DataError, match="typical inputs"):
        kgp.repair(model, dense)
    with pytest.raises(DataError, match="at least one sample"):
        kgp.repair(model, dense, x[:0])
    with pytest.raises(DataError, match="must be finite"):
        kgp.repair(model, dense, np.full((4, 8), np.nan, "float32"))
    with pytest.raises(DataError, match="can be called with"):
        kgp.repair(model, dense, x[:, :3])
    before = model.get_weights()
    dense.layers[0].bias.assign(np.full(4, np.inf))
    with pytest.raises(DivergedError, match="must be finite"):
        kgp.repair(model, dense, x)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "options", [{"samples": 0}, {"iterations": 0}, {"ridge": -1.0}, {"seed": -1}]
)
def test_numbers_out_of_range(options):
    model, dense = single(layers.Dense(4), (8,))
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        kgp.repair(model, dense, normal(8, 8), **options)


def test_a_copy_is_not_needed_of_what_copy_makes():
    model, dense = single(layers.Dense(4), (8,))
    other = copy.deepcopy(model)
    kgp.repair(other, dense, normal(50, 8))
    assert np.any(value(other.layers[0].kernel) != value(model.layers[0].kernel))
