"""Random regrowth."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.modes.base import Choice, Decay, Restore, family
from keras_ganprune.pruning.modes.exchange import Exchange
from keras_ganprune.utils import validation


@family.register
class SET(Exchange):
    """Drop by score, grow at random. The number of kept units does not change.

    Args:
        fraction: Float in (0, 1], share of the kept units that is exchanged. Defaults to 0.3.
        decay: 'constant', or 'cosine' (`fraction` falls to 0 at the end of the schedule). Defaults to
            'constant'.
        restore: Value of a weight that returns: 'zero', 'initializer' (a new initial value) or 'previous'
            (the value at which it was pruned). Defaults to 'zero'.
        seed: Non-negative int. Defaults to 0.

    Raises:
        InvalidArgumentError: `fraction` is not in (0, 1], or `decay` or `restore` is not one of its
            choices.
        InvalidArgumentError: `seed` is not a non-negative int.

    Example:
    >>> SET(0.4).share(0.5)
    0.4

    Reference:
        [Sparse evolutionary training](https://arxiv.org/abs/1707.04780), algorithm 1.
    """

    def __init__(
        self,
        fraction: float = 0.3,
        decay: Decay = "constant",
        restore: Restore = "zero",
        seed: int = 0,
    ):
        super().__init__(fraction, decay, restore)
        self.seed = validation.non_negative_int(seed, "seed")

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}

    def growth(self, choice: Choice) -> np.ndarray:
        """Return a random number for each unit."""
        return choice.draw(choice.scores.size)
