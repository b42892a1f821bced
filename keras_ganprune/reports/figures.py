"""All pictures of a report, drawn once for the page and for the Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_ganprune.run_folder import Run
from keras_ganprune.run_report import charts, pictures
from keras_ganprune.run_report.pictures import Picture


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
        pictures.samples(run),
        pictures.same_latents(run),
        charts.training(run),
        pictures.masks(run),
    )
