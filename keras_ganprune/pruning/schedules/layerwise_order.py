"""Sparsity that rises layer after layer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, cast

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.schedules.base import Schedule, family
from keras_ganprune.pruning.schedules.cyclic import Cyclic
from keras_ganprune.pruning.schedules.lookup import ScheduleLike, get
from keras_ganprune.utils import validation


@family.register
@dataclass(frozen=True)
class LayerwiseOrder(Schedule):
    """Prune layers one after the other, forward or backward, each along its own schedule.

        T = end - begin,   length = T / (1 + (n - 1) * (1 - overlap))
        tensor i of n runs the whole schedule from begin + i * length * (1 - overlap), in `length` steps

    A single schedule is compressed into the time slice of each tensor. In a list, each tensor has its own
    schedule, whose steps decide the order. All tensors are at their final sparsity at `end_step`.

    At any frequency, the masks are updated at the begin and the end of every schedule of a list. For a
    single schedule, only the begin of the first slice and the end of the last one are fixed, because the
    number of slices is not known in advance.

    Calling the schedule returns a mean for display, as it knows no tensors: the value of the single
    schedule, or the mean over the list. `targets` returns the sparsity of each tensor.

    Args:
        schedule: A sparsity schedule with `begin_step < end_step`, or a list of sparsity schedules with an
            `end_step`, one per pruned tensor in order. `Cyclic`, `IterativeRewind`, `AdaptiveSparsity`
            and `LayerwiseOrder` cannot be used.
        order: 'forward' (the first tensor first) or 'backward'. For a single schedule only. Defaults to
            'forward'.
        overlap: Float in [0, 1), share of its time slice that a tensor has in common with the next one.
            For a single schedule only. Defaults to 0.0.

    Raises:
        InvalidArgumentError: `schedule` is not a schedule of one rise in sparsity with an `end_step`, or a
            list of such schedules, or has `begin_step == end_step`.
        InvalidArgumentError: `order` is not 'forward' or 'backward', or `overlap` is not in [0, 1).
        InvalidArgumentError: `order` or `overlap` is set, but `schedule` is a list.

    Example:
    >>> schedule = LayerwiseOrder(Linear(0.8, begin_step=0, end_step=100))
    >>> weights = [np.ones((3, 3)), np.ones((3, 5))]
    >>> schedule.targets(25, weights), schedule.targets(75, weights)
    ([0.4, 0.0], [0.8, 0.4])
    """

    schedule: ScheduleLike | Sequence[ScheduleLike]
    order: Literal["forward", "backward"] = "forward"
    overlap: float = 0.0

    def __post_init__(self):
        is_list = isinstance(self.schedule, (list, tuple))
        identifiers = cast("Sequence[ScheduleLike]", self.schedule if is_list else [self.schedule])
        parts = tuple(get(identifier) for identifier in identifiers)
        if not parts:
            raise InvalidArgumentError(
                "`schedule` must be a schedule, or a list with one per tensor. Received: an empty list."
            )
        for part in parts:
            _check_part(part)
        self._set_field("schedule", parts if is_list else parts[0])
        validation.one_of(self.order, "order", ("forward", "backward"))
        self._set_field("overlap", validation.fraction(self.overlap, "overlap"))
        if is_list and (self.order != "forward" or self.overlap):
            raise InvalidArgumentError(
                "`order` and `overlap` divide the time of a single schedule; the schedules of a list have "
                f"their own steps. Received: order={self.order!r}, overlap={self.overlap:g} with a list of "
                f"{len(parts)}. Leave them out, or change the order of the list."
            )
        if not is_list and self.begin_step == self.end_step:
            raise InvalidArgumentError(
                "`schedule` must have `begin_step < end_step`: the steps between them are divided among "
                f"the tensors. Received: {self.schedule!r}. "
                "For one jump per tensor use `ConstantSparsity(sparsity, begin_step, end_step)`."
            )

    @property
    def _is_list(self) -> bool:
        return isinstance(self.schedule, tuple)

    @property
    def _parts(self) -> tuple[Schedule, ...]:
        # `__post_init__` has converted the field.
        parts = self.schedule if self._is_list else (self.schedule,)
        return cast("tuple[Schedule, ...]", parts)

    @property
    def begin_step(self) -> int:
        """The first `begin_step` of all schedules."""
        return min(part.begin_step for part in self._parts)

    @property
    def end_step(self) -> int:
        """The last `end_step` of all schedules."""
        return max(_end_of(part) for part in self._parts)

    @property
    def rises_and_falls(self) -> bool:
        """Whether one of the schedules falls."""
        return any(part.rises_and_falls for part in self._parts)

    def __call__(self, step: int) -> float:
        """Return the mean of the sparsities at a step."""
        # `mean` is exact: the mean of equal sparsities is that sparsity.
        return statistics.mean(float(part(step)) for part in self._parts)

    def targets(self, step: int, weights: Sequence[np.ndarray]) -> list[float]:
        """Return the sparsity of each tensor.

        Args:
            step: Int, number of optimizer steps done.
            weights: Arrays, the pruned weights. Only their number matters.

        Raises:
            InvalidArgumentError: The list of schedules does not have the length of `weights`.
        """
        count = len(weights)
        if not self._is_list:
            values = [self._squeezed(step, position, count) for position in range(count)]
            return values if self.order == "forward" else values[::-1]
        if count != len(self._parts):
            raise InvalidArgumentError(
                "A list of schedules must have one schedule per pruned tensor. Received: "
                f"{len(self._parts)} schedule(s) for {count} tensor(s). "
                "`Pruner.weights` lists the tensors; `scope` selects them."
            )
        return [part(step) for part in self._parts]

    def crowded(self, tensors: int, frequency: int) -> str | None:
        """Return the text of a warning if an update is rarer than one per time slice, or None."""
        if self._is_list or tensors < 2:
            return None
        steps = float(self._slice(tensors))
        if frequency <= steps:
            return None
        return (
            f"`LayerwiseOrder` gives each of {tensors} tensors {steps:.4g} steps, but masks are updated "
            f"only every {frequency} steps, so that several tensors are pruned at once. Use a frequency "
            f"of about {max(1, int(steps // 4))}, or more steps between `begin_step` and `end_step`."
        )

    def _latest_fixed_step(self, until: int) -> int:
        steps = [step for part in self._parts for step in (part.begin_step, _end_of(part))]
        return max(step for step in steps if step <= until)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, with the config of each schedule."""
        parts = [keras.saving.serialize_keras_object(part) for part in self._parts]
        return {
            "schedule": parts if self._is_list else parts[0],
            "order": self.order,
            "overlap": self.overlap,
        }

    def _slice(self, count: int) -> Fraction:
        """Return the number of steps of each of `count` time slices."""
        gap = 1 - Fraction(repr(self.overlap))
        return (self.end_step - self.begin_step) / (1 + (count - 1) * gap)

    def _squeezed(self, step: int, position: int, count: int) -> float:
        """Return the value of the single schedule at `step` in time slice `position` of `count`."""
        # Fractions are exact: an overlap of 0.1 is a tenth, and slices end where they should.
        gap = 1 - Fraction(repr(self.overlap))
        window = self.end_step - self.begin_step
        length = self._slice(count)
        inside = int(step) - self.begin_step - position * length * gap
        if inside < 0:
            return 0.0
        inner = self.begin_step + min(inside / length, 1) * window
        # Between two steps of the schedule its formula is used with a fraction of a step.
        return self._parts[0](int(inner) if inner.denominator == 1 else cast("int", float(inner)))


def _end_of(part: Schedule) -> int:
    """Return the `end_step` of a schedule that `_check_part` has accepted."""
    return cast("int", part.end_step)


def _check_part(part: Schedule) -> None:
    """Raise `InvalidArgumentError` if a schedule cannot be used for one tensor among others."""
    reasons = {
        "its quantity is a threshold, not a sparsity": part.quantity != "sparsity",
        "it adapts to a monitored log": part.adaptive,
        "it rewinds the weights of all tensors": part.rewind_step is not None,
        "it rises and falls in cycles": isinstance(part, Cyclic),
        "it sets the target of each tensor itself": type(part).targets is not Schedule.targets,
        "it has no `end_step`": part.end_step is None,
    }
    for reason, applies in reasons.items():
        if applies:
            raise InvalidArgumentError(
                "`LayerwiseOrder` needs schedules of one rise in sparsity with an `end_step`. "
                f"Received: {part!r}, which cannot be used: {reason}."
            )
