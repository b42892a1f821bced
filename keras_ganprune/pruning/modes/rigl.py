"""Regrowth by gradient."""

from __future__ import annotations

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.modes.base import Choice, Decay, Restore, family
from keras_ganprune.pruning.modes.exchange import Exchange
from keras_ganprune.utils import validation


@family.register
class RigL(Exchange):
    """Drop by score, grow where the gradient is largest. The number of kept units does not change.

        exchanged share of the kept units at progress p: fraction / 2 * (1 + cos(pi * p))

    Args:
        fraction: Float in (0, 1], share of the kept units that is exchanged at the first update. Defaults
            to 0.3.
        decay: 'cosine' (`fraction` falls to 0 at the end of the schedule) or 'constant'. Defaults to
            'cosine'.
        restore: Value of a weight that returns: 'zero', 'initializer' (a new initial value) or 'previous'
            (the value at which it was pruned). Defaults to 'zero'.
        batches: Positive int, number of batches of the running `fit` over which |gradient| is averaged.
            Defaults to 1.

    Raises:
        InvalidArgumentError: `fraction` is not in (0, 1], or `decay` or `restore` is not one of its
            choices.
        InvalidArgumentError: `batches` is not a positive int.

    Example:
    >>> RigL(0.4).share(0.5)
    0.2

    Reference:
        [Rigging the lottery](https://arxiv.org/abs/1911.11134), §3.
    """

    needs_gradient = True

    def __init__(
        self,
        fraction: float = 0.3,
        decay: Decay = "cosine",
        restore: Restore = "zero",
        batches: int = 1,
    ):
        super().__init__(fraction, decay, restore)
        self.batches = validation.positive_int(batches, "batches")

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "batches": self.batches}

    def growth(self, choice: Choice) -> np.ndarray:
        """Return the gradient magnitudes of the units."""
        if choice.growth is None:
            raise InvalidArgumentError(
                f"{self!r} needs gradients to choose the weights that return. Received: None. Inside "
                "`fit` the `Prune` callback samples them; otherwise pass `gradients=` to `Pruner.update`."
            )
        return choice.growth
