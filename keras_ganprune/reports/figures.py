"""All pictures of a run, drawn once for the page and for the Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_ganprune.reports import charts, images
from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.run import Run


@dataclass(frozen=True)
class DrawnRun:
    """A run with its pictures.

    Attributes:
        run: The run.
        samples: One grid per name.
        latents: One row per generator, and their difference.
        training: Charts over the steps.
        masks: Dict, network -> one picture per mask.
        pictures: Pictures that the run itself has.
    """

    run: Run
    samples: Sequence[Picture]
    latents: Sequence[Picture]
    training: Sequence[Picture]
    masks: Mapping[str, Sequence[Picture]]
    pictures: Sequence[Picture]


def draw(run: Run) -> DrawnRun:
    """Return a run with its pictures.

    Raises:
        MissingPackageError: matplotlib or Pillow is not installed.
    """
    return DrawnRun(
        run=run,
        samples=images.samples(run),
        latents=images.same_latents(run),
        training=charts.training(run),
        masks=images.masks(run),
        pictures=images.pictures(run),
    )
