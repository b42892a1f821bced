"""Whether generated images can replace real ones as training data."""

from __future__ import annotations

from numpy.typing import ArrayLike

from keras_ganprune.errors import DataError
from keras_ganprune.metrics import extractor_training, image_checks
from keras_ganprune.utils import validation


def train_on_generated(
    images: ArrayLike,
    labels: ArrayLike,
    real_images: ArrayLike,
    real_labels: ArrayLike,
    *,
    epochs: int | None = None,
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> float:
    """Train a classifier on generated images and return its accuracy on real ones.

        accuracy = real images that are classified correctly / all real images

    The result is in [0, 1], and higher is better. Use it for class-conditional GANs. The accuracy falls if
    images are bad, if the generator ignores its labels, or if all images of a class look alike. The network
    and its training are the same as in `train_extractor`. For comparison, train an extractor on as many real
    images and read its `accuracy`.

    Args:
        images: Generated images (n, height, width, channels).
        labels: Class numbers (n,) or one-hot rows (n, classes) that the generator received.
        real_images: Real images (m, height, width, channels) that the GAN has not seen.
        real_labels: Class numbers (m,) or one-hot rows (m, classes) of the real images.
        epochs: Positive int. Defaults to None: the number that `train_extractor` chooses.
        seed: Non-negative int, seed of weights, order and shifts. Defaults to 0.
        value_range: (low, high) of the pixels. Defaults to (-1.0, 1.0).

    Returns:
        Float, the accuracy.

    Raises:
        DataError: Images are not finite, empty or of different shapes, or the generated images have fewer
            than two classes.
        InvalidArgumentError: `epochs`, `seed` or `value_range` is invalid.

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
            "Generated and real images must have the same shape. Received: "
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
