"""Pruned units can return at every update."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.modes.base import Choice, Mode, family


@family.register
class Soft(Mode):
    """Pruned weights are set to zero at each update, and then train freely until the next one.

    The last mask is held from the end of the schedule on, and at the end of every `fit`. Until then the
    network is *not* sparse between updates. If the schedule continues in a later `fit`, that `fit`
    releases the mask again.

    Example:
    >>> Soft().enforced, Soft().regrows
    (False, True)

    Reference:
        [Soft filter pruning](https://arxiv.org/abs/1808.06866), §3.
    """

    enforced = False
    regrows = True

    def choose(self, choice: Choice) -> np.ndarray:
        """Return the best of all units."""
        return choice.by_score(choice.scores)
