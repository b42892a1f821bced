"""Scores by the gradient of the loss."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.criteria.base import Criterion, family, require_gradient
from keras_ganprune.utils import validation


class GradientCriterion(Criterion):
    """Base class of criteria that average gradients over batches of the running `fit`."""

    needs_gradient = True

    def __init__(self, batches: int = 8):
        self.batches = validation.positive_int(batches, "batches")

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"batches": self.batches}


@family.register
class Gradient(GradientCriterion):
    """Magnitude of the gradient: weights with small gradients are pruned first.

        score = mean over batches of |g|

    Args:
        batches: Positive int, number of batches of the running `fit` that are averaged. Defaults to 8.

    Raises:
        InvalidArgumentError: `batches` is not a positive int.

    Example:
    >>> Gradient().score(np.array([5.0, 1.0]), np.array([-0.1, 0.3]))
    array([0.1, 0.3])

    Reference:
        [Skeletonization](https://papers.nips.cc/paper/1988/hash/07e1cd7dca89a1678042477183b7ac3f-Abstract.html),
        NeurIPS 1988. `RigL` regrows weights by the same score.
    """

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return |g|.

        Raises:
            InvalidArgumentError: `gradient` is None.
        """
        return np.abs(require_gradient(self, gradient))


class _Taylor(GradientCriterion):
    def __init__(self, batches: int = 8, squared: bool = False):
        super().__init__(batches)
        self.squared = validation.boolean(squared, "squared")
        # w^2 times the mean of g^2 is the mean of (w g)^2.
        self.moment = 2 if self.squared else 1

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "squared": self.squared}

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return |w g|, or (w g)^2 with `squared`.

        Raises:
            InvalidArgumentError: `gradient` is None.
        """
        product = np.abs(np.multiply(weight, require_gradient(self, gradient)))
        return np.square(product, dtype=np.float64) if self.squared else product


@family.register
class Taylor(_Taylor):
    """First-order Taylor saliency: the estimated change of the training loss if the weight were zero.

        score = mean over batches of |w g|, or of (w g)^2 with `squared`

    The change is L(w = 0) - L(w), which is -w g to first order. The gradients g are those that the
    optimizer of the network receives: in training mode, with regularization, one per batch. So the mean is
    over the products of batches, not of single examples. The score of a unit is the pooled score of its
    weights.

    Inside `fit`, `Prune` samples the gradients in the last `batches` steps before each update. Outside,
    pass them to `Pruner.update(gradients=...)`: the mean of |g|, or with `squared` the root of the mean of
    g^2.

    Args:
        batches: Positive int, number of batches of the running `fit` that are averaged. Defaults to 8.
        squared: Bool, whether each product is squared before the mean. This gives batches with large
            gradients more weight. Defaults to False.

    Raises:
        InvalidArgumentError: `batches` is not a positive int, or `squared` is not a bool.

    Example:
    >>> Taylor().score(np.array([5.0, -1.0]), np.array([-0.1, 0.3]))
    array([0.5, 0.3])
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> model.compile("sgd", "mse")
    >>> prune = Prune(0.5, frequency=2, criterion=Taylor(batches=2), verbose=0)
    >>> history = model.fit(np.ones((8, 4)), np.ones((8, 2)), 2, callbacks=[prune], verbose=0)
    >>> prune.report.kept
    4

    Reference:
        [Pruning CNNs for resource efficient inference](https://arxiv.org/abs/1611.06440), Eq. 7, there for
        feature maps. Squared: [Importance estimation for neural network
        pruning](https://arxiv.org/abs/1906.10771), Eq. 8.
    """


@family.register
class DiscriminatorSaliency(_Taylor):
    """Taylor saliency of the generator's adversarial loss under the trained discriminator.

        score = mean over batches of |w dL/dw|, or of (w dL/dw)^2 with `squared`
        L = adversarial loss of D(G(z)), with D held fixed

    Weights whose removal the discriminator would hardly notice are pruned first. Both networks run in
    inference mode, so that sampling changes no batch statistics. `GANModel` provides its adversarial
    loss. For another GAN class pass `Prune(..., gradient_loss=function)`.

    Args:
        batches: Positive int, number of batches of the running `fit` that are averaged. Defaults to 8.
        squared: Bool, whether each product is squared before the mean. Defaults to False.

    Raises:
        InvalidArgumentError: `batches` is not a positive int, or `squared` is not a bool.

    Example:
    >>> g = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> d = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> gan = GANModel(g, d, latent_dim=8, seed=1)
    >>> gan.compile()
    >>> prune = Prune(Linear(0.5, 4, 8), "generator", 2, criterion=DiscriminatorSaliency(batches=2))
    >>> history = gan.fit(np.zeros((32, 4), "float32"), batch_size=4, callbacks=[prune], verbose=0)
    >>> prune.report.kept, prune.report.total
    (16, 32)

    Reference:
        [Self-supervised GAN compression](https://arxiv.org/abs/2007.01491), §3, which uses the trained
        discriminator as supervisor. The score is that of `Taylor`.
    """

    source = "adversarial"
