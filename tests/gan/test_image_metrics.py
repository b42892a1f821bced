"""`PSNR` against its definition, and the metrics that `ImageToImageGAN.compile` takes."""

import keras
import numpy as np
import pytest
from image_pairs import pair

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.metrics import psnr


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 255.0)])
def test_psnr_is_the_mean_over_images(value_range):
    rng = np.random.default_rng(0)
    images, targets = rng.uniform(*value_range, (2, 6, 5, 4, 3))
    metric = kgp.PSNR(value_range)
    for rows in (slice(0, 4), slice(4, 6)):
        metric.update_state(targets[rows], images[rows])
    expected = np.mean(psnr(images, targets, value_range=value_range))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
    assert kgp.PSNR.from_config(metric.get_config()).value_range == value_range
    metric.reset_state()
    metric.update_state(targets, targets)
    assert float(metric.result()) == pytest.approx(100.0)


def test_bad_metrics():
    gan = kgp.ImageToImageGAN(*pair(), value_range=None)
    for metrics, error, match in (
        ("psnr", ArgumentTypeError, "`metrics` must be a list"),
        (["psnr"], InvalidArgumentError, "needs the range of the images"),
        ([kgp.PSNR], ArgumentTypeError, r"Write `PSNR\(\)`"),
        (["mae", "mae"], InvalidArgumentError, "Received twice: mae"),
        ([keras.metrics.Mean(name="generator_loss")], InvalidArgumentError, "Received twice"),
        (["nonsense"], InvalidArgumentError, "A metric must be 'psnr', or"),
        ([3], (ArgumentTypeError, InvalidArgumentError), "A metric must be"),
    ):
        with pytest.raises(error, match=match):
            gan.compile(metrics=metrics)
    with pytest.raises(InvalidArgumentError, match=r"`ImageToImageGAN.compile` does not take loss"):
        gan.compile(loss="mse")
