"""The learning rate of most applications, and averages of weights."""

from __future__ import annotations

from typing import Any

import keras

_LAST = 0.05
# Weights are averaged over the number of steps of a training, divided by this.
_AVERAGED = 3


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


def averaged(steps: int) -> dict[str, Any]:
    """Return arguments of an optimizer that averages the weights over about a third of a training.

    With a constant learning rate, a network changes from step to step. At the end of the dense training,
    Keras writes the average over the weights: it is steadier, and a better teacher.

    Args:
        steps: Positive int, number of optimizer steps of each training after the dense one.

    Returns: Dict of keyword arguments of `keras.optimizers.Optimizer`.

    Example:
    >>> averaged(30)
    {'use_ema': True, 'ema_momentum': 0.9}

    Reference: [Averaging weights leads to wider optima](https://arxiv.org/abs/1803.05407), §3.
    """
    return {"use_ema": True, "ema_momentum": max(0.0, 1.0 - _AVERAGED / steps)}
