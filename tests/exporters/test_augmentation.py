"""A SavedModel computes inference, also where Keras takes a call without `training` for training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_ganprune as kgp

LAYERS = {
    "RandomFlip": lambda: layers.RandomFlip(),
    "RandomContrast": lambda: layers.RandomContrast(0.9),
    "RandomBrightness": lambda: layers.RandomBrightness(0.9, value_range=(0, 1)),
    "RandomRotation": lambda: layers.RandomRotation(0.4),
    "RandomTranslation": lambda: layers.RandomTranslation(0.4, 0.4),
    "RandomZoom": lambda: layers.RandomZoom(0.6),
    "RandomShear": lambda: layers.RandomShear(0.9, 0.9),
    "RandomPerspective": lambda: layers.RandomPerspective(1.0),
    "RandomErasing": lambda: layers.RandomErasing(1.0),
    "RandomGaussianBlur": lambda: layers.RandomGaussianBlur(1.0, 3, 1.0),
    "RandomGrayscale": lambda: layers.RandomGrayscale(1.0),
    "RandomHue": lambda: layers.RandomHue(0.9, value_range=(0, 1)),
    "RandomSaturation": lambda: layers.RandomSaturation((0.9, 1.0), value_range=(0, 1)),
    "RandomInvert": lambda: layers.RandomInvert(1.0, value_range=(0, 1)),
    "RandAugment": lambda: layers.RandAugment(value_range=(0, 1)),
    "AugMix": lambda: layers.AugMix(value_range=(0, 1)),
    "MixUp": lambda: layers.MixUp(),
    "CutMix": lambda: layers.CutMix(),
    "a model of them": lambda: keras.Sequential([layers.RandomFlip(), layers.RandomContrast(0.9)]),
    "a user's": lambda: OnByDefault(),
}
SHORT = ("RandomFlip", "a user's")


@keras.saving.register_keras_serializable("tests")
class OnByDefault(layers.Layer):
    def call(self, x, training=True):
        return x * 3.0 if training else x


def rows():
    names = [n for n in LAYERS if hasattr(layers, n) or not n.startswith(("Random", "Aug"))]
    return [pytest.param(n, marks=() if n in SHORT else pytest.mark.full) for n in names]


@pytest.mark.parametrize("name", rows())
def test_augmentation_is_off(name, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            LAYERS[name](),
            layers.Conv2D(4, 3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype("float32")
    report = kgp.export_saved_model(kgp.make_prunable(model), tmp_path / "model")
    assert report.max_difference < 1e-5
    loaded = tf.saved_model.load(tmp_path / "model")
    expected = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(loaded.serve(x), expected, atol=1e-5)
    # The batch is still open, and the input has its name.
    assert loaded.serve(x[:1]).shape == (1, 2)
