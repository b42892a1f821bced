"""What every schedule promises, and the checks and the interpolation that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import validation
from keras_ganprune.utils.registry import Configurable, Family

# Later than any training, and still exact as a float.
_FAR_OUT = 2**53


class Schedule(Configurable):
    """A target that depends on the step; immutable.

    Attributes:
        quantity: 'sparsity' or 'threshold', what `__call__` returns.
        begin_step: Int, first step at which masks are updated.
        end_step: Int, last such step, or None for no end.
        rises_and_falls: Bool, whether the target goes down at times, so that pruned weights must be
            able to return.
        adaptive: Bool, whether a controller in the callback sets the target from what it measures.
        rewind_step: Int, step to whose weights training goes back after each update, or None.

    Example:
    >>> class Staircase(Schedule):
    ...     def __call__(self, step):
    ...         return min(0.1 * (step // 10), 0.8)
    >>> Staircase()(25), Staircase().final
    (0.2, 0.8)
    """

    quantity = "sparsity"
    begin_step: int = 0
    end_step: int | None = None
    rises_and_falls = False
    adaptive = False
    rewind_step: int | None = None
    # Whether begin, begin+f, ... update the masks, beside the steps that do whatever the frequency.
    _follows_frequency = True

    def __call__(self, step: int) -> float:
        """Return the target at `step`, in optimizer steps done so far."""
        raise NotImplementedError

    @property
    def final(self) -> float:
        """The target that it ends with: at `end_step`, or far out where there is none."""
        return self(_FAR_OUT if self.end_step is None else self.end_step)

    def targets(self, step: int, weights: Sequence[np.ndarray]) -> list[float] | None:
        """Return a target for each tensor, or None for one target, `self(step)`, for all.

        Args:
            step: Int, optimizer steps done so far.
            weights: Arrays, the stored (already masked) weights in the order of the pruner.
        """
        return None

    def crowded(self, tensors: int, frequency: int) -> str | None:
        """Return what to warn of where updates are too rare for so many tensors, or None."""
        return None

    def is_update_step(self, step: int, frequency: int) -> bool:
        """Return whether masks are updated at `step`: begin, begin+f, ..., and always at the end."""
        if step < self.begin_step or (self.end_step is not None and step > self.end_step):
            return False
        if step == self._latest_fixed_step(step):
            return True
        return self._follows_frequency and (step - self.begin_step) % frequency == 0

    def latest_update_step(self, after: int, until: int, frequency: int) -> int | None:
        """Return the largest update step in (after, until], or None."""
        if self.end_step is not None:
            until = min(until, self.end_step)
        after = max(after, self.begin_step - 1)
        if after >= until:
            return None
        if type(self).is_update_step is not Schedule.is_update_step:
            # A user's own rule: asked step by step, which is quick if it is true now and then.
            steps = range(until, after, -1)
            return next((step for step in steps if self.is_update_step(step, frequency)), None)
        fixed = self._latest_fixed_step(until)
        found = [] if fixed is None else [fixed]
        if self._follows_frequency:
            found.append(until - (until - self.begin_step) % frequency)
        latest = max(found, default=after)
        return latest if latest > after else None

    def _latest_fixed_step(self, until: int) -> int | None:
        """Return the last step in [begin_step, until] that updates the masks whatever the frequency."""
        return self.end_step if self.end_step is not None and until >= self.end_step else None

    def get_config(self):
        # A user's own class need not be a dataclass.
        return asdict(self) if is_dataclass(self) else super().get_config()

    def _set_step(self, name: str) -> None:
        """Check a field that is a step; a NumPy integer becomes an int, as JSON and `repr` need it."""
        value = getattr(self, name)
        value = validation.non_negative_int(value, name, "in optimizer steps")
        object.__setattr__(self, name, value)

    def _validate_range(self) -> None:
        self._set_step("begin_step")
        if self.end_step is not None:
            self._set_step("end_step")
            if self.end_step < self.begin_step:
                raise InvalidArgumentError(
                    "`begin_step` must not be larger than `end_step`. "
                    f"Received: begin_step={self.begin_step}, end_step={self.end_step}."
                )

    def _set_power(self) -> None:
        power = validation.number(self.power, "power", "a positive number", lambda v: v > 0)
        if isinstance(self.power, np.generic):
            object.__setattr__(self, "power", power)


_family = Family("schedule", Schedule)


def interpolate(
    step: float,
    begin_step: int,
    end_step: int,
    initial: float,
    final: float,
    curve: Callable[[float], float],
) -> float:
    """Return the value on the way from `initial` to `final`; exactly these at the two ends.

        v(t) = final + (initial - final) * curve(1 - (t - begin) / (end - begin))

    Args:
        curve: Maps the share of the way that is left, in (0, 1), to the share of the difference
            that is left.

    Example:
    >>> interpolate(5, 0, 10, 0.0, 0.8, lambda left: left**3)
    0.7000000000000001
    """
    if step >= end_step:
        return final
    if step == begin_step:
        return initial
    left = 1.0 - (step - begin_step) / (end_step - begin_step)
    return final + (initial - final) * curve(left)
