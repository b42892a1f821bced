"""Denoising, super-resolution and inpainting: data, networks, scores. Training: `test_contract.py`."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications import feature_distance, image_scores
from keras_ganprune.applications.denoising import Denoising
from keras_ganprune.applications.feature_distance import FeatureDistance
from keras_ganprune.applications.holes import random_holes
from keras_ganprune.applications.image_blocks import HoleFill, PixelShuffle
from keras_ganprune.applications.inpainting import Inpainting
from keras_ganprune.applications.super_resolution import SuperResolution

measure = pytest.importorskip("skimage.metrics")
pytest.importorskip("matplotlib")


def test_scores_are_those_of_scikit_image():
    rng = np.random.default_rng(0)
    one, two = rng.uniform(-1, 1, (2, 3, 20, 20, 1))
    found = image_scores.scores(one, two)
    psnr = [
        measure.peak_signal_noise_ratio(b, a, data_range=2) for a, b in zip(one, two, strict=True)
    ]
    ssim = [
        measure.structural_similarity(b, a, data_range=2, channel_axis=-1)
        for a, b in zip(one, two, strict=True)
    ]
    np.testing.assert_allclose(found["psnr"], np.mean(psnr), rtol=1e-9)
    # scikit-image leaves out the border in its mean; here every pixel counts.
    np.testing.assert_allclose(found["ssim"], np.mean(ssim), atol=0.05)


def test_scores_in_holes_see_nothing_else():
    rng = np.random.default_rng(0)
    original = rng.uniform(-1, 1, (2, 16, 16, 1))
    holes = np.zeros((2, 16, 16, 1), bool)
    holes[:, 4:8, 4:8] = True
    image = np.where(holes, original + 0.2, original - 0.9)
    assert image_scores.scores(image, original, holes)["psnr"] == pytest.approx(20.0)
    assert image_scores.scores(original, original, holes)["ssim"] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["box", "free-form", "mixed"])
def test_holes_take_a_part_of_each_image(kind):
    holes = random_holes(20, 32, kind, seed=3)
    shares = 1 - holes.mean((1, 2, 3))
    assert set(np.unique(holes)) == {0.0, 1.0} and shares.min() > 0.05 and shares.max() < 0.6
    np.testing.assert_array_equal(holes, random_holes(20, 32, kind, seed=3))


def test_pixel_shuffle_is_that_of_the_paper():
    """Channel (i * r + j) * c + k becomes channel k of pixel (i, j)."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 8)).astype("float32")
    y = keras.ops.convert_to_numpy(PixelShuffle(2)(x))
    assert y.shape == (2, 6, 8, 2)
    for i in range(2):
        for j in range(2):
            np.testing.assert_array_equal(y[:, i::2, j::2], x[..., (2 * i + j) * 2 :][..., :2])


def test_a_filled_hole_is_smooth_and_the_rest_stays():
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (4, 24, 40, 3)).astype("float32")
    known = random_holes(4, 40, seed=1)[:, :24]
    filled = keras.ops.convert_to_numpy(HoleFill()([image, known]))
    np.testing.assert_allclose(np.where(known, filled, image), image, atol=1e-6)
    assert np.abs(filled).max() < 1.0
    # A slope goes on in the hole, and what is in the hole has no effect.
    slope = np.broadcast_to(np.linspace(-1, 1, 40)[:, None], image.shape).astype("float32")
    filled = keras.ops.convert_to_numpy(HoleFill()([np.where(known, slope, 9.0), known]))
    assert np.abs(filled - slope).max() < 0.15
    nothing = keras.ops.convert_to_numpy(HoleFill()([image, np.zeros_like(known)]))
    np.testing.assert_array_equal(nothing, 0.0)


def test_the_distance_is_that_of_unit_vectors_of_features(monkeypatch):
    encoder = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="conv"), keras.layers.ReLU()]
    )
    monkeypatch.setattr(
        feature_distance, "train_extractor", lambda *args, **kwargs: kgp.FeatureExtractor(encoder)
    )
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 40, 8, 8, 1))
    distance = FeatureDistance(x)
    a, b = (encoder.predict(z, verbose=0) for z in (x, y))
    a, b = (z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-6) for z in (a, b))
    assert distance(x, y) == pytest.approx(np.mean(np.sum((a - b) ** 2, -1)), rel=1e-4)
    assert distance(x, x) == 0.0 and 0.0 < distance(0.5 * x + 0.5 * y, x) < distance(y, x)


APPLICATIONS = {
    "denoising": (Denoising, {}),
    "super-resolution": (SuperResolution, {}),
    "super-resolution x4": (SuperResolution, {"factor": 4}),
    "inpainting": (Inpainting, {"data": "photos"}),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.full if n != "denoising" else ()) for n in APPLICATIONS],
)
def test_the_generator_shrinks_and_the_picture_shows_every_network(name):
    cls, options = APPLICATIONS[name]
    application = cls(cls.options_class(quick=True, **options))
    data = application.data()
    networks = application.networks(data)
    gan = application.model(networks)
    assert set(application.baselines(data)) and gan.generator is networks["generator"]
    small = kgp.shrink(networks["generator"], budget=kgp.Budget(macs=0.25))
    narrow = application.networks(data, width=0.5)["generator"]
    assert narrow.count_params() < networks["generator"].count_params()
    figure = application.show({"dense": gan.sampler, "compressed": small}, data.test)
    titles = [axes.get_title().split("\n")[0] for axes in figure.axes if axes.get_title()]
    assert titles[-3:] == ["dense", "compressed", "original"]
    numbers = application.evaluate(small, data.test)
    assert set(numbers) == set(application.metrics) and np.isfinite(list(numbers.values())).all()


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (SuperResolution, {"factor": 3}),
        (Denoising, {"noise": 0.0}),
        (Inpainting, {"holes": "round"}),
    ],
)
def test_wrong_options(cls, options):
    with pytest.raises(kgp.PruningError, match=next(iter(options))):
        cls.options_class(**options)
