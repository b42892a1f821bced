"""Every model of `keras.applications`: cut by 30 % of its channels, it equals the masked model in float64."""

import contextlib

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.layers.inference import run
from keras_ganprune.pruning._shrink_verify import masked_values
from keras_ganprune.pruning.shrink_model import shrink_with_cuts

MODELS = [
    name
    for name in dir(keras.applications)
    if name[0].isupper() and callable(getattr(keras.applications, name))
]
# The smallest legal input of those that need more than 32.
SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
# More than 100 million parameters: 2 to 6 GB in float64. The same classes of layers are in the smaller ones.
HUGE = {"ConvNeXtLarge", "ConvNeXtXLarge", "EfficientNetV2L", "VGG19"}


@contextlib.contextmanager
def double_precision():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(before)
        keras.utils.clear_session()


def random_model(name):
    """Return a model in which no channel is like another, nor a scale near zero."""
    size = SIZES.get(name, 32)
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(size, size, 3), classes=10)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "variance" in weight.name or weight.name == "gamma":
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model, rng.uniform(0, 255, (2, size, size, 3))


@pytest.mark.full
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX computes in float32")
@pytest.mark.parametrize("name", [n for n in MODELS if n not in HUGE])
def test_the_smaller_model_is_equal(name):
    with double_precision():
        model, x = random_model(name)
        # The comparison below is made here, so that it does not depend on that of `shrink`.
        shrunk = shrink_with_cuts(model, sparsity=0.3, verify=False)
        values = masked_values(shrunk.groups, shrunk.keeps)
        tensors = [(v, keras.ops.convert_to_tensor(a, dtype=v.dtype)) for v, a in values]
        expected = keras.ops.convert_to_numpy(run(model, x, tensors))
        actual = keras.ops.convert_to_numpy(run(shrunk.model, x))
        assert expected.dtype == "float64"
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        assert shrunk.model.count_params() < 0.8 * model.count_params()
        assert isinstance(shrunk.model, keras.Model)


def test_every_model_is_in_the_list():
    """One short model by default, and the huge ones have a relative that is run."""
    assert len(MODELS) >= 38 and HUGE <= set(MODELS)
    model = keras.applications.MobileNet(
        weights=None, input_shape=(32, 32, 3), alpha=0.25, classes=3
    )
    assert kgp.shrink(model, sparsity=0.3).count_params() < 0.8 * model.count_params()
