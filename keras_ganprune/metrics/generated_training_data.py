"""Whether generated images can stand in for real ones."""

from __future__ import annotations

from typing import Any

from keras_ganprune.errors import DataError
from keras_ganprune.metrics import extractor_training, image_checks
from keras_ganprune.utils import validation


def train_on_generated(
    images: Any,
    labels: Any,
    real_images: Any,
    real_labels: Any,
    *,
    epochs: int | None = None,
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> float:
    """Return how well a classifier trained on generated images does on real ones.

    Of a conditional GAN, with the labels that the images were made for. The same network and recipe
    as `train_extractor`, so its `accuracy` from as many real images is what to compare with. It falls
    where images are bad, labels are not followed, or images of a class are all alike.

    Args:
        images, labels: Generated: (n, height, width, channels), and (n,) or one-hot (n, classes).
        real_images, real_labels: Real ones, held out from the GAN.
        epochs: Positive int, or None; see `train_extractor`.
        seed: Int.
        value_range: (low, high) of the pixels.

    Returns: Float in [0, 1], share of the real images that are classified rightly.

    Raises: DataError (a ValueError): images are not usable, or of one class only.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> x = np.clip(rng.normal(y[:, None, None, None] - 0.5, 0.2, (200, 8, 8, 1)), -1, 1)
    >>> train_on_generated(x[:100], y[:100], x[100:], y[100:], epochs=5) > 0.9
    True

    Reference: [RCGAN](https://arxiv.org/abs/1706.02633), §3.2.1 ('train on synthetic, test on real').
    """
    images = image_checks.images(images)
    real_images = image_checks.images(real_images, "real_images")
    if images.shape[1:] != real_images.shape[1:]:
        raise DataError(
            "Generated and real images must have one shape. Received: "
            f"{images.shape[1:]} and {real_images.shape[1:]}."
        )
    numbers = extractor_training.class_numbers_of(images, labels)
    real_numbers = image_checks.class_numbers(real_labels, "real_labels", len(real_images))
    extractor = extractor_training.fit_classifier(
        images,
        numbers,
        64,
        extractor_training.epochs_for(len(images), epochs),
        validation.non_negative_int(seed, "seed"),
        validation.value_range(value_range),
    )
    return extractor.accuracy_on(real_images, real_numbers)
