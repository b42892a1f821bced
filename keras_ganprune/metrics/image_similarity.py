"""PSNR and SSIM: how similar each image is to its own target image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.errors import DataError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import optional_imports, validation


def _checked_pair(images: ArrayLike, targets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    images, targets = image_checks.images(images), image_checks.images(targets, "targets")
    if images.shape != targets.shape:
        raise DataError(
            "Each image is compared with its own target, so both arrays must have the same shape. Received: "
            f"{images.shape} and {targets.shape}."
        )
    return images, targets


def psnr(
    images: ArrayLike, targets: ArrayLike, *, value_range: tuple[float, float] = (-1.0, 1.0)
) -> np.ndarray:
    """Return the peak signal-to-noise ratio between each image and its target.

        PSNR = 10 log10((high - low)^2 / mean((image - target)^2))

    The result is in decibels, and higher is better. It is infinite where an image equals its target. The
    mean is taken over all pixels and channels of an image.

    Args:
        images: Array (n, height, width, channels).
        targets: Array of the same shape.
        value_range: (low, high) of the pixels. Defaults to (-1.0, 1.0).

    Returns:
        float64 array (n,).

    Raises:
        DataError: Images are not finite, are empty, or have another shape than the targets.
        InvalidArgumentError: `value_range` is not (low, high) with low < high.

    Example:
    >>> psnr(np.full((1, 8, 8, 1), 0.2), np.zeros((1, 8, 8, 1)))
    array([20.])

    Reference: [Scope of validity of PSNR](https://doi.org/10.1049/el:20080522), Eq. 1.
    """
    images, targets = _checked_pair(images, targets)
    low, high = validation.value_range(value_range)
    with np.errstate(divide="ignore"):
        return np.array(
            [
                10.0 * np.log10((high - low) ** 2 / np.mean((x.astype("float64") - y) ** 2))
                for x, y in zip(images, targets, strict=True)
            ]
        )


def ssim(
    images: ArrayLike, targets: ArrayLike, *, value_range: tuple[float, float] = (-1.0, 1.0)
) -> np.ndarray:
    """Return the structural similarity between each image and its target.

        SSIM = (2 m_x m_y + c1) (2 s_xy + c2) / ((m_x^2 + m_y^2 + c1) (s_x^2 + s_y^2 + c2))

    The result is in [-1, 1], and higher is better; it is 1 for equal images. The means m, variances s^2 and
    the covariance s_xy are taken under a Gaussian window of 11×11 pixels (sigma 1.5), with
    c1 = (0.01 L)^2, c2 = (0.03 L)^2 and L = high - low. The result is the mean over channels and over all
    positions where the window lies inside the image.

    Args:
        images: Array (n, height, width, channels) of at least 11×11 pixels.
        targets: Array of the same shape.
        value_range: (low, high) of the pixels. Defaults to (-1.0, 1.0).

    Returns:
        float64 array (n,).

    Raises:
        DataError: Images are not finite, are empty, are smaller than the window, or have another shape
            than the targets.
        InvalidArgumentError: `value_range` is not (low, high) with low < high.
        MissingPackageError: SciPy is not installed.

    Example:
    >>> x = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 1))
    >>> float(ssim(x, x)[0]), bool(ssim(x, -x)[0] < 0)
    (1.0, True)

    Reference: [Image quality assessment](https://doi.org/10.1109/TIP.2003.819861), Eq. 13.
    """
    images, targets = _checked_pair(images, targets)
    low, high = validation.value_range(value_range)
    if min(images.shape[1:3]) < 11:
        raise DataError(
            "SSIM uses a window of 11×11 pixels, so images must be at least that large. Received: "
            f"{images.shape[1]}×{images.shape[2]}."
        )
    gaussian = optional_imports.require(
        "scipy.ndimage", "quality", "Windows of SSIM"
    ).gaussian_filter
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2

    def smooth(x: np.ndarray) -> np.ndarray:
        # Each channel is smoothed separately. The border, where the window would leave the image, is cut off.
        return gaussian(x, sigma=(1.5, 1.5, 0.0), radius=(5, 5, 0))[5:-5, 5:-5]

    similarities = []
    for image, target in zip(images, targets, strict=True):
        # Black must be 0, because SSIM compares the means relative to their brightness.
        x, y = image.astype("float64") - low, target.astype("float64") - low
        mean_x, mean_y = smooth(x), smooth(y)
        variance_x = smooth(x * x) - mean_x**2
        variance_y = smooth(y * y) - mean_y**2
        covariance = smooth(x * y) - mean_x * mean_y
        similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
            (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
        )
        similarities.append(similarity.mean())
    return np.array(similarities)
