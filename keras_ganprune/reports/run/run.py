"""The content of a run folder, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from keras_ganprune.reports.run.exported_files import ExportedFile


class MaskUpdate(NamedTuple):
    """One mask update.

    Attributes:
        step: Optimizer step.
        requested: Requested sparsity or threshold.
        achieved: Achieved sparsity.

    Example:
    >>> MaskUpdate(step=100, requested=0.5, achieved=0.5).step
    100
    """

    step: int
    requested: float
    achieved: float


@dataclass(frozen=True)
class PruneLog:
    """The mask updates of one network, or of several networks with one common total.

    Attributes:
        schedule: Text of the schedule, or ''.
        quantity: The quantity that `requested` states: 'sparsity' or 'threshold'.
        of: The unit of which the sparsity is a share: 'weights', 'channels', 'blocks', 'macs' or
            'parameters'.
        updates: Tuple of `MaskUpdate`.

    Example:
    >>> log = PruneLog("", "sparsity", "weights", (MaskUpdate(100, 0.5, 0.5),))
    >>> log.updates[-1].achieved
    0.5
    """

    schedule: str
    quantity: str
    of: str
    updates: tuple[MaskUpdate, ...]


@dataclass(frozen=True)
class LayerRow:
    """The sparsity of one masked weight.

    Attributes:
        layer: Path of the layer.
        weight: Name of the weight.
        shape: Shape of the weight.
        kept: Number of entries that the mask keeps.
        total: Number of all entries.
        requested: Sparsity that the allocation requested for this weight. None if no sparsity was requested
            for single weights: with a threshold, or with one ranking over all layers.

    Example:
    >>> LayerRow("head", "kernel", (4, 5), kept=5, total=20).sparsity
    0.75
    """

    layer: str
    weight: str
    shape: tuple[int, ...]
    kept: int
    total: int
    requested: float | None = None

    @property
    def sparsity(self) -> float:
        """Achieved sparsity, a fraction in [0, 1]."""
        return 1.0 - self.kept / self.total


class MetricColumn(NamedTuple):
    """How a metric of a run is shown.

    Attributes:
        title: Words, with the unit.
        higher_is_better: Whether a larger number is better.
        digits: Digits after the point.

    Example:
    >>> MetricColumn("PSNR, dB", True, 2).heading
    'PSNR, dB ↑'
    """

    title: str
    higher_is_better: bool
    digits: int = 3

    @property
    def heading(self) -> str:
        """The title with an arrow in the better direction."""
        return f"{self.title} {'↑' if self.higher_is_better else '↓'}"


@dataclass(frozen=True, eq=False)
class Run:
    """One training run: its settings, logs, images, masks and measurements.

    Attributes:
        history: Dict of log -> one float per epoch, or None for an epoch without a measurement.
        samples: Dict of 'real', 'dense', 'pruned', 'shrunk' or another name -> uint8 images
            (n, height, width, channels). All except 'real' come from the same latent vectors.
        name: Name in reports.
        settings: Dict of name -> JSON value.
        seed: Seed of the training, or None.
        steps: Training steps, or None.
        seconds: Training time, or None.
        steps_per_epoch: Optimizer steps per epoch, or None.
        data: One line about the data set.
        created: Date and time in UTC, in ISO 8601.
        versions: Dict of package -> version.
        hardware: One line about the machine.
        prunes: Dict of network -> `PruneLog`.
        layers: Dict of network -> tuple of `LayerRow`.
        channels: Dict of network -> tuple of (path of the layer, channels before, channels after).
        sizes: Dict of 'dense', ... -> dict of 'parameters', 'nonzero', 'macs', 'bytes', 'saved_bytes',
            'gzip_bytes' -> int.
        latency: Dict of 'dense', ... -> dict of label -> milliseconds.
        quality: Dict of 'real', 'dense', ... -> tuple of measurements, each a dict of metric -> float. The
            i-th measurements of two names form a pair.
        extractor: Fingerprint of the feature extractor that measured the quality, or ''. Distances from
            different extractors are not comparable.
        masks: Dict of network -> tuple of bool arrays, one per row of `layers`. True means keep.
        metrics: Dict of metric -> `MetricColumn`, for metrics that reports do not know by name. The first one
            decides. If it is not empty, reports show one table with a row per network or baseline.
        pictures: Dict of title -> bytes of a PNG file, for results that are not samples of images.
        files: Tuple of `ExportedFile`: the files that were exported from the run, with sizes and times.
        latency_quartiles: Dict of 'dense', ... -> dict of label -> (lower, upper quartile) in milliseconds,
            for the latencies of which they are known.
        equal_steps: Whether 'dense' was trained on, without pruning, for as many steps as the others; None if
            that is not known.

    Example:
    >>> run = Run({"loss": [0.7, 0.4]}, samples={}, quality={"pruned": ({"fd": 7.0}, {"fd": 9.0})})
    >>> run.epochs, run.mean("pruned", "fd")
    (2, 8.0)
    """

    history: Mapping[str, Sequence[float | None]]
    samples: Mapping[str, np.ndarray]
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    steps: int | None = None
    seconds: float | None = None
    steps_per_epoch: float | None = None
    data: str = ""
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: str = ""
    prunes: Mapping[str, PruneLog] = field(default_factory=dict)
    layers: Mapping[str, tuple[LayerRow, ...]] = field(default_factory=dict)
    channels: Mapping[str, tuple[tuple[str, int, int], ...]] = field(default_factory=dict)
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    latency: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    quality: Mapping[str, tuple[Mapping[str, float], ...]] = field(default_factory=dict)
    extractor: str = ""
    masks: Mapping[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    metrics: Mapping[str, MetricColumn] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    files: tuple[ExportedFile, ...] = ()
    latency_quartiles: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    equal_steps: bool | None = None

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return len(next(iter(self.history.values()), ()))

    def sparsity(self, network: str) -> float:
        """Return the sparsity over all masked weights of a network together, in [0, 1].

        Args:
            network: Name of the network, a key of `layers`.
        """
        rows = self.layers[network]
        return 1.0 - sum(row.kept for row in rows) / sum(row.total for row in rows)

    def mean(self, name: str, metric: str) -> float | None:
        """Return the mean of a metric, or None without measurements.

        Args:
            name: Name of the measured samples, a key of `quality`, such as 'pruned'.
            metric: Name of the metric, such as 'fd'.
        """
        values = [m[metric] for m in self.quality.get(name, ()) if m.get(metric) is not None]
        return float(np.mean(values)) if values else None
