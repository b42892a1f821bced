"""What a `Pruner` needs from the units that it ranks, whether weights, channels or blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.allocation import Allocation, Tensor
from keras_ganprune.pruning.mask_report import MaskRow
from keras_ganprune.pruning.structured.groups import Groups


class Ranking(Protocol):
    """Removable units that are compared with each other.

    Three kinds exist: the units of one weight (`WeightRanking`), the channels of one group
    (`ChannelRanking`) and the residual blocks of one network (`BlockRanking`). An allocation may compare
    the units of several rankings, as 'global_ranking' does.

    All arrays are flat, with one entry per unit. `masks_now` is a list with one bool array per weight of
    the pruner, True = keep.
    """

    @property
    def tensor(self) -> Tensor:
        """What an allocation knows: path, shape, number and size of the units."""
        ...

    @property
    def first(self) -> MaskedWeight:
        """The weight that stands for the ranking wherever one weight is needed."""
        ...

    @property
    def remarks(self) -> list[str]:
        """Remarks for the user on this granularity and criterion."""
        ...

    @property
    def unit_sizes(self) -> np.ndarray:
        """Ints: how much each unit counts in a budget; 1 for a unit that is counted, not weighed."""
        ...

    @property
    def rounding_slack(self) -> int:
        """By how many units rounding may change the number of kept units."""
        ...

    def floor(self, allocation: Allocation) -> int:
        """Return the least number of units that an allocation keeps."""
        ...

    def scores(self, collected: bool, gradients: Sequence[Any]) -> np.ndarray:
        """Return the score of each unit, higher = keep.

        Args:
            collected: Whether a pruned weight is scored by the value that it collected, not by zero.
            gradients: One array per weight of the pruner; None where the criterion needs no gradient.
        """
        ...

    def growth(self, gradients: Sequence[Any]) -> np.ndarray:
        """Return the magnitude of the gradient of each unit."""
        ...

    def alive(self) -> np.ndarray:
        """Return which units have a weight that is kept now."""
        ...

    def alive_in(self, masks_now: Sequence[np.ndarray]) -> np.ndarray:
        """Return which units have a weight that these masks keep."""
        ...

    def rounded(
        self, keep: np.ndarray, scores: np.ndarray, floor: int, may_return: bool
    ) -> np.ndarray:
        """Return the kept units, their number rounded if the granularity requires it.

        Args:
            keep: Bool array, the units that would be kept.
            scores: Score of each unit.
            floor: Least number of units that are kept.
            may_return: Whether a unit that is pruned now may be kept again.
        """
        ...

    def masks(self, keep: np.ndarray, whole: bool = True) -> dict[int, np.ndarray]:
        """Return the masks that keep these units, by the index of the weight.

        Args:
            keep: Bool array, one entry per unit.
            whole: Whether everything that depends on a unit is masked. If False, only the weights that
                make it are masked, so that a gradient can still reach it.
        """
        ...

    def settle(self, keep: np.ndarray) -> None:
        """Set state that belongs to pruned units, such as moving means, to zero."""
        ...

    def row(self, masks_now: Sequence[np.ndarray]) -> MaskRow:
        """Return the row of the report on these masks."""
        ...


@dataclass(frozen=True)
class RankedWeights:
    """The weights that a `Pruner` masks, and the rankings that choose their masks.

    Attributes:
        weights: List of `MaskedWeight`.
        rankings: List of `Ranking`.
        remarks: List of str, remarks for the user.
        has_new_masks: Whether weights got masks that a step traced before does not know.
        groups: The `Groups` of each model, for channels and blocks; otherwise empty.
    """

    weights: list[MaskedWeight]
    rankings: Sequence[Any]
    remarks: list[str] = field(default_factory=list)
    has_new_masks: bool = False
    groups: list[Groups] = field(default_factory=list)
