"""The adversarial step on PyTorch: gradients and updates.

Nothing in a step waits for the device. The host needs two values: the seed of the next latent vectors, and
whether the balance is due. It keeps copies of these variables, see `_HostCopies`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from keras import ops

from keras_ganprune.gan import adversarial_step
from keras_ganprune.gan.adversarial_step import Batch, logits
from keras_ganprune.gan.training_log import Balance, Judged, StepResult


class _HostCopies:
    """The host's copies of the values of small integer variables.

    A value is read from the device only if other code has written the variable in the meantime: PyTorch
    counts the writes to a tensor. So a restored checkpoint is noticed.
    """

    def __init__(self):
        # Keys are compared by identity; an entry is dropped with its tensor.
        self._known = torch.utils.weak.WeakTensorKeyDictionary()

    def read(self, variable: keras.Variable) -> Any:
        """Return the value of a variable."""
        tensor = variable.value
        writes, value = self._known.get(tensor, (-1, None))
        if writes != tensor._version:
            value = tensor.tolist()
            self.note(variable, value)
        return value

    def note(self, variable: keras.Variable, value: Any) -> None:
        """Remember the value that this step has written into a variable."""
        tensor = variable.value
        self._known[tensor] = (tensor._version, value)


_host = _HostCopies()


def _scale(loss, optimizer):
    """Scale a loss for mixed precision."""
    return optimizer.scale_loss(loss.to(torch.float32))


def _batches_applied(gan) -> keras.Variable:
    """Return the variable that counts the calls of the generator's optimizer.

    Private touch: with `gradient_accumulation_steps` the public count is a tensor computed from it.
    """
    optimizer = gan.generator_optimizer
    # A loss-scaling optimizer does not count steps itself in every version of Keras.
    return getattr(optimizer, "inner_optimizer", optimizer)._iterations


def _steps_of(gan, batches):
    optimizer = gan.generator_optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return batches // (optimizer.gradient_accumulation_steps or 1)


def _apply(loss, network, optimizer):
    """Update a network. Only its own gradients are taken, and `.grad` stays empty."""
    weights = network.trainable_weights
    gradients = torch.autograd.grad(loss, [w.value for w in weights], allow_unused=True)
    with torch.no_grad():
        optimizer.apply(gradients, weights)


@torch.compiler.disable
def _apply_counted(gan, loss):
    """Update the generator, and count its steps on the host."""
    count = _batches_applied(gan)
    before, writes = _host.read(count), count.value._version
    _apply(loss, gan.generator, gan.generator_optimizer)
    # Loss scaling skips a step whose gradients overflow, and does not count it.
    if count.value._version != writes:
        _host.note(count, before + 1)


@torch.compiler.disable
def _due(gan) -> bool:
    return _steps_of(gan, _host.read(_batches_applied(gan))) % gan.balance_frequency == 0


def _random_generator(gan) -> torch.Generator:
    """Return a source of random numbers for the next state of `gan.noise_seed`."""
    variable = gan.noise_seed.state
    seed, count = _host.read(variable)
    with torch.no_grad():
        # The same as `noise_seed.next()`, but nothing is sent to the device.
        variable.value[1:].add_(1)
    _host.note(variable, [seed, count + 1])
    # Mixed, because PyTorch's generator on a CPU uses 32 bits of a seed only.
    mixed = np.random.SeedSequence([seed, count]).generate_state(1, np.uint32)
    return torch.Generator(variable.value.device).manual_seed(int(mixed[0]))


@torch.compiler.disable
def _sample(gan, batch):
    """Return latent vectors."""
    source = _random_generator(gan)
    return torch.randn((batch, gan.latent_dim), generator=source, device=source.device)


@torch.compiler.disable
def _mix(gan, real):
    """Return a random number in [0, 1) per image, its place between a real and a generated image."""
    source = _random_generator(gan)
    shape = [len(real)] + [1] * (real.ndim - 1)
    return torch.rand(shape, generator=source, device=source.device)


def _batch(gan, data) -> Batch:
    real, condition = gan.unpack(data)
    real: Any = ops.convert_to_tensor(real, dtype="float32")
    # The weight is made on the device: Keras would send a number there, and wait.
    weight = torch.full((), len(real), dtype=torch.float32, device=real.device)
    return Batch(real, adversarial_step.as_tensors(condition), len(real), weight)


def _input_gradient_norm(gan, x, condition, root):
    """Return the squared norm of dD/dx for each sample, or the norm itself if `root`."""
    x = x.detach().requires_grad_()
    values = logits(gan, x, condition, True)
    (gradient,) = torch.autograd.grad(values.sum(), x, create_graph=True)
    squared = gradient.to(torch.float32).square().flatten(1).sum(1)
    # The square root has no slope at zero.
    return torch.sqrt(squared + 1e-12) if root else squared


def _penalties(gan, real, fake, condition):
    total = 0.0
    if gan.gradient_penalty:
        between = real + _mix(gan, real) * (fake.to(real.dtype) - real)
        norm = _input_gradient_norm(gan, between, condition, root=True)
        total = total + gan.gradient_penalty * (norm - 1.0).square().mean()
    if gan.r1_penalty:
        squared = _input_gradient_norm(gan, real, condition, root=False)
        total = total + 0.5 * gan.r1_penalty * squared.mean()
    return total


def _discriminator_update(gan, batch, fake) -> Judged:
    fake = fake.detach()
    with _recorded_as_used(_normalized(gan.discriminator)):
        real_logits = logits(gan, batch.real, batch.condition, True)
        fake_logits = logits(gan, fake, batch.condition, True)
        loss = gan.loss_pair.discriminator(real_logits, fake_logits)
        loss = loss + _penalties(gan, batch.real, fake, batch.condition)
        loss = loss + _regularization(gan.discriminator)
        scaled = _scale(loss, gan.discriminator_optimizer)
        _apply(scaled, gan.discriminator, gan.discriminator_optimizer)
    return Judged(loss.detach(), real_logits.detach(), fake_logits.detach())


def _regularization(network):
    return sum((x.to(torch.float32) for x in network.losses), 0.0)


def _gradient_at(function, images):
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        scalar, rest = function(images)
        (slope,) = torch.autograd.grad(scalar, images, allow_unused=True)
    slope = torch.zeros_like(images) if slope is None else slope
    return scalar.detach(), rest.detach(), slope


def _normalized(network) -> list[keras.Variable]:
    """Return the weights that a forward pass in training writes: spectral normalization divides them."""
    return [
        weight
        for layer in network._flatten_layers()
        if isinstance(layer, keras.layers.SpectralNormalization)
        for weight in layer.layer.trainable_weights
    ]


@contextlib.contextmanager
def _recorded_as_used(weights: Iterable[keras.Variable]):
    """Record copies of some weights, so that gradients are those at the values that were used.

    Keras writes variables in place, and PyTorch refuses to differentiate through a tensor that was
    written after it was recorded. This happens when the other network's optimizer updates a shared
    weight, or when a second forward pass runs spectral normalization.
    """
    memory = {w.value.untyped_storage().data_ptr() for w in weights}
    if not memory:
        yield
        return

    def keep(tensor):
        # The storage is compared, because convolutions record a transposed view.
        return tensor.detach().clone() if tensor.untyped_storage().data_ptr() in memory else tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield


def train_step(gan, data: Any) -> dict[str, Any]:
    """Update the discriminator `discriminator_steps` times, then the generator once.

    The generator runs once for the last discriminator update and for its own update: the updated
    discriminator sees the same images, with the graph that made them. If both networks use a weight, the
    discriminator update changes it in between. The generator's gradient is still the one at the old
    value, which made these images. So both steps on this weight start from one point.
    """
    batch = _batch(gan, data)
    draw = functools.partial(_sample, gan, batch.size)
    for _ in range(gan.discriminator_steps - 1 if gan.trains_discriminator else 0):
        inputs = gan.generator_inputs(batch.condition, draw)
        with torch.no_grad():
            fake = gan.generator(inputs, training=True)
        _discriminator_update(gan, batch, fake)

    inputs = gan.generator_inputs(batch.condition, draw)
    with _recorded_as_used([*_normalized(gan.generator), *gan.shared_weights]):
        fake = gan.generator(inputs, training=True)
        # Read before the discriminator runs: a layer of both networks loses its losses there.
        regularization = _regularization(gan.generator)
    judged = _discriminator_update(gan, batch, fake) if gan.trains_discriminator else None
    with _recorded_as_used(_normalized(gan.discriminator)):
        g_loss, scaled = adversarial_step.weighted_generator_loss(
            gan, batch, fake, _gradient_at, lambda loss: _scale(loss, gan.generator_optimizer)
        )
        if torch.is_tensor(regularization):
            scaled = scaled + _scale(regularization, gan.generator_optimizer)
        further = adversarial_step.further_losses(gan, batch, inputs, fake)
        for term in further.values():
            scaled = scaled + _scale(term, gan.generator_optimizer)
    g_loss = (g_loss + regularization).detach()
    further = {name: term.detach() for name, term in further.items()}

    balance = _update_generator(gan, batch, inputs, scaled)
    if gan.ema_generator is not None:
        with torch.no_grad():
            step = _steps_of(gan, _batches_applied(gan).value).to(torch.float32)
            # The first steps follow faster, so that the average soon forgets the initial weights.
            decay = torch.clamp((1.0 + step) / (10.0 + step), max=gan.ema_decay)
            adversarial_step.update_average(gan, decay)
    pair = (batch.real, fake.detach())
    return gan.log(StepResult(g_loss, judged, batch.weight, balance, further, pair))


def _update_generator(gan, batch, inputs, scaled) -> Balance | None:
    """Update the generator; return the mean logits around the update if the balance is measured."""
    if not gan.balance_frequency:
        _apply(scaled, gan.generator, gan.generator_optimizer)
        return None
    due = _due(gan)
    nothing = (scaled.new_zeros(()), scaled.new_zeros(()))
    before = _mean_logits(gan, batch, inputs) if due else nothing
    _apply_counted(gan, scaled)
    after = _mean_logits(gan, batch, inputs) if due else nothing
    return Balance(scaled.new_full((), due, dtype=torch.bool), before, after)


@torch.no_grad()
def _mean_logits(gan, batch, inputs):
    return adversarial_step.mean_logits(gan, batch, inputs)


def test_step(gan, data: Any) -> dict[str, Any]:
    """Return the losses and accuracies of the networks as they are, without an update."""
    batch = _batch(gan, data)
    return adversarial_step.test_step(gan, batch, functools.partial(_sample, gan, batch.size))


def adversarial_loss(gan, data: Any):
    """Return the generator's loss on new samples, in inference mode."""
    batch = _batch(gan, data)
    draw = functools.partial(_sample, gan, batch.size)
    return adversarial_step.adversarial_loss(gan, batch, draw, _gradient_at)
