"""Training of feature extractors on the images that a GAN learns from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.errors import DataError, InvalidArgumentError, unknown_name
from keras_ganprune.metrics import _extractor_cache, _extractor_networks, image_checks
from keras_ganprune.metrics._shifted_images import BATCH_SIZE, ShiftedImages
from keras_ganprune.metrics.feature_extractor import FeatureExtractor
from keras_ganprune.utils import annotated, validation

_KINDS = ("autoencoder", "classifier")
_LEARNING_RATE = 2e-3
_SHUFFLE = (
    "Shuffle images and labels in the same order: "
    "`order = np.random.default_rng(0).permutation(len(images))`, `images[order]`, `labels[order]`."
)


def train_extractor(
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    kind: Literal["classifier", "autoencoder"] = "classifier",
    held_out: float = 0.2,
    features: int = 64,
    epochs: int | None = None,
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
    cache: str | os.PathLike[str] | bool | None = None,
) -> FeatureExtractor:
    """Train a small convolutional network on images, and return it as a feature extractor.

    The network is trained on the first images only. Its accuracy is measured on the last images, a share of
    `held_out`. Use these last images as the real images when you measure a generator. The training images are
    shifted at random by up to 7 % of their size. Training on 4,000 images of 28×28 takes about 10 seconds on
    two cores.

    The result is cached in a `.keras` file whose name depends on the images, labels and settings; the next
    call with the same arguments reads it. The same seed gives the same weights on one backend.

    Args:
        images: Array (n, height, width, channels) in `value_range`, in random order.
        labels: Class numbers (n,) or one-hot rows (n, classes). Defaults to None, which only an
            autoencoder allows.
        kind: 'classifier', whose features are its last hidden layer, or 'autoencoder', whose features are
            its code. Defaults to 'classifier'.
        held_out: Float in (0, 1), share of images at the end that the network is not trained on. Defaults to
            0.2.
        features: Positive int, dimension of the features. Defaults to 64.
        epochs: Positive int. Defaults to None: about 1,250 batches of 64 images, but at least 5 and at
            most 60 epochs.
        seed: Non-negative int, seed of weights, order and shifts. Defaults to 0.
        value_range: (low, high) of the pixels. Defaults to (-1.0, 1.0).
        cache: Folder of the cached files; False to neither read nor write one. Defaults to None: the
            folder in the environment variable KERAS_GANPRUNE_CACHE, or else the user's cache folder
            (`~/.cache/keras_ganprune` on Linux).

    Returns:
        A `FeatureExtractor`. Its `accuracy` is the accuracy of the classifier on the held-out images; None
        for an autoencoder.

    Raises:
        DataError: Images are not finite or empty, labels are missing or invalid, there are fewer than two
            classes, or a class occurs only among the held-out images.
        InvalidArgumentError: `kind` is unknown, or a number is outside its range.
        FileFormatError: The cached file is damaged; the error names the file to remove.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(200) % 2
    >>> images = np.clip(rng.normal(labels[:, None, None, None] - 0.5, 0.2, (200, 8, 8, 1)), -1, 1)
    >>> extractor = train_extractor(images, labels, features=8, epochs=3, cache=False)
    >>> extractor.accuracy > 0.9, extractor.features(images[:5]).shape
    (True, (5, 8))
    """
    annotated.check(train_extractor, locals(), "kind", "cache", "held_out")
    if kind not in _KINDS:
        raise InvalidArgumentError(unknown_name("kind of extractor", kind, _KINDS))
    images = image_checks.images(images)
    value_range = validation.value_range(value_range)
    features = validation.positive_int(features, "features")
    numbers = class_numbers_of(images, labels) if kind == "classifier" else None
    seed = validation.non_negative_int(seed, "seed")
    split = split_at(len(images), held_out)
    epochs = epochs_for(split, epochs)
    settings = {
        "kind": kind,
        "split": split,
        "features": features,
        "epochs": epochs,
        "seed": seed,
        "value_range": value_range,
    }
    file = None if cache is False else _extractor_cache.cache_file(cache, images, numbers, settings)
    if file is not None and file.exists():
        return _extractor_cache.read(file)
    train = images[:split]
    if numbers is None:
        extractor = _fit_autoencoder(train, features, epochs, seed, value_range)
    else:
        _check_split(numbers, split)
        extractor = fit_classifier(train, numbers[:split], features, epochs, seed, value_range)
        extractor.accuracy = extractor.accuracy_on(images[split:], numbers[split:])
    if file is not None:
        extractor.save(file)
    return extractor


def epochs_for(n: int, epochs: int | None) -> int:
    """Return the number of epochs for `n` training images: `epochs`, or the default if it is None."""
    if epochs is not None:
        return validation.positive_int(epochs, "epochs")
    return min(max(round(BATCH_SIZE * 1250 / n), 5), 60)


def split_at(n: int, held_out: float) -> int:
    """Return the number of training images: the first ones of `n` images.

    Args:
        n: Number of images.
        held_out: Float in (0, 1), share of images that the extractor is not trained on.

    Raises:
        InvalidArgumentError: `held_out` is not a fraction in (0, 1).
        DataError: One part would be empty.
    """
    split = n - round(n * validation.fraction(held_out, "held_out", zero=False))
    if not 0 < split < n:
        raise DataError(
            f"Both parts of the images must have at least one image. Received: {n} images and "
            f"`held_out={held_out}`. Pass more images."
        )
    return split


def class_numbers_of(images: np.ndarray, labels: ArrayLike | None) -> np.ndarray:
    """Return labels as class numbers (n,) of at least two classes.

    Raises:
        DataError: Labels are missing or invalid, or there is only one class.
    """
    if labels is None:
        raise DataError(
            "A classifier needs `labels`. Received: None. Pass them, or pass `kind='autoencoder'`."
        )
    numbers = image_checks.class_numbers(labels, n=len(images))
    if len(np.unique(numbers)) < 2:
        raise DataError(
            f"A classifier needs at least two classes. Received: class {numbers[0]} only. Pass images of "
            "all classes, or use an autoencoder (`kind='autoencoder'`), which needs no labels."
        )
    return numbers


def _check_split(numbers: np.ndarray, split: int) -> None:
    first, last = set(numbers[:split].tolist()), set(numbers[split:].tolist())
    if last - first:
        raise DataError(
            "Each held-out class must also be among the training images. Received: images of classes "
            f"{sorted(last - first)} only among the last {len(numbers) - split}, as if the images were "
            f"sorted by class. {_SHUFFLE}"
        )
    if min(len(first), len(last)) < 2:
        raise DataError(
            "Training and held-out images must each have at least two classes. Received: class "
            f"{sorted(last)[0]} only among the last {len(numbers) - split} images. {_SHUFFLE}"
        )


@contextlib.contextmanager
def _single_precision() -> Iterator[None]:
    """Make float32 the global dtype policy inside the context, whatever policy the GAN uses."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


