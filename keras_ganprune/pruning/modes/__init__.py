"""Modes: whether a pruned weight can return, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from keras_ganprune.pruning.modes.base import RESTORES, Choice, Decay, Mode, Restore
from keras_ganprune.pruning.modes.base import family as _family
from keras_ganprune.pruning.modes.hard import Hard
from keras_ganprune.pruning.modes.rigl import RigL
from keras_ganprune.pruning.modes.soft import Soft
from keras_ganprune.pruning.modes.soft_shrinkage import SoftShrinkage
from keras_ganprune.pruning.modes.sparse_evolution import SET
from keras_ganprune.pruning.modes.splice import Splice

__all__ = [
    "RESTORES",
    "SET",
    "Choice",
    "Decay",
    "Hard",
    "Mode",
    "ModeLike",
    "ModeName",
    "Restore",
    "RigL",
    "Soft",
    "SoftShrinkage",
    "Splice",
    "get",
]

# The names that `get` accepts.
ModeName: TypeAlias = Literal["hard", "soft", "soft_shrinkage", "rigl", "set", "splice"]
# A mapping is a Keras config.
ModeLike: TypeAlias = Mode | ModeName | Mapping[str, Any]


def get(identifier: ModeLike | str) -> Mode:
    """Return the mode for an identifier.

    Args:
        identifier: An instance, a Keras config, or a name: 'hard', 'soft', 'soft_shrinkage', 'rigl',
            'set' or 'splice'.

    Raises:
        InvalidArgumentError: The name is unknown.
        ArgumentTypeError: `identifier` has another type.

    Example:
    >>> get("hard")
    Hard()
    """
    return _family.get(identifier)
