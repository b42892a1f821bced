"""Feature extractors that are trained on the very images that a GAN learns from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import (
    DataError,
    FileFormatError,
    InvalidArgumentError,
    PruningWarning,
    unknown_name,
)
from keras_ganprune.metrics import image_checks
from keras_ganprune.metrics.feature_extractor import FeatureExtractor
from keras_ganprune.utils import files, validation

# Part of the key of the cache: to be raised when anything below makes other weights.
_RECIPE = 2
_KINDS = ("autoencoder", "classifier")
_BATCH = 64
_SHIFT = 0.07
_RATE = 2e-3


def train_extractor(
    images: Any,
    labels: Any = None,
    *,
    kind: str = "classifier",
    held_out: float = 0.2,
    features: int = 64,
    epochs: int | None = None,
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
    cache: str | os.PathLike | bool | None = None,
) -> FeatureExtractor:
    """Train a small convolutional network on images, and return it as a feature extractor.

    It learns from the first images only; the last ones, a part `held_out`, give its accuracy, and are
    the ones to judge a generator against. Randomly shifted by up to 7 % of their size, images give it more
    to learn from. 4,000 images of 28×28 take about 10 seconds on two cores.

    The result is kept as a `.keras` file under a name made of the images, labels and settings, so the
    next call with the same ones reads it. The same seed gives the same weights on one backend.

    Args:
        images: Array (n, height, width, channels) in `value_range`, in an order without meaning.
        labels: Class numbers (n,) or one-hot rows (n, classes); an autoencoder needs none.
        kind: 'classifier', with its last hidden layer as features, or 'autoencoder', with its code.
        held_out: Float in (0, 1), the part at the end that is not trained on.
        features: Positive int, dimension of the features.
        epochs: Positive int, passes over the images; None for about 1,250 batches of 64, by 5 passes at
            least and 60 at most.
        seed: Int, of weights, order and shifts.
        value_range: (low, high) of the pixels.
        cache: Folder of the kept files; None for the one in the environment variable
            KERAS_GANPRUNE_CACHE, or else ~/.cache/keras_ganprune; False to keep and read none.

    Returns: A `FeatureExtractor`; a classifier with its `accuracy` on the held-out images.

    Raises:
        DataError: images are not usable, or a class is only among those held out.
        FileFormatError: the kept file is damaged; the text says which file to remove.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(200) % 2
    >>> images = np.clip(rng.normal(labels[:, None, None, None] - 0.5, 0.2, (200, 8, 8, 1)), -1, 1)
    >>> extractor = train_extractor(images, labels, features=8, epochs=3, cache=False)
    >>> extractor.accuracy > 0.9, extractor.features(images[:5]).shape
    (True, (5, 8))
    """
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
        "recipe": _RECIPE,
        "kind": kind,
        "split": split,
        "features": features,
        "epochs": epochs,
        "seed": seed,
        "value_range": value_range,
    }
    file = None if cache is False else _file(cache, images, numbers, settings)
    if file is not None and file.exists():
        return _read(file)
    train = images[:split]
    if kind == "classifier":
        _check_split(numbers, split)
        extractor = fit_classifier(train, numbers[:split], features, epochs, seed, value_range)
        extractor.accuracy = extractor.accuracy_on(images[split:], numbers[split:])
    else:
        extractor = _fit_autoencoder(train, features, epochs, seed, value_range)
    if file is not None:
        extractor.save(file)
    return extractor


def epochs_for(n: int, epochs: int | None) -> int:
    """Return how many passes over `n` images are made."""
    if epochs is not None:
        return validation.positive_int(epochs, "epochs")
    return min(max(round(_BATCH * 1250 / n), 5), 60)


def split_at(n: int, held_out: float) -> int:
    """Return how many of `n` images, the first ones, are trained on."""
    split = n - round(n * validation.fraction(held_out, "held_out", zero=False))
    if not 0 < split < n:
        raise DataError(
            f"`held_out={held_out}` of {n} images must leave some on both sides. Pass more images."
        )
    return split


def class_numbers_of(images: np.ndarray, labels: Any) -> np.ndarray:
    """Return labels as class numbers, of two classes at least."""
    if labels is None:
        raise DataError(
            "A classifier learns from `labels`. Pass them, or ask for `kind='autoencoder'`."
        )
    numbers = image_checks.class_numbers(labels, n=len(images))
    if len(np.unique(numbers)) < 2:
        raise DataError(
            f"A classifier needs two classes at least. Received: class {numbers[0]} only. Pass images of "
            "all classes, or ask for `kind='autoencoder'`."
        )
    return numbers


def _check_split(numbers: np.ndarray, split: int) -> None:
    first, last = set(numbers[:split].tolist()), set(numbers[split:].tolist())
    if last - first:
        raise DataError(
            "The classes held out must be among the images to train on. Received: images of "
            f"{sorted(last - first)} in the last {len(numbers) - split} only; images sorted by class do "
            "this. Shuffle images and labels alike: "
            "`order = np.random.default_rng(0).permutation(len(images))`."
        )
    if min(len(first), len(last)) < 2:
        raise DataError(
            "A classifier needs two classes at least in each part. Received: class "
            f"{sorted(last)[0]} only in the last {len(numbers) - split} images. Shuffle images and "
            "labels alike: `order = np.random.default_rng(0).permutation(len(images))`."
        )


@contextlib.contextmanager
def _single_precision() -> Iterator[None]:
    """Within the context, layers are float32, whatever policy the GAN was made under."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


