"""How good and how varied generated images are, against real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from keras_ganprune.errors import DataError, InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.metrics import extractor_training, frechet, image_checks, manifold, sampling
from keras_ganprune.metrics.class_counts import class_histogram
from keras_ganprune.metrics.feature_extractor import FeatureExtractor
from keras_ganprune.metrics.kernel_mmd import kernel_distance
from keras_ganprune.utils import tables, validation


class Metric(NamedTuple):
    """What people call a metric, and what is better: 'lower', 'higher', 'near 1' or 'none'."""

    words: str
    better: str

    @property
    def direction(self) -> str:
        """'min' or 'max'. A density below 1 is usual, so that it should be high."""
        return "max" if self.better in ("higher", "near 1") else "min"


# What `QualityReport` shows, in its order.
METRICS = {
    "fd": Metric("Fréchet distance", "lower"),
    "kd": Metric("kernel distance", "lower"),
    "precision": Metric("precision", "higher"),
    "recall": Metric("recall", "higher"),
    "density": Metric("density", "near 1"),
    "coverage": Metric("coverage", "higher"),
    "class_kl": Metric("class KL", "lower"),
    "missing_classes": Metric("missing classes", "none"),
    "label_accuracy": Metric("label accuracy", "higher"),
}


@dataclass(frozen=True)
class QualityReport:
    """What was measured on some images; printable, and `to_dict()` for logs and CSV files.

    Attributes:
        fd: Float, Fréchet distance; see `frechet_distance`.
        kd, kd_error: Floats, kernel distance and its standard error, see `kernel_distance`; of features
            that are scaled so that those of real images have a mean square of 1.
        precision, recall, density, coverage: Floats; see `manifold_metrics`.
        class_kl: Float in nats, see `class_histogram`, by the extractor's judgement of both; None where
            it is no classifier, or all real images are of one class.
        missing_classes: Class numbers with less than a tenth of their real share, or None as well.
        label_accuracy: Float, share of images of the class that was asked for; None without labels.
        samples, real_samples: Ints, images judged, and real ones they were held against.
        manifold_samples: Int, how many of each precision, recall, density and coverage are of.
        extractor: Fingerprint of the extractor.
        extractor_accuracy: Float, its accuracy on held-out real images, or None.

    Example:
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.AveragePooling2D(4),
    ...                           keras.layers.Flatten()])
    >>> x = np.random.default_rng(0).uniform(-1, 1, (400, 8, 8, 1))
    >>> report = ImageQuality(x[:200], extractor=FeatureExtractor(model)).measure(x[200:])
    >>> report.samples, sorted(report.to_dict())[:3], report.missing_classes
    (200, ['coverage', 'density', 'fd'], None)
    """

    fd: float
    kd: float
    kd_error: float
    precision: float
    recall: float
    density: float
    coverage: float
    class_kl: float | None
    missing_classes: tuple[int, ...] | None
    label_accuracy: float | None
    samples: int
    real_samples: int
    manifold_samples: int
    extractor: str
    extractor_accuracy: float | None

    def to_dict(self) -> dict[str, float]:
        """Return what was measured as floats by name; missing classes as their number."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extractor"}
        if self.missing_classes is not None:
            found["missing_classes"] = len(self.missing_classes)
        return {name: float(value) for name, value in found.items() if value is not None}

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first."""
        cells = [("metric", "value", "better")]
        for name, (words, better) in METRICS.items():
            value = getattr(self, name)
            if value is None:
                continue
            if name == "missing_classes":
                text = ", ".join(map(str, value)) or "none"
            elif name == "kd":
                text = f"{value:.4f} ± {self.kd_error:.4f}"
            elif name == "fd":
                text = f"{value:.2f}"
            else:
                text = f"{value:.3f}"
            cells.append((words, text, better))
        return cells

    def notes(self) -> list[str]:
        """Return what stands below the table."""
        accuracy = self.extractor_accuracy
        told = "" if accuracy is None else f", accuracy {accuracy:.1%}"
        return [
            f"{self.samples:,} images against {self.real_samples:,} real ones; extractor "
            f"{self.extractor[:8]}{told}"
        ]

    def to_markdown(self) -> str:
        """Return the table as markdown, with its notes."""
        return "\n".join([tables.markdown(self.table()), "", *(f"- {x}" for x in self.notes())])

    def __str__(self) -> str:
        return "\n".join([tables.text(self.table()), *self.notes()])

    __repr__ = __str__


def is_judge(quality: Any) -> bool:
    """Return whether an object measures generators as `ImageQuality` does, and is not just a function."""
    return hasattr(quality, "measure_generator")


class ImageQuality:
    """Judges generated images against real ones, by the features of one frozen network.

    Features of the real images are computed once. Everything in one table should be judged by one such
    object, with as many images each time: distances of other extractors or numbers are not comparable.

    Without an `extractor`, one is trained on the first images (`train_extractor`: a classifier where
    there are labels, else an autoencoder), and the last ones, a part `held_out`, are what is judged
    against. `floor()` then tells what the images trained on themselves get.

    Args:
        real: Array (n, height, width, channels) in the extractor's range; [-1, 1] without one.
        labels: Class numbers (n,) or one-hot rows, in the form that a conditional generator takes.
        extractor: A `FeatureExtractor`, or None.
        held_out: Float in (0, 1), for a new extractor.
        samples: Positive int, images that `measure_generator` draws.
        neighbours: Positive int, of precision, recall, density and coverage.
        manifold_samples: Positive int. Those four look at this many images of each kind at most, and
            at as many generated as real ones; their time and not their memory grows with its square.
        seed: Int, of what is drawn and shuffled.
        batch_size: Positive int, images a forward pass of the extractor.
        cache: Where a new extractor is kept; see `train_extractor`.

    Attributes:
        extractor: The `FeatureExtractor`.
        real_features: float32 array (m, dimension).

    Raises: DataError, UnsupportedLayerError, InvalidArgumentError.

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
        real: Any,
        labels: Any = None,
        *,
        extractor: FeatureExtractor | None = None,
        held_out: float = 0.2,
        samples: int = 10_000,
        neighbours: int = 5,
        manifold_samples: int = 5_000,
        seed: int = 0,
        batch_size: int = 256,
        cache: Any = None,
    ):
        real = image_checks.images(real, "real")
        self.samples = validation.int_at_least(samples, "samples", 2)
        self.neighbours = validation.positive_int(neighbours, "neighbours")
        self.manifold_samples = validation.int_at_least(manifold_samples, "manifold_samples", 2)
        self.seed = validation.non_negative_int(seed, "seed")
        self.batch_size = validation.positive_int(batch_size, "batch_size")
        if labels is not None:
            labels = np.asarray(labels)
            image_checks.class_numbers(labels, n=len(real))
        self._trained_on = None
        if extractor is None:
            kind = "autoencoder" if labels is None else "classifier"
            extractor = extractor_training.train_extractor(
                real, labels, kind=kind, held_out=held_out, seed=self.seed, cache=cache
            )
            split = extractor_training.split_at(len(real), held_out)
            self._trained_on, real = real[:split], real[split:]
            labels = None if labels is None else labels[split:]
        elif not isinstance(extractor, FeatureExtractor):
            raise UnsupportedLayerError(
                "`extractor` must be a `FeatureExtractor`. Received: "
                f"{type(extractor).__name__}. Write `FeatureExtractor(model, layer)`."
            )
        self.extractor = extractor
        self.labels = labels
        self.real_features, self._real_classes = self._features(real)
        self._scale = float(np.sqrt(np.mean(np.square(self.real_features, dtype="float64"))))
        if not np.any(np.ptp(self.real_features, axis=0)):
            raise DataError(
                "The extractor must tell real images apart. Received: the same features for all of the "
                f"{len(real)} images. Train it for longer, choose another layer, or look at the images."
            )
        self._real_statistics = frechet.FeatureStatistics(self.real_features)
        # A judgement that is the same for every batch of images warns once.
        self._warned = False
        self._radii: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def _features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return features of images, and their classes if the extractor tells them."""
        if self.extractor.classes is None:
            return self.extractor.features(images, self.batch_size), None
        features, probabilities = self.extractor.features_and_probabilities(images, self.batch_size)
        return features, probabilities.argmax(axis=1)

    def measure(self, images: Any, labels: Any = None) -> QualityReport:
        """Return the quality of images.

        Args:
            images: Array (n, height, width, channels) as the real ones.
            labels: What they were made as, class numbers or one-hot rows, for `label_accuracy`.

        Returns: A `QualityReport`.

        Raises: DataError (a ValueError): images are not finite, too few, of another shape or range.
        """
        images = image_checks.images(images)
        numbers = None if labels is None else image_checks.class_numbers(labels, n=len(images))
        return self._report(*self._features(images), numbers)

    def measure_generator(
        self,
        generator: Any,
        n: int | None = None,
        *,
        seed: int | None = None,
        batch_size: int = 256,
        latent_dim: int | None = None,
    ) -> QualityReport:
        """Return the quality of images that a generator makes, which are never all in memory.

        Args:
            generator: A `GANModel` (its averaged generator, if there is one), another Keras model with
                an attribute `generator`, a generator, or a function of (n, seed) that returns images.
                One that takes labels gets the real ones, each as often as among them.
            n: Positive int; `samples` if None.
            seed: Int, of the latent vectors; the object's own if None.
            batch_size: Positive int, images a forward pass of the generator.
            latent_dim: Length of a latent vector, where the generator does not tell.
        """
        made = sampling.generated(
            generator,
            self.samples if n is None else n,
            labels=self.labels,
            latent_dim=latent_dim,
            seed=self.seed if seed is None else seed,
            batch_size=batch_size,
        )
        return self._measure_batches(made)

    def _measure_batches(self, batches: Iterable[tuple[Any, Any]]) -> QualityReport:
        features, classes, numbers = [], [], []
        for images, labels in batches:
            found, predicted = self._features(image_checks.images(images))
            features.append(found)
            classes.append(predicted)
            if labels is not None:
                numbers.append(image_checks.class_numbers(labels, n=len(images)))
        return self._report(
            np.concatenate(features),
            None if classes[0] is None else np.concatenate(classes),
            np.concatenate(numbers) if numbers else None,
        )

    def floor(self) -> QualityReport:
        """Return the quality of the real images that the extractor was trained on.

        No generator can be expected to get below it. With an extractor of your own, pass such images to
        `measure` instead.
        """
        if self._trained_on is None:
            raise InvalidArgumentError(
                "`floor` is of the images that the extractor was trained on here. Received: an extractor "
                "made elsewhere. Call `measure(images)` with real images that are not among `real`."
            )
        return self.measure(self._trained_on)

    def _report(
        self,
        features: np.ndarray,
        classes: np.ndarray | None,
        asked: np.ndarray | None,
    ) -> QualityReport:
        if len(features) < 4 or len(self.real_features) < 4:
            raise DataError(
                "Quality is of four images of each kind at least. Received: "
                f"{len(features)} images, {len(self.real_features)} real ones."
            )
        statistics = frechet.FeatureStatistics(features)
        if not self._warned:
            fewest = min(statistics.count, self._real_statistics.count)
            self._warned = frechet.warn_of_few(fewest, features.shape[1], stacklevel=4)
        kernel = kernel_distance(
            self.real_features / self._scale, features / self._scale, seed=self.seed
        )
        near, compared = self._manifold(features)
        histogram = None
        if classes is not None and len(np.unique(self._real_classes)) > 1:
            histogram = class_histogram(self._real_classes, classes, self.extractor.classes)
        return QualityReport(
            fd=frechet.distance_of(self._real_statistics, statistics),
            kd=kernel.value,
            kd_error=kernel.error,
            precision=near.precision,
            recall=near.recall,
            density=near.density,
            coverage=near.coverage,
            class_kl=None if histogram is None else histogram.kl,
            missing_classes=None if histogram is None else histogram.missing,
            label_accuracy=_agreement(classes, asked),
            samples=len(features),
            real_samples=len(self.real_features),
            manifold_samples=compared,
            extractor=self.extractor.fingerprint,
            extractor_accuracy=self.extractor.accuracy,
        )

    def _manifold(self, features: np.ndarray) -> tuple[manifold.ManifoldMetrics, int]:
        """Return the metrics of as many generated as real images, and how many those are."""
        n = min(len(features), len(self.real_features), self.manifold_samples)
        if n not in self._radii:
            part = self._some(self.real_features, n).astype("float64")
            self._radii = {n: (part, manifold.neighbour_radii(part, self.neighbours))}
        real, radii = self._radii[n]
        found = manifold.manifold_metrics(
            real, self._some(features, n), self.neighbours, real_radii=radii
        )
        return found, n

    def _some(self, features: np.ndarray, n: int) -> np.ndarray:
        """Return `n` of the rows, the same ones each time."""
        rows = np.random.default_rng(self.seed).permutation(len(features))[:n]
        return features[np.sort(rows)]


def _agreement(classes: np.ndarray | None, asked: np.ndarray | None) -> float | None:
    if classes is None or asked is None:
        return None
    return float(np.mean(classes == asked))
