"""The result of `ImageQuality`: one number per metric, as a table, a dict or text."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from keras_ganprune.utils import tables
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock


class Metric(NamedTuple):
    """The name of a metric in tables, and which values are better.

    Attributes:
        title: Name in tables.
        better: 'lower', 'higher', 'near 1', or 'none' (no missing class is best).
    """

    title: str
    better: Literal["lower", "higher", "near 1", "none"]

    @property
    def direction(self) -> Literal["min", "max"]:
        """'min' or 'max'. A density is usually below 1, so a higher one is better."""
        return "max" if self.better in ("higher", "near 1") else "min"


# The metrics of `QualityReport`, in the order of its table.
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
class QualityReport(ShownInNotebooks):
    """The quality of generated images. It prints as a table; `to_dict()` is for logs and CSV files.

    Attributes:
        fd: Float of at least 0, Fréchet distance; lower is better. See `frechet_distance`.
        kd: Float, kernel distance; lower is better. The features are scaled so that the features of real
            images have a mean square of 1. See `kernel_distance`.
        kd_error: Float, standard error of `kd`.
        precision: Float in [0, 1]; higher is better. See `manifold_metrics`.
        recall: Float in [0, 1]; higher is better. See `manifold_metrics`.
        density: Float of at least 0; 1 is best. See `manifold_metrics`.
        coverage: Float in [0, 1]; higher is better. See `manifold_metrics`.
        class_kl: Float in nats, KL divergence between the classes that the extractor predicts for generated
            and for real images; lower is better. See `class_histogram`. None if the extractor is not a
            classifier, or if all real images have one class.
        missing_classes: Tuple of class numbers with less than a tenth of their share among real images;
            empty is best. None where `class_kl` is None.
        label_accuracy: Float in [0, 1], share of images whose predicted class is the requested one; higher
            is better. None without labels.
        samples: Int, number of measured images.
        real_samples: Int, number of real images.
        manifold_samples: Int, number of images of each kind for precision, recall, density and coverage.
        extractor: Fingerprint of the extractor.
        extractor_accuracy: Float in [0, 1], its accuracy on held-out real images, or None.

    Example:
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.AveragePooling2D(4),
    ...                           keras.layers.Flatten()])
    >>> x = np.random.default_rng(0).uniform(-1, 1, (400, 8, 8, 1))
    >>> report = kgp.ImageQuality(x[:200], extractor=kgp.FeatureExtractor(model)).measure(x[200:])
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
        """Return the numbers as floats by name. 'missing_classes' is the number of missing classes."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extractor"}
        if self.missing_classes is not None:
            values["missing_classes"] = len(self.missing_classes)
        return {name: float(value) for name, value in values.items() if value is not None}

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first."""
        cells: list[tuple[str, ...]] = [("metric", "value", "better")]
        for name, (title, better) in METRICS.items():
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
            cells.append((title, text, better))
        return cells

    def notes(self) -> list[str]:
        """Return the line below the table: the numbers of images, and the extractor."""
        accuracy = self.extractor_accuracy
        accuracy_text = "" if accuracy is None else f" and an accuracy of {accuracy:.1%}"
        return [
            f"{self.samples:,} images against {self.real_samples:,} real images, judged by the feature "
            f"extractor with the fingerprint {self.extractor[:8]}{accuracy_text}"
        ]

    def to_markdown(self) -> str:
        """Return the table and its notes as Markdown."""
        return "\n".join([tables.markdown(self.table()), "", *(f"- {x}" for x in self.notes())])

    def _blocks(self) -> list[Block]:
        return [TableBlock(self.table()), *self.notes()]

    def __str__(self) -> str:
        return "\n".join([tables.text(self.table()), *self.notes()])

    __repr__ = __str__
