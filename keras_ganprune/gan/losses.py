"""Adversarial losses, each one small class: what the two networks minimise, from logits."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils.registry import Configurable, Family


class GANLoss(Configurable):
    """A pair of losses on raw discriminator outputs (logits, no activation).

    Attributes:
        boundary: Float, the logit at which a sample counts as real, or None: then a real sample counts
            as recognised if it scores above the mean fake one, and the other way round.
        generator_needs_real: Bool, whether `generator` needs the logits of real samples too.
    """

    boundary: float | None = 0.0
    generator_needs_real = False

    def discriminator(self, real_logits: Any, fake_logits: Any) -> Any:
        """Return the scalar loss of the discriminator."""
        raise NotImplementedError

    def generator(self, fake_logits: Any, real_logits: Any = None) -> Any:
        """Return the scalar loss of the generator."""
        raise NotImplementedError

    def accuracy(self, real_logits: Any, fake_logits: Any) -> tuple[Any, Any]:
        """Return (share of real samples told as real, share of fake ones told as fake)."""
        for_real = ops.mean(fake_logits) if self.boundary is None else self.boundary
        for_fake = ops.mean(real_logits) if self.boundary is None else self.boundary
        dtype = keras.config.floatx()
        real = ops.mean(ops.cast(real_logits > for_real, dtype))
        return real, ops.mean(ops.cast(fake_logits < for_fake, dtype))


class _Smoothed(GANLoss):
    """Losses with a label for real samples, which may be lowered from 1 (one-sided smoothing)."""

    def __init__(self, label_smoothing: float = 0.0):
        if (
            isinstance(label_smoothing, bool)
            or not isinstance(label_smoothing, (int, float))
            or not 0.0 <= label_smoothing < 1.0
        ):
            raise InvalidArgumentError(
                f"`label_smoothing` must be a fraction in [0, 1). Received: {label_smoothing!r}. "
                "Usual is 0.1: real samples get the label 0.9."
            )
        self.label_smoothing = float(label_smoothing)

    def get_config(self):
        return {"label_smoothing": self.label_smoothing}

    def _real(self, logits):
        # Binary cross-entropy with label 1 - e: (1 - e) * softplus(-x) + e * softplus(x)
        e = self.label_smoothing
        loss = ops.softplus(-logits)
        return ops.mean((1.0 - e) * loss + e * ops.softplus(logits) if e else loss)


_family = Family("GAN loss", GANLoss)


@_family.register
class NonSaturating(_Smoothed):
    """The usual GAN loss: cross-entropy, and a generator that maximises log D(G(z)).

        L_D = mean softplus(-D(x)) + mean softplus(D(G(z)))        L_G = mean softplus(-D(G(z)))

    Args:
        label_smoothing: Float in [0, 1), how far the real label is below 1.

    Reference: [Generative adversarial nets](https://arxiv.org/abs/1406.2661), §3.
    """

    def discriminator(self, real_logits, fake_logits):
        return self._real(real_logits) + ops.mean(ops.softplus(fake_logits))

    def generator(self, fake_logits, real_logits=None):
        return ops.mean(ops.softplus(-fake_logits))


@_family.register
class Minimax(NonSaturating):
    """The original game: the generator minimises log(1 - D(G(z))), that is L_G = -mean softplus(D(G(z))).

    Reference: [Generative adversarial nets](https://arxiv.org/abs/1406.2661), Eq. 1.
    """

    def generator(self, fake_logits, real_logits=None):
        return -ops.mean(ops.softplus(fake_logits))


@_family.register
class Hinge(GANLoss):
    """Hinge loss of SNGAN and BigGAN.

        L_D = mean relu(1 - D(x)) + mean relu(1 + D(G(z)))        L_G = -mean D(G(z))

    Reference: [Geometric GAN](https://arxiv.org/abs/1705.02894), §4.
    """

    def discriminator(self, real_logits, fake_logits):
        return ops.mean(ops.relu(1.0 - real_logits)) + ops.mean(ops.relu(1.0 + fake_logits))

    def generator(self, fake_logits, real_logits=None):
        return -ops.mean(fake_logits)


@_family.register
class LeastSquares(_Smoothed):
    """Least-squares GAN: real is 1 (or 1 - label_smoothing), fake is 0.

        L_D = (mean (D(x) - 1)^2 + mean D(G(z))^2) / 2        L_G = mean (D(G(z)) - 1)^2 / 2

    Reference: [Least squares GAN](https://arxiv.org/abs/1611.04076), Eq. 9.
    """

    boundary = 0.5

    def discriminator(self, real_logits, fake_logits):
        real = ops.mean(ops.square(real_logits - (1.0 - self.label_smoothing)))
        return 0.5 * (real + ops.mean(ops.square(fake_logits)))

    def generator(self, fake_logits, real_logits=None):
        return 0.5 * ops.mean(ops.square(fake_logits - 1.0))


@_family.register
class Wasserstein(GANLoss):
    """Wasserstein critic; needs a Lipschitz bound (gradient penalty, spectral norm or clipping).

        L_D = mean D(G(z)) - mean D(x)        L_G = -mean D(G(z))

    Reference: [Wasserstein GAN](https://arxiv.org/abs/1701.07875), Eq. 2.
    """

    boundary = None

    def discriminator(self, real_logits, fake_logits):
        return ops.mean(fake_logits) - ops.mean(real_logits)

    def generator(self, fake_logits, real_logits=None):
        return -ops.mean(fake_logits)


@_family.register
class Relativistic(_Smoothed):
    """Relativistic average GAN: each side is judged against the mean of the other.

        L_D = mean softplus(-(D(x) - mean D(G(z)))) + mean softplus(D(G(z)) - mean D(x))
        L_G = the same with real and fake exchanged

    Reference: [The relativistic discriminator](https://arxiv.org/abs/1807.00734), §3.3.
    """

    boundary = None
    generator_needs_real = True

    def discriminator(self, real_logits, fake_logits):
        real = self._real(ops.subtract(real_logits, ops.mean(fake_logits)))
        return real + ops.mean(ops.softplus(ops.subtract(fake_logits, ops.mean(real_logits))))

    def generator(self, fake_logits, real_logits=None):
        fake = ops.mean(ops.softplus(ops.subtract(ops.mean(real_logits), fake_logits)))
        return fake + ops.mean(ops.softplus(ops.subtract(real_logits, ops.mean(fake_logits))))


def get(identifier: Any) -> GANLoss:
    """Return the loss for a name, a config or an instance.

    Example:
    >>> get("hinge")
    Hinge()
    """
    return _family.get(identifier)
