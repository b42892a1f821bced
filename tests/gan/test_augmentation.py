"""`DiffAugment`, and the augmentation of `GANModel`."""

import keras
import networks as nets
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError


def augmented(images, **kwargs):
    layer = kgp.DiffAugment(**{"translation": 0.0, "brightness": 0.0, "seed": 3, **kwargs})
    return keras.ops.convert_to_numpy(layer(images, training=True))


def shifted(image, down, right):
    """The oracle: rows and columns that are taken, edges repeated."""
    height, width, _ = image.shape
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    return image[rows][:, columns]


def test_does_nothing_outside_training():
    images = nets.images(4)
    layer = kgp.DiffAugment(translation=0.5, brightness=1.0, contrast=0.5, seed=1)
    assert np.array_equal(keras.ops.convert_to_numpy(layer(images)), images)
    assert not np.array_equal(keras.ops.convert_to_numpy(layer(images, training=True)), images)


def test_every_image_is_shifted_by_whole_pixels_and_every_shift_comes():
    images = np.random.default_rng(0).normal(size=(400, 8, 6, 2)).astype("float32")
    result = augmented(images, translation=0.34)  # two of eight rows, two of six columns
    seen = []
    for before, after in zip(images, result, strict=True):
        fits = [
            (down, right)
            for down in range(-4, 5)
            for right in range(-4, 5)
            if np.array_equal(shifted(before, down, right), after)
        ]
        assert len(fits) == 1
        seen += fits
    assert set(seen) == {(d, r) for d in range(-2, 3) for r in range(-2, 3)}


def test_brightness_adds_one_number_to_an_image():
    images = nets.images(200)
    difference = augmented(images, brightness=0.3) - images
    amounts = difference.mean(axis=(1, 2, 3))
    assert np.abs(difference - amounts[:, None, None, None]).max() < 1e-6
    assert -0.3 <= amounts.min() < -0.25 and 0.25 < amounts.max() <= 0.3


def test_contrast_keeps_the_mean():
    images = nets.images(200)
    result = augmented(images, contrast=0.5)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    factors = ((result - mean) / (images - mean)).reshape(200, -1)
    assert np.abs(factors - np.median(factors, axis=1, keepdims=True)).max() < 1e-2
    assert 0.5 <= np.median(factors, axis=1).min() < 0.6
    assert 1.4 < np.median(factors, axis=1).max() <= 1.5


def test_config_and_seed():
    layer = kgp.DiffAugment(0.25, 0.1, 0.2, seed=5)
    again = kgp.DiffAugment.from_config(layer.get_config())
    images = nets.images(4)
    first, second = (keras.ops.convert_to_numpy(x(images, training=True)) for x in (layer, again))
    assert np.array_equal(first, second)


class Recorder(keras.layers.Layer):
    """Maps every image to a constant, so that a test can see which images passed through it."""

    def call(self, images, training=False):
        return images * 0.0 + 0.5 if training else images


def gan_model(augmentation, **kwargs):
    keras.utils.set_random_seed(1)
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, seed=1, augmentation=augmentation, **kwargs)
    gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
    return gan


def test_the_discriminator_sees_real_and_generated_images_through_it():
    gan = gan_model(Recorder(), balance_frequency=0)
    before = [np.copy(nets.value(w)) for w in gan.generator.trainable_weights]
    gan.fit(nets.images(8), batch_size=8, verbose=0)
    # All images are alike to the discriminator then, and no gradient comes back through them.
    after = [nets.value(w) for w in gan.generator.trainable_weights]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    logs = gan.evaluate(nets.images(8), verbose=0, return_dict=True)
    real = nets.value(gan.judge(nets.images(8)))
    assert logs["discriminator_real_accuracy"] == pytest.approx(float((real > 0).mean()))


def test_the_generator_learns_through_it():
    gan = gan_model(kgp.DiffAugment(seed=2))
    before = np.copy(nets.value(gan.generator.trainable_weights[0]))
    gan.fit(nets.images(8), batch_size=8, verbose=0)
    assert not np.array_equal(before, nets.value(gan.generator.trainable_weights[0]))


@pytest.mark.full
def test_saved_and_loaded_it_goes_on_with_the_same_changes(tmp_path):
    gan = gan_model(kgp.DiffAugment(translation=0.3, brightness=0.4, seed=2))
    gan.fit(nets.images(), batch_size=8, verbose=0)
    gan.save(tmp_path / "gan.keras")
    again = kgp.load_model(tmp_path / "gan.keras")
    for model in (gan, again):
        model.fit(nets.images(), batch_size=8, verbose=0, shuffle=False)
    for a, b in zip(gan.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"translation": 1.0}, r"`translation` must be a fraction in \[0, 1\)"),
        ({"translation": 80}, r"`translation` must be a fraction in \[0, 1\)"),
        ({"brightness": -0.1}, "`brightness` must be a non-negative number"),
        ({"contrast": 1.5}, r"`contrast` must be a fraction in \[0, 1\]"),
    ],
)
def test_bad_amounts(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.DiffAugment(**arguments)


def test_bad_augmentations():
    with pytest.raises(ArgumentTypeError, match="`augmentation` must be None or a Keras layer"):
        gan_model("translation")
    with pytest.raises(InvalidArgumentError, match="`augmentation` must have no trainable weights"):
        gan_model(keras.layers.Conv2D(1, 3, padding="same"))
    with pytest.raises(ValueError, match=r"takes images \(batch, height, width, channels\)"):
        kgp.DiffAugment()(np.zeros((2, 5), "float32"), training=True)
