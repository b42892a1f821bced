"""The GAN of the demo, the plan of its training, and `fit`."""

from __future__ import annotations

import pathlib
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune import datasets
from keras_ganprune.applications.image_generation.options import DemoOptions
from keras_ganprune.applications.networks import dcgan, mlp
from keras_ganprune.backend import tracing
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.callbacks.shrink import Shrink
from keras_ganprune.callbacks.training_progress import TrainingProgress
from keras_ganprune.errors import DataError
from keras_ganprune.exporters import ExportReport, export_saved_model
from keras_ganprune.gan import DiffAugment, GANModel, losses
from keras_ganprune.layers.stripping import strip_pruning
from keras_ganprune.layers.weight_tying import tie_mirrored
from keras_ganprune.pruning.schedules import Schedule
from keras_ganprune.utils import annotated, terminal

SAMPLES = 40
COLUMNS = 10  # of a picture; for class-conditional networks, one class per column
_STEPS = {"dcgan": 3000, "mlp": 8000}
_QUICK_STEPS = {"dcgan": 600, "mlp": 2400}
# For a large data set, an epoch is 100 steps instead of a pass over all images.
_LONGEST_EPOCH, _SHORT_EPOCH = 200, 100
_MASK_UPDATES = 60  # over the whole training


def build(
    options: DemoOptions, image_shape: tuple[int, int, int], classes: int | None = None
) -> GANModel:
    """Return the compiled GAN of the demo.

    Args:
        options: The options.
        image_shape: (height, width, channels).
        classes: Number of classes of class-conditional networks. Defaults to None: networks without labels.

    Returns:
        A compiled `GANModel`.

    Example:
    >>> from keras_ganprune.applications.image_generation import DemoOptions, build
    >>> build(DemoOptions(), (8, 8, 1)).latent_dim
    64
    """
    annotated.check(build, locals(), "options")
    return compiled(options, *new_networks(options, image_shape, classes))


def new_networks(
    options: DemoOptions,
    image_shape: tuple[int, int, int],
    classes: int | None = None,
    width: float = 1.0,
) -> tuple[keras.Model, keras.Model]:
    """Return the new generator and discriminator of the demo.

    Args:
        options: The options.
        image_shape: (height, width, channels).
        classes: Number of classes, or None. Defaults to None.
        width: Factor for the channels of the generator. Defaults to 1.
    """
    if options.network == "mlp":
        return mlp(image_shape, width=width)[0], mlp(image_shape)[1]
    channels = options.channels or (24 if options.quick else 32)
    networks = dcgan(image_shape, 64, channels, classes)
    if width == 1.0:
        return networks
    return dcgan(image_shape, 64, max(1, round(width * channels)), classes)[0], networks[1]


def compiled(options: DemoOptions, generator: keras.Model, discriminator: keras.Model) -> GANModel:
    """Return the compiled GAN of two networks of the demo."""
    is_mlp = options.network == "mlp"
    latent_dim, rate = (100, 5e-4) if is_mlp else (64, 2e-3)
    if options.tie:
        tie_mirrored(generator, discriminator)
    # A digit of 28 pixels stays recognizable if it is shifted by two pixels. Shifts keep the discriminator
    # from memorising a small data set.
    augmentation = None if is_mlp else DiffAugment(0.08, 0.0, seed=options.seed)
    wasserstein = options.loss == "wasserstein"
    gan = GANModel(
        generator,
        discriminator,
        latent_dim=latent_dim,
        loss=losses.get(options.loss),
        ema_decay=0.99,
        augmentation=augmentation,
        gradient_penalty=10.0 if wasserstein else 0.0,
        discriminator_steps=2 if wasserstein else 1,
        seed=options.seed,
    )
    gan.compile(
        generator_optimizer=keras.optimizers.Adam(rate, beta_1=0.5, beta_2=0.99),
        discriminator_optimizer=keras.optimizers.Adam(rate, beta_1=0.5, beta_2=0.99),
    )
    return gan


def classes_of(options: DemoOptions, images: datasets.Images) -> int | None:
    """Return the number of classes for class-conditional networks, or None for networks without labels.

    Args:
        options: The options.
        images: The real images.

    Raises:
        DataError: `conditional` is True, but the images have no labels.

    Example:
    >>> from keras_ganprune.applications.image_generation import DemoOptions, classes_of
    >>> images = kgp.datasets.Images(np.zeros((4, 8, 8, 1)), np.array([0, 1, 2, 1]), "4 images")
    >>> classes_of(DemoOptions(), images)
    3
    """
    annotated.check(classes_of, locals())
    conditional = options.network == "dcgan" if options.conditional is None else options.conditional
    if images.labels is None:
        if options.conditional:
            raise DataError(
                f"`conditional` needs images with labels. Received: {images.description}. Leave it out."
            )
        return None
    return int(images.labels.max()) + 1 if conditional else None


