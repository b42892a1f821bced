"""Scores by how much weights move the image when the latent vector is perturbed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.criteria.base import Criterion, family, require_gradient
from keras_ganprune.pruning.layer_activity import batches
from keras_ganprune.utils import validation


@family.register
class LatentSensitivity(Criterion):
    """Sensitivity to the latent vector: channels that make images differ are kept, for diversity.

        score = mean over batches of |dL/dw|,   L = mean |G(z + strength d) - G(z)|,   d ~ N(0, I)

    A channel whose weights do not change the difference between two images does not contribute to the
    diversity of the images. The score of a channel is the sum over the weights that make it. It is meant
    for the channels of a generator. The first input of the network is perturbed; other inputs, such as
    labels, stay. In inference mode, without labels and without the discriminator; see `Wanda` for where
    the calibration inputs (latent vectors) come from.

    Args:
        strength: Positive float, size of the perturbation, in standard deviations of the latent vector.
            Defaults to 0.5.
        directions: Positive int, number of perturbations per latent vector. Defaults to 4.
        batches: Positive int, number of batches of the running `fit` whose inputs are used. Defaults to 4.
        seed: Non-negative int, seed of the perturbations. Defaults to 0.

    Raises:
        InvalidArgumentError: An argument is not a number in its range. In use: the first input is not an
            array of floats.

    Example:
    >>> g = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(3)])
    >>> z = np.random.default_rng(0).normal(size=(64, 2))
    >>> small = kgp.shrink(g, sparsity=0.5, criterion="latent_sensitivity", inputs=z)
    >>> small.count_params()
    9

    Reference:
        [Diversity-aware channel pruning for StyleGAN compression](https://arxiv.org/abs/2403.13548), §3.2.
    """

    measures = True
    needs_calibration = True

    def __init__(self, strength: float = 0.5, directions: int = 4, batches: int = 4, seed: int = 0):
        self.strength = validation.positive(strength, "strength")
        self.directions = validation.positive_int(directions, "directions")
        self.batches = validation.positive_int(batches, "batches")
        self.seed = validation.non_negative_int(seed, "seed")

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "strength": self.strength,
            "directions": self.directions,
            "batches": self.batches,
            "seed": self.seed,
        }

    def measure(
        self,
        networks: Sequence[keras.layers.Layer],
        weights: Sequence[MaskedWeight],
        calibration: Sequence[Any] | None,
    ) -> list[Any]:
        """Return the mean of |dL/dw| for each weight."""
        backend: Any = importlib.import_module(
            f"keras_ganprune.backend._gradients_{keras.backend.backend()}"
        )
        found: dict[int, np.ndarray] = {}
        for network, inputs in zip(networks, calibration or [], strict=True):
            variables = {id(v) for v in network.weights}
            own = [w for w in weights if id(w.variable) in variables]
            draw = np.random.default_rng(self.seed)
            sums = [np.zeros(tuple(w.mask.shape), np.float64) for w in own]
            count = 0
            for batch in batches(inputs, network.name):
                for _ in range(self.directions):
                    count += 1
                    slopes = backend.gradients(
                        self._difference(network, batch, draw), [w.variable for w in own]
                    )
                    for total, slope in zip(sums, slopes, strict=True):
                        if slope is not None:
                            total += np.abs(to_numpy(backend.dense(slope)))
            found |= {id(w.variable): s / count for w, s in zip(own, sums, strict=True)}
        return [found[id(w.variable)] for w in weights]

    def _difference(self, network: Any, batch: Any, draw: np.random.Generator) -> Any:
        """Return a function that computes L for a batch and one direction per sample."""
        flat = keras.tree.flatten(batch)
        latent = flat[0]
        if latent.dtype.kind != "f":
            raise InvalidArgumentError(
                f"{self!r} perturbs the first input of '{network.name}', which must be floats, such as "
                f"latent vectors. Received: {latent.dtype}. Use another criterion, such as 'l2'."
            )
        moved = latent + self.strength * draw.standard_normal(latent.shape)
        there = keras.tree.pack_sequence_as(batch, [moved.astype(latent.dtype), *flat[1:]])

        def difference() -> Any:
            pairs = zip(
                keras.tree.flatten(network(there, training=False)),
                keras.tree.flatten(network(batch, training=False)),
                strict=True,
            )
            cast: Any = ops.cast
            means: list[Any] = [
                ops.mean(ops.abs(cast(a, "float32") - cast(b, "float32"))) for a, b in pairs
            ]
            return sum(means)

        return difference

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return the mean of |dL/dw|.

        Raises:
            InvalidArgumentError: Nothing was measured.
        """
        return np.abs(require_gradient(self, gradient))
