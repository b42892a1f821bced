"""The adversarial step on PyTorch: gradients, updates, averages. Chosen by `GANModel`.

Nothing in a step waits for the device: what the host must know (the seed of the next latent vectors,
whether the balance is due) it counts along with the variables on the device, see `_HostCopies`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import torch
from keras import ops


class _HostCopies:
    """What small integer variables hold, known to the host without asking the device.

    A value is read from the device only when somebody else has written the variable since: PyTorch
    counts the writes to a tensor. So a restored checkpoint is seen.
    """

    def __init__(self):
        # Keyed by identity, and gone with the tensor.
        self._known = torch.utils.weak.WeakTensorKeyDictionary()

    def read(self, variable: keras.Variable) -> Any:
        tensor = variable.value
        writes, value = self._known.get(tensor, (-1, None))
        if writes != tensor._version:
            value = tensor.tolist()
            self.note(variable, value)
        return value

    def note(self, variable: keras.Variable, value: Any) -> None:
        """Remember what this step has written into a variable."""
        tensor = variable.value
        self._known[tensor] = (tensor._version, value)


_host = _HostCopies()


def _scale(loss, optimizer):
    """Scale a loss for mixed precision."""
    return optimizer.scale_loss(loss.to(torch.float32))


def _batches_applied(gan) -> keras.Variable:
    """Return the variable that counts calls of the generator's optimizer.

    Private touch: with `gradient_accumulation_steps` the public count is a tensor made of it.
    """
    optimizer = gan.generator_optimizer
    # A loss-scaling optimizer does not count steps itself in every version of Keras.
    return getattr(optimizer, "inner_optimizer", optimizer)._iterations


def _steps_of(gan, batches):
    optimizer = gan.generator_optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return batches // (optimizer.gradient_accumulation_steps or 1)


def _apply(loss, network, optimizer):
    """Update a network; only its own gradients are taken, none are left in `.grad`."""
    weights = network.trainable_weights
    gradients = torch.autograd.grad(loss, [w.value for w in weights], allow_unused=True)
    with torch.no_grad():
        optimizer.apply(gradients, weights)


@torch.compiler.disable
def _apply_counted(gan, loss):
    """Update the generator, and keep count of its steps on the host."""
    count = _batches_applied(gan)
    before, writes = _host.read(count), count.value._version
    _apply(loss, gan.generator, gan.generator_optimizer)
    # Loss scaling leaves out a step whose gradients overflow, and then does not count it.
    if count.value._version != writes:
        _host.note(count, before + 1)


@torch.compiler.disable
def _due(gan) -> bool:
    return _steps_of(gan, _host.read(_batches_applied(gan))) % gan.balance_frequency == 0


def _logits(gan, x, labels, training):
    # Losses and penalties in float32, whatever the policy: half precision saturates softplus.
    return gan.judge(x, labels, training=training).to(torch.float32)


def _random_generator(gan) -> torch.Generator:
    """Return a source of random numbers for the next state of `gan.noise_seed`."""
    variable = gan.noise_seed.state
    seed, count = _host.read(variable)
    with torch.no_grad():
        # As `noise_seed.next()` does, but with nothing sent to the device.
        variable.value[1:].add_(1)
    _host.note(variable, [seed, count + 1])
    # Mixed, since PyTorch's generator on a CPU looks at 32 bits only.
    mixed = np.random.SeedSequence([seed, count]).generate_state(1, np.uint32)
    return torch.Generator(variable.value.device).manual_seed(int(mixed[0]))


@torch.compiler.disable
def _sample(gan, batch):
    """Return latent vectors."""
    source = _random_generator(gan)
    return torch.randn((batch, gan.latent_dim), generator=source, device=source.device)


@torch.compiler.disable
def _mix(gan, real):
    """Return for each image where on the way from it to a generated one a sample is taken."""
    source = _random_generator(gan)
    shape = [len(real)] + [1] * (real.ndim - 1)
    return torch.rand(shape, generator=source, device=source.device)


def _input_gradient_norm(gan, x, labels, training, root):
    """Return the squared (or plain) norm of dD/dx for each sample."""
    x = x.detach().requires_grad_()
    logits = _logits(gan, x, labels, training)
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    squared = gradient.to(torch.float32).square().flatten(1).sum(1)
    # The root has no slope at zero.
    return torch.sqrt(squared + 1e-12) if root else squared


def _penalties(gan, real, fake, labels):
    total = 0.0
    if gan.gradient_penalty:
        between = real + _mix(gan, real) * (fake.to(real.dtype) - real)
        norm = _input_gradient_norm(gan, between, labels, True, root=True)
        total = total + gan.gradient_penalty * (norm - 1.0).square().mean()
    if gan.r1_penalty:
        squared = _input_gradient_norm(gan, real, labels, True, root=False)
        total = total + 0.5 * gan.r1_penalty * squared.mean()
    return total


def _discriminator_update(gan, real, fake, labels):
    fake = fake.detach()
    with _kept_as_used(_normalized(gan.discriminator)):
        real_logits = _logits(gan, real, labels, True)
        fake_logits = _logits(gan, fake, labels, True)
        loss = gan.loss_pair.discriminator(real_logits, fake_logits)
        loss = loss + _penalties(gan, real, fake, labels) + _regularization(gan.discriminator)
        scaled = _scale(loss, gan.discriminator_optimizer)
        _apply(scaled, gan.discriminator, gan.discriminator_optimizer)
    return loss.detach(), real_logits.detach(), fake_logits.detach()


def _regularization(network):
    return sum((x.to(torch.float32) for x in network.losses), 0.0)


def _judged(gan, real, fake, labels, training):
    """Return what the generator minimises, as the discriminator judges the samples."""
    # A relativistic loss compares them with real ones.
    needed = gan.loss_pair.generator_needs_real
    real_logits = _logits(gan, real, labels, training) if needed else None
    return gan.loss_pair.generator(_logits(gan, fake, labels, training), real_logits)


def _generator_loss(gan, real, fake, labels, training, scale=lambda loss: loss):
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
    images = fake.detach().requires_grad_()
    with torch.enable_grad():
        loss = _judged(gan, real, images, labels, training)
        scaled = scale(loss)
        (slope,) = torch.autograd.grad(scaled, images, allow_unused=True)
    loss, scaled = loss.detach(), scaled.detach()
    if slope is None:
        return loss, scaled
    # `fake - images` is zero; only its gradient is not.
    through_samples = (slope * (fake - images.detach())).sum()
    return loss, scaled + through_samples.to(scaled.dtype)


def _normalized(network) -> list[keras.Variable]:
    """Return the weights that a training forward writes: spectral normalization divides its kernel."""
    return [
        weight
        for layer in network._flatten_layers()
        if isinstance(layer, keras.layers.SpectralNormalization)
        for weight in layer.layer.trainable_weights
    ]


@contextlib.contextmanager
def _kept_as_used(weights: Iterable[keras.Variable]):
    """Record with copies of some weights, so that gradients are those at the values that were used.

    Keras writes variables in place. PyTorch would refuse to go back through a weight that was written
    since: by the other network's optimizer, or by a second pass through spectral normalization.
    """
    memory = {w.value.untyped_storage().data_ptr() for w in weights}
    if not memory:
        yield
        return

    def keep(tensor):
        # Also a transposed view, as convolutions record it.
        return tensor.detach().clone() if tensor.untyped_storage().data_ptr() in memory else tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield


def _inference_means(gan, real, z, labels):
    """Return mean D(G(z)) and mean D(x) in inference mode, which changes no state."""
    with torch.no_grad():
        fake = gan.synthesize(z, labels, training=False)
        return _logits(gan, fake, labels, False).mean(), _logits(gan, real, labels, False).mean()


def _weight(batch, loss):
    """Return the size of a batch, made on the device: Keras would send a number there, and wait."""
    return torch.full_like(loss, batch)


def _unpacked(gan, data):
    real, labels = gan.unpack(data)
    if labels is not None:
        labels = ops.convert_to_tensor(labels)
    return ops.convert_to_tensor(real, dtype="float32"), labels


def train_step(gan, data: Any) -> dict[str, Any]:
    """One round: `discriminator_steps` discriminator updates, then one of the generator.

    The generator runs once for the last discriminator update and its own: the same samples are shown
    to the updated discriminator, with the graph that made them. A weight that both networks use is
    changed in between: the generator's gradient is then still the one at the value that the samples
    were made with, exact for these samples, so that both players' steps on it start from one point.
    """
    real, labels = _unpacked(gan, data)
    batch = len(real)
    for _ in range(gan.discriminator_steps - 1):
        with torch.no_grad():
            fake = gan.synthesize(_sample(gan, batch), labels, training=True)
        _discriminator_update(gan, real, fake, labels)

    z = _sample(gan, batch)
    with _kept_as_used([*_normalized(gan.generator), *gan.shared_weights]):
        fake = gan.synthesize(z, labels, training=True)
        # Before the discriminator runs: a layer of both networks forgets its losses there.
        own_loss = _regularization(gan.generator)
    d_loss, real_logits, fake_logits = _discriminator_update(gan, real, fake, labels)
    with _kept_as_used(_normalized(gan.discriminator)):
        g_loss, scaled = _generator_loss(
            gan, real, fake, labels, True, lambda loss: _scale(loss, gan.generator_optimizer)
        )
        if torch.is_tensor(own_loss):
            scaled = scaled + _scale(own_loss, gan.generator_optimizer)
        distance = gan.distance_to_teacher(z, labels, fake)
        if distance is not None:
            scaled = scaled + _scale(distance, gan.generator_optimizer)
            distance = distance.detach()
    g_loss = (g_loss + own_loss).detach()

    measured = None
    if gan.balance_frequency:
        due = _due(gan)
        nothing = (torch.zeros_like(g_loss),) * 2
        before = _inference_means(gan, real, z, labels) if due else nothing
        _apply_counted(gan, scaled)
        after = _inference_means(gan, real, z, labels) if due else nothing
        measured = (torch.full_like(g_loss, due, dtype=torch.bool), before, after)
    else:
        _apply(scaled, gan.generator, gan.generator_optimizer)

    if gan.ema_generator is not None:
        _update_average(gan)
    return gan.log(
        d_loss, g_loss, real_logits, fake_logits, measured, _weight(batch, g_loss), distance
    )


@torch.no_grad()
def _update_average(gan):
    """Move the averaged generator; its first steps follow faster, so that it starts near the data."""
    step = _steps_of(gan, _batches_applied(gan).value).to(torch.float32)
    decay = torch.clamp((1.0 + step) / (10.0 + step), max=gan.ema_decay)
    trained = {id(w) for w in gan.generator.trainable_weights}
    for average, weight in zip(gan.ema_generator.weights, gan.generator.weights, strict=True):
        value = weight.value.to(average.value.dtype)
        if id(weight) in trained:
            keep = decay.to(value.dtype)
            value = keep * average.value + (1.0 - keep) * value
        average.assign(value)


def test_step(gan, data: Any) -> dict[str, Any]:
    """Losses and accuracies of the networks as they are, without an update."""
    real, labels = _unpacked(gan, data)
    fake = gan.synthesize(_sample(gan, len(real)), labels, training=False)
    real_logits = _logits(gan, real, labels, False)
    fake_logits = _logits(gan, fake, labels, False)
    d_loss = gan.loss_pair.discriminator(real_logits, fake_logits)
    g_loss = gan.loss_pair.generator(fake_logits, real_logits)
    return gan.log(d_loss, g_loss, real_logits, fake_logits, None, _weight(len(real), g_loss))


def adversarial_loss(gan, data: Any):
    """The generator's loss on fresh samples, in inference mode: see `GANModel.adversarial_loss`."""
    real, labels = _unpacked(gan, data)
    fake = gan.synthesize(_sample(gan, len(real)), labels, training=False)
    return _generator_loss(gan, real, fake, labels, False)[1]
