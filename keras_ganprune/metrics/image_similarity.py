"""Pictures against the pictures that they should be: PSNR and SSIM."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_ganprune.errors import DataError
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import optional_imports, validation


def _pair(images: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    images, targets = image_checks.images(images), image_checks.images(targets, "targets")
    if images.shape != targets.shape:
        raise DataError(
            "Each image is compared with its own target, so both must have one shape. Received: "
            f"{images.shape} and {targets.shape}."
        )
    return images, targets


def psnr(
    images: Any, targets: Any, *, value_range: tuple[float, float] = (-1.0, 1.0)
) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each image against its target.

        PSNR = 10 log10((high - low)^2 / mean squared difference)

    Args:
        images, targets: Arrays (n, height, width, channels).
        value_range: (low, high) of the pixels.

    Returns: float64 array (n,) in dB, infinite where an image is its target.

    Raises: DataError (a ValueError): images are not finite, or of two shapes.

    Example:
    >>> psnr(np.full((1, 8, 8, 1), 0.2), np.zeros((1, 8, 8, 1)))
    array([20.])
    """
    images, targets = _pair(images, targets)
    low, high = validation.value_range(value_range)
    with np.errstate(divide="ignore"):
        return np.array(
            [
                10.0 * np.log10((high - low) ** 2 / np.mean((x.astype("float64") - y) ** 2))
                for x, y in zip(images, targets, strict=True)
            ]
        )


def ssim(
    images: Any, targets: Any, *, value_range: tuple[float, float] = (-1.0, 1.0)
) -> np.ndarray:
    """Return the structural similarity of each image to its target.

        SSIM = (2 m_x m_y + c1) (2 s_xy + c2) / ((m_x^2 + m_y^2 + c1) (s_x^2 + s_y^2 + c2))

    with means m, variances s^2 and covariance s_xy under a Gaussian window of 11×11 pixels (sigma 1.5),
    c1 = (0.01 L)^2, c2 = (0.03 L)^2, L = high - low; the mean over channels and over all places where the
    window lies inside the image.

    Args:
        images, targets: Arrays (n, height, width, channels), 11×11 pixels at least.
        value_range: (low, high) of the pixels.

    Returns: float64 array (n,) in [-1, 1]; 1 for equal images.

    Raises:
        DataError: images are not finite, of two shapes, or smaller than the window.
        MissingPackageError: scipy is not installed.

    Example:
    >>> x = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 1))
    >>> float(ssim(x, x)[0]), bool(ssim(x, -x)[0] < 0)
    (1.0, True)

    Reference: [Image quality assessment](https://doi.org/10.1109/TIP.2003.819861), Eq. 13.
    """
    images, targets = _pair(images, targets)
    low, high = validation.value_range(value_range)
    if min(images.shape[1:3]) < 11:
        raise DataError(
            "The window of SSIM is 11×11 pixels, and images must be that large. Received: "
            f"{images.shape[1]}×{images.shape[2]}."
        )
    gaussian = optional_imports.require(
        "scipy.ndimage", "quality", "Windows of SSIM"
    ).gaussian_filter
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2

    def smooth(x: np.ndarray) -> np.ndarray:
        # Not across channels; the border, where the window reaches beyond the image, goes.
        return gaussian(x, sigma=(1.5, 1.5, 0.0), radius=(5, 5, 0))[5:-5, 5:-5]

    found = []
    for image, target in zip(images, targets, strict=True):
        # From black on: how much two means differ is judged against how bright they are.
        x, y = image.astype("float64") - low, target.astype("float64") - low
        mean_x, mean_y = smooth(x), smooth(y)
        variance_x = smooth(x * x) - mean_x**2
        variance_y = smooth(y * y) - mean_y**2
        covariance = smooth(x * y) - mean_x * mean_y
        similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
            (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
        )
        found.append(similarity.mean())
    return np.array(found)
