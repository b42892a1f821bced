"""`run`: the demo from its images to its run folder."""

from __future__ import annotations

import dataclasses
import shutil

import keras
import numpy as np

from keras_ganprune import datasets
from keras_ganprune.applications.image_generation import evaluation, outputs, training
from keras_ganprune.applications.image_generation.options import DemoOptions
from keras_ganprune.applications.image_generation.result import DemoResult
from keras_ganprune.applications.image_generation.summary_table import (
    changed_options,
    network_text,
)
from keras_ganprune.applications.image_generation.training import TrainingPlan
from keras_ganprune.exporters import export_saved_model
from keras_ganprune.reports.html import require_page
from keras_ganprune.utils import annotated, files, plotting
from keras_ganprune.utils.status_line import StatusLine

_MINIMUM_FREE_BYTES = 100 * 2**20


def run(options: DemoOptions) -> DemoResult:
    """Run the demo and write its folder.

    Args:
        options: The options.

    Returns:
        A `DemoResult`.

    Raises:
        OutputError: The folder exists, cannot be written or has no free space. This is checked before the
            training.
        DataError: The images cannot be loaded, or have no labels although `conditional` is True.
        MissingPackageError: matplotlib, or a package that the images or the evaluation need, is not
            installed.

    Example:
    >>> from keras_ganprune.applications.image_generation import DemoOptions, run
    >>> result = run(DemoOptions(images="digits", quick=True))  # doctest: +SKIP
    """
    annotated.check(run, locals())
    output = files.check_new_folder(options.output, options.overwrite)
    files.check_saved_model_path(options.output)
    files.check_free_space(output, _MINIMUM_FREE_BYTES)
    plotting.require_plotting()
    require_page()
    line = StatusLine()
    with line.doing("Loading the images"):
        images = datasets.load(options.images, options.image_size)
    line.say(f"Data: {images.description}.")
    classes = training.classes_of(options, images)
    quality = evaluation.image_quality(options, images)
    if quality is not None:
        images = evaluation.training_images(images)
    keras.utils.set_random_seed(options.seed)
    height, width, channels = images.images.shape[1:]
    gan = training.build(options, (height, width, channels), classes)
    plan = TrainingPlan.of(options, len(images))
    line.say(
        f"Plan: {network_text(options, classes)}, {plan.steps:,} steps of {options.batch_size} images; "
        f"{plan.schedule!r} on the {' and the '.join(options.targets)}{changed_options(options)}."
    )
    with files.new_folder(output, options.overwrite) as work:
        trained = training.fit(gan, options, images, classes, plan, work / "dense")
        with line.doing("Exporting the generator"):
            exported = export_saved_model(gan, work / "generator", average=True)
        shown = training.shown_classes(classes)
        end_name = "shrunk" if options.structured else "pruned"
        result = DemoResult(
            output=output,
            options=options,
            images=images,
            gan=gan,
            history=trained.history,
            prunes=plan.prunes,
            dense=trained.dense.export,
            pruned=dataclasses.replace(exported, path=output / "generator"),
            dense_samples=trained.dense.samples,
            samples=gan.generate(training.SAMPLES, shown, seed=0),
            real_samples=_real_samples(images, shown),
            seconds=trained.seconds,
            events={event.name: event for shrink in plan.shrinks for event in shrink.events},
            latency=evaluation.latency(gan, work) if options.structured else {},
            quality=evaluation.measure(quality, trained.dense.network, gan.sampler, end_name),
            classes=classes,
        )
        shutil.rmtree(work / "dense")
        with line.doing("Drawing the pictures, and writing the report"):
            gan.save(work / "gan.keras")
            outputs.write(result, work)
    return result


def _real_samples(images: datasets.Images, shown: np.ndarray | None) -> np.ndarray:
    """Return real images of the classes that the generated samples show."""
    if shown is None or images.labels is None:
        return images.images[: training.SAMPLES]
    places = {label: iter(np.flatnonzero(images.labels == label)) for label in np.unique(shown)}
    return images.images[[next(places[label]) for label in shown]]
