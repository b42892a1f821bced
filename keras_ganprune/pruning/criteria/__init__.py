"""Which weights matter: a criterion gives scores, and the lowest scores go first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from keras_ganprune.pruning.criteria.base import Criterion, Magnitude, Random, WeightContext
from keras_ganprune.pruning.criteria.base import family as _family
from keras_ganprune.pruning.criteria.channel import BatchNormScale, GeometricMedian
from keras_ganprune.pruning.criteria.gradient import DiscriminatorSaliency, Gradient, Taylor
from keras_ganprune.pruning.criteria.hybrid import Hybrid

__all__ = [
    "BatchNormScale",
    "Criterion",
    "CriterionLike",
    "CriterionName",
    "DiscriminatorSaliency",
    "GeometricMedian",
    "Gradient",
    "Hybrid",
    "Magnitude",
    "Random",
    "Taylor",
    "WeightContext",
    "get",
]

_family.aliases.update(
    l1=lambda: Magnitude("l1"),
    l2=lambda: Magnitude("l2"),
    magnitude_l1=lambda: Magnitude("l1"),
    magnitude_l2=lambda: Magnitude("l2"),
    fpgm=GeometricMedian,
)

# The criteria that a name alone gives.
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
]
# A mapping is the weights of a `Hybrid`, or a Keras config.
CriterionLike: TypeAlias = (
    Criterion | CriterionName | Mapping[str, Any] | Mapping[Criterion | CriterionName, float]
)


def get(identifier: CriterionLike) -> Criterion:
    """Return the criterion for a name, a config or an instance, or for a dict of weights to mix.

    Names: 'magnitude' ('l1'), 'l2', 'gradient', 'taylor', 'discriminator_saliency',
    'batch_norm_scale', 'geometric_median' ('fpgm'), 'random'. {'magnitude': 1, 'taylor': 1} is a `Hybrid`.

    Example:
    >>> get("l2")
    Magnitude(norm='l2')
    """
    if isinstance(identifier, Mapping) and "class_name" not in identifier:
        return Hybrid(identifier)
    return _family.get(identifier)
