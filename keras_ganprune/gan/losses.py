"""Adversarial losses on logits: what the discriminator and the generator minimise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import validation
from keras_ganprune.utils.registry import Configurable, Family

LossName = Literal[
    "non_saturating", "minimax", "hinge", "least_squares", "wasserstein", "relativistic"
]


class GANLoss(Configurable):
    """Base class of adversarial losses: one loss for the discriminator, one for the generator.

    Both are functions of logits, the outputs of a discriminator without an activation. A loss of your
    own is a subclass that defines `discriminator` and `generator`. If its constructor takes arguments,
    `get_config` returns them. Pass an instance: `GANModel(..., loss=MyLoss())`.

    Attributes:
        boundary: Float, the logit above which an image counts as recognised as real. With None, a real
            image counts as recognised if its logit is above the mean logit of the generated images, and
            a generated image if its logit is below the mean logit of the real ones. Defaults to 0.0.
        generator_needs_real: Bool, whether `generator` also needs the logits of real images. Defaults to
            False.

    Example:
    >>> class Quadratic(GANLoss):
    ...     boundary = None
    ...
    ...     def discriminator(self, real_logits, fake_logits):
    ...         return keras.ops.mean(fake_logits) - keras.ops.mean(real_logits)
    ...
    ...     def generator(self, fake_logits, real_logits=None):
    ...         return keras.ops.mean(keras.ops.square(fake_logits - 1.0))
    >>> float(Quadratic().generator(np.array([[0.0], [3.0]], "float32")))
    2.5

    Reference: [Generative adversarial nets](https://arxiv.org/abs/1406.2661).
    """

    boundary: float | None = 0.0
    generator_needs_real = False

    def discriminator(self, real_logits: Any, fake_logits: Any) -> Any:
        """Return the loss of the discriminator.

        Args:
            real_logits: Tensor (batch, 1) for real images.
            fake_logits: Tensor (batch, 1) for generated images.

        Returns: Scalar tensor.
        """
        raise NotImplementedError

    def generator(self, fake_logits: Any, real_logits: Any = None) -> Any:
        """Return the loss of the generator.

        Args:
            fake_logits: Tensor (batch, 1) for generated images.
            real_logits: Tensor (batch, 1) for real images. It is None unless `generator_needs_real` is
                true. Defaults to None.

        Returns: Scalar tensor.
        """
        raise NotImplementedError

    def accuracy(self, real_logits: Any, fake_logits: Any) -> tuple[Any, Any]:
        """Return the shares of real and of generated images that the discriminator recognises.

        Args:
            real_logits: Tensor (batch, 1) for real images.
            fake_logits: Tensor (batch, 1) for generated images.

        Returns: Two scalar tensors in [0, 1]: share of real images recognised as real, share of
            generated images recognised as generated.

        Example:
        >>> real, fake = Hinge().accuracy(np.array([[1.0], [-1.0]]), np.array([[-2.0], [-1.0]]))
        >>> float(real), float(fake)
        (0.5, 1.0)
        """
        for_real = ops.mean(fake_logits) if self.boundary is None else self.boundary
        for_fake = ops.mean(real_logits) if self.boundary is None else self.boundary
        dtype = keras.config.floatx()
        real = ops.mean(ops.cast(real_logits > for_real, dtype))
        return real, ops.mean(ops.cast(fake_logits < for_fake, dtype))


LossLike = LossName | GANLoss | Mapping[str, Any]


class _Smoothed(GANLoss):
    """Base of losses with a label for real samples, which may be below 1 (one-sided smoothing)."""

    def __init__(self, label_smoothing: float = 0.0):
        if not validation.is_number(label_smoothing) or not 0.0 <= label_smoothing < 1.0:
            raise InvalidArgumentError(
                f"`label_smoothing` must be a fraction in [0, 1). Received: {label_smoothing!r}. "
                "Usual is 0.1: real samples get the label 0.9."
            )
        self.label_smoothing = float(label_smoothing)

    def get_config(self):
        """Return the arguments of the constructor."""
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
        label_smoothing: Float in [0, 1), how far the real label is below 1. Defaults to 0.0.

    Raises:
        InvalidArgumentError: `label_smoothing` is not a number in [0, 1).

    Example:
    >>> round(float(NonSaturating().generator(np.zeros((2, 1), "float32"))), 4)  # log 2
    0.6931

    Reference: [Generative adversarial nets](https://arxiv.org/abs/1406.2661), §3.
    """

    def discriminator(self, real_logits, fake_logits):
        """Return the loss of the discriminator, a scalar."""
        return self._real(real_logits) + ops.mean(ops.softplus(fake_logits))

    def generator(self, fake_logits, real_logits=None):
        """Return the loss of the generator, a scalar."""
        return ops.mean(ops.softplus(-fake_logits))


@_family.register
class Minimax(NonSaturating):
    """The original game: the generator minimises log(1 - D(G(z))).

        L_D = mean softplus(-D(x)) + mean softplus(D(G(z)))        L_G = -mean softplus(D(G(z)))

    Args:
        label_smoothing: Float in [0, 1), how far the real label is below 1. Defaults to 0.0.

    Raises:
        InvalidArgumentError: `label_smoothing` is not a number in [0, 1).

    Example:
    >>> round(float(Minimax().generator(np.zeros((2, 1), "float32"))), 4)  # log 1/2
    -0.6931

    Reference: [Generative adversarial nets](https://arxiv.org/abs/1406.2661), Eq. 1.
    """

    def generator(self, fake_logits, real_logits=None):
        """Return the loss of the generator, a scalar."""
        return -ops.mean(ops.softplus(fake_logits))


@_family.register
class Hinge(GANLoss):
    """Hinge loss of SNGAN and BigGAN.

        L_D = mean relu(1 - D(x)) + mean relu(1 + D(G(z)))        L_G = -mean D(G(z))

    Example:
    >>> float(Hinge().discriminator(np.array([[0.5]], "float32"), np.array([[-2.0]], "float32")))
    0.5

    Reference: [Geometric GAN](https://arxiv.org/abs/1705.02894), §4.
    """

    def discriminator(self, real_logits, fake_logits):
        """Return the loss of the discriminator, a scalar."""
        return ops.mean(ops.relu(1.0 - real_logits)) + ops.mean(ops.relu(1.0 + fake_logits))

    def generator(self, fake_logits, real_logits=None):
        """Return the loss of the generator, a scalar."""
        return -ops.mean(fake_logits)


@_family.register
class LeastSquares(_Smoothed):
    """Least-squares GAN: the real label is 1 (or 1 - label_smoothing), the fake label is 0.

        L_D = (mean (D(x) - 1)^2 + mean D(G(z))^2) / 2        L_G = mean (D(G(z)) - 1)^2 / 2

    Args:
        label_smoothing: Float in [0, 1), how far the real label is below 1. Defaults to 0.0.

    Raises:
        InvalidArgumentError: `label_smoothing` is not a number in [0, 1).

    Example:
    >>> float(LeastSquares().generator(np.array([[3.0]], "float32")))
    2.0

    Reference: [Least squares GAN](https://arxiv.org/abs/1611.04076), Eq. 9.
    """

    boundary = 0.5

    def discriminator(self, real_logits, fake_logits):
        """Return the loss of the discriminator, a scalar."""
        real = ops.mean(ops.square(real_logits - (1.0 - self.label_smoothing)))
        return 0.5 * (real + ops.mean(ops.square(fake_logits)))

    def generator(self, fake_logits, real_logits=None):
        """Return the loss of the generator, a scalar."""
        return 0.5 * ops.mean(ops.square(fake_logits - 1.0))


@_family.register
class Wasserstein(GANLoss):
    """Wasserstein critic. It needs a Lipschitz bound: gradient penalty, spectral norm or clipping.

        L_D = mean D(G(z)) - mean D(x)        L_G = -mean D(G(z))

    Example:
    >>> float(Wasserstein().discriminator(np.array([[2.0]], "float32"), np.array([[0.5]], "float32")))
    -1.5

    Reference: [Wasserstein GAN](https://arxiv.org/abs/1701.07875), Eq. 2.
    """

    boundary = None

    def discriminator(self, real_logits, fake_logits):
        """Return the loss of the discriminator, a scalar."""
        return ops.mean(fake_logits) - ops.mean(real_logits)

    def generator(self, fake_logits, real_logits=None):
        """Return the loss of the generator, a scalar."""
        return -ops.mean(fake_logits)


@_family.register
class Relativistic(_Smoothed):
    """Relativistic average GAN: each logit is compared with the mean logit of the other side.

        L_D = mean softplus(-(D(x) - mean D(G(z)))) + mean softplus(D(G(z)) - mean D(x))
        L_G = the same with real and fake exchanged

    Args:
        label_smoothing: Float in [0, 1), how far the real label is below 1, in L_D. Defaults to 0.0.

    Raises:
        InvalidArgumentError: `label_smoothing` is not a number in [0, 1).

    Example:
    >>> logits = np.zeros((2, 1), "float32")
    >>> round(float(Relativistic().generator(logits, logits)), 4)  # 2 log 2
    1.3863

    Reference: [The relativistic discriminator](https://arxiv.org/abs/1807.00734), §3.3.
    """

    boundary = None
    generator_needs_real = True

    def discriminator(self, real_logits, fake_logits):
        """Return the loss of the discriminator, a scalar."""
        real = self._real(ops.subtract(real_logits, ops.mean(fake_logits)))
        return real + ops.mean(ops.softplus(ops.subtract(fake_logits, ops.mean(real_logits))))

    def generator(self, fake_logits, real_logits=None):
        """Return the loss of the generator, a scalar."""
        fake = ops.mean(ops.softplus(ops.subtract(ops.mean(real_logits), fake_logits)))
        return fake + ops.mean(ops.softplus(ops.subtract(real_logits, ops.mean(fake_logits))))


def names() -> list[str]:
    """Return the names of the losses.

    Example:
    >>> names()[0]
    'hinge'
    """
    return sorted(_family.members)


def get(identifier: LossLike | str) -> GANLoss:
    """Return the loss for a name, a config or an instance.

    Args:
        identifier: Name of a loss, its Keras config, or a `GANLoss`.

    Raises:
        InvalidArgumentError: No loss has this name.
        TypeError: `identifier` is not a name, a config or a `GANLoss`.

    Example:
    >>> get("hinge")
    Hinge()
    """
    return _family.get(identifier)


def smoothed(loss: GANLoss, label_smoothing: float) -> GANLoss:
    """Return a loss with label smoothing, or the loss itself if `label_smoothing` is 0.

    Raises:
        InvalidArgumentError: The loss has no labels, or `label_smoothing` is not a number in [0, 1).
    """
    if not label_smoothing:
        return loss
    if "label_smoothing" not in loss.get_config():
        raise InvalidArgumentError(
            f"`label_smoothing` needs a loss with labels. {type(loss).__name__} has none; use "
            "'non_saturating', 'minimax', 'least_squares' or 'relativistic', or leave it at 0."
        )
    return type(loss)(**{**loss.get_config(), "label_smoothing": label_smoothing})
