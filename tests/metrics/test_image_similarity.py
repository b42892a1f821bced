"""PSNR, SSIM and histograms of classes, against oracles."""

import numpy as np
import pytest

from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.metrics import class_histogram, psnr, ssim


def brute_ssim(x, y, low, high):
    """SSIM of one channel, one window after the other."""
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    x, y = x.astype("float64") - low, y.astype("float64") - low
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            m, n = (window * a).sum(), (window * b).sum()
            s, t = (window * (a - m) ** 2).sum(), (window * (b - n) ** 2).sum()
            both = (window * (a - m) * (b - n)).sum()
            values.append(
                (2 * m * n + c1) * (2 * both + c2) / ((m * m + n * n + c1) * (s + t + c2))
            )
    return np.mean(values)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 255.0)])
def test_ssim_against_brute_force(value_range):
    low, high = value_range
    rng = np.random.default_rng(0)
    x = rng.uniform(low, high, (2, 14, 17, 3)).astype("float32")
    y = np.clip(x + rng.normal(0, 0.1 * (high - low), x.shape), low, high)
    found = ssim(x, y, value_range=value_range)
    for i in range(2):
        channels = [brute_ssim(x[i, ..., c], y[i, ..., c], low, high) for c in range(3)]
        assert found[i] == pytest.approx(np.mean(channels), rel=1e-9)


def test_ssim_does_not_change_with_the_range_that_pixels_are_written_in():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (2, 3, 16, 16, 1), dtype="uint8")
    floats = ssim(x / 127.5 - 1.0, y / 127.5 - 1.0)
    np.testing.assert_allclose(ssim(x, y, value_range=(0, 255)), floats, rtol=1e-9)


def test_ssim_of_equal_images_is_one_and_falls_with_noise():
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, (4, 16, 16, 1))
    np.testing.assert_allclose(ssim(x, x), 1.0)
    noise = rng.normal(size=x.shape)
    values = [ssim(x, x + s * noise).mean() for s in (0.0, 0.1, 0.3, 1.0)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.7


def test_psnr():
    x = np.zeros((3, 4, 4, 1), "float32")
    y = np.stack([np.full((4, 4, 1), v) for v in (0.02, 0.2, 0.0)])
    np.testing.assert_allclose(psnr(x, y), [40.0, 20.0, np.inf])
    # Differences of bytes must not wrap around.
    a, b = np.zeros((1, 4, 4, 1), "uint8"), np.full((1, 4, 4, 1), 255, "uint8")
    np.testing.assert_allclose(psnr(a, b, value_range=(0, 255)), [0.0])


def test_pairs_that_cannot_be_compared():
    x = np.zeros((2, 12, 12, 1))
    for metric in (psnr, ssim):
        with pytest.raises(
            DataError, match=r"must have the same shape.*\(2, 12, 12, 1\) and \(1, 12"
        ):
            metric(x, x[:1])
        with pytest.raises(DataError, match=r"NaN or infinite values in 1 of 2 rows.*row 1"):
            metric(x, np.stack([x[0], np.full((12, 12, 1), np.inf)]))
        with pytest.raises(InvalidArgumentError, match=r"low < high"):
            metric(x, x, value_range=(1, 1))
        with pytest.raises(DataError, match=r"Add the channel axis"):
            metric(x[..., 0], x[..., 0])
        with pytest.raises(DataError, match=r"`images` is empty"):
            metric(x[:0], x[:0])
    with pytest.raises(DataError, match=r"11×11.*Received: 12×10"):
        ssim(x[:, :, :10], x[:, :, :10])


# --- classes -------------------------------------------------------------------------------------


def test_histogram_against_the_formula():
    real = np.repeat([0, 1, 2], [50, 30, 20])
    fake = np.repeat([0, 1, 2], [20, 40, 40])
    found = class_histogram(real, fake)
    np.testing.assert_allclose(found.real, [0.5, 0.3, 0.2])
    np.testing.assert_allclose(found.fake, [0.2, 0.4, 0.4])
    expected = 0.2 * np.log(0.2 / 0.5) + 0.4 * np.log(0.4 / 0.3) + 0.4 * np.log(0.4 / 0.2)
    assert found.kl == pytest.approx(expected)
    assert found.missing == ()
    one_hot = class_histogram(np.eye(3)[real], fake[:, None])
    assert one_hot.kl == pytest.approx(expected)


def test_lost_classes():
    real = np.arange(1000) % 10
    for lost in range(1, 9):
        found = class_histogram(real, np.arange(7200) % (10 - lost))
        assert found.kl == pytest.approx(np.log(10 / (10 - lost)))
        assert found.missing == tuple(range(10 - lost, 10))
    # 9 of 1,000 are less than a tenth of 100, 10 are not.
    for few, missing in ((9, (9,)), (10, ())):
        fake = np.concatenate([np.arange(1000 - few) % 9, np.full(few, 9)])
        assert class_histogram(real, fake).missing == missing
    # Among 50 images a class of 10 % may lack by chance.
    assert class_histogram(real, np.arange(50) % 9).missing == ()


def test_a_class_that_real_images_do_not_have():
    found = class_histogram(np.arange(100) % 2, np.full(100, 5), classes=8)
    assert found.kl == pytest.approx(np.log(200.0))
    assert len(found.real) == 8 and found.missing == (0, 1)


def test_invalid_labels():
    with pytest.raises(DataError, match=r"at least two classes. Received: real images of class 3"):
        class_histogram(np.full(10, 3), np.arange(10))
    with pytest.raises(
        DataError, match=r"non-negative whole class numbers. Received: values from -1"
    ):
        class_histogram(np.arange(10) - 1, np.arange(10))
    with pytest.raises(DataError, match=r"non-negative whole class numbers"):
        class_histogram(np.arange(10) + 0.5, np.arange(10))
    with pytest.raises(DataError, match=r"rows that are not one-hot"):
        class_histogram(np.full((4, 3), 0.3), np.arange(4))
    with pytest.raises(DataError, match=r"Received: shape \(0,\)"):
        class_histogram(np.zeros(0, int), np.arange(4))
    with pytest.raises(DataError, match=r"must be below `classes=4`. Received: label 4"):
        class_histogram(np.arange(4), np.arange(5), classes=4)
