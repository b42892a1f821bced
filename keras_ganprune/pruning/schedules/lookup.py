"""From whatever a user may pass as a schedule to a `Schedule`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from keras_ganprune.pruning.schedules.base import Schedule, _family
from keras_ganprune.pruning.schedules.ramps import ConstantSparsity, PolynomialDecay

# No schedule has defaults for all arguments, so none has a name that can be passed. A number is a
# constant sparsity; a mapping is a Keras config. A schedule of TFMOT is accepted too.
ScheduleLike: TypeAlias = Schedule | float | Mapping[str, Any]


def _from_tfmot(schedule: Any) -> Schedule | None:
    """Return the equal of one of TFMOT's schedule objects, told by its module; TFMOT is not imported."""
    if not type(schedule).__module__.startswith("tensorflow_model_optimization."):
        return None
    end_step = None if schedule.end_step == -1 else schedule.end_step
    kind = type(schedule).__name__
    if kind == "ConstantSparsity":
        return ConstantSparsity(schedule.target_sparsity, schedule.begin_step, end_step)
    if kind == "PolynomialDecay":
        return PolynomialDecay(
            schedule.final_sparsity,
            schedule.begin_step,
            end_step,
            initial_sparsity=schedule.initial_sparsity,
            power=schedule.power,
        )
    return None


def get(identifier: ScheduleLike) -> Schedule:
    """Return a schedule for an instance (ours or TFMOT's), a config, or a number.

    A plain number is a constant sparsity.

    Example:
    >>> get(0.5)
    ConstantSparsity(sparsity=0.5, begin_step=0, end_step=None)
    """
    if isinstance(identifier, (int, float, np.number)) and not isinstance(identifier, bool):
        return ConstantSparsity(identifier)
    return _family.get(identifier, convert=_from_tfmot)
