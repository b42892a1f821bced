"""The learning rate of the text applications."""

from __future__ import annotations

from typing import Any

import keras

_LAST = 0.05


def falling(rate: float, steps: int) -> Any:
    """Return a learning rate that falls to a twentieth, in equal parts, over a number of optimizer steps.

    The steps of the dense training and of a compression after it count together, since a compression goes on
    with the optimizer of the dense network.

    Args:
        rate: Positive float, learning rate of the first step.
        steps: Positive int, number of steps.

    Returns: A `keras.optimizers.schedules.LearningRateSchedule`.

    Example:
    >>> schedule = falling(0.001, 100)
    >>> [round(float(schedule(step)), 6) for step in (0, 50, 100, 200)]
    [0.001, 0.000525, 5e-05, 5e-05]
    """
    return keras.optimizers.schedules.PolynomialDecay(rate, steps, end_learning_rate=_LAST * rate)
