"""The adversarial step on TensorFlow: gradients, updates, averages. Chosen by `GANModel`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Named, since TensorFlow's own choice depends on the device and on XLA. (XLA also makes other normal
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


def _logits(gan, x, labels, training):
    # Losses and penalties in float32, whatever the policy: half precision saturates softplus.
    return tf.cast(gan.judge(x, labels, training=training), tf.float32)


def _sample(gan, batch, dtype=tf.float32):
    """Return latent vectors; each replica draws its own."""
    seed = tf.cast(gan.noise_seed.next(), tf.int32)
    context = tf.distribute.get_replica_context()
    if context is not None:
        offset = tf.cast(context.replica_id_in_sync_group, tf.int32)
        seed = seed + tf.stack([tf.zeros((), tf.int32), offset])
    return tf.random.stateless_normal((batch, gan.latent_dim), seed, dtype=dtype, alg=_GENERATOR)


def _input_gradient_norm(gan, x, labels, training, root):
    """Return the squared (or plain) norm of dD/dx for each sample, and D(x)."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = _logits(gan, x, labels, training)
    gradient = tf.cast(tape.gradient(logits, x), tf.float32)
    squared = tf.reduce_sum(tf.square(gradient), axis=list(range(1, len(gradient.shape))))
    # The root has no slope at zero.
    return tf.sqrt(squared + 1e-12) if root else squared


def _penalties(gan, real, fake, labels):
    total = tf.zeros(())
    if gan.gradient_penalty:
        shape = [tf.shape(real)[0]] + [1] * (len(real.shape) - 1)
        seed = tf.cast(gan.noise_seed.next(), tf.int32)
        mix = tf.cast(tf.random.stateless_uniform(shape, seed, alg=_GENERATOR), real.dtype)
        between = real + mix * (tf.cast(fake, real.dtype) - real)
        norm = _input_gradient_norm(gan, between, labels, True, root=True)
        total += gan.gradient_penalty * tf.reduce_mean(tf.square(norm - 1.0))
    if gan.r1_penalty:
        squared = _input_gradient_norm(gan, real, labels, True, root=False)
        total += 0.5 * gan.r1_penalty * tf.reduce_mean(squared)
    return total


def _discriminator_update(gan, real, fake, labels):
    fake = tf.stop_gradient(fake)
    with tf.GradientTape() as tape:
        real_logits = _logits(gan, real, labels, True)
        fake_logits = _logits(gan, fake, labels, True)
        loss = gan.loss_pair.discriminator(real_logits, fake_logits)
        loss += _penalties(gan, real, fake, labels) + _regularization(gan.discriminator)
        scaled = _scale(loss, gan.discriminator_optimizer)
    _apply(tape, scaled, gan.discriminator, gan.discriminator_optimizer)
    return loss, real_logits, fake_logits


def _regularization(network):
    return tf.add_n([tf.cast(x, tf.float32) for x in network.losses]) if network.losses else 0.0


def _judged(gan, real, fake, labels, training):
    """Return what the generator minimises, as the discriminator judges the samples."""
    # A relativistic loss compares them with real ones.
    needed = gan.loss_pair.generator_needs_real
    real_logits = _logits(gan, real, labels, training) if needed else None
    return gan.loss_pair.generator(_logits(gan, fake, labels, training), real_logits)


