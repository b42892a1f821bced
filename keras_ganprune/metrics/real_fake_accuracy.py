"""How well a discriminator still tells real images from generated ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.errors import DataError, UnsupportedLayerError
from keras_ganprune.gan import GANModel
from keras_ganprune.metrics import sampling
from keras_ganprune.utils import validation


@dataclass(frozen=True)
class DiscriminatorAccuracy:
    """What a discriminator tells rightly.

    Attributes:
        real: Float in [0, 1], share of real images told as real.
        fake: Float in [0, 1], share of generated images told as generated.
        samples: Int, how many of each were shown.
    """

    real: float
    fake: float
    samples: int


def discriminator_accuracy(
    gan: GANModel,
    images: Any,
    labels: Any = None,
    *,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> DiscriminatorAccuracy:
    """Return the shares of real and generated images that a GAN's discriminator tells rightly.

    On images that it was not trained on, a share of reals far below that of training says that it has
    learnt them by heart. Both networks run in inference mode; the generator is the averaged one, if
    there is one. What counts as real is the loss's own boundary, as in the logs of `fit`.

    Args:
        gan: A `GANModel`.
        images: Real images (m, ...) as `fit` takes them.
        labels: Their labels, for a conditional GAN.
        n: Positive int, how many of each to show at most; None for as many as there are real ones.
        seed: Int, of the latent vectors.
        batch_size: Positive int.

    Returns: A `DiscriminatorAccuracy`.

    Raises: DataError, UnsupportedLayerError.

    Example:
    >>> g = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    >>> d = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> found = discriminator_accuracy(GANModel(g, d, latent_dim=2), np.ones((10, 4)))
    >>> found.samples, found.real in (0.0, 1.0)
    (10, True)
    """
    if not isinstance(gan, GANModel):
        raise UnsupportedLayerError(
            f"`gan` must be a `GANModel`. Received: {gan!r} (of type {type(gan).__name__})."
        )
    images = np.asarray(images)
    if images.ndim < 2 or images.size == 0 or not np.isfinite(images).all():
        raise DataError(
            "`images` must be finite numbers, one row an image. Received: shape "
            f"{images.shape}{'' if images.size == 0 else ' with NaN or infinite values'}."
        )
    if gan.conditional != (labels is not None):
        raise DataError(
            "Labels go with a conditional GAN, and only with one. Received: "
            f"conditional={gan.conditional}, labels {'given' if labels is not None else 'missing'}."
        )
    n = len(images) if n is None else min(len(images), validation.positive_int(n, "n"))
    batch_size = validation.positive_int(batch_size, "batch_size")
    tracing.sync(gan)
    labels = None if labels is None else np.asarray(labels)

    def logits(batch: Any, own: Any) -> Any:
        own = None if own is None else ops.convert_to_tensor(own)
        return gan.judge(ops.convert_to_tensor(batch.astype("float32")), own)

    real = []
    for start in range(0, n, batch_size):
        rows = slice(start, min(start + batch_size, n))
        real.append(logits(images[rows], None if labels is None else labels[rows]))
    made = sampling.generated(gan, n, labels=labels, seed=seed, batch_size=batch_size)
    fake = [logits(x, y) for x, y in made]
    # All at once, since some losses take the mean of the others for their boundary.
    found = gan.loss_pair.accuracy(*(ops.concatenate(x, axis=0) for x in (real, fake)))
    return DiscriminatorAccuracy(*(float(ops.convert_to_numpy(x)) for x in found), n)
