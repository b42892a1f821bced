"""What a run folder holds, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class MaskUpdate(NamedTuple):
    """One mask update: optimizer step, what was asked for, the sparsity that came out."""

    step: int
    requested: float
    achieved: float


@dataclass(frozen=True)
class PruneLog:
    """The mask updates of one network, or of several that share a total.

    Attributes:
        schedule: Text of the schedule, or ''.
        quantity: 'sparsity' or 'threshold', what `requested` is.
        of: What the sparsity is a share of: 'weights', 'channels', 'blocks', 'macs' or 'parameters'.
        updates: Tuple of `MaskUpdate`.
    """

    schedule: str
    quantity: str
    of: str
    updates: tuple[MaskUpdate, ...]


@dataclass(frozen=True)
class LayerRow:
    """One masked weight: how many of its entries stay.

    Attributes:
        layer, weight: Path of the layer, name of the weight.
        shape: Of the weight.
        kept, total: Ints, entries that the mask keeps, and all of them.
        requested: The sparsity that this weight was asked for; None where it had none of its own, such as
            under a threshold or one ranking over all layers.
    """

    layer: str
    weight: str
    shape: tuple[int, ...]
    kept: int
    total: int
    requested: float | None = None

    @property
    def sparsity(self) -> float:
        return 1.0 - self.kept / self.total


@dataclass(frozen=True, eq=False)
class Run:
    """One training run: what was asked for and what came out.

    Attributes:
        history: Dict, log -> list of a float (or None: not measured) an epoch.
        samples: Dict, 'real', 'dense', 'pruned', 'shrunk' or any other name -> uint8 images
            (n, height, width, channels). All but 'real' are from the same latent vectors.
        name: What reports call it; '' for the name of its folder.
        settings: Dict, name -> a JSON value.
        seed, steps: Ints or None.
        seconds: Float, training time, or None.
        steps_per_epoch: Float, or None.
        data: One line on the data set.
        created: Date and time, UTC.
        versions: Dict, package -> version.
        hardware: One line.
        prunes: Dict, network -> `PruneLog`.
        layers: Dict, network -> tuple of `LayerRow`.
        channels: Dict, network -> tuple of (path of the layer that makes them, before, after).
        sizes: Dict, 'dense', ... -> dict of quantity -> int: 'parameters', 'nonzero', 'macs', 'bytes',
            'saved_bytes', 'gzip_bytes'.
        latency: Dict, 'dense', ... -> dict of what was timed -> milliseconds.
        quality: Dict, 'real', 'dense', ... -> tuple of measurements, each a dict of metric -> float. The
            i-th measurements of two names belong together.
        extractor: Fingerprint of the extractor that judged the quality, or ''; distances of two do not
            compare.
        masks: Dict, network -> tuple of bool arrays, one for each of `layers`.
    """

    history: Mapping[str, list[float | None]]
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

    @property
    def epochs(self) -> int:
        return len(next(iter(self.history.values()), ()))

    def sparsity(self, network: str) -> float:
        """Sparsity over all masked weights of a network together."""
        rows = self.layers[network]
        return 1.0 - sum(row.kept for row in rows) / sum(row.total for row in rows)

    def mean(self, name: str, metric: str) -> float | None:
        """Return the mean of a metric over the measurements of `name`, or None if there is none."""
        found = [m[metric] for m in self.quality.get(name, ()) if m.get(metric) is not None]
        return float(np.mean(found)) if found else None
