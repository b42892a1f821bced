"""The remaining steps of a schedule whose first steps are already done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning import schedules
from keras_ganprune.utils import validation
from keras_ganprune.utils.registry import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
@dataclass(frozen=True)
class Shifted(schedules.Schedule):
    """The rest of a schedule after `offset` steps. Its steps are counted from 0 again.

        s(t) = schedule(t + offset)

    The next mask update is at the first update step of the schedule after `offset`.

    Args:
        schedule: A `Schedule`, or another value that `schedules.get` accepts.
        offset: Positive int, number of optimizer steps that are already done.

    Raises:
        InvalidArgumentError: `offset` is not a positive int, or the schedule ends at or before it.

    Example:
    >>> rest = Shifted(schedules.PolynomialDecay(0.8, begin_step=0, end_step=1000), 300)
    >>> rest.end_step, round(rest(0), 4), rest(700)
    (700, 0.5256, 0.8)
    """

    schedule: schedules.Schedule
    offset: int

    def __post_init__(self):
        object.__setattr__(self, "schedule", schedules.get(self.schedule))
        validation.positive_int(self.offset, "offset", "in optimizer steps")
        end = self.schedule.end_step
        if end is not None and end <= self.offset:
            raise InvalidArgumentError(
                f"`offset` must be below the schedule's end_step {end}, or no step is left. Received: "
                f"{self.offset}."
            )

    @property
    def quantity(self):
        """The unit of the values, as in the original schedule."""
        return self.schedule.quantity

    @property
    def begin_step(self):
        """The first step that prunes, at least 0."""
        return max(0, self.schedule.begin_step - self.offset)

    @property
    def end_step(self):
        """The step of the last mask update, or None if the schedule has no end."""
        end = self.schedule.end_step
        return None if end is None else end - self.offset

    def __call__(self, step):
        """Return the value at a step, in the unit of the schedule."""
        return self.schedule(step + self.offset)

    def is_update_step(self, step, frequency):
        """Return whether masks are updated at a step."""
        # The old model has already made the update of step 0.
        return step > 0 and self.schedule.is_update_step(step + self.offset, frequency)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "offset": self.offset,
        }
