"""The adversarial step on JAX: a function of arrays. Inside a scope it is written as on other backends."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import keras

from keras_ganprune.backend._gradients_jax import differentiate, run_on, value_and_gradients
from keras_ganprune.backend.operations import ops
from keras_ganprune.gan import adversarial_step
from keras_ganprune.gan.adversarial_step import Batch, logits
from keras_ganprune.gan.training_log import Balance, Judged, StepResult
from keras_ganprune.training.discovery import trained_variables


def train_step(gan, state: Sequence[list], data: Any) -> tuple[dict[str, Any], tuple]:
    """Update the discriminator `discriminator_steps` times, then the generator once."""
    return run_on(gan, state, lambda: _train(gan, data))


def test_step(gan, state: Sequence[list], data: Any) -> tuple[dict[str, Any], tuple]:
    """Return the losses and accuracies of the networks as they are, without an update."""
    return run_on(gan, state, lambda: _test(gan, data))


# --- inside the scope ----------------------------------------------------------------------------


def _sample(gan, batch):
    return keras.random.normal((batch, gan.latent_dim), dtype="float32", seed=gan.noise_seed)


def _batch(gan, data) -> Batch:
    real, condition = gan.unpack(data)
    real: Any = ops.cast(real, "float32")
    # `fit` without compilation passes NumPy arrays, which Keras does not mix with tensors.
    return Batch(real, adversarial_step.as_tensors(condition), real.shape[0], real.shape[0])


def _regularization(network):
    return sum((ops.cast(x, "float32") for x in network.losses), jnp.zeros(()))


def _apply(optimizer, gradients, weights):
    """Update weights in the scope."""
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer.apply(gradients, weights)
        return
    # This optimizer updates inside a conditional, which needs the update as a function of arrays.
    by_weight = {id(w): g for w, g in zip(weights, gradients, strict=True)}
    trained = trained_variables(optimizer)
    updated: Any = optimizer.stateless_apply(
        [v.value for v in optimizer.variables],
        [by_weight.get(id(w)) for w in trained],
        [w.value for w in trained],
    )
    new_weights, new_state = updated
    for variable, value in zip(
        [*trained, *optimizer.variables], [*new_weights, *new_state], strict=True
    ):
        variable.assign(value)


def _gradient_at(function, images):
    scalar, rest, (slope,) = differentiate(lambda scope, x: function(x), [images])
    return scalar, rest, slope


def _input_gradient_norm(gan, x, condition, root):
    """Return the squared norm of dD/dx for each sample, or the norm itself if `root`."""
    _, _, gradient = _gradient_at(
        lambda images: (ops.sum(logits(gan, images, condition, True)), None), x
    )
    squared = ops.sum(ops.square(ops.cast(gradient, "float32")), axis=tuple(range(1, len(x.shape))))
    # The square root has no slope at zero.
    return ops.sqrt(squared + 1e-12) if root else squared


def _penalties(gan, real, fake, condition):
    total = jnp.zeros(())
    if gan.gradient_penalty:
        shape = (real.shape[0],) + (1,) * (len(real.shape) - 1)
        mix = ops.cast(keras.random.uniform(shape, seed=gan.noise_seed), real.dtype)
        between = real + mix * (ops.cast(fake, real.dtype) - real)
        norm = _input_gradient_norm(gan, between, condition, root=True)
        total += gan.gradient_penalty * ops.mean(ops.square(norm - 1.0))
    if gan.r1_penalty:
        squared = _input_gradient_norm(gan, real, condition, root=False)
        total += 0.5 * gan.r1_penalty * ops.mean(squared)
    return total


def _discriminator_update(gan, batch, fake) -> Judged:
    fake = jax.lax.stop_gradient(fake)

    def scaled_loss():
        real_logits = logits(gan, batch.real, batch.condition, True)
        fake_logits = logits(gan, fake, batch.condition, True)
        loss = gan.loss_pair.discriminator(real_logits, fake_logits)
        loss += _penalties(gan, batch.real, fake, batch.condition)
        loss += _regularization(gan.discriminator)
        return gan.discriminator_optimizer.scale_loss(loss), Judged(loss, real_logits, fake_logits)

    weights = gan.discriminator.trainable_weights
    _, result, gradients = value_and_gradients(scaled_loss, weights)
    _apply(gan.discriminator_optimizer, gradients, weights)
    return result


def _steps_done(gan):
    optimizer = gan.generator_optimizer
    return ops.convert_to_tensor(getattr(optimizer, "inner_optimizer", optimizer).iterations)


def _train(gan, data):
    batch = _batch(gan, data)
    draw = functools.partial(_sample, gan, batch.size)
    for _ in range(gan.discriminator_steps - 1 if gan.trains_discriminator else 0):
        inputs = gan.generator_inputs(batch.condition, draw)
        _discriminator_update(gan, batch, gan.generator(inputs, training=True))

    inputs = gan.generator_inputs(batch.condition, draw)
    scale = gan.generator_optimizer.scale_loss

    # The generator runs once for both updates: its derivative waits until the discriminator is updated.
    # A weight of both networks is changed in between, and the generator updates its new value.
    def both_losses():
        fake = gan.generator(inputs, training=True)
        # Read before the discriminator runs: a layer of both networks loses its losses there.
        regularization = _regularization(gan.generator)
        judged = _discriminator_update(gan, batch, fake) if gan.trains_discriminator else None
        g_loss, scaled = adversarial_step.weighted_generator_loss(
            gan, batch, fake, _gradient_at, scale
        )
        further = adversarial_step.further_losses(gan, batch, inputs, fake)
        for term in further.values():
            scaled += scale(term)
        shown = jax.lax.stop_gradient(fake)
        return scaled + scale(regularization), (judged, g_loss + regularization, further, shown)

    weights = gan.generator.trainable_weights
    # Read before the update, which counts a step.
    due = _steps_done(gan) % gan.balance_frequency == 0 if gan.balance_frequency else None
    _, result, gradients = value_and_gradients(both_losses, weights)
    balance = _update_generator(gan, batch, inputs, gradients, weights, due)
    if gan.ema_generator is not None:
        step = ops.cast(_steps_done(gan), "float32")
        # The first steps follow faster, so that the average soon forgets the initial weights.
        decay = ops.minimum(gan.ema_decay, (1.0 + step) / (10.0 + step))
        adversarial_step.update_average(gan, decay)
    judged, g_loss, further, fake = result
    return gan.log(StepResult(g_loss, judged, batch.weight, balance, further, (batch.real, fake)))


def _update_generator(gan, batch, inputs, gradients, weights, due) -> Balance | None:
    """Update the generator; return the mean logits around the update if the balance is measured."""
    if due is None:
        _apply(gan.generator_optimizer, gradients, weights)
        return None

    def means():
        return jax.lax.cond(
            due,
            lambda: adversarial_step.mean_logits(gan, batch, inputs),
            lambda: (jnp.zeros(()), jnp.zeros(())),
        )

    before = means()
    _apply(gan.generator_optimizer, gradients, weights)
    return Balance(due, before, means())


def _test(gan, data):
    batch = _batch(gan, data)
    return adversarial_step.test_step(gan, batch, functools.partial(_sample, gan, batch.size))


def adversarial_loss(gan, data: Any):
    """Return the generator's loss on new samples, in inference mode."""
    batch = _batch(gan, data)
    draw = functools.partial(_sample, gan, batch.size)
    return adversarial_step.adversarial_loss(gan, batch, draw, _gradient_at)
