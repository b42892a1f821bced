"""The learning rate of most applications."""

from __future__ import annotations

from typing import Any

import keras

_LAST = 0.05


def falling(rate: float, constant: int, steps: int) -> Any:
    """Return a learning rate that is constant at first, and then falls to a twentieth.

    It is constant in the dense training. In each training after it the learning rate falls, so that pruned
    networks can recover first and settle then. These trainings go on with the optimizer of the dense one.

    Args:
        rate: Positive float, learning rate of the first step.
        constant: Positive int, number of optimizer steps of the dense training.
        steps: Positive int, number of optimizer steps of each training after it.

    Returns: A `keras.optimizers.schedules.LearningRateSchedule`.

    Example:
    >>> schedule = falling(0.001, 50, 100)
    >>> [round(float(schedule(step)), 6) for step in (0, 50, 100, 150, 200)]
    [0.001, 0.001, 0.000525, 5e-05, 5e-05]
    """
    schedules = keras.optimizers.schedules
    # Without a warm-up of its own, Keras has no schedule with a constant part: this one rises by nothing.
    return schedules.CosineDecay(
        rate, steps, alpha=_LAST, warmup_target=rate, warmup_steps=constant
    )
