"""Criteria: which weights matter. A criterion scores weights, and the lowest scores are pruned first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from keras_ganprune.pruning.criteria.activations import APOZ, MeanActivation
from keras_ganprune.pruning.criteria.base import Criterion, WeightContext
from keras_ganprune.pruning.criteria.base import family as _family
from keras_ganprune.pruning.criteria.batch_norm_scale import BatchNormScale
from keras_ganprune.pruning.criteria.fisher import Fisher
from keras_ganprune.pruning.criteria.geometric_median import GeometricMedian
from keras_ganprune.pruning.criteria.gradient import DiscriminatorSaliency, Gradient, Taylor
from keras_ganprune.pruning.criteria.hybrid import Hybrid
from keras_ganprune.pruning.criteria.lamp import LAMP
from keras_ganprune.pruning.criteria.latent_sensitivity import LatentSensitivity
from keras_ganprune.pruning.criteria.magnitude import Magnitude
from keras_ganprune.pruning.criteria.movement import Movement
from keras_ganprune.pruning.criteria.random import Random
from keras_ganprune.pruning.criteria.snip import SNIP
from keras_ganprune.pruning.criteria.synflow import SynFlow
from keras_ganprune.pruning.criteria.wanda import Wanda

__all__ = [
    "APOZ",
    "LAMP",
    "SNIP",
    "BatchNormScale",
    "ChannelCriterionName",
    "Criterion",
    "CriterionLike",
    "CriterionName",
    "DiscriminatorSaliency",
    "Fisher",
    "GeometricMedian",
    "Gradient",
    "Hybrid",
    "LatentSensitivity",
    "Magnitude",
    "MeanActivation",
    "Movement",
    "Random",
    "SynFlow",
    "Taylor",
    "Wanda",
    "WeightContext",
    "get",
]

_family.aliases.update(
    l1=lambda: Magnitude("l1"),
    l2=lambda: Magnitude("l2"),
    magnitude_l1=lambda: Magnitude("l1"),
    magnitude_l2=lambda: Magnitude("l2"),
    fpgm=GeometricMedian,
    synflow=SynFlow,
)

# The names that `get` accepts.
CriterionName: TypeAlias = Literal[
    "magnitude",
    "magnitude_l1",
    "magnitude_l2",
    "l1",
    "l2",
    "random",
    "gradient",
    "taylor",
    "discriminator_saliency",
    "batch_norm_scale",
    "geometric_median",
    "fpgm",
    "lamp",
    "fisher",
    "snip",
    "synflow",
    "syn_flow",
    "movement",
    "wanda",
    "mean_activation",
    "apoz",
    "latent_sensitivity",
]
# Those that need no gradients, so that channels can be chosen outside of `fit` too.
ChannelCriterionName: TypeAlias = Literal[
    "magnitude",
    "l1",
    "l2",
    "lamp",
    "batch_norm_scale",
    "geometric_median",
    "fpgm",
    "synflow",
    "wanda",
    "mean_activation",
    "apoz",
    "latent_sensitivity",
    "random",
]
# A mapping holds the weights of a `Hybrid`, or is a Keras config.
CriterionLike: TypeAlias = (
    Criterion | CriterionName | Mapping[str, Any] | Mapping[Criterion | str, float]
)


def get(identifier: CriterionLike | str) -> Criterion:
    """Return the criterion for an identifier.

    Args:
        identifier: An instance, a Keras config, a dict of weights for a `Hybrid`, such as
            {'magnitude': 1, 'taylor': 1}, or a name: 'magnitude' ('l1', 'magnitude_l1'), 'l2'
            ('magnitude_l2'), 'lamp', 'gradient', 'taylor', 'fisher', 'movement', 'snip', 'synflow',
            'wanda', 'mean_activation', 'apoz', 'discriminator_saliency', 'latent_sensitivity',
            'batch_norm_scale', 'geometric_median' ('fpgm') or 'random'.

    Raises:
        InvalidArgumentError: The name is unknown, or the weights are not those of a `Hybrid`.
        ArgumentTypeError: `identifier` has another type.

    Example:
    >>> get("l2")
    Magnitude(norm='l2')
    """
    if isinstance(identifier, Mapping) and "class_name" not in identifier:
        return Hybrid(identifier)
    return _family.get(identifier)
