"""The result of the demo."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from keras_ganprune import datasets
from keras_ganprune.applications.image_generation.options import DemoOptions
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.shrink import ShrinkEvent
from keras_ganprune.exporters import ExportReport
from keras_ganprune.gan import GANModel
from keras_ganprune.metrics import QualityReport
from keras_ganprune.training.discovery import steps_done


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo.

    Attributes:
        output: The run folder.
        options: The options of the run.
        images: The training images.
        gan: The trained and pruned `GANModel`.
        history: Dict, as `History.history`.
        prunes: Dict of pruned network -> its `Prune` callback. With `joint`, both networks have the same
            callback.
        dense: `ExportReport` of the dense generator, trained on without pruning for as many steps.
        pruned: `ExportReport` of the generator at the end.
        dense_samples: Images of the dense generator.
        samples: Images of the final generator, from the same latent vectors and labels.
        real_samples: Real images, of the same classes if the networks are class-conditional.
        seconds: Training time of the pruned GAN.
        events: With `structured`, dict of network -> its `ShrinkEvent`; otherwise empty.
        latency: With `structured`, dict of 'dense' and 'generator' -> milliseconds of the SavedModel per
            batch; otherwise empty.
        quality: Dict of 'real' (one `QualityReport`), 'dense' and 'pruned' or 'shrunk' (one `QualityReport`
            per set of latent vectors); empty if the quality was not measured.
        classes: Number of classes of class-conditional networks, or None.

    Example:
    >>> from keras_ganprune.applications.image_generation import DemoOptions, run
    >>> run(DemoOptions(images="digits", quick=True)).seconds  # doctest: +SKIP
    """

    output: pathlib.Path
    options: DemoOptions
    images: datasets.Images
    gan: GANModel
    history: dict[str, list[float]]
    prunes: dict[str, Prune]
    dense: ExportReport
    pruned: ExportReport
    dense_samples: np.ndarray
    samples: np.ndarray
    real_samples: np.ndarray
    seconds: float
    events: dict[str, ShrinkEvent]
    latency: dict[str, float]
    quality: dict[str, list[QualityReport]]
    classes: int | None

    @property
    def steps(self) -> int:
        """Training steps of the generator."""
        return steps_done(self.gan.generator_optimizer)

    @property
    def steps_per_epoch(self) -> float:
        """Training steps per epoch."""
        return self.steps / len(next(iter(self.history.values())))

    @property
    def dense_step(self) -> int:
        """Step at which pruning began."""
        return next(iter(self.prunes.values())).schedule.begin_step

    @property
    def end_name(self) -> Literal["pruned", "shrunk"]:
        """Name of the final generator."""
        return "shrunk" if "generator" in self.events else "pruned"
