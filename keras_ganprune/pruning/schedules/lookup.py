"""`get`: the schedule for a number, a config, an instance, or a schedule of TFMOT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from keras_ganprune.pruning.schedules.base import Schedule, family
from keras_ganprune.pruning.schedules.ramps import ConstantSparsity, PolynomialDecay
from keras_ganprune.utils.validation import is_number

# A number is a constant sparsity, and a mapping is a Keras config. `get` accepts schedules of TFMOT too.
# There are no names: every schedule has an argument without a default.
ScheduleLike: TypeAlias = Schedule | float | Mapping[str, Any]


def _from_tfmot(schedule: Any) -> Schedule | None:
    """Return the schedule that equals one of TFMOT, or None for other objects.

    The name of the class's module decides, so that TFMOT need not be imported.
    """
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
            cast("int", end_step),  # None is refused there
            initial_sparsity=schedule.initial_sparsity,
            power=schedule.power,
        )
    return None


def get(identifier: ScheduleLike) -> Schedule:
    """Return the schedule for an identifier.

    Args:
        identifier: An instance, a Keras config, a `ConstantSparsity` or `PolynomialDecay` of TFMOT, or a
            number in [0, 1), which is a constant sparsity.

    Raises:
        InvalidArgumentError: The number is not in [0, 1), or `identifier` is a name.
        ArgumentTypeError: `identifier` has another type.

    Example:
    >>> get(0.5)
    ConstantSparsity(sparsity=0.5, begin_step=0, end_step=None)
    """
    if is_number(identifier):
        return ConstantSparsity(cast("float", identifier))
    return family.get(identifier, convert=_from_tfmot)
