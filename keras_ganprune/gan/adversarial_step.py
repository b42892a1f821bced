"""The adversarial step, as far as it is the same on every backend and for every kind of generator.

The modules `_step_tensorflow`, `_step_jax` and `_step_torch` take gradients and update weights, each in the
way of its framework. They and this module ask the model what its networks are fed (`unpack`,
`generator_inputs`, `discriminator_inputs`). So nothing here knows of latent vectors or labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.gan.training_log import Judged, StepResult
from keras_ganprune.layers.guard import unchecked


class Batch(NamedTuple):
    """One batch of `fit`, as tensors.

    Attributes:
        real: float32 images (batch, ...) that the discriminator takes for real.
        condition: What the networks get beside latent vectors, such as labels, or None.
        size: Number of images, an int or a scalar tensor.
        weight: The same number, as the running means of the logs take it.
    """

    real: Any
    condition: Any
    size: Any
    weight: Any


def logits(gan: AdversarialModel, images: Any, condition: Any, training: bool) -> Any:
    """Return the discriminator's logits for images.

    They are float32 whatever the policy, and so are losses and penalties: softplus saturates in half
    precision.
    """
    return ops.cast(gan.judge(images, condition, training=training), "float32")


def loss_of_generated(gan: AdversarialModel, batch: Batch, images: Any, training: bool) -> Any:
    """Return the generator's loss for generated images, without regularization."""
    # A relativistic loss compares generated images with real ones.
    needs_real = gan.loss_pair.generator_needs_real
    real_logits = logits(gan, batch.real, batch.condition, training) if needs_real else None
    return gan.loss_pair.generator(logits(gan, images, batch.condition, training), real_logits)


def generator_loss(
    gan: AdversarialModel,
    batch: Batch,
    fake: Any,
    training: bool,
    gradient_at: Callable[[Callable[[Any], tuple[Any, Any]], Any], tuple[Any, Any, Any]],
    scale: Callable[[Any], Any] = lambda loss: loss,
) -> tuple[Any, Any]:
    """Return the generator's loss, and the scaled loss to take gradients of.

    The gradient reaches the generator's weights through the generated images only. This matters if the
    discriminator uses some of these weights too. Then the loss can also fall because these weights make
    a worse discriminator. The generator's optimizer must not follow that slope: it would undo what the
    discriminator's optimizer has learnt. So the slope is taken at the images, and goes back from them
    through the generator alone.

    Args:
        gan: The GAN.
        batch: The batch.
        fake: Generated images, with their derivative with respect to the generator's weights.
        training: Whether the discriminator runs in training mode.
        gradient_at: Function of (function, images), where `function(images)` returns (scalar, rest). It
            returns (scalar, rest, gradient of the scalar at the images).
        scale: Function that scales a loss for mixed precision. Defaults to the identity.
    """
    if not gan.shared_weights:
        loss = loss_of_generated(gan, batch, fake, training)
        return loss, scale(loss)

    def scaled_loss(images):
        loss = loss_of_generated(gan, batch, images, training)
        return scale(loss), loss

    scaled, loss, slope = gradient_at(scaled_loss, ops.stop_gradient(fake))
    # `fake - stop_gradient(fake)` is zero; only its gradient is not.
    through_images = ops.sum(ops.stop_gradient(slope) * (fake - ops.stop_gradient(fake)))
    return loss, ops.stop_gradient(scaled) + ops.cast(through_images, scaled.dtype)


def weighted_generator_loss(
    gan: AdversarialModel,
    batch: Batch,
    fake: Any,
    gradient_at: Callable[..., Any],
    scale: Callable[[Any], Any],
) -> tuple[Any, Any]:
    """Return what `generator_loss` does, times the weight of the adversarial loss, for training."""
    weight = gan.adversarial_weight
    if not weight:
        return ops.zeros((), "float32"), ops.zeros((), "float32")
    loss, scaled = generator_loss(
        gan, batch, fake, True, gradient_at, lambda loss: scale(weight * loss)
    )
    return weight * loss, scaled


def further_losses(gan: AdversarialModel, batch: Batch, inputs: Any, fake: Any) -> dict[str, Any]:
    """Return the terms of the generator's loss beside the adversarial one, by log name."""
    terms = dict(gan.further_losses(fake, batch.real, batch.condition))
    distance = gan.distance_to_teacher(inputs, batch.condition, fake)
    if distance is not None:
        terms["distillation_loss"] = distance
    return terms


def mean_logits(gan: AdversarialModel, batch: Batch, inputs: Any) -> tuple[Any, Any]:
    """Return mean D(G(inputs)) and mean D(real) in inference mode, which changes no state."""
    fake = gan.generator(inputs, training=False)
    return (
        ops.mean(logits(gan, fake, batch.condition, False)),
        ops.mean(logits(gan, batch.real, batch.condition, False)),
    )


def update_average(gan: AdversarialModel, decay: Any) -> None:
    """Move the averaged generator towards the generator.

    Args:
        gan: A GAN with `ema_generator`.
        decay: Scalar, the share of the old average that is kept.
    """
    average_network = gan.ema_generator
    if average_network is None:
        return
    trained = {id(w) for w in gan.generator.trainable_weights}
    for average, weight in zip(average_network.weights, gan.generator.weights, strict=True):
        value = ops.cast(weight.value, average.dtype)
        # Other weights, such as the statistics of a normalization, are copied.
        if id(weight) in trained:
            keep = ops.cast(decay, average.dtype)
            value = keep * average.value + (1.0 - keep) * value
        with unchecked(average):  # An average of masked values is masked.
            average.assign(value)


def test_step(gan: AdversarialModel, batch: Batch, draw: Callable[[], Any]) -> dict[str, Any]:
    """Return the losses and accuracies of the networks as they are, without an update.

    Args:
        gan: The GAN.
        batch: The batch.
        draw: Function that returns new latent vectors for the batch.
    """
    inputs = gan.generator_inputs(batch.condition, draw)
    fake = gan.generator(inputs, training=False)
    g_loss, judged = ops.zeros((), "float32"), None
    if gan.trains_discriminator:
        real_logits = logits(gan, batch.real, batch.condition, False)
        fake_logits = logits(gan, fake, batch.condition, False)
        d_loss = gan.loss_pair.discriminator(real_logits, fake_logits)
        judged = Judged(d_loss, real_logits, fake_logits)
        g_loss = gan.adversarial_weight * gan.loss_pair.generator(fake_logits, real_logits)
    further = gan.further_losses(fake, batch.real, batch.condition)
    # The metrics are those of the network that `predict` uses.
    shown = gan.sampler(inputs, training=False) if gan.measures_sampler else fake
    return gan.log(StepResult(g_loss, judged, batch.weight, None, further, (batch.real, shown)))


def adversarial_loss(
    gan: AdversarialModel, batch: Batch, draw: Callable[[], Any], gradient_at: Callable[..., Any]
) -> Any:
    """Return the generator's loss on new samples, in inference mode; see `GANModel.adversarial_loss`."""
    fake = gan.generator(gan.generator_inputs(batch.condition, draw), training=False)
    return generator_loss(gan, batch, fake, False, gradient_at)[1]


def as_tensors(condition: Any) -> Any:
    """Return a condition as tensors: one array, or a tuple or dictionary of arrays, or None."""
    if isinstance(condition, (tuple, dict)):
        return keras.tree.map_structure(ops.convert_to_tensor, condition)
    return None if condition is None else ops.convert_to_tensor(condition)
