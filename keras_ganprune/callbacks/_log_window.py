"""The mean of a log over the batches since the last mask update."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.layers.tensors import to_numpy


class LogWindow:
    """Mean of the values that a log has measured since the window was cleared.

    A Keras log is usually the mean over the epoch so far. If it comes from a `Mean` metric of the model,
    the window takes the difference of the metric's total and count between two batches. Then values
    from before the window do not count, nor does a mean that is only logged again. Any other log counts
    with its value, once per batch.

    Args:
        model: The model that is being fitted.
        name: Name of the log.

    Attributes:
        total: Float, sum of the measured values.
        weight: Float, number of measured values.
    """

    def __init__(self, model: keras.Model, name: str):
        same = (m for m in model.metrics if m.name == name and isinstance(m, keras.metrics.Mean))
        self.metric: keras.metrics.Mean | None = next(same, None)
        self.model = model
        self.total = self.weight = 0.0
        self._last = self._metric_state()

    def clear(self) -> None:
        """Begin a new window."""
        self.total = self.weight = 0.0

    @property
    def mean(self) -> float:
        """The mean of the measured values; NaN if there are none."""
        return self.total / self.weight if self.weight else math.nan

    def skip(self) -> None:
        """Leave out what the metric holds now."""
        self._last = self._metric_state()

    def add(self, logged: Any) -> None:
        """Take in the log of a batch."""
        value, weight = float(np.mean(logged)), 1.0
        total_before, count_before = self._last
        self.skip()
        total, count = self._last
        # The log may come from elsewhere than the metric of the same name.
        if self.metric is not None and math.isclose(
            value, total / count if count else 0.0, rel_tol=1e-4, abs_tol=1e-6
        ):
            value, weight = total, count
            if count >= count_before:  # otherwise the metric was reset since
                value, weight = total - total_before, count - count_before
        if weight > 0 and math.isfinite(value):
            self.total += value
            self.weight += weight

    def _metric_state(self) -> tuple[float, float]:
        """Return the total and the count of the metric."""
        if self.metric is None:
            return 0.0, 0.0
        tracing.sync(self.model)
        return float(to_numpy(self.metric.total)), float(to_numpy(self.metric.count))
