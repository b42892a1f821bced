"""The adversarial step on JAX: a function of arrays, written as on the other backends inside a scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
from keras import ops

from keras_ganprune.backend._gradients_jax import differentiate, run_on, value_and_gradients
from keras_ganprune.training.discovery import trained_variables


def train_step(gan, state: Sequence[list], data: Any) -> tuple[dict[str, Any], tuple]:
    """One round: `discriminator_steps` discriminator updates, then one of the generator."""
    return run_on(gan, state, lambda: _train(gan, data))


def test_step(gan, state: Sequence[list], data: Any) -> tuple[dict[str, Any], tuple]:
    """Losses and accuracies of the networks as they are, without an update."""
    return run_on(gan, state, lambda: _test(gan, data))


# --- what happens inside -------------------------------------------------------------------------


def _logits(gan, x, labels, training):
    # Losses and penalties in float32, whatever the policy: half precision saturates softplus.
    return ops.cast(gan.judge(x, labels, training=training), "float32")


def _sample(gan, batch):
    return keras.random.normal((batch, gan.latent_dim), dtype="float32", seed=gan.noise_seed)


def _regularization(network):
    return sum((ops.cast(x, "float32") for x in network.losses), jnp.zeros(()))


def _apply(optimizer, gradients, weights):
    """Let an optimizer update weights in the scope."""
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer.apply(gradients, weights)
        return
    # It decides in a conditional whether to update, so that the update itself must be a function.
    found = {id(w): g for w, g in zip(weights, gradients, strict=True)}
    trained = trained_variables(optimizer)
    new_weights, new_state = optimizer.stateless_apply(
        [v.value for v in optimizer.variables],
        [found.get(id(w)) for w in trained],
        [w.value for w in trained],
    )
    for variable, value in zip(
        [*trained, *optimizer.variables], [*new_weights, *new_state], strict=True
    ):
        variable.assign(value)


def _input_gradient_norm(gan, x, labels, root):
    """Return the squared (or plain) norm of dD/dx for each sample."""

    def total(scope, x):
        return ops.sum(_logits(gan, x, labels, True)), None

    _, _, (gradient,) = differentiate(total, [x])
    squared = ops.sum(ops.square(ops.cast(gradient, "float32")), axis=tuple(range(1, len(x.shape))))
    # The root has no slope at zero.
    return ops.sqrt(squared + 1e-12) if root else squared


def _penalties(gan, real, fake, labels):
    total = jnp.zeros(())
    if gan.gradient_penalty:
        shape = (real.shape[0],) + (1,) * (len(real.shape) - 1)
        mix = ops.cast(keras.random.uniform(shape, seed=gan.noise_seed), real.dtype)
        between = real + mix * (ops.cast(fake, real.dtype) - real)
        norm = _input_gradient_norm(gan, between, labels, root=True)
        total += gan.gradient_penalty * ops.mean(ops.square(norm - 1.0))
    if gan.r1_penalty:
        squared = _input_gradient_norm(gan, real, labels, root=False)
        total += 0.5 * gan.r1_penalty * ops.mean(squared)
    return total


def _discriminator_update(gan, real, fake, labels):
    fake = jax.lax.stop_gradient(fake)

    def loss():
        real_logits = _logits(gan, real, labels, True)
        fake_logits = _logits(gan, fake, labels, True)
        loss = gan.loss_pair.discriminator(real_logits, fake_logits)
        loss += _penalties(gan, real, fake, labels) + _regularization(gan.discriminator)
        return gan.discriminator_optimizer.scale_loss(loss), (loss, real_logits, fake_logits)

    weights = gan.discriminator.trainable_weights
    _, rest, gradients = value_and_gradients(loss, weights)
    _apply(gan.discriminator_optimizer, gradients, weights)
    return rest


def _judged(gan, real, fake, labels, training):
    """Return what the generator minimises, as the discriminator judges the samples."""
    # A relativistic loss compares them with real ones.
    needed = gan.loss_pair.generator_needs_real
    real_logits = _logits(gan, real, labels, training) if needed else None
    return gan.loss_pair.generator(_logits(gan, fake, labels, training), real_logits)


def _generator_loss(gan, real, fake, labels, training, scale=lambda loss: loss):
    """Return the adversarial loss, and the scaled one to take gradients of.

    The gradient reaches the generator's weights through the samples alone; see the step on TensorFlow,
    which says why that matters where the discriminator uses some of these weights too.
    """
    if not gan.shared_weights:
        loss = _judged(gan, real, fake, labels, training)
        return loss, scale(loss)

    def judged(scope, images):
        loss = _judged(gan, real, images, labels, training)
        return scale(loss), loss

    scaled, loss, (slope,) = differentiate(judged, [jax.lax.stop_gradient(fake)])
    # `fake - images` is zero; only its gradient is not.
    through_samples = ops.sum(jax.lax.stop_gradient(slope) * (fake - jax.lax.stop_gradient(fake)))
    return loss, jax.lax.stop_gradient(scaled) + ops.cast(through_samples, scaled.dtype)


def _inference_means(gan, real, z, labels):
    """Return mean D(G(z)) and mean D(x) in inference mode, which changes no state."""
    fake = gan.synthesize(z, labels, training=False)
    return (
        ops.mean(_logits(gan, fake, labels, False)),
        ops.mean(_logits(gan, real, labels, False)),
    )


def _steps_done(gan):
    optimizer = gan.generator_optimizer
    return ops.convert_to_tensor(getattr(optimizer, "inner_optimizer", optimizer).iterations)


def _train(gan, data):
    real, labels = gan.unpack(data)
    real = ops.cast(real, "float32")
    batch = real.shape[0]
    for _ in range(gan.discriminator_steps - 1):
        fake = gan.synthesize(_sample(gan, batch), labels, training=True)
        _discriminator_update(gan, real, fake, labels)

    z = _sample(gan, batch)
    due = measured = None
    if gan.balance_frequency:
        due = _steps_done(gan) % gan.balance_frequency == 0
    weights = gan.generator.trainable_weights

    # One forward of the generator for both updates: its derivative waits until the discriminator is
    # updated. A weight of both networks is then changed in between, and goes on from its new value.
    def both_losses():
        fake = gan.synthesize(z, labels, training=True)
        # Before the discriminator runs: a layer of both networks forgets its losses there.
        own_loss = _regularization(gan.generator)
        d_loss, real_logits, fake_logits = _discriminator_update(gan, real, fake, labels)
        scale = gan.generator_optimizer.scale_loss
        g_loss, scaled = _generator_loss(gan, real, fake, labels, True, scale)
        distance = gan.distance_to_teacher(z, labels, fake)
        if distance is not None:
            scaled += scale(distance)
        rest = (g_loss + own_loss, d_loss, real_logits, fake_logits, distance)
        return scaled + scale(own_loss), rest

    _, (g_loss, d_loss, real_logits, fake_logits, distance), gradients = value_and_gradients(
        both_losses, weights
    )
    nothing = (jnp.zeros(()), jnp.zeros(()))

    def means():
        return jax.lax.cond(due, lambda: _inference_means(gan, real, z, labels), lambda: nothing)

    if due is not None:
        first = means()
    _apply(gan.generator_optimizer, gradients, weights)
    if due is not None:
        measured = (due, first, means())
    if gan.ema_generator is not None:
        _update_average(gan)
    return gan.log(d_loss, g_loss, real_logits, fake_logits, measured, batch, distance)


def _update_average(gan):
    """Move the averaged generator; its first steps follow faster, so that it starts near the data."""
    step = ops.cast(_steps_done(gan), "float32")
    decay = ops.minimum(gan.ema_decay, (1.0 + step) / (10.0 + step))
    trained = {id(w) for w in gan.generator.trainable_weights}
    for average, weight in zip(gan.ema_generator.weights, gan.generator.weights, strict=True):
        value = ops.cast(weight.value, average.dtype)
        if id(weight) in trained:
            keep = ops.cast(decay, average.dtype)
            value = keep * average.value + (1.0 - keep) * value
        average.assign(value)


def _test(gan, data):
    real, labels = gan.unpack(data)
    real = ops.cast(real, "float32")
    batch = real.shape[0]
    fake = gan.synthesize(_sample(gan, batch), labels, training=False)
    real_logits = _logits(gan, real, labels, False)
    fake_logits = _logits(gan, fake, labels, False)
    d_loss = gan.loss_pair.discriminator(real_logits, fake_logits)
    g_loss = gan.loss_pair.generator(fake_logits, real_logits)
    return gan.log(d_loss, g_loss, real_logits, fake_logits, None, batch)


def adversarial_loss(gan, data: Any):
    """The generator's loss on fresh samples, in inference mode: see `GANModel.adversarial_loss`."""
    real, labels = gan.unpack(data)
    real = ops.cast(real, "float32")
    if labels is not None:
        labels = ops.convert_to_tensor(labels)
    fake = gan.synthesize(_sample(gan, real.shape[0]), labels, training=False)
    return _generator_loss(gan, real, fake, labels, False)[1]
