"""Scores of restored images: PSNR and SSIM, of whole images or inside holes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.applications.base import Metric
from keras_ganprune.datasets import packages

PSNR = Metric("PSNR, dB", higher_is_better=True, digits=2)
SSIM = Metric("SSIM", higher_is_better=True, digits=4)
#: Length of the range of values, [-1, 1].
_RANGE = 2.0
_BATCH = 32


def restored(network: keras.Model, inputs: Any) -> np.ndarray:
    """Return the images that a network makes, clipped to [-1, 1].

    Args:
        network: The network.
        inputs: Array, or tuple of arrays, (n, ...).
    """
    several = isinstance(inputs, (list, tuple))
    count = len(inputs[0]) if several else len(inputs)
    made = []
    # Not `predict`, which compiles a function for each network.
    for start in range(0, count, _BATCH):
        batch: Any = keras.tree.map_structure(lambda array, k=start: array[k : k + _BATCH], inputs)
        images = network(list(batch) if several else batch, training=False)
        made.append(keras.ops.convert_to_numpy(images))
    return np.clip(np.concatenate(made), -1.0, 1.0)


def scores(
    images: np.ndarray, originals: np.ndarray, holes: np.ndarray | None = None
) -> dict[str, float]:
    """Return the means of PSNR and SSIM over images.

        PSNR = 10 log10(R^2 / mean((x - y)^2)), with R = 2, the length of the range of values

    Args:
        images: Array (n, height, width, channels) in [-1, 1].
        originals: Array of the same shape.
        holes: Bool array (n, height, width, 1): only these pixels count. Defaults to None: all count.

    Returns:
        {"psnr": in dB, "ssim": at most 1}.

    Example:
    >>> from keras_ganprune.applications.image_scores import scores
    >>> x = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 1))
    >>> scores(x + 0.2, x)["psnr"]
    20.0

    Reference: [SSIM](https://doi.org/10.1109/TIP.2003.819861), Eq. 13.
    """
    measure = packages.require("skimage.metrics")
    psnr, ssim = [], []
    for place, (image, original) in enumerate(zip(images, originals, strict=True)):
        image, original = image.astype("float64"), original.astype("float64")
        _, similarity = measure.structural_similarity(
            original, image, data_range=_RANGE, channel_axis=-1, full=True
        )
        kept = (
            np.ones(image.shape, bool)
            if holes is None
            else np.broadcast_to(holes[place], image.shape)
        )
        error = max(float(np.mean((image - original)[kept] ** 2)), 1e-12)
        psnr.append(10.0 * np.log10(_RANGE**2 / error))
        ssim.append(float(np.mean(similarity[kept])))
    return {"psnr": round(float(np.mean(psnr)), 12), "ssim": float(np.mean(ssim))}
