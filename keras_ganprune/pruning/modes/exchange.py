"""The base class of modes that exchange kept units for pruned ones, while their number stays the same."""

from __future__ import annotations

from typing import cast

import numpy as np

from keras_ganprune.pruning.modes.base import (
    DECAYS,
    RESTORES,
    Choice,
    Decay,
    Mode,
    Restore,
    decayed,
)
from keras_ganprune.utils import validation


class Exchange(Mode):
    """Base class of modes that drop the lowest of the kept units, and regrow as many others.

    A subclass must define `growth`.

    Args:
        fraction: Float in (0, 1], share of the kept units that is exchanged. Defaults to 0.3.
        decay: 'cosine' (`fraction` falls to 0 at the end of the schedule) or 'constant'. Defaults to
            'cosine'.
        restore: Value of a weight that returns: 'zero', 'initializer' or 'previous'. Defaults to 'zero'.

    Raises:
        InvalidArgumentError: `fraction` is not in (0, 1], or `decay` or `restore` is not one of its
            choices.

    Example:
    >>> class RegrowLowest(Exchange):
    ...     def growth(self, choice):
    ...         return -choice.scores
    >>> RegrowLowest(0.4).share(0.5)
    0.2
    """

    regrows = True
    needs_budget = True

    def __init__(self, fraction: float = 0.3, decay: Decay = "cosine", restore: Restore = "zero"):
        self.fraction = validation.fraction(fraction, "fraction", zero=False, one=True)
        self.decay: Decay = validation.one_of(decay, "decay", DECAYS)
        self.restore: Restore = validation.one_of(restore, "restore", RESTORES)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"fraction": self.fraction, "decay": self.decay, "restore": self.restore}

    def share(self, progress: float) -> float:
        """Return the share of the kept units that is exchanged.

        Args:
            progress: Float in [0, 1], the part of the schedule that has passed.
        """
        return decayed(self.fraction, self.decay, progress)

    def growth(self, choice: Choice) -> np.ndarray:
        """Return the scores that decide which units return.

        Args:
            choice: Scores, target and state of the units of one ranking.

        Returns:
            Flat array, one score per unit. The highest return first.
        """
        raise NotImplementedError

    def choose(self, choice: Choice) -> np.ndarray:
        """Return the kept units after the exchange."""
        budget = cast("int", choice.budget)  # `needs_budget` refuses thresholds
        scores = np.where(choice.kept, choice.scores, -np.inf)
        kept = choice.best(scores, budget)
        size = choice.size_of(kept)
        dropped = round(self.share(choice.progress) * size)
        survivors = choice.best(np.where(kept, choice.scores, -np.inf), max(size - dropped, 0))
        missing = budget - choice.size_of(survivors)
        if missing <= 0:
            return survivors
        growth = np.asarray(self.growth(choice), dtype=np.float64)
        # One ranking: first the survivors, which must stay, then the others by growth.
        return choice.best(np.where(survivors, np.inf, growth), budget)
