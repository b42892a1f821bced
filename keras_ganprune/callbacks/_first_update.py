"""What the user is told of the first mask update of a `fit`."""

from __future__ import annotations

import warnings

from keras_ganprune.callbacks import _prune_warnings
from keras_ganprune.callbacks.target_networks import PruneCallback
from keras_ganprune.errors import PruningWarning


class FirstUpdate:
    """Warns if the first update brings weights back, or prunes much at once.

    Args:
        callback: The `Prune` callback.

    Attributes:
        foreign_sparsity: Float, sparsity of masks that other settings have made, until the first update.
        late_start: (step, sparsity) at a start in the middle of a schedule, until the first update, or None.
    """

    def __init__(self, callback: PruneCallback):
        self._callback = callback
        self.foreign_sparsity = 0.0
        self.late_start: tuple[int, float] | None = None

    def warn(self, sparsity: float) -> None:
        """Warn once, after an update.

        Args:
            sparsity: Float, sparsity after the update.
        """
        foreign, self.foreign_sparsity = self.foreign_sparsity, 0.0
        texts = []
        if sparsity < foreign:
            texts.append(_prune_warnings.lowered(self._callback, foreign, sparsity))
        late_start, self.late_start = self.late_start, None
        if late_start is not None and sparsity > late_start[1]:
            step, before = late_start
            begin = self._callback.schedule.begin_step
            texts.append(_prune_warnings.late_start(begin, step, before, sparsity))
        for text in texts:
            warnings.warn(text, PruningWarning, stacklevel=4)