# --- networks ------------------------------------------------------------------------------------


class _Seeds:
    """Seeds for initializers and dropout, so that Keras's global seed is neither read nor moved."""

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)

    def __call__(self) -> int:
        return int(self._rng.integers(2**31))

    def he(self) -> keras.initializers.Initializer:
        return keras.initializers.HeNormal(seed=self())


def _scaled(shape: tuple[int, ...], value_range: tuple[float, float]) -> list[Any]:
    low, high = value_range
    layers = [keras.Input(shape, name="images")]
    if (low, high) != (-1.0, 1.0):
        scale = 2.0 / (high - low)
        layers.append(keras.layers.Rescaling(scale, -1.0 - scale * low, name="scaled"))
    return layers


def _convolutions(shape: tuple[int, ...], seeds: _Seeds) -> list[Any]:
    """Return convolutions that halve the image until a few pixels are left."""
    found: list[Any] = []
    size, channels, number = min(shape[:2]), 16, 0
    while number < 2 or size >= 6:
        number += 1
        kernel = {"padding": "same", "kernel_initializer": seeds.he()}
        found.append(keras.layers.Conv2D(channels, 3, name=f"conv_{number}", **kernel))
        if size >= 6:
            found.append(keras.layers.MaxPooling2D(2, name=f"pool_{number}"))
        # Behind the pooling, with which it commutes, it has a quarter of the work.
        found.append(keras.layers.ReLU(name=f"relu_{number}"))
        size, channels = size // 2, min(2 * channels, 128)
    return [*found, keras.layers.Flatten(name="flat")]


@_single_precision()
def fit_classifier(
    images: np.ndarray,
    numbers: np.ndarray,
    features: int,
    epochs: int,
    seed: int,
    value_range: tuple[float, float],
) -> FeatureExtractor:
    """Return a trained classifier, without a look at any other images."""
    seeds = _Seeds(seed)
    classes = int(numbers.max()) + 1
    model = keras.Sequential(
        [
            *_scaled(images.shape[1:], value_range),
            *_convolutions(images.shape[1:], seeds),
            keras.layers.Dropout(0.4, seed=seeds(), name="dropped"),
            keras.layers.Dense(
                features, use_bias=False, kernel_initializer=seeds.he(), name="hidden"
            ),
            # Without it most ReLUs die (measured: 48 of 64), and with it all features are of one scale.
            keras.layers.BatchNormalization(momentum=0.9, name="normalized"),
            keras.layers.ReLU(name="features"),
            keras.layers.Dense(
                classes,
                activation="softmax",
                kernel_initializer=keras.initializers.GlorotUniform(seed=seeds()),
                name="classes",
            ),
        ],
        name="classifier",
    )
    _fit(model, "sparse_categorical_crossentropy", images, numbers, epochs, seeds())
    return FeatureExtractor(model, "features", value_range=value_range, classes=classes)


