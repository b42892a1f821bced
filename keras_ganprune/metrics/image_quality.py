"""The evaluator that measures the quality and variety of generated images against real ones."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.errors import ArgumentTypeError, DataError, InvalidArgumentError
from keras_ganprune.metrics import extractor_training, frechet, image_checks, manifold, sampling
from keras_ganprune.metrics.class_counts import class_histogram
from keras_ganprune.metrics.feature_extractor import FeatureExtractor
from keras_ganprune.metrics.kernel_mmd import kernel_distance
from keras_ganprune.metrics.quality_report import QualityReport
from keras_ganprune.utils import annotated, validation


@runtime_checkable
class Evaluator(Protocol):
    """An object that measures generators as `ImageQuality` does."""

    def measure_generator(self, generator: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a report with `fd`, `to_dict()` (name -> float) and, with labels, `missing_classes`."""
        ...


def is_evaluator(quality: Any) -> bool:
    """Return whether an object measures generators as `ImageQuality` does; a function does not."""
    return isinstance(quality, Evaluator)


class ImageQuality:
    """Measures generated images against real ones, with the features of one frozen network.

    The features of the real images are computed once. Use one `ImageQuality` and equal numbers of images for
    all results that you compare: distances that were measured with different extractors, or with different
    numbers of images, are not comparable.

    Without an `extractor`, one is trained on the first images (`train_extractor`: a classifier if there
    are labels, otherwise an autoencoder). The last images, a share of `held_out`, are then the real images
    of the measurements. `floor()` measures the images that the extractor was trained on: no generator can
    be expected to be better.

    Args:
        real: Real images, array (n, height, width, channels) in the range of the extractor, or in [-1, 1] if
            there is no `extractor`.
        labels: Class numbers (n,) or one-hot rows (n, classes), in the form that a class-conditional
            generator takes. Defaults to None.
        extractor: A `FeatureExtractor`. Defaults to None: one is trained.
        held_out: Float in (0, 1), share of images that a new extractor is not trained on. Defaults to 0.2.
        samples: Int of at least 4, number of images that `measure_generator` generates. Defaults to
            10,000.
        neighbours: Positive int k for precision, recall, density and coverage. Defaults to 5.
        manifold_samples: Int of at least 2, largest number of images of each kind for those four metrics,
            which use as many generated as real images. The time grows with the square of this number; the
            memory does not. Defaults to 5,000.
        seed: Non-negative int, seed of all draws and shuffles. Defaults to 0.
        batch_size: Positive int, images per forward pass of the extractor. Defaults to 256.
        cache: Folder in which trained extractors are cached, or False to cache nothing; see
            `train_extractor`. Defaults to None.

    Attributes:
        extractor: The `FeatureExtractor`.
        real_features: float32 array (m, dimension), features of the real images.

    Raises:
        ArgumentTypeError: `extractor` is not a `FeatureExtractor`.
        DataError: Images or labels are invalid, or the extractor gives the same features for all real
            images.
        InvalidArgumentError: A number is outside its range.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(400) % 2
    >>> x = np.clip(rng.normal(y[:, None, None, None] - 0.5, 0.2, (400, 8, 8, 1)), -1, 1)
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.AveragePooling2D(4),
    ...                           keras.layers.Flatten()])
    >>> quality = ImageQuality(x[:200], extractor=FeatureExtractor(model))
    >>> quality.measure(x[200:]).fd < 0.1 < quality.measure(np.clip(x[200:] + 0.5, -1, 1)).fd
    True
    """

    def __init__(
        self,
        real: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        extractor: FeatureExtractor | None = None,
        held_out: float = 0.2,
        samples: int = 10_000,
        neighbours: int = 5,
        manifold_samples: int = 5_000,
        seed: int = 0,
        batch_size: int = 256,
        cache: str | os.PathLike[str] | bool | None = None,
    ):
        annotated.check(ImageQuality.__init__, locals(), "cache")
        held_out = validation.fraction(held_out, "held_out", zero=False)
        real = image_checks.images(real, "real")
        self.samples = validation.int_at_least(samples, "samples", 4)
        self.neighbours = validation.positive_int(neighbours, "neighbours")
        self.manifold_samples = validation.int_at_least(manifold_samples, "manifold_samples", 2)
        self.seed = validation.non_negative_int(seed, "seed")
        self.batch_size = validation.positive_int(batch_size, "batch_size")
        real_labels = None if labels is None else validation.array(labels, "labels")
        if real_labels is not None:
            image_checks.class_numbers(real_labels, n=len(real))
        self._trained_on: np.ndarray | None = None
        if extractor is None:
            extractor = extractor_training.train_extractor(
                real,
                real_labels,
                kind="autoencoder" if real_labels is None else "classifier",
                held_out=held_out,
                seed=self.seed,
                cache=cache,
            )
            split = extractor_training.split_at(len(real), held_out)
            self._trained_on, real = real[:split], real[split:]
            real_labels = None if real_labels is None else real_labels[split:]
        elif not isinstance(extractor, FeatureExtractor):
            raise ArgumentTypeError(
                f"`extractor` must be a `FeatureExtractor`. Received: {type(extractor).__name__}. Wrap "
                "a Keras model: `FeatureExtractor(model, layer)`."
            )
        self.extractor = extractor
        self.labels = real_labels
        self._image_shape = tuple(real.shape[1:])
        self.real_features, self._real_classes = self._features(real)
        self._check_enough(self.samples)
        self._scale = float(np.sqrt(np.mean(np.square(self.real_features, dtype="float64"))))
        if not np.any(np.ptp(self.real_features, axis=0)):
            raise DataError(
                "The extractor must give different features for different images. Received: the same "
                f"features for all {len(real)} real images. Train it for longer, choose another layer, or "
                "check that the images differ."
            )
        self._real_statistics = frechet.FeatureStatistics(self.real_features)
        # The warning about few images would be the same for each measurement, so it is given only once.
        self._warned = False
        self._radii: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def _features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the features of images, and their predicted classes if the extractor is a classifier."""
        if self.extractor.classes is None:
            return self.extractor.features(images, self.batch_size), None
        features, probabilities = self.extractor.features_and_probabilities(images, self.batch_size)
        return features, probabilities.argmax(axis=1)

    def measure(self, images: ArrayLike, labels: ArrayLike | None = None) -> QualityReport:
        """Return the quality of images.

        Args:
            images: Array (n, height, width, channels) in the range of the real images.
            labels: The requested classes, class numbers (n,) or one-hot rows (n, classes), for
                `label_accuracy`. Defaults to None.

        Returns:
            A `QualityReport`.

        Raises:
            DataError: Images are not finite, are too few, or have another shape or range than the real
                ones.
        """
        images = image_checks.images(images)
        numbers = None if labels is None else image_checks.class_numbers(labels, n=len(images))
        return self._report(*self._features(images), numbers)

    def measure_generator(
        self,
        generator: sampling.Source,
        n: int | None = None,
        *,
        seed: int | None = None,
        batch_size: int = 256,
        latent_dim: int | None = None,
    ) -> QualityReport:
        """Return the quality of the images of a generator. Only one batch of images is in memory at a time.

        Args:
            generator: A `GANModel` (its averaged generator if there is one), another Keras model with an
                attribute `generator`, a generator, or a function of (n, seed) that returns images. A
                generator with labels gets the real labels, each as often as it occurs among them.
            n: Positive int, number of images. Defaults to None: `samples`.
            seed: Int, seed of the latent vectors. Defaults to None: the seed of this object.
            batch_size: Positive int, images per forward pass of the generator. Defaults to 256.
            latent_dim: Positive int, length of a latent vector. Defaults to None: it is read from the
                generator.

        Returns:
            A `QualityReport`.

        Raises:
            ArgumentTypeError: `generator` has none of these types.
            DataError: Images are not finite, are too few, or have another shape or range than the real
                ones.
            InvalidArgumentError: A number is invalid, or the length of the latent vectors is not known.
        """
        if seed is not None:
            validation.non_negative_int(seed, "seed")
        if latent_dim is not None:
            validation.positive_int(latent_dim, "latent_dim")
        batches = sampling.generated(
            generator,
            self.samples if n is None else n,
            labels=self.labels,
            latent_dim=latent_dim,
            seed=self.seed if seed is None else seed,
            batch_size=batch_size,
        )
        return self._measure_batches(batches)

    def check_generator(
        self,
        generator: sampling.Source,
        n: int | None = None,
        *,
        seed: int | None = None,
        latent_dim: int | None = None,
    ) -> tuple[str, ...]:
        """Check on one image that a generator can be measured; return the names of the values.

        `QualityMonitor` calls it before the first training step, not after the first epoch.

        Args:
            generator, n, seed, latent_dim: As for `measure_generator`.

        Raises:
            ArgumentTypeError: `generator` has a wrong type.
            DataError: The images have another shape than the real ones, or are too few.
            InvalidArgumentError: A number is invalid, or the length of the latent vectors is not known.
        """
        self._check_enough(self.samples if n is None else validation.positive_int(n, "n"))
        batches = sampling.generated(
            generator, 1, labels=self.labels, latent_dim=latent_dim, seed=seed or 0
        )
        shape = tuple(np.shape(next(iter(batches))[0])[1:])
        if shape != self._image_shape:
            raise DataError(
                f"Generated images must have the shape of the real ones, {self._image_shape}. Received: "
                f"{shape}. Measure the network that generates the images, or give real images of its shape."
            )
        classes = self._real_classes
        absent = {"extractor"} if classes is not None else {"extractor", "label_accuracy"}
        if classes is None or len(np.unique(classes)) < 2:
            absent |= {"class_kl", "missing_classes"}
        absent |= set() if self.extractor.accuracy is not None else {"extractor_accuracy"}
        return tuple(f.name for f in dataclasses.fields(QualityReport) if f.name not in absent)

    def _check_enough(self, generated: int) -> None:
        if generated < 4 or len(self.real_features) < 4:
            raise DataError(
                "A quality report needs at least four images of each kind. Received: "
                f"{generated} generated and {len(self.real_features)} real images."
            )

    def _measure_batches(
        self, batches: Iterable[tuple[np.ndarray, np.ndarray | None]]
    ) -> QualityReport:
        features, classes, numbers = [], [], []
        for images, labels in batches:
            batch_features, predicted = self._features(image_checks.images(images))
            features.append(batch_features)
            if predicted is not None:
                classes.append(predicted)
            if labels is not None:
                numbers.append(image_checks.class_numbers(labels, n=len(images)))
        return self._report(
            np.concatenate(features),
            np.concatenate(classes) if classes else None,
            np.concatenate(numbers) if numbers else None,
        )

    def floor(self) -> QualityReport:
        """Return the quality of the real images that the extractor was trained on.

        No generator can be expected to be better.

        Raises:
            InvalidArgumentError: This `ImageQuality` did not train its extractor.
        """
        if self._trained_on is None:
            raise InvalidArgumentError(
                "`floor` needs an extractor that `ImageQuality` has trained. Received: an extractor that was "
                "passed as `extractor=`. Call `measure(images)` with real images that are not in `real`."
            )
        return self.measure(self._trained_on)

    def _report(
        self,
        features: np.ndarray,
        classes: np.ndarray | None,
        requested: np.ndarray | None,
    ) -> QualityReport:
        """Return the report for features, predicted classes and requested classes of images."""
        self._check_enough(len(features))
        statistics = frechet.FeatureStatistics(features)
        if not self._warned:
            fewest = min(statistics.count, self._real_statistics.count)
            self._warned = frechet.warn_of_few(fewest, features.shape[1], stacklevel=4)
        kernel = kernel_distance(
            self.real_features / self._scale, features / self._scale, seed=self.seed
        )
        neighbourhood, compared = self._manifold(features)
        histogram = None
        if classes is not None and self._real_classes is not None:
            if len(np.unique(self._real_classes)) > 1:
                histogram = class_histogram(self._real_classes, classes, self.extractor.classes)
        return QualityReport(
            fd=frechet.distance_of(self._real_statistics, statistics),
            kd=kernel.value,
            kd_error=kernel.error,
            precision=neighbourhood.precision,
            recall=neighbourhood.recall,
            density=neighbourhood.density,
            coverage=neighbourhood.coverage,
            class_kl=None if histogram is None else histogram.kl,
            missing_classes=None if histogram is None else histogram.missing,
            label_accuracy=_agreement(classes, requested),
            samples=len(features),
            real_samples=len(self.real_features),
            manifold_samples=compared,
            extractor=self.extractor.fingerprint,
            extractor_accuracy=self.extractor.accuracy,
        )

    def _manifold(self, features: np.ndarray) -> tuple[manifold.ManifoldMetrics, int]:
        """Return the metrics for equal numbers of generated and real images, and the number of each."""
        n = min(len(features), len(self.real_features), self.manifold_samples)
        if n not in self._radii:
            subset = self._subset(self.real_features, n).astype("float64")
            self._radii = {n: (subset, manifold.neighbour_radii(subset, self.neighbours))}
        real, radii = self._radii[n]
        metrics = manifold.manifold_metrics(
            real, self._subset(features, n), self.neighbours, real_radii=radii
        )
        return metrics, n

    def _subset(self, features: np.ndarray, n: int) -> np.ndarray:
        """Return `n` random rows, the same rows in each call."""
        rows = np.random.default_rng(self.seed).permutation(len(features))[:n]
        return features[np.sort(rows)]


def _agreement(classes: np.ndarray | None, requested: np.ndarray | None) -> float | None:
    if classes is None or requested is None:
        return None
    return float(np.mean(classes == requested))
