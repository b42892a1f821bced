"""Few labelled images, and a class-conditional GAN that makes more of them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.applications.compression import compress
from keras_ganprune.applications.compression.plan import FEWEST_STEPS
from keras_ganprune.applications.networks import dcgan
from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.callbacks.training_progress import TrainingProgress
from keras_ganprune.datasets import Batches, mnist
from keras_ganprune.datasets.images import Images
from keras_ganprune.gan import DiffAugment, GANModel

_LATENT, _BATCH = 64, 50
# Images per class: with labels, and generated.
_LABELLED, _GENERATED = 20, 100
_STEPS, _CHANNELS = 1200, 16
DESCRIPTION = (
    f"for training, {_LABELLED} labelled digits per class, repeated, and {_GENERATED} per class of a GAN "
    "that was trained on them"
)


def few_digits(
    sparsity: float, seed: int, quick: bool = False
) -> tuple[dict[str, Images], dict[str, Images]]:
    """Return MNIST with 20 labels per class for training, and the images of a GAN trained on these.

    Args:
        sparsity: Sparsity of the generator of the sparse GAN.
        seed: Seed of the GAN.
        quick: Whether the GAN is smaller, with a tenth of the steps. Defaults to False.

    Returns:
        The parts "train", with the images of the dense GAN, "validation" and "test"; and the other training
        images by title: without a GAN, and with the images of the sparse one. All have as many images for
        training.
    """
    digits = mnist(full=False)
    labels: Any = digits.labels
    few = first_of_each(labels[:2500], _LABELLED)
    made, asked = images_of_gans(
        digits.images[few],
        labels[few],
        _GENERATED,
        steps=_STEPS // 10 if quick else _STEPS,
        channels=_CHANNELS // 2 if quick else _CHANNELS,
        sparsity=sparsity,
        seed=seed,
    )
    # Half of the training images are labelled ones, each repeated.
    repeated = np.repeat(few, _GENERATED // _LABELLED)
    real, answers = digits.images[repeated], labels[repeated]
    parts = {"train": _joined(real, answers, made["dense"], asked)}
    for name, start, end in (("validation", 2500, 3000), ("test", 3000, 5000)):
        parts[name] = Images(digits.images[start:end], labels[start:end], "")
    title = f"with images of the {100 * sparsity:g} % sparse GAN"
    others = {
        "without the GAN's images": _joined(real, answers, real, answers),
        title: _joined(real, answers, made["sparse"], asked),
    }
    return parts, others


def _joined(images: np.ndarray, labels: np.ndarray, more: np.ndarray, of: np.ndarray) -> Images:
    return Images(np.concatenate([images, more]), np.concatenate([labels, of]), "")


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the first labels of each class, class by class.

    Args:
        labels: Int array (n,).
        count: Positive int, number per class.

    Example:
    >>> first_of_each(np.array([1, 0, 1, 1, 0]), 2)
    array([1, 4, 0, 2])
    """
    return np.concatenate([np.flatnonzero(labels == k)[:count] for k in np.unique(labels)])


def images_of_gans(
    images: np.ndarray,
    labels: np.ndarray,
    count: int,
    *,
    steps: int,
    channels: int,
    sparsity: float,
    seed: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Train a class-conditional GAN on labelled images, and return images of it and of a sparse one.

    The sparse generator is made by `compress`, with the dense one as teacher. The dense GAN is trained on
    for as many steps.

    Args:
        images: Array (n, height, width, channels) in [-1, 1].
        labels: Int array (n,).
        count: Positive int, number of generated images per class.
        steps: Positive int, steps of the training; each training after it has half as many.
        channels: Positive int, channels of the networks; see `dcgan`.
        sparsity: Sparsity of the sparse generator.
        seed: Seed of the networks, of the order of the data, and of the images.

    Returns:
        {"dense": images, "sparse": images}, and the labels of both.

    References: [cGANs with projection](https://arxiv.org/abs/1802.05637);
    [Differentiable augmentation](https://arxiv.org/abs/2006.10738), for few images.
    """
    classes = int(labels.max()) + 1
    keras.utils.set_random_seed(seed)
    gan = GANModel(
        *dcgan(images.shape[1:], _LATENT, channels, classes),
        latent_dim=_LATENT,
        augmentation=DiffAugment(translation=0.1, brightness=0.0, seed=seed),
        ema_decay=0.99,
        balance_frequency=0,
        seed=seed,
    )
    gan.compile(keras.optimizers.Adam(5e-4, 0.5), keras.optimizers.Adam(5e-4, 0.5))
    batch = min(_BATCH, len(images))
    per_epoch = max(1, len(images) // batch)
    further = max(-(-FEWEST_STEPS // per_epoch), steps // 2 // per_epoch)
    progress = RunProgress()
    progress.plan(steps)
    _fit(gan, Batches(images, labels, batch, steps, seed), progress, "GAN")
    sparse = compress(
        gan,
        (images, labels),
        sparsity=sparsity,
        epochs=further,
        batch_size=batch,
        baseline=False,
        seed=seed,
    ).model
    progress.plan(further * per_epoch)
    order = Batches(images, labels, batch, further * per_epoch, seed + 1)
    _fit(gan, order, progress, "GAN, trained on")
    asked = np.repeat(np.arange(classes), count)
    made = {
        name: each.generate(len(asked), asked, seed=seed)
        for name, each in (("dense", gan), ("sparse", sparse))
    }
    return made, asked


def _fit(gan: GANModel, stream: Batches, progress: RunProgress, title: str) -> None:
    """Train for one pass over a stream of batches."""
    silent: Any = 0  # Keras's stub says str
    gan.fit(stream, verbose=silent, callbacks=[TrainingProgress(progress, title)])