@_single_precision()
def _fit_autoencoder(
    images: np.ndarray,
    features: int,
    epochs: int,
    seed: int,
    value_range: tuple[float, float],
) -> FeatureExtractor:
    seeds = _Seeds(seed)
    shape = images.shape[1:]
    encoder = keras.Sequential(
        [
            *_scaled(shape, value_range),
            *_convolutions(shape, seeds),
            keras.layers.Dense(
                features,
                use_bias=False,
                kernel_initializer=keras.initializers.GlorotUniform(seed=seeds()),
                name="code",
            ),
            keras.layers.BatchNormalization(
                momentum=0.9, center=False, scale=False, name="features"
            ),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((features,)),
            keras.layers.Dense(256, activation="relu", kernel_initializer=seeds.he()),
            keras.layers.Dense(
                int(np.prod(shape)),
                kernel_initializer=keras.initializers.GlorotUniform(seed=seeds()),
            ),
            keras.layers.Reshape(shape),
        ],
        name="decoder",
    )
    model = keras.Sequential([encoder, decoder], name="autoencoder")
    _fit(model, "mean_squared_error", images, None, epochs, seeds())
    return FeatureExtractor(encoder, value_range=value_range)


def _fit(
    model: keras.Model,
    loss: str,
    images: np.ndarray,
    numbers: np.ndarray | None,
    epochs: int,
    seed: int,
) -> None:
    batches = _Shifted(images, numbers, seed)
    schedule = keras.optimizers.schedules.CosineDecay(_RATE, epochs * len(batches))
    model.compile(keras.optimizers.Adam(schedule), loss)
    # The batches are shuffled already, and Keras would do it by Python's global seed.
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0)


class _Shifted(keras.utils.PyDataset):
    """Images in a new order and newly shifted in every epoch; the images are their own targets if no
    numbers of classes are given."""

    def __init__(self, images: np.ndarray, numbers: np.ndarray | None, seed: int):
        super().__init__()
        self._images, self._numbers = images, numbers
        self._most = max(1, round(_SHIFT * min(images.shape[1:3])))
        self._rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._images) // _BATCH)

    def on_epoch_end(self) -> None:
        self._order = self._rng.permutation(len(self._images))
        self._shifts = self._rng.integers(-self._most, self._most + 1, (len(self._images), 2))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order[index * _BATCH : (index + 1) * _BATCH]
        if len(rows) < _BATCH:
            rows = np.concatenate([rows, self._order[: _BATCH - len(rows)]])
            rows = np.resize(rows, _BATCH)  # fewer images than a batch
        moved = shifted(self._images[rows], self._shifts[rows])
        return moved, moved if self._numbers is None else self._numbers[rows]


def shifted(images: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return float32 images moved by (rows, columns) each; the edge is repeated where nothing was."""
    _, height, width, _ = images.shape
    y = np.clip(np.arange(height) + shifts[:, :1], 0, height - 1)
    x = np.clip(np.arange(width) + shifts[:, 1:], 0, width - 1)
    first = np.arange(len(images))[:, None, None]
    return images[first, y[:, :, None], x[:, None, :]].astype("float32", copy=False)


# --- the cache -----------------------------------------------------------------------------------


def _file(
    cache: Any, images: np.ndarray, numbers: np.ndarray | None, settings: dict[str, Any]
) -> pathlib.Path | None:
    """Return the file of an extractor, or None, with a warning, where none can be written."""
    if cache is None or cache is True:
        cache = os.environ.get("KERAS_GANPRUNE_CACHE") or pathlib.Path.home().joinpath(
            ".cache", "keras_ganprune"
        )
    try:
        folder = files.make_folder(cache)
    except OSError as error:
        warnings.warn(
            f"The trained extractor will not be kept: '{cache}' cannot be written ({error}). Pass "
            "`cache=` or set KERAS_GANPRUNE_CACHE to another folder, or `cache=False`.",
            PruningWarning,
            stacklevel=3,
        )
        return None
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in (images, numbers):
        if array is not None:
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array))
    return folder / f"extractor-{settings['kind']}-{digest.hexdigest()[:24]}.keras"


def _read(file: pathlib.Path) -> FeatureExtractor:
    try:
        return FeatureExtractor.load(file)
    except (FileFormatError, ValueError, TypeError, KeyError) as error:
        # Keras adds the whole configuration of the network in later lines.
        reason = textwrap.shorten(str(error).partition("\n")[0], 300)
        raise FileFormatError(
            f"The kept extractor '{file}' cannot be read by Keras {keras.__version__} ({reason}). If "
            "another version wrote it, set KERAS_GANPRUNE_CACHE to a folder for this one; else remove the "
            "file. It will be trained anew."
        ) from error
