"""Pruned units never return."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.modes.base import Choice, Mode, family


@family.register
class Hard(Mode):
    """A pruned unit stays pruned.

    Example:
    >>> Hard().enforced, Hard().regrows
    (True, False)

    Reference:
        [Learning both weights and connections](https://arxiv.org/abs/1506.02626), §3;
        [To prune, or not to prune](https://arxiv.org/abs/1710.01878), §3, for masks inside training.
    """

    def choose(self, choice: Choice) -> np.ndarray:
        """Return the best of the kept units."""
        scores = choice.scores
        np.putmask(scores, ~choice.kept, -np.inf)
        return choice.by_score(scores) & choice.kept
