"""Criteria that look at how the loss reacts to a weight."""

from __future__ import annotations

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.criteria.base import Criterion, family, require_gradient
from keras_ganprune.pruning.modes import check_batches


class _GradientCriterion(Criterion):
    needs_gradient = True

    def __init__(self, batches: int = 8):
        self.batches = check_batches(batches)

    def get_config(self):
        return {"batches": self.batches}


@family.register
class Gradient(_GradientCriterion):
    """Magnitude of the gradient: weights that the loss does not pull on go first.

        score = mean over batches of |g|

    Args:
        batches: Positive int, batches of the running `fit` that are averaged.

    Example:
    >>> Gradient().score(np.array([5.0, 1.0]), np.array([-0.1, 0.3]))
    array([0.1, 0.3])

    Reference: [Skeletonization](https://papers.nips.cc/paper/1988/hash/07e1cd7dca89a1678042477183b7ac3f-Abstract.html),
    NeurIPS 1988; [RigL](https://arxiv.org/abs/1911.11134) grows by it.
    """

    def score(self, weight, gradient=None):
        return np.abs(require_gradient(self, gradient))


class _Taylor(_GradientCriterion):
    def __init__(self, batches: int = 8, squared: bool = False):
        super().__init__(batches)
        if not isinstance(squared, bool):
            raise InvalidArgumentError(f"`squared` must be True or False. Received: {squared!r}.")
        self.squared = squared
        # |w| * sqrt(mean g^2), squared, is the mean of (w g)^2.
        self.moment = 2 if self.squared else 1

    def get_config(self):
        return {**super().get_config(), "squared": self.squared}

    def score(self, weight, gradient=None):
        product = np.abs(np.multiply(weight, require_gradient(self, gradient)))
        return np.square(product, dtype=np.float64) if self.squared else product


@family.register
class Taylor(_Taylor):
    """First-order Taylor saliency: how much the loss would change if the weight were zero.

        score = mean over batches of |w g|, or of (w g)^2 with `squared`

    Args:
        batches: Positive int, batches of the running `fit` that are averaged.
        squared: Whether each product is squared.

    Example:
    >>> Taylor().score(np.array([5.0, -1.0]), np.array([-0.1, 0.3]))
    array([0.5, 0.3])

    Reference: [Pruning CNNs for resource efficient inference](https://arxiv.org/abs/1611.06440), Eq. 7;
    squared: [Importance estimation for neural network pruning](https://arxiv.org/abs/1906.10771), Eq. 8.
    """


@family.register
class DiscriminatorSaliency(_Taylor):
    """Taylor saliency of the generator's adversarial loss, as the *trained discriminator* judges it.

        score = mean over batches of |w dL/dw|,  L = adversarial loss of D(G(z)), D held fixed

    Train the discriminator, score the generator by its verdict, prune, recover, go on: weights that the
    discriminator would not miss go first. Both networks run in inference mode, so that sampling changes
    no batch statistics. `GANModel` knows its adversarial loss; for a GAN of your own give
    `Prune(..., gradient_loss=function)`.

    Args:
        batches: Positive int, batches of the running `fit` that are averaged.
        squared: Whether each product is squared.

    Example:
    >>> from keras_ganprune import GANModel, Linear, Prune
    >>> g = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> d = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> gan = GANModel(g, d, latent_dim=8, seed=1)
    >>> gan.compile()
    >>> prune = Prune(Linear(0.5, 4, 8), "generator", 2, criterion=DiscriminatorSaliency(batches=2))
    >>> history = gan.fit(np.zeros((32, 4), "float32"), batch_size=4, callbacks=[prune], verbose=0)
    >>> prune.report.kept, prune.report.total
    (16, 32)

    Reference: [Self-supervised GAN compression](https://arxiv.org/abs/2007.01491), §3 (the trained
    discriminator as the judge); the score is that of `Taylor`.
    """

    source = "adversarial"
