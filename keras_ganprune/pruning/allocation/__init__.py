"""Allocations: how one total sparsity is distributed over several tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from keras_ganprune.pruning.allocation.base import Allocation, Ranking, Tensor
from keras_ganprune.pruning.allocation.base import family as _family
from keras_ganprune.pruning.allocation.erk import ERK
from keras_ganprune.pruning.allocation.global_ranking import GlobalRanking
from keras_ganprune.pruning.allocation.isomorphic import Isomorphic
from keras_ganprune.pruning.allocation.owl import OWL
from keras_ganprune.pruning.allocation.per_layer import PerLayer
from keras_ganprune.pruning.allocation.uniform import Uniform

__all__ = [
    "ERK",
    "OWL",
    "Allocation",
    "AllocationLike",
    "AllocationName",
    "GlobalRanking",
    "Isomorphic",
    "PerLayer",
    "Ranking",
    "Tensor",
    "Uniform",
    "get",
]

# The names that `get` accepts.
AllocationName: TypeAlias = Literal["uniform", "erk", "global_ranking", "owl", "isomorphic"]
# A mapping holds the sparsities of a `PerLayer`, or is a Keras config.
AllocationLike: TypeAlias = (
    Allocation | AllocationName | Mapping[str, Any] | Mapping[str | re.Pattern[str], float]
)


def get(identifier: AllocationLike | str) -> Allocation:
    """Return the allocation for an identifier.

    Args:
        identifier: An instance, a Keras config, a dict of sparsities by layer for a `PerLayer`, or a
            name: 'uniform', 'erk', 'owl', 'isomorphic' or 'global_ranking'.

    Raises:
        InvalidArgumentError: The name is unknown, or the sparsities are not those of a `PerLayer`.
        ArgumentTypeError: `identifier` has another type.

    Example:
    >>> get({"dense_1": 0.5})
    PerLayer(sparsities={'dense_1': 0.5}, minimum=1)
    """
    if isinstance(identifier, Mapping) and "class_name" not in identifier:
        return PerLayer(identifier)
    return _family.get(identifier)
