"""A frozen network that gives the features by which images are compared."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.errors import (
    DataError,
    FileFormatError,
    InvalidArgumentError,
    PruningWarning,
    UnsupportedLayerError,
    unknown_name,
)
from keras_ganprune.layers.saving import load_model
from keras_ganprune.metrics import _extractor_identity, image_checks
from keras_ganprune.metrics._inception import inception_network
from keras_ganprune.utils import annotated, checksums, files, validation

# The member of an extractor's `.keras` file that holds its settings.
_MEMBER = "extractor.json"


class FeatureExtractor:
    """A trained network and the choice of the layer that gives the features.

    The network is only read, never changed. Distances that were measured with different extractors are not
    comparable; `fingerprint` distinguishes extractors.

    Args:
        model: A built Keras model of images. Without `layer` its output is the features. A subclassed
            model with `classes` must return features and class scores.
        layer: Layer of a Sequential or functional model whose output is the features: its name, its
            position, or the layer itself. A feature map is averaged over its positions. Defaults to None:
            the output of the model.
        value_range: (low, high) of the pixels that the model was trained on. Defaults to (-1.0, 1.0).
        accuracy: Float in [0, 1], the model's accuracy on held-out images, shown in reports. Defaults to
            None.
        classes: Int of at least 2, number of classes, if the model returns class scores (logits or
            probabilities). Then choose the layer of the features with `layer`. Defaults to None: the model is
            not a classifier.

    Raises:
        ArgumentTypeError: `model` is not a Keras model.
        UnsupportedLayerError: `layer` is given, but the model is subclassed.
        UnbuiltModelError: The model has no weights yet.
        InvalidArgumentError: The model has no such layer or calls it more than once, `value_range` is not
            (low, high), or `classes` is not an int of at least 2.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="conv"), keras.layers.Flatten()]
    ... )
    >>> FeatureExtractor(model, "conv").features(np.zeros((5, 8, 8, 1))).shape
    (5, 4)
    """

    def __init__(
        self,
        model: keras.Model,
        layer: str | int | keras.layers.Layer | None = None,
        *,
        value_range: tuple[float, float] = (-1.0, 1.0),
        accuracy: float | None = None,
        classes: int | None = None,
    ):
        annotated.check(FeatureExtractor.__init__, locals(), "layer", "accuracy")
        self.model = validation.built_model(model, "extracts features")
        self.value_range = validation.value_range(value_range)
        self.accuracy = (
            None if accuracy is None else validation.fraction(accuracy, "accuracy", one=True)
        )
        self.classes = None if classes is None else validation.int_at_least(classes, "classes", 2)
        self.layer = None if layer is None else _find_layer(model, layer)
        self._network = model if self.layer is None else self._cut_after(self.layer)
        self._fingerprint: str | None = None

    def _cut_after(self, layer: keras.layers.Layer) -> keras.Model:
        """Return a model that returns the features, and the class scores of a classifier."""
        try:
            outputs = [layer.output]
        except (AttributeError, ValueError) as error:
            raise InvalidArgumentError(
                f"The layer '{layer.name}' must be called exactly once in '{self.model.name}' to give "
                f"features. Received: {error}"
            ) from error
        if self.classes is not None:
            outputs.append(self.model.outputs[0])
        inputs = self.model.inputs
        return keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name="features")

    @classmethod
    def inception(
        cls,
        image_shape: tuple[int, int, int] = (32, 32, 3),
        *,
        weights: str | os.PathLike[str] = "imagenet",
        value_range: tuple[float, float] = (-1.0, 1.0),
    ) -> FeatureExtractor:
        """Return InceptionV3 with its 2,048 pooled features.

        Images are resized to 299×299, and grey images are converted to RGB. The weights come from
        `keras.applications`, not from the original implementation of the FID, so distances differ from
        published ones. For 2,048 features, use at least 20,480 images.

        Args:
            image_shape: (height, width, channels) of the images, with 1 or 3 channels. Defaults to
                (32, 32, 3).
            weights: 'imagenet', which Keras downloads once, or a file of weights without the top layer.
                Defaults to 'imagenet'.
            value_range: (low, high) of the pixels. Defaults to (-1.0, 1.0).

        Returns:
            A `FeatureExtractor`.

        Raises:
            DataError: The weights cannot be loaded.
            InvalidArgumentError: `image_shape` or `value_range` is invalid.

        Example:
        >>> extractor = FeatureExtractor.inception((28, 28, 1))  # doctest: +SKIP
        """
        value_range = validation.value_range(value_range)
        return cls(inception_network(image_shape, weights, value_range), value_range=value_range)

    # --- features --------------------------------------------------------------------------------

    def features(self, images: ArrayLike, batch_size: int = 256) -> np.ndarray:
        """Return the features of images.

        Args:
            images: Array (n, height, width, channels) in `value_range`.
            batch_size: Positive int, images per forward pass. Defaults to 256.

        Returns:
            float32 array (n, dimension).

        Raises:
            DataError: Images are not finite, or do not have the shape or range that the model takes.
            InvalidArgumentError: `batch_size` is not a positive int, or the outputs of the model are not
                one array of features.
        """
        return self._run(images, batch_size)[0]

    def features_and_probabilities(
        self, images: ArrayLike, batch_size: int = 256
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the features of images and their class probabilities.

        Args:
            images: Array (n, height, width, channels) in `value_range`.
            batch_size: Positive int, images per forward pass. Defaults to 256.

        Returns:
            Pair of float32 arrays: features (n, dimension), probabilities (n, classes).

        Raises:
            DataError: Images are not finite, or do not have the shape or range that the model takes.
            InvalidArgumentError: The extractor has no `classes`, `batch_size` is not a positive int, or
                the outputs of the model are not features and scores.
        """
        if self.classes is None:
            raise InvalidArgumentError(
                "Probabilities need a classifier. Received: an extractor without `classes`. Pass "
                "`classes=` to `FeatureExtractor`, or call `features`."
            )
        features, scores = self._run(images, batch_size)
        return features, _probabilities(scores)

    def accuracy_on(self, images: ArrayLike, labels: ArrayLike, batch_size: int = 256) -> float:
        """Return the share of images that the extractor classifies correctly, in [0, 1].

        Args:
            images: Array (n, height, width, channels) in `value_range`.
            labels: Class numbers (n,) or one-hot rows (n, classes).
            batch_size: Positive int, images per forward pass. Defaults to 256.

        Raises:
            DataError: Images or labels are invalid.
            InvalidArgumentError: The extractor has no `classes`, or `batch_size` is not a positive int.
        """
        _, probabilities = self.features_and_probabilities(images, batch_size)
        numbers = image_checks.class_numbers(labels, n=len(probabilities))
        return float(np.mean(probabilities.argmax(axis=1) == numbers))

    def _run(self, images: ArrayLike, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and the class scores of images; (n, 0) scores without `classes`."""
        images = image_checks.images(images)
        batch_size = validation.positive_int(batch_size, "batch_size")
        self._check_shape(images.shape)
        self._check_range(len(images), float(images.min()), float(images.max()))
        outputs = [self._forward(batch, n) for batch, n in _batches(images, batch_size)]
        features, scores = zip(*outputs, strict=True)
        return np.concatenate(features), np.concatenate(scores)

    def _forward(self, batch: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and scores of the first `n` images of a batch."""
        outputs = keras.tree.flatten(self._network.predict_on_batch(batch))
        expected = 1 if self.classes is None else 2
        if len(outputs) != expected:
            arrays = "features" if expected == 1 else "features and scores"
            raise InvalidArgumentError(
                f"The extractor's model must return {arrays}: {expected} array(s). Received: "
                f"{len(outputs)}. Pass as `layer` the layer that gives the features."
            )
        features = np.asarray(outputs[0], dtype="float32")[:n]
        if features.ndim < 2:
            raise InvalidArgumentError(
                "Features must have the shape (n, dimension). Received: an array of rank "
                f"{features.ndim}. Pass a `layer` whose output has more than one number per image."
            )
        features = features.mean(axis=tuple(range(1, features.ndim - 1)))
        if expected == 1:
            return features, np.zeros((n, 0), dtype="float32")
        return features, np.asarray(outputs[1], dtype="float32")[:n]

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        inputs = getattr(self._network, "inputs", None)
        required = tuple(inputs[0].shape)[1:] if inputs else None
        if required and (
            len(required) != 3
            or any(r not in (None, s) for r, s in zip(required, shape[1:], strict=True))
        ):
            raise DataError(
                f"Images must have the shape {required} that the extractor takes. Received: {shape[1:]}. "
                "Resize them, or train an extractor on such images: `train_extractor(images, labels)`."
            )

    def _check_range(self, n: int, lowest: float, highest: float) -> None:
        low, high = self.value_range
        slack = 0.01 * (high - low)
        if lowest < low - slack or highest > high + slack:
            fix = (
                "Scale them like the training images of the extractor, or clip them: "
                f"`np.clip(images, {low:g}, {high:g})`."
            )
            if lowest >= 0.0 and highest > 1.0 and self.value_range == (-1.0, 1.0):
                fix = "For 8-bit images: `images / 127.5 - 1`."
            raise DataError(
                f"Images must lie in [{low:g}, {high:g}], the range that the extractor was trained on. "
                f"Received: [{lowest:g}, {highest:g}]. {fix}"
            )
        # A few images may all be that bright, but 64 images hardly are.
        if self.value_range == (-1.0, 1.0) and n >= 64 and lowest >= 0.0 and highest > 0.5:
            warnings.warn(
                f"All images lie in [{lowest:g}, {highest:g}], but the extractor was trained on "
                "[-1, 1]. If their range is [0, 1], scale them: `2 * images - 1`.",
                PruningWarning,
                stacklevel=4,
            )

    # --- identity and files ----------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights, layers, chosen layer and range, as 64 hexadecimal digits."""
        if self._fingerprint is None:
            self._fingerprint = _extractor_identity.fingerprint(
                self.model, self.layer, self.value_range, self.classes
            )
        return self._fingerprint

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the extractor to a `.keras` file; Keras alone can load its model.

        An existing file is replaced only when the new one is complete.

        Args:
            path: File name that ends in '.keras'.

        Raises:
            InvalidArgumentError: The name does not end in '.keras'.
            OutputError: The file cannot be written.
        """
        annotated.check(FeatureExtractor.save, locals())
        path = files.as_path(path)
        if path.suffix != ".keras":
            raise InvalidArgumentError(f"The file name must end in '.keras'. Received: '{path}'.")
        settings = {
            "layer": None if self.layer is None else self.layer.name,
            "value_range": self.value_range,
            "accuracy": self.accuracy,
            "classes": self.classes,
        }
        with files.new_file(path) as work:
            self.model.save(work)
            with zipfile.ZipFile(work, "a") as archive:
                settings["checksum"] = _checksum(settings, archive)
                archive.writestr(_MEMBER, json.dumps(settings))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FeatureExtractor:
        """Return the extractor of a file that `save` wrote.

        Args:
            path: Path of the '.keras' file.

        Returns:
            A `FeatureExtractor`.

        Raises:
            FileFormatError: The file does not exist, is damaged, or holds a model that is not an
                extractor.
        """
        model = load_model(path, compile=False)
        with zipfile.ZipFile(path) as archive:
            if _MEMBER not in archive.namelist():
                raise FileFormatError(
                    f"'{path}' holds a model, but not the choice of the layer that gives the features. "
                    "Make a new extractor: `FeatureExtractor(keras.saving.load_model(path), layer=...)`."
                )
            try:
                settings = json.loads(archive.read(_MEMBER))
                # Files of earlier versions have no checksum.
                expected = settings.pop("checksum", None)
                if expected not in (None, _checksum(settings, archive)):
                    raise FileFormatError("its model or settings differ from the checksum in it")
                return cls(model, **settings)
            except (ValueError, TypeError, AttributeError) as error:
                raise FileFormatError(
                    f"'{path}' is damaged: {error}. Make the extractor again, and save it."
                ) from error

    def __repr__(self) -> str:
        parts = [self.model.name if self.layer is None else f"{self.model.name}/{self.layer.name}"]
        if self.accuracy is not None:
            parts.append(f"accuracy {self.accuracy:.1%}")
        return f"<FeatureExtractor {', '.join(parts)}, {self.fingerprint[:8]}>"


def _find_layer(model: keras.Model, layer: Any) -> keras.layers.Layer:
    if not getattr(model, "inputs", None):
        raise UnsupportedLayerError(
            "`layer` can only be chosen in a Sequential or functional model. Received: "
            f"'{model.name}', a {type(model).__name__}. Let its `call` return the features, and leave "
            "`layer` out."
        )
    if isinstance(layer, keras.layers.Layer):
        if any(layer is known for known in model.layers):
            return layer
        raise InvalidArgumentError(
            f"`layer` must be a layer of '{model.name}'. Received: {layer!r}."
        )
    if validation.is_int(layer):
        if -len(model.layers) <= layer < len(model.layers):
            return model.layers[layer]
        raise InvalidArgumentError(
            f"`layer` must be a position among the {len(model.layers)} layers. Received: {layer}."
        )
    by_name = {known.name: known for known in model.layers}
    if layer not in by_name:
        raise InvalidArgumentError(unknown_name(f"layer of '{model.name}'", layer, by_name))
    return by_name[layer]


def _batches(images: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield float32 batches of equal size, each with the number of its images; the rest is padding."""
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], dtype="float32")
        n = len(batch)
        if n < batch_size:
            # Padded, because the network would be compiled again for a batch of another size.
            batch = np.concatenate([batch, np.repeat(batch[-1:], batch_size - n, axis=0)])
        yield batch, n


def _probabilities(scores: np.ndarray) -> np.ndarray:
    """Return probabilities for scores, which are either probabilities already or logits."""
    if scores.min() >= 0.0 and np.allclose(scores.sum(axis=1), 1.0, atol=1e-3):
        return scores
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def _checksum(settings: dict[str, Any], archive: zipfile.ZipFile) -> str:
    """Return the checksum of the settings of an extractor and of the model in its file."""
    members = sorted((i.filename, i.CRC) for i in archive.infolist() if i.filename != _MEMBER)
    return checksums.of_json([settings, members])
