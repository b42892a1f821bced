"""All pictures of a report, drawn once for the page and for the Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_ganprune.reports import charts, images
from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.run import Run


@dataclass(frozen=True)
class Drawn:
    """A run with its pictures.

    Attributes:
        samples: A grid for each name.
        latents: A row for each generator, and how far they differ.
        training: Charts over the steps.
        masks: Dict, network -> a picture of each of its masks.
    """

    run: Run
    samples: Sequence[Picture]
    latents: Sequence[Picture]
    training: Sequence[Picture]
    masks: Mapping[str, Sequence[Picture]]


def draw(run: Run) -> Drawn:
    """Return a run with its pictures.

    Raises:
        MissingPackageError: matplotlib or pillow is not installed.
    """
    return Drawn(
        run,
        images.samples(run),
        images.same_latents(run),
        charts.training(run),
        images.masks(run),
    )