@_single_precision()
def fit_classifier(
    images: np.ndarray,
    numbers: np.ndarray,
    features: int,
    epochs: int,
    seed: int,
    value_range: tuple[float, float],
) -> FeatureExtractor:
    """Return a classifier that is trained on all these images.

    Args:
        images: Array (n, height, width, channels) in `value_range`.
        numbers: Class numbers (n,).
        features: Dimension of the features.
        epochs: Number of epochs.
        seed: Seed of weights, order and shifts.
        value_range: (low, high) of the pixels.
    """
    classes = int(numbers.max()) + 1
    model, training_seed = _extractor_networks.classifier(
        images.shape[1:], features, classes, seed, value_range
    )
    _fit(model, "sparse_categorical_crossentropy", images, numbers, epochs, training_seed)
    return FeatureExtractor(model, "features", value_range=value_range, classes=classes)


@_single_precision()
def _fit_autoencoder(
    images: np.ndarray,
    features: int,
    epochs: int,
    seed: int,
    value_range: tuple[float, float],
) -> FeatureExtractor:
    model, encoder, training_seed = _extractor_networks.autoencoder(
        images.shape[1:], features, seed, value_range
    )
    _fit(model, "mean_squared_error", images, None, epochs, training_seed)
    return FeatureExtractor(encoder, value_range=value_range)


def _fit(
    model: keras.Model,
    loss: str,
    images: np.ndarray,
    numbers: np.ndarray | None,
    epochs: int,
    seed: int,
) -> None:
    batches = ShiftedImages(images, numbers, seed)
    # Keras's stubs know neither schedules as learning rates nor ints for `verbose`.
    schedule: Any = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, epochs * len(batches))
    silent: Any = 0
    model.compile(keras.optimizers.Adam(schedule), loss)
    # The batches are shuffled already; Keras would shuffle them with Python's global seed.
    model.fit(batches, epochs=epochs, shuffle=False, verbose=silent)
