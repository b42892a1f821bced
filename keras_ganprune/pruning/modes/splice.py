"""Dynamic network surgery."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.modes.base import (
    DECAYS,
    RESTORES,
    Choice,
    Decay,
    Mode,
    Restore,
    decayed,
    family,
)
from keras_ganprune.utils import validation


@family.register
class Splice(Mode):
    """Dynamic network surgery: a pruned weight continues to collect updates, and can return.

    A pruned weight counts as zero in the network, but the optimizer's updates of it are accumulated. A
    pruned unit has to be larger than a kept one to return, so that units near the limit do not change at
    every update. With a target threshold `t`, a kept unit is pruned below `t`, and a pruned unit returns
    at `t * (1 + margin)`. With a target sparsity, the scores of pruned units are divided by `1 + margin`
    before the ranking, so that the number of kept units is exact.

        units that may return at progress p: fraction / 2 * (1 + cos(pi * p)) of the kept ones

    If the target sparsity falls, as many units as needed may return.

    Args:
        margin: Non-negative float, how much larger than a kept unit a pruned one must be to return.
            Defaults to 0.1, 10 %.
        fraction: Float in (0, 1], largest share of the kept units that may return at one update. Defaults
            to 0.3.
        decay: 'cosine' (`fraction` falls to 0 at the end of the schedule) or 'constant'. Defaults to
            'cosine'.
        restore: Value of a weight that returns: 'zero', 'initializer' (a new initial value), or
            'previous' (its value when it was pruned, plus all accumulated updates, as in the paper). A
            pruned weight does not influence the loss, so nothing limits its updates, and under Adam they
            are as large as those of kept weights. So 'previous' needs a small `fraction` or a large
            `margin` with Adam. Defaults to 'zero'.

    Raises:
        InvalidArgumentError: `margin` is not a non-negative number, or `fraction` is not in (0, 1].
        InvalidArgumentError: `decay` or `restore` is not one of its choices.

    Example:
    >>> Splice(margin=0.2).margin
    0.2

    Reference:
        [Dynamic network surgery](https://arxiv.org/abs/1608.04493), Eq. 3. There too surgery becomes rare
        in the course of training, by a falling probability.
    """

    regrows = True
    collects = True

    def __init__(
        self,
        margin: float = 0.1,
        fraction: float = 0.3,
        decay: Decay = "cosine",
        restore: Restore = "zero",
    ):
        self.margin = validation.non_negative(
            margin, "margin", "a non-negative number, such as 0.1 for 10 %"
        )
        self.fraction = validation.fraction(fraction, "fraction", zero=False, one=True)
        self.decay: Decay = validation.one_of(decay, "decay", DECAYS)
        self.restore: Restore = validation.one_of(restore, "restore", RESTORES)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "margin": self.margin,
            "fraction": self.fraction,
            "decay": self.decay,
            "restore": self.restore,
        }

    def choose(self, choice: Choice) -> np.ndarray:
        """Return the kept units after some pruned ones have returned."""
        scores = np.where(choice.kept, choice.scores, choice.scores / (1.0 + self.margin))
        if not choice.kept.all():
            size = choice.size_of(choice.kept)
            most = round(decayed(self.fraction, self.decay, choice.progress) * size)
            if choice.budget is not None:
                # A falling sparsity is met at once; `fraction` limits the exchange beyond it.
                most = max(most, choice.budget - size)
            pruned = np.where(choice.kept, -np.inf, scores)
            # `top`, because floors are about what is kept, not about what may return.
            scores = np.where(choice.kept | choice.top(pruned, most), scores, -np.inf)
        return choice.by_score(scores)
