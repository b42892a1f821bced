"""`scale_singular_values` against ten lines of NumPy, in place and inside `Shrink`."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, DivergedError, InvalidArgumentError


def oracle(kernel, output):
    """Return U sqrt(S) V^T of the matrix with one row for each output channel."""
    moved = np.moveaxis(np.asarray(kernel, "float64"), output, 0)
    u, s, v = np.linalg.svd(moved.reshape(len(moved), -1), full_matrices=False)
    return np.moveaxis((u @ np.diag(np.sqrt(s)) @ v).reshape(moved.shape), 0, output)


def network():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(5, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Conv2DTranspose(4, 2, name="transposed"),
            layers.Flatten(),
            layers.Dense(7, name="dense", use_bias=False),
        ]
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1.0, w.shape) for w in model.get_weights()])
    return model


def test_kernels_and_biases():
    model = network()
    before = {w.path: np.asarray(w) for w in model.weights}
    assert kgp.scale_singular_values(model) == 3
    after = {w.path: np.asarray(w) for w in model.weights}
    outputs = {"conv/kernel": -1, "transposed/kernel": -2, "dense/kernel": -1}
    for path, old in before.items():
        name = "/".join(path.split("/")[-2:])
        if name in outputs:
            expected = oracle(old, outputs[name])
        elif name in ("conv/bias", "transposed/bias"):
            expected = old / np.sqrt(np.linalg.norm(old) + 1e-8)
        else:  # normalizations, and kernels whose channels do not mix
            expected = old
        np.testing.assert_allclose(after[path], expected, rtol=1e-5, atol=1e-5, err_msg=path)


def test_some_layers_only():
    model = network()
    before = model.get_weights()
    assert kgp.scale_singular_values(model, layers="dense") == 1
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [w.path.endswith("dense/kernel") for w in model.weights]


def test_masked_weights_stay_zero():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5)])
    kgp.make_prunable(model)
    kgp.Pruner(model).update(sparsity=0.5)
    zeros = np.asarray(model.layers[0].kernel) == 0
    assert zeros.any()
    kgp.scale_singular_values(model)
    np.testing.assert_array_equal(np.asarray(model.layers[0].kernel) == 0, zeros)


def test_what_is_refused():
    with pytest.raises(ArgumentTypeError, match="`model` must be a Keras model"):
        kgp.scale_singular_values(3)
    with pytest.raises(InvalidArgumentError, match="nope"):
        kgp.scale_singular_values(network(), layers="nope")
    model = network()
    kernel = model.get_layer("dense").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    before = model.get_weights()
    with pytest.raises(DivergedError, match="not finite"):
        kgp.scale_singular_values(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(InvalidArgumentError, match="`refine` must be one of"):
        kgp.Shrink(1, sparsity=0.5, refine="singular")


@pytest.mark.full
def test_shrink_scales_what_it_has_cut():
    def cut(refine):
        keras.utils.set_random_seed(0)
        generator = keras.Sequential([keras.Input((4,)), layers.Dense(16, "relu"), layers.Dense(6)])
        discriminator = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
        gan = kgp.GANModel(generator, discriminator, 4, value_range=None, ema_decay=0.9)
        gan.compile()
        gan.fit(np.ones((16, 6), "float32"), verbose=0)
        kgp.Shrink(None, sparsity=0.5, refine=refine, verbose=0).cut(gan)
        return gan

    plain, scaled = cut(None), cut("singular_values")
    for name in ("generator", "ema_generator"):
        old, new = getattr(plain, name), getattr(scaled, name)
        for before, after in zip(old.layers, new.layers, strict=True):
            np.testing.assert_allclose(after.kernel, oracle(before.kernel, -1), atol=1e-5)
    scaled.fit(np.ones((16, 6), "float32"), verbose=0)
