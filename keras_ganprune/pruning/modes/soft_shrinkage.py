"""Pruned weights become smaller at every update instead of zero at once."""

from __future__ import annotations

from keras_ganprune.pruning.modes.base import DECAYS, Decay, decayed, family
from keras_ganprune.pruning.modes.soft import Soft
from keras_ganprune.utils import validation


@family.register
class SoftShrinkage(Soft):
    """Pruned weights are multiplied by a factor at each update, and train freely until the next one.

        w <- factor(p) * w   for each weight outside the mask, at progress p of the schedule

    A weight that the next mask contains again keeps its value and trains on. The last mask is held from the
    end of the schedule on, and at the end of every `fit`: then pruned weights are zero. Until then the
    network is *not* sparse. Update often (`Prune(..., frequency=10)`), so that pruned weights are small when
    the mask is held.

    Args:
        factor: Float in (0, 1), what remains of a pruned weight at an update. With 0 the mode would be
            `Soft`. Defaults to 0.9.
        decay: 'cosine' (the factor falls to 0 at the end of the schedule) or 'constant'. Defaults to
            'cosine'.

    Raises:
        InvalidArgumentError: `factor` is not in (0, 1), or `decay` is not one of its choices.

    Example:
    >>> mode = SoftShrinkage(0.8)
    >>> [round(mode.remaining(progress), 2) for progress in (0.0, 0.5, 1.0)]
    [0.8, 0.4, 0.0]

    Reference:
        [Iterative soft shrinkage](https://arxiv.org/abs/2303.09650), §3.3, where the factor is constant.
    """

    def __init__(self, factor: float = 0.9, decay: Decay = "cosine"):
        self.factor = validation.fraction(factor, "factor", zero=False)
        self.decay: Decay = validation.one_of(decay, "decay", DECAYS)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"factor": self.factor, "decay": self.decay}

    def remaining(self, progress: float) -> float:
        """Return the factor at a progress of the schedule."""
        return decayed(self.factor, self.decay, progress)
