"""`FeatureDistance`: how far images are from their originals in the features of a trained network."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.applications.base import Metric
from keras_ganprune.metrics import train_extractor
from keras_ganprune.utils.status_line import EXTRACTOR, StatusLine

FEATURE_DISTANCE = Metric("feature distance", higher_is_better=False, digits=4)
# 13 batches an epoch: it takes some twenty seconds on one core, once, since the extractor is cached.
_IMAGES, _EPOCHS = 1024, 8
_BATCH = 32


class FeatureDistance:
    """Compares images with their originals by the feature maps of a network.

        mean over layers, images and positions of |F(x) / |F(x)| - F(y) / |F(y)||^2

    F(x) is the vector of the channels of a layer at a position. So the distance is 0 for equal images and at
    most 2. Of two images of the same PSNR, a blurred one is farther away than a noisy one. The network is the
    encoder of an autoencoder of whole images (`train_extractor`), trained at the first use. Distances of two
    data sets are not comparable.

    Args:
        images: Training images (n, height, width, channels) in [-1, 1], without holes, noise or blur.

    Example:
    >>> from keras_ganprune.applications.feature_distance import FeatureDistance
    >>> distance = FeatureDistance(np.zeros((100, 32, 32, 1), "float32"))
    >>> distance(images, originals)  # doctest: +SKIP
    0.0312

    Reference: [LPIPS](https://arxiv.org/abs/1801.03924), Eq. 1, with equal weights and a network trained
    without labels.
    """

    def __init__(self, images: np.ndarray):
        self.images = images

    @functools.cached_property
    def network(self) -> keras.Model:
        """Keras model from images to the list of feature maps."""
        images = self.images[:: max(1, len(self.images) // _IMAGES)][:_IMAGES]
        with StatusLine().doing(EXTRACTOR):
            extractor = train_extractor(images, kind="autoencoder", epochs=_EPOCHS)
        encoder = extractor.model
        maps = [layer.output for layer in encoder.layers if isinstance(layer, keras.layers.ReLU)]
        return keras.Model(encoder.inputs[0], maps)

    def __call__(self, images: np.ndarray, originals: np.ndarray) -> float:
        """Return the distance, a mean over images.

        Args:
            images: Array (n, height, width, channels) in [-1, 1].
            originals: Array of the same shape.
        """
        distances = []
        for start in range(0, len(images), _BATCH):
            rows = slice(start, start + _BATCH)
            pairs = zip(self._maps(images[rows]), self._maps(originals[rows]), strict=True)
            parts = [np.sum((x - y) ** 2, axis=-1).mean((1, 2)) for x, y in pairs]
            distances.append(np.mean(parts, axis=0))
        return float(np.mean(np.concatenate(distances)))

    def _maps(self, images: np.ndarray) -> list[Any]:
        """Return the feature maps of images, of length 1 at each position."""
        maps = self.network(images.astype("float32"), training=False)
        return [ops.convert_to_numpy(ops.normalize(x, axis=-1)) for x in keras.tree.flatten(maps)]