def epochs_and_steps(options: DemoOptions, batches: int) -> tuple[int, int]:
    """Return (epochs, steps per epoch) for a data set with a number of batches.

    Example:
    >>> from keras_ganprune.applications.image_generation import DemoOptions
    >>> epochs_and_steps(DemoOptions(steps=250), batches=79)
    (4, 79)
    """
    steps = options.steps or (_QUICK_STEPS if options.quick else _STEPS)[options.network]
    per_epoch = batches if batches <= _LONGEST_EPOCH else _SHORT_EPOCH
    return options.epochs or -(-steps // per_epoch), per_epoch


def shown_classes(classes: int | None) -> np.ndarray | None:
    """Return the labels of the samples, one class per column, or None for networks without labels."""
    return None if classes is None else np.arange(SAMPLES) % COLUMNS % classes


@dataclass(frozen=True)
class TrainingPlan:
    """The length of the training, and the schedule of the pruning.

    Attributes:
        epochs: Number of epochs.
        steps_per_epoch: Steps per epoch.
        batches: Batches of one pass over the images.
        schedule: Schedule of the sparsity.
        prunes: Dict of network -> its pruning callback.
        shrinks: Callbacks that cut out masked channels.
    """

    epochs: int
    steps_per_epoch: int
    batches: int
    schedule: Schedule
    prunes: dict[str, Prune]
    shrinks: list[Shrink]

    @property
    def steps(self) -> int:
        """All training steps."""
        return self.epochs * self.steps_per_epoch

    @classmethod
    def of(cls, options: DemoOptions, images: int) -> TrainingPlan:
        """Return the plan for a number of images."""
        batches = -(-images // options.batch_size)
        epochs, per_epoch = epochs_and_steps(options, batches)
        steps = epochs * per_epoch
        # Networks whose channels were cut out need more time to recover.
        end = 0.5 if options.structured else 0.65
        schedule = options.plan(int(0.3 * steps), int(end * steps))
        shrinks = options.cuts(schedule)
        prunes = options.callbacks(schedule, frequency=max(1, steps // _MASK_UPDATES))
        return cls(epochs, per_epoch, batches, schedule, prunes, shrinks)


@dataclass(frozen=True)
class DenseGenerator:
    """The generator that was never pruned, after as many steps as the pruned one.

    Attributes:
        network: A plain copy.
        samples: Its images.
        export: `ExportReport` of its SavedModel.
    """

    network: keras.Model
    samples: np.ndarray
    export: ExportReport


class _DensePhase(keras.callbacks.Callback):
    """Writes the weights, optimizers and seeds of the GAN to a file just before pruning begins."""

    def __init__(self, begin_step: int, file: pathlib.Path):
        super().__init__()
        self.begin_step = begin_step
        self.file = file
        self.steps = 0  # of the generator: one per batch

    # `Prune` comes later in the list of callbacks. It updates masks at the end of a batch, or before step 0.
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._write_if_due()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        self._write_if_due()

    def _write_if_due(self) -> None:
        if self.steps >= self.begin_step and not self.file.exists():
            gan: Any = self.model
            tracing.sync(gan)
            gan.save_weights(self.file)


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        history: `History.history`.
        dense: The generator that was never pruned.
        seconds: Training time of the pruned GAN.
    """

    history: dict[str, list[float]]
    dense: DenseGenerator
    seconds: float


def fit(
    gan: GANModel,
    options: DemoOptions,
    images: datasets.Images,
    classes: int | None,
    plan: TrainingPlan,
    folder: pathlib.Path,
) -> Training:
    """Train and prune the GAN. Then train the dense GAN on, from where pruning began to the same step.

    The SavedModel of the dense generator is written to `folder`.
    """
    phase = _DensePhase(plan.schedule.begin_step, folder.with_name("dense_phase.weights.h5"))
    progress = RunProgress()
    progress.plan(plan.steps + max(0, plan.steps - plan.schedule.begin_step))
    line = TrainingProgress(progress, "GAN")
    callbacks = [phase, *dict.fromkeys(plan.prunes.values()), *plan.shrinks, line]
    arguments: dict[str, Any] = {"epochs": plan.epochs, "callbacks": callbacks, "verbose": 0}
    labels = None if classes is None else images.labels
    started = time.perf_counter()
    if plan.steps_per_epoch < plan.batches:
        stream = datasets.Batches(
            images.images, labels, options.batch_size, plan.steps_per_epoch, options.seed
        )
        history = gan.fit(stream, **arguments)
    else:
        history = gan.fit(images.images, labels, batch_size=options.batch_size, **arguments)
    seconds = time.perf_counter() - started
    if not phase.file.exists():
        raise DataError(
            f"Pruning must begin within the training. It begins at step {plan.schedule.begin_step}, and the "
            f"training ended after {phase.steps} steps. Train for more steps."
        )
    dense = _train_dense_on(phase, options, images, classes, plan.steps, progress)
    phase.file.unlink()
    with progress.doing("Exporting the dense generator"):
        samples = dense.generate(SAMPLES, shown_classes(classes), seed=0)
        export = export_saved_model(dense, folder, average=True)
    network = strip_pruning(dense.sampler)
    return Training(history.history, DenseGenerator(network, samples, export), seconds)


def _train_dense_on(
    phase: _DensePhase,
    options: DemoOptions,
    images: datasets.Images,
    classes: int | None,
    steps: int,
    progress: RunProgress,
) -> GANModel:
    """Return the GAN that was never pruned, at step `steps`."""
    height, width, channels = images.images.shape[1:]
    gan = build(options, (height, width, channels), classes)
    gan.load_weights(phase.file)
    labels = None if classes is None else images.labels
    remaining = steps - phase.begin_step
    terminal.say(f"The dense GAN goes on from step {phase.begin_step:,} to step {steps:,}.")
    keras.utils.set_random_seed(options.seed + 1)
    gan.fit(
        datasets.Batches(images.images, labels, options.batch_size, remaining, options.seed + 1),
        verbose=0,
        callbacks=[TrainingProgress(progress, "dense GAN")],
    )
    return gan
