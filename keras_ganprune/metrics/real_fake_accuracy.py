"""How well a discriminator separates real from generated images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ganprune.backend import tracing
from keras_ganprune.errors import ArgumentTypeError, DataError
from keras_ganprune.gan import GANModel, network_checks
from keras_ganprune.gan.image_to_image import ImageToImageGAN
from keras_ganprune.metrics import sampling
from keras_ganprune.utils import validation


@dataclass(frozen=True)
class DiscriminatorAccuracy:
    """The accuracy of a discriminator on real and on generated images.

    Attributes:
        real: Float in [0, 1], share of real images that are classified as real.
        fake: Float in [0, 1], share of generated images that are classified as generated.
        samples: Int, number of images of each kind.

    Example:
    >>> accuracy = DiscriminatorAccuracy(real=0.9, fake=0.7, samples=1000)
    >>> round((accuracy.real + accuracy.fake) / 2, 2)
    0.8
    """

    real: float
    fake: float
    samples: int


def discriminator_accuracy(
    gan: GANModel,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> DiscriminatorAccuracy:
    """Return the shares of real and of generated images that a GAN's discriminator classifies correctly.

        real = mean(D(x) > boundary),    fake = mean(D(G(z)) < boundary)

    The GAN's loss defines the boundary, as for the accuracies in the logs of `fit`. Both shares are in [0,
    1]; 0.5 means that the discriminator guesses. If the share for new real images is far below the share for
    the training images, the discriminator has memorised its training images. Both networks run in inference
    mode; the generator is the averaged one if there is one.

    Args:
        gan: A `GANModel`.
        images: Real images (m, ...), in the form that `fit` takes.
        labels: Their labels, for a class-conditional GAN. Defaults to None.
        n: Positive int, largest number of images of each kind. Defaults to None: m.
        seed: Int, seed of the latent vectors. Defaults to 0.
        batch_size: Positive int, images per forward pass. Defaults to 256.

    Returns:
        A `DiscriminatorAccuracy`.

    Raises:
        ArgumentTypeError: `gan` is not a `GANModel`.
        DataError: Images are empty or not finite, labels are missing for a class-conditional GAN, or
            labels are given for an unconditional one.
        InvalidArgumentError: `n` or `batch_size` is not a positive int.

    Example:
    >>> g = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    >>> d = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> accuracy = discriminator_accuracy(GANModel(g, d, latent_dim=2), np.ones((10, 4)))
    >>> accuracy.samples, accuracy.real in (0.0, 1.0)
    (10, True)

    Reference: [Generative adversarial nets](https://arxiv.org/abs/1406.2661), §3.
    """
    validation.non_negative_int(seed, "seed")
    if not isinstance(gan, GANModel):
        fix = "Wrap the networks: `GANModel(generator, discriminator, latent_dim)`."
        if isinstance(gan, ImageToImageGAN):
            fix = (
                "Its generator takes images, so call `gan.evaluate(inputs, targets, return_dict=True)`: it "
                "returns 'discriminator_real_accuracy' and 'discriminator_fake_accuracy'."
            )
        raise ArgumentTypeError(
            "`gan` must be a `GANModel`, whose generator takes latent vectors. Received: "
            f"{gan!r} (of type {type(gan).__name__}). {fix}"
        )
    images = validation.array(images, "images")
    if images.dtype.kind not in "fiub":
        raise DataError(f"`images` must hold numbers. Received: dtype {images.dtype}.")
    if images.ndim < 2 or images.size == 0 or not np.isfinite(images).all():
        raise DataError(
            "`images` must be finite numbers with one row per image. Received: shape "
            f"{images.shape}{'' if images.size == 0 else ' with NaN or infinite values'}."
        )
    inputs = network_checks.inputs_of(gan.discriminator)
    if inputs and not network_checks.shapes_match(images.shape[1:], tuple(inputs[0].shape)[1:]):
        raise DataError(
            f"`images` must have the shape that the discriminator takes, {tuple(inputs[0].shape)[1:]}. "
            f"Received: {images.shape[1:]}."
        )
    if gan.conditional != (labels is not None):
        raise DataError(
            "Pass `labels` if, and only if, the GAN is class-conditional. Received: "
            f"conditional={gan.conditional}, labels {'given' if labels is not None else 'missing'}."
        )
    n = len(images) if n is None else min(len(images), validation.positive_int(n, "n"))
    batch_size = validation.positive_int(batch_size, "batch_size")
    tracing.sync(gan)
    real_labels = None if labels is None else np.asarray(labels)

    def logits(batch: np.ndarray, batch_labels: np.ndarray | None) -> Any:
        tensors = None if batch_labels is None else ops.convert_to_tensor(batch_labels)
        return gan.judge(ops.convert_to_tensor(batch.astype("float32")), tensors)

    real = []
    for start in range(0, n, batch_size):
        rows = slice(start, min(start + batch_size, n))
        real.append(logits(images[rows], None if real_labels is None else real_labels[rows]))
    batches = sampling.generated(gan, n, labels=real_labels, seed=seed, batch_size=batch_size)
    fake = [logits(*batch) for batch in batches]
    # All logits at once, because some losses use the mean logit of the other kind of images as the boundary.
    shares = gan.loss_pair.accuracy(ops.concatenate(real, axis=0), ops.concatenate(fake, axis=0))
    real_share, fake_share = (float(np.asarray(ops.convert_to_numpy(share))) for share in shares)
    return DiscriminatorAccuracy(real_share, fake_share, n)