def _generator_loss(gan, real, fake, labels, training, scale=tf.identity):
    """Return the adversarial loss, and the scaled one to take gradients of.

    Its gradient reaches the generator's weights through the samples alone. That is all of it, unless
    the discriminator uses some of these weights too: then the loss also falls where they make a worse
    judge, and the generator's optimizer must not see that slope, with which it would undo what the
    discriminator's optimizer learnt. So the slope is taken by the samples, through the discriminator,
    and goes back from them through the generator.
    """
    if not gan.shared_weights:
        loss = _judged(gan, real, fake, labels, training)
        return loss, scale(loss)
    images = tf.stop_gradient(fake)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        loss = _judged(gan, real, images, labels, training)
        scaled = scale(loss)
    slope = tape.gradient(scaled, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # `fake - images` is zero; only its gradient is not.
    through_samples = tf.reduce_sum(tf.stop_gradient(slope) * (fake - images))
    return loss, tf.stop_gradient(scaled) + tf.cast(through_samples, scaled.dtype)


def _inference_means(gan, real, z, labels):
    """Return mean D(G(z)) and mean D(x) in inference mode, which changes no state."""
    fake = gan.synthesize(z, labels, training=False)
    return (
        tf.reduce_mean(_logits(gan, fake, labels, False)),
        tf.reduce_mean(_logits(gan, real, labels, False)),
    )


def train_step(gan, data: Any) -> dict[str, Any]:
    """One round: `discriminator_steps` discriminator updates, then one of the generator.

    The generator runs once for the last discriminator update and its own: the same samples are shown
    to the updated discriminator, under the tape that recorded them. A weight that both networks use is
    changed in between: the generator's gradient is then still the one at the value that the samples
    were made with, exact for these samples, so that both players' steps on it start from one point.
    """
    real, labels = gan.unpack(data)
    real = tf.cast(real, tf.float32)
    batch = tf.shape(real)[0]
    for _ in range(gan.discriminator_steps - 1):
        fake = gan.synthesize(_sample(gan, batch), labels, training=True)
        _discriminator_update(gan, real, fake, labels)

    z = _sample(gan, batch)
    with tf.GradientTape() as tape:
        fake = gan.synthesize(z, labels, training=True)
        # Before the discriminator runs: a layer of both networks forgets its losses there.
        own_loss = _regularization(gan.generator)
        with tape.stop_recording():
            d_loss, real_logits, fake_logits = _discriminator_update(gan, real, fake, labels)
        g_loss, scaled = _generator_loss(
            gan, real, fake, labels, True, lambda loss: _scale(loss, gan.generator_optimizer)
        )
        scaled += _scale(own_loss, gan.generator_optimizer)
        distance = gan.distance_to_teacher(z, labels, fake)
        if distance is not None:
            scaled += _scale(distance, gan.generator_optimizer)
    g_loss += own_loss

    measured = None
    if gan.balance_frequency:
        due = tf.equal(tf.cast(_steps_done(gan), tf.int64) % gan.balance_frequency, 0)
        nothing = (tf.zeros(()), tf.zeros(()))
        before = tf.cond(due, lambda: _inference_means(gan, real, z, labels), lambda: nothing)
        # `before` must be read before the generator changes.
        with tf.control_dependencies([tf.identity(x) for x in before]):
            _apply(tape, scaled, gan.generator, gan.generator_optimizer)
        after = tf.cond(due, lambda: _inference_means(gan, real, z, labels), lambda: nothing)
        measured = (due, before, after)
    else:
        _apply(tape, scaled, gan.generator, gan.generator_optimizer)

    if gan.ema_generator is not None:
        _update_average(gan)
    return gan.log(d_loss, g_loss, real_logits, fake_logits, measured, batch, distance)


def _update_average(gan):
    """Move the averaged generator; its first steps follow faster, so that it starts near the data."""
    step = tf.cast(_steps_done(gan), tf.float32)
    decay = tf.minimum(gan.ema_decay, (1.0 + step) / (10.0 + step))
    trained = {id(w) for w in gan.generator.trainable_weights}
    for average, weight in zip(gan.ema_generator.weights, gan.generator.weights, strict=True):
        value = tf.cast(weight, average.dtype)
        if id(weight) in trained:
            keep = tf.cast(decay, average.dtype)
            value = keep * average + (1.0 - keep) * value
        average.assign(value)


def test_step(gan, data: Any) -> dict[str, Any]:
    """Losses and accuracies of the networks as they are, without an update."""
    real, labels = gan.unpack(data)
    real = tf.cast(real, tf.float32)
    batch = tf.shape(real)[0]
    fake = gan.synthesize(_sample(gan, batch), labels, training=False)
    real_logits = _logits(gan, real, labels, False)
    fake_logits = _logits(gan, fake, labels, False)
    d_loss = gan.loss_pair.discriminator(real_logits, fake_logits)
    g_loss = gan.loss_pair.generator(fake_logits, real_logits)
    return gan.log(d_loss, g_loss, real_logits, fake_logits, None, batch)


def adversarial_loss(gan, data: Any):
    """The generator's loss on fresh samples, in inference mode: see `GANModel.adversarial_loss`."""
    real, labels = gan.unpack(data)
    real = tf.cast(real, tf.float32)
    if labels is not None:
        labels = tf.convert_to_tensor(labels)
    fake = gan.synthesize(_sample(gan, tf.shape(real)[0]), labels, training=False)
    return _generator_loss(gan, real, fake, labels, False)[1]
