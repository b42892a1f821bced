"""The settings that always travel together: what is pruned, where, when and how much."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ganprune.layers import scope as scopes
from keras_ganprune.pruning import compatibility
from keras_ganprune.pruning.allocation import AllocationLike
from keras_ganprune.pruning.compatibility import Combination
from keras_ganprune.pruning.criteria import CriterionLike
from keras_ganprune.pruning.granularity import Channel, GranularityLike
from keras_ganprune.pruning.modes import ModeLike

_FAMILIES = ("criterion", "granularity", "allocation", "mode")


@dataclass(frozen=True)
class PruningSettings(Combination):
    """One compatible choice from each family, and the layers that it applies to.

    Instances are immutable. `Pruner(model, **settings)` takes everything but the schedule.

    Args:
        criterion: `Criterion` that scores the weights.
        granularity: `Granularity`, the units that are removed.
        allocation: `Allocation` that spreads one sparsity over the tensors.
        mode: `Mode`, whether and how pruned weights return.
        schedule: `Schedule`, or None for masks that are updated by hand. Defaults to None.
        scope: Selection of layers, as for `keras_ganprune.layers.scope.select`. None selects all.
            Defaults to None.

    Raises:
        InvalidArgumentError: The choices are not compatible.

    Example:
    >>> from keras_ganprune.pruning import PruningSettings
    >>> settings = PruningSettings.of("l2", "channel", schedule=0.5)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    >>> Pruner(model, **settings).update(sparsity=0.5).kept
    3
    """

    scope: Any = None

    def __post_init__(self) -> None:
        compatibility.check(self)

    @classmethod
    def of(
        cls,
        criterion: CriterionLike = "magnitude",
        granularity: GranularityLike = "unstructured",
        allocation: AllocationLike = "uniform",
        mode: ModeLike = "hard",
        scope: Any = None,
        schedule: Any = None,
    ) -> PruningSettings:
        """Return the settings for names, configs or instances.

        Args:
            criterion: As for `Pruner`. Defaults to 'magnitude'.
            granularity: As for `Pruner`. Defaults to 'unstructured'.
            allocation: As for `Pruner`. Defaults to 'uniform'.
            mode: As for `Pruner`. Defaults to 'hard'.
            scope: As for `Pruner`. Defaults to None, all layers.
            schedule: A `Schedule`, or a float for a constant sparsity. Defaults to None.

        Raises:
            InvalidArgumentError: A name is unknown, or the choices are not compatible.

        Example:
        >>> from keras_ganprune.pruning import PruningSettings
        >>> PruningSettings.of("l2", "channel").granularity
        Channel(axis='out')
        """
        scope = scope.tolist() if isinstance(scope, np.ndarray) else scope
        scopes.check(scope, "scope")
        scopes.check_not_empty(scope, "scope")
        chosen = compatibility.get(criterion, granularity, allocation, mode, schedule)
        return cls(
            chosen.criterion,
            chosen.granularity,
            chosen.allocation,
            chosen.mode,
            chosen.schedule,
            scope,
        )

    # --- `**settings` ----------------------------------------------------------------------------

    def keys(self) -> Iterator[str]:
        """Return the names of the arguments of `Pruner`."""
        return iter((*_FAMILIES, "scope"))

    def __getitem__(self, name: str) -> Any:
        if name not in (*_FAMILIES, "scope"):
            raise KeyError(name)
        return getattr(self, name)

    # --- what follows from several of them -------------------------------------------------------

    @property
    def needs_gradient(self) -> bool:
        """Whether the criterion or the mode needs gradients."""
        return self.criterion.needs_gradient or self.mode.needs_gradient

    @property
    def gradient_batches(self) -> int:
        """Number of batches from which an update takes gradients or inputs."""
        return max(self.criterion.batches, self.mode.batches)

    @property
    def coupled(self) -> bool:
        """Whether a unit spans several layers: a channel with all that depends on it, or a block."""
        return getattr(self.granularity, "coupled", False)

    @property
    def cost_quantity(self) -> str | None:
        """The cost that a sparsity is a share of: 'macs', 'parameters' or 'bytes'; None for units."""
        # `NM` has an `of` too: the size of its groups.
        if not isinstance(self.granularity, Channel):
            return None
        quantity = getattr(self.granularity, "of", "channels")
        return None if quantity == "channels" else quantity

    def stamp(self, step: int) -> int:
        """Return a number that identifies the update of these settings at a step of the schedule.

        It is saved with the masks, so the text below must stay as it is in files written so far.
        """
        families = ", ".join(f"{name}={getattr(self, name)!r}" for name in (*_FAMILIES, "schedule"))
        return zlib.crc32(f"{step} Combination({families})".encode())
