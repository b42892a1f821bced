"""The adversarial step on TensorFlow: gradients and updates."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from keras_ganprune.gan import adversarial_step
from keras_ganprune.gan.adversarial_step import Batch, logits
from keras_ganprune.gan.training_log import Balance, Judged, StepResult

# Named, because TensorFlow's default depends on the device and on XLA. (XLA also makes other normal
# numbers of the same bits, so a seed still gives another run there.)
_GENERATOR = "philox"


def _scale(loss, optimizer):
    """Scale a loss for mixed precision and for gradients that are summed over replicas."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    loss = tf.cast(loss, tf.float32)
    return optimizer.scale_loss(loss / replicas if replicas > 1 else loss)


def _steps_done(gan):
    optimizer = gan.generator_optimizer
    # A loss-scaling optimizer does not count steps itself in every version of Keras.
    return getattr(optimizer, "inner_optimizer", optimizer).iterations


def _apply(tape, loss, network, optimizer):
    weights = network.trainable_weights
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))


def _sample(gan, batch, dtype=tf.float32):
    """Return latent vectors; each replica draws its own."""
    seed = tf.cast(gan.noise_seed.next(), tf.int32)
    context = tf.distribute.get_replica_context()
    if context is not None:
        offset = tf.cast(context.replica_id_in_sync_group, tf.int32)
        seed = seed + tf.stack([tf.zeros((), tf.int32), offset])
    return tf.random.stateless_normal((batch, gan.latent_dim), seed, dtype=dtype, alg=_GENERATOR)


def _batch(gan, data) -> Batch:
    real, condition = gan.unpack(data)
    real = tf.cast(real, tf.float32)
    size = tf.shape(real)[0]
    return Batch(real, condition, size, size)


def _input_gradient_norm(gan, x, condition, root):
    """Return the squared norm of dD/dx for each sample, or the norm itself if `root`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = logits(gan, x, condition, True)
    gradient = tf.cast(tape.gradient(values, x), tf.float32)
    squared = tf.reduce_sum(tf.square(gradient), axis=list(range(1, len(gradient.shape))))
    # The square root has no slope at zero.
    return tf.sqrt(squared + 1e-12) if root else squared


def _penalties(gan, real, fake, condition):
    total = tf.zeros(())
    if gan.gradient_penalty:
        shape: Any = [tf.shape(real)[0]] + [1] * (len(real.shape) - 1)
        seed = tf.cast(gan.noise_seed.next(), tf.int32)
        mix = tf.cast(tf.random.stateless_uniform(shape, seed, alg=_GENERATOR), real.dtype)
        between = real + mix * (tf.cast(fake, real.dtype) - real)
        norm = _input_gradient_norm(gan, between, condition, root=True)
        total += gan.gradient_penalty * tf.reduce_mean(tf.square(norm - 1.0))
    if gan.r1_penalty:
        squared = _input_gradient_norm(gan, real, condition, root=False)
        total += 0.5 * gan.r1_penalty * tf.reduce_mean(squared)
    return total


def _discriminator_update(gan, batch, fake) -> Judged:
    fake = tf.stop_gradient(fake)
    with tf.GradientTape() as tape:
        real_logits = logits(gan, batch.real, batch.condition, True)
        fake_logits = logits(gan, fake, batch.condition, True)
        loss = gan.loss_pair.discriminator(real_logits, fake_logits)
        loss += _penalties(gan, batch.real, fake, batch.condition)
        loss += _regularization(gan.discriminator)
        scaled = _scale(loss, gan.discriminator_optimizer)
    _apply(tape, scaled, gan.discriminator, gan.discriminator_optimizer)
    return Judged(loss, real_logits, fake_logits)


def _regularization(network):
    return tf.add_n([tf.cast(x, tf.float32) for x in network.losses]) if network.losses else 0.0


def _gradient_at(function, images):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        scalar, rest = function(images)
    slope = tape.gradient(scalar, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return scalar, rest, slope


def train_step(gan, data: Any) -> dict[str, Any]:
    """Update the discriminator `discriminator_steps` times, then the generator once.

    The generator runs once for the last discriminator update and for its own update: the updated
    discriminator sees the same images, under the tape that recorded them. If both networks use a weight,
    the discriminator update changes it in between. The generator's gradient is still the one at the old
    value, which made these images. So both steps on this weight start from one point.
    """
    batch = _batch(gan, data)
    draw = functools.partial(_sample, gan, batch.size)
    for _ in range(gan.discriminator_steps - 1 if gan.trains_discriminator else 0):
        inputs = gan.generator_inputs(batch.condition, draw)
        _discriminator_update(gan, batch, gan.generator(inputs, training=True))

    inputs = gan.generator_inputs(batch.condition, draw)
    with tf.GradientTape() as tape:
        fake = gan.generator(inputs, training=True)
        # Read before the discriminator runs: a layer of both networks loses its losses there.
        regularization = _regularization(gan.generator)
        with tape.stop_recording():
            judged = _discriminator_update(gan, batch, fake) if gan.trains_discriminator else None
        g_loss, scaled = adversarial_step.weighted_generator_loss(
            gan, batch, fake, _gradient_at, lambda loss: _scale(loss, gan.generator_optimizer)
        )
        scaled += _scale(regularization, gan.generator_optimizer)
        further = adversarial_step.further_losses(gan, batch, inputs, fake)
        for term in further.values():
            scaled += _scale(term, gan.generator_optimizer)
    g_loss += regularization

    balance = _update_generator(gan, batch, inputs, tape, scaled)
    if gan.ema_generator is not None:
        step = tf.cast(_steps_done(gan), tf.float32)
        # The first steps follow faster, so that the average soon forgets the initial weights.
        decay = tf.minimum(gan.ema_decay, (1.0 + step) / (10.0 + step))
        adversarial_step.update_average(gan, decay)
    return gan.log(StepResult(g_loss, judged, batch.weight, balance, further, (batch.real, fake)))


def _update_generator(gan, batch, inputs, tape, scaled) -> Balance | None:
    """Update the generator; return the mean logits around the update if the balance is measured."""
    if not gan.balance_frequency:
        _apply(tape, scaled, gan.generator, gan.generator_optimizer)
        return None

    def means():
        return adversarial_step.mean_logits(gan, batch, inputs)

    due = tf.equal(tf.cast(_steps_done(gan), tf.int64) % gan.balance_frequency, 0)
    nothing = (tf.zeros(()), tf.zeros(()))
    before = tf.cond(due, means, lambda: nothing)
    # `before` must be read before the generator changes.
    with tf.control_dependencies([tf.identity(x) for x in before]):
        _apply(tape, scaled, gan.generator, gan.generator_optimizer)
    return Balance(due, before, tf.cond(due, means, lambda: nothing))


def test_step(gan, data: Any) -> dict[str, Any]:
    """Return the losses and accuracies of the networks as they are, without an update."""
    batch = _batch(gan, data)
    return adversarial_step.test_step(gan, batch, functools.partial(_sample, gan, batch.size))


def adversarial_loss(gan, data: Any):
    """Return the generator's loss on new samples, in inference mode."""
    batch = _batch(gan, data)
    batch = batch._replace(condition=adversarial_step.as_tensors(batch.condition))
    draw = functools.partial(_sample, gan, batch.size)
    return adversarial_step.adversarial_loss(gan, batch, draw, _gradient_at)
