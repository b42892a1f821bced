"""A frozen network that turns images into the features that they are compared by."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import (
    DataError,
    FileFormatError,
    InvalidArgumentError,
    OutputError,
    PruningWarning,
    UnsupportedLayerError,
    unknown_name,
)
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.saving import load_model
from keras_ganprune.metrics import image_checks
from keras_ganprune.utils import files, validation

# What a `.keras` file of an extractor holds besides the model.
_MEMBER = "extractor.json"


class FeatureExtractor:
    """A trained network, and which of its layers gives the features.

    Only looked through, never changed. Distances by two extractors are not comparable; `fingerprint`
    tells them apart.

    Args:
        model: A built Keras model of images. Without `layer` its output are the features, or, of a
            subclassed one with `classes`, its two outputs are features and class scores.
        layer: A layer of a Sequential or functional model, by name, by position, or itself: its output
            are the features. Positions of a map of features are averaged.
        value_range: (low, high) of the pixels that the model was trained on.
        accuracy: Float, share of held-out images that it classifies rightly, to be shown with results.
        classes: Int, number of classes if the model's output are class scores (logits or
            probabilities); then `layer` says where the features are.

    Raises:
        UnsupportedLayerError: it is no Keras model, or has no layers to choose from.
        UnbuiltModelError: it has no weights yet.
        InvalidArgumentError: there is no such layer, or an argument breaks its rule.

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
        self.model = validation.built_model(model, "extracts features")
        self.value_range = validation.value_range(value_range)
        self.accuracy = None if accuracy is None else float(accuracy)
        self.classes = None if classes is None else validation.int_at_least(classes, "classes", 2)
        self.layer = None if layer is None else _layer_of(model, layer)
        self._network = model if self.layer is None else self._cut()
        self._fingerprint: str | None = None

    def _cut(self) -> keras.Model:
        try:
            outputs = [self.layer.output]
        except (AttributeError, ValueError) as error:
            raise InvalidArgumentError(
                f"The layer '{self.layer.name}' must be called once in '{self.model.name}' to give "
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
        weights: str | os.PathLike = "imagenet",
        value_range: tuple[float, float] = (-1.0, 1.0),
    ) -> FeatureExtractor:
        """Return InceptionV3 with its 2,048 pooled features; images are resized, grey ones made RGB.

        The weights are those of `keras.applications`, not of the original FID: distances are not those
        of papers. At least 20,480 images are wanted for so many features.

        Args:
            image_shape: (height, width, channels) of the images, 1 or 3 channels.
            weights: 'imagenet', which Keras downloads once, or a file of weights without top.
            value_range: (low, high) of the pixels.

        Raises:
            DataError: the weights can't be had.
        """
        low, high = validation.value_range(value_range)
        if len(image_shape) != 3 or image_shape[-1] not in (1, 3):
            raise InvalidArgumentError(
                "`image_shape` must be (height, width, channels) with 1 or 3 channels. Received: "
                f"{image_shape!r}."
            )
        try:
            body = keras.applications.InceptionV3(
                include_top=False, pooling="avg", weights=weights, input_shape=(299, 299, 3)
            )
        except Exception as error:  # whatever the download, or the file, fails by
            raise DataError(
                f"The weights of InceptionV3 can't be had ({type(error).__name__}: {error}). Let Keras "
                "download them where there is a network, pass their file as `weights=`, or train an "
                "extractor on your own images: `train_extractor(images, labels)`."
            ) from error
        images = keras.Input(image_shape)
        x = keras.layers.Rescaling(2.0 / (high - low), -1.0 - 2.0 * low / (high - low))(images)
        x = keras.layers.Resizing(299, 299)(x)
        if image_shape[-1] == 1:
            x = keras.layers.Concatenate()([x, x, x])
        model = keras.Model(images, body(x, training=False), name="inception")
        return cls(model, value_range=value_range)

    # --- features --------------------------------------------------------------------------------

    def features(self, images: Any, batch_size: int = 256) -> np.ndarray:
        """Return the features of images.

        Args:
            images: Array (n, height, width, channels) in `value_range`.
            batch_size: Positive int, images a forward pass.

        Returns: float32 array (n, dimension).

        Raises:
            DataError: images are not finite, or have another shape or range than the model takes.
        """
        return self._run(images, batch_size)[0]

    def features_and_probabilities(
        self, images: Any, batch_size: int = 256
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the features of images (n, dimension) and the probabilities of classes (n, classes).

        Raises:
            InvalidArgumentError: the extractor has no `classes`.
            DataError: see `features`.
        """
        if self.classes is None:
            raise InvalidArgumentError(
                "The extractor is no classifier. Make it with `classes=`, or call `features`."
            )
        features, scores = self._run(images, batch_size)
        return features, _probabilities(scores)

    def accuracy_on(self, images: Any, labels: Any, batch_size: int = 256) -> float:
        """Return the share of images whose class the extractor tells rightly."""
        _, probabilities = self.features_and_probabilities(images, batch_size)
        numbers = image_checks.class_numbers(labels, n=len(probabilities))
        return float(np.mean(probabilities.argmax(axis=1) == numbers))

    def _run(self, images: Any, batch_size: int) -> tuple[np.ndarray, np.ndarray | None]:
        images = image_checks.images(images)
        batch_size = validation.positive_int(batch_size, "batch_size")
        self._check_shape(images.shape)
        self._check_range(len(images), float(images.min()), float(images.max()))
        found = [self._forward(x, n) for x, n in _batches(images, batch_size)]
        features = np.concatenate([features for features, _ in found])
        if self.classes is None:
            return features, None
        return features, np.concatenate([scores for _, scores in found])

    def _forward(self, batch: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return features and scores of the first `n` images of a batch."""
        outputs = keras.tree.flatten(self._network.predict_on_batch(batch))
        wanted = 1 if self.classes is None else 2
        if len(outputs) != wanted:
            raise InvalidArgumentError(
                f"The extractor's model must return {'features' if wanted == 1 else 'features and scores'}"
                f", {wanted} array(s). Received: {len(outputs)}. Name the `layer` that gives the features."
            )
        features = np.asarray(outputs[0], dtype="float32")[:n]
        if features.ndim < 2:
            raise InvalidArgumentError(
                "Features must have the shape (n, dimension). Received: one of rank "
                f"{features.ndim}. Name a `layer` that gives more than one number an image."
            )
        features = features.mean(axis=tuple(range(1, features.ndim - 1)))
        return features, None if wanted == 1 else np.asarray(outputs[1], dtype="float32")[:n]

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        inputs = getattr(self._network, "inputs", None)
        wanted = tuple(inputs[0].shape)[1:] if inputs else None
        if wanted and (
            len(wanted) != 3
            or any(w not in (None, s) for w, s in zip(wanted, shape[1:], strict=True))
        ):
            raise DataError(
                f"Images must have the shape {wanted} that the extractor takes. Received: {shape[1:]}. "
                "Resize them, or train an extractor on such images: `train_extractor(images, labels)`."
            )

    def _check_range(self, n: int, lowest: float, highest: float) -> None:
        low, high = self.value_range
        slack = 0.01 * (high - low)
        if lowest < low - slack or highest > high + slack:
            fix = f"Scale them as its own were, or clip them: `np.clip(images, {low:g}, {high:g})`."
            if lowest >= 0.0 and highest > 1.0 and self.value_range == (-1.0, 1.0):
                fix = "For 8-bit images: `images / 127.5 - 1`."
            raise DataError(
                f"Images must lie in [{low:g}, {high:g}], which the extractor was trained on. Received: "
                f"[{lowest:g}, {highest:g}]. {fix}"
            )
        # A few images may be that bright; many are not.
        if self.value_range == (-1.0, 1.0) and n >= 64 and lowest >= 0.0 and highest > 0.5:
            warnings.warn(
                f"All images lie in [{lowest:g}, {highest:g}], but the extractor was trained on "
                "[-1, 1]. If theirs is [0, 1], scale them: `2 * images - 1`.",
                PruningWarning,
                stacklevel=4,
            )

    # --- identity and files ----------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights, layers, chosen layer and range, as 64 hexadecimal digits."""
        if self._fingerprint is None:
            digest = hashlib.sha256(json.dumps(self._identity(), sort_keys=True).encode())
            for weight in self.model.weights:
                digest.update(np.ascontiguousarray(to_numpy(weight)).tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _identity(self) -> dict[str, Any]:
        layers = list(self.model._flatten_layers(include_self=False))
        position = next((i for i, x in enumerate(layers) if x is self.layer), None)
        return {
            "layers": [[type(x).__name__, _settings(x)] for x in layers],
            "weights": [list(w.shape) for w in self.model.weights],
            "layer": position,
            "value_range": self.value_range,
            "classes": self.classes,
        }

    def save(self, path: str | os.PathLike) -> None:
        """Write the extractor to a `.keras` file, which Keras alone can load too as the model.

        Nothing is ever half there: another file of that name is replaced in the end.

        Raises:
            OutputError: it can't be written.
        """
        path = pathlib.Path(path)
        if path.suffix != ".keras":
            raise InvalidArgumentError(f"The file's name must end in '.keras'. Received: '{path}'.")
        notes = {
            "layer": None if self.layer is None else self.layer.name,
            "value_range": self.value_range,
            "accuracy": self.accuracy,
            "classes": self.classes,
        }
        try:
            path.absolute().parent.mkdir(parents=True, exist_ok=True)
            with files.new_file(path) as work:
                self.model.save(work)
                with zipfile.ZipFile(work, "a") as archive:
                    archive.writestr(_MEMBER, json.dumps(notes))
        except OSError as error:
            raise OutputError(
                f"The extractor could not be written to '{path}' ({error.strerror or error}). Check the "
                "free space and the permissions."
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike) -> FeatureExtractor:
        """Return the extractor of a file that `save` wrote.

        Raises:
            FileFormatError: it is not such a file, or damaged.
        """
        model = load_model(path, compile=False)
        with zipfile.ZipFile(path) as archive:
            if _MEMBER not in archive.namelist():
                raise FileFormatError(
                    f"'{path}' holds a model, but not which layer gives features. Make the extractor "
                    "anew: `FeatureExtractor(keras.saving.load_model(path), layer=...)`."
                )
            notes = json.loads(archive.read(_MEMBER))
        return cls(model, **notes)

    def __repr__(self) -> str:
        known = [self.model.name if self.layer is None else f"{self.model.name}/{self.layer.name}"]
        if self.accuracy is not None:
            known.append(f"accuracy {self.accuracy:.1%}")
        return f"<FeatureExtractor {', '.join(known)}, {self.fingerprint[:8]}>"


def _layer_of(model: keras.Model, layer: Any) -> keras.layers.Layer:
    if not getattr(model, "inputs", None):
        raise UnsupportedLayerError(
            f"`layer` can be chosen in a Sequential or functional model. '{model.name}' is a "
            f"{type(model).__name__}; let its `call` return the features, and leave `layer` out."
        )
    if isinstance(layer, keras.layers.Layer):
        if any(layer is own for own in model.layers):
            return layer
        raise InvalidArgumentError(
            f"`layer` must be a layer of '{model.name}'. Received: {layer!r}."
        )
    if isinstance(layer, int) and not isinstance(layer, bool):
        if -len(model.layers) <= layer < len(model.layers):
            return model.layers[layer]
        raise InvalidArgumentError(
            f"`layer` must be a position among the {len(model.layers)} layers. Received: {layer}."
        )
    known = {own.name: own for own in model.layers}
    if layer not in known:
        raise InvalidArgumentError(unknown_name(f"layer of '{model.name}'", layer, known))
    return known[layer]


def _batches(images: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield float32 batches of one size, and how many images of each count."""
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], dtype="float32")
        n = len(batch)
        if n < batch_size:
            # A last batch of its own size would be compiled anew.
            batch = np.concatenate([batch, np.repeat(batch[-1:], batch_size - n, axis=0)])
        yield batch, n


def _probabilities(scores: np.ndarray) -> np.ndarray:
    if scores.min() >= 0.0 and np.allclose(scores.sum(axis=1), 1.0, atol=1e-3):
        return scores
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def _settings(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return what makes a layer compute what it does, without names, which Keras counts up."""
    try:
        config = layer.get_config()
    except NotImplementedError:
        return {}
    plain = keras.tree.map_structure(
        lambda x: x if isinstance(x, (str, int, float, bool, type(None))) else type(x).__name__,
        {k: v for k, v in config.items() if k in _COMPUTES and not isinstance(v, dict)},
    )
    return plain


# Settings that change the output of a layer, whose weights are the same.
_COMPUTES = {
    "activation", "strides", "padding", "dilation_rate", "groups", "axis", "epsilon", "pool_size",
    "negative_slope", "alpha", "scale", "offset", "height", "width", "interpolation", "target_shape",
}  # fmt: skip
