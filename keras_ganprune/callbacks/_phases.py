"""What goes on in a `fit`, in words: training, pruning, recovering or shrunk."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_ganprune.callbacks.balance_controller import BalanceController
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.shrink import Shrink


def phase_of(callbacks: Sequence[keras.callbacks.Callback]) -> str:
    """Return what goes on now in the `fit` of these callbacks.

    Of several `Prune`, the first one that prunes now is named, or else the last one that has ended.

    Example:
    >>> phase_of([])
    'training'
    """
    if any(isinstance(each, Shrink) and each.events for each in callbacks):
        return "shrunk"
    phases = [_phase(each) for each in callbacks if isinstance(each, Prune)]
    for begin in ("pruning", "recovering"):
        for phase in phases:
            if phase.startswith(begin):
                return phase
    return "training"


def _phase(prune: Prune) -> str:
    run, schedule = prune._active_run, prune.schedule
    if run is None or not run.started or run.last_step < schedule.begin_step:
        return "training"
    measured = next(iter(run.targets.logs.values()), 0.0)
    now = prune.updates[-1][2] if prune.updates else measured
    if schedule.adaptive or schedule.quantity != "sparsity" or isinstance(prune, BalanceController):
        # The sparsity at the end is not known.
        ended = schedule.end_step is not None and run.last_step >= schedule.end_step
        return f"recovering at {_percent(now)}" if ended else f"pruning, {_percent(now)} now"
    final = schedule.final
    ended = now >= final if schedule.end_step is None else run.last_step >= schedule.end_step
    if ended:
        return f"recovering at {_percent(now)}"
    digits = 0 if abs(100 * final - round(100 * final)) < 1e-6 else 1
    return f"pruning {_percent(now, digits)} of {_percent(final, digits)}"


def _percent(share: float, digits: int = 1) -> str:
    return f"{round(100 * share, digits):g} %"
