"""The base class of schedules, and the checks and the interpolation that they share."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, Literal

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import validation
from keras_ganprune.utils.registry import Configurable, Family

# Later than the end of any training, and still exact as a float.
_LAST_STEP = 2**53


class Schedule(Configurable):
    """Base class of schedules. A schedule maps a step to a target sparsity or threshold.

    A subclass must define `__call__`. It is immutable; those of this package are frozen dataclasses,
    whose fields are the config. Another subclass with arguments defines `get_config`.

    The masks are updated at `begin_step`, then every `frequency` steps, and at `end_step`. Override
    `is_update_step` for other steps.

    An instance can be passed to `Prune` at once. A schedule of this package also has the decorators
    `@family.register` and `@dataclass(frozen=True)`, an import in `schedules/__init__.py`, and a row in
    `tests/helpers/members.py`.

    Attributes:
        quantity: 'sparsity' or 'threshold', what a call returns. Defaults to 'sparsity'.
        begin_step: Int, in optimizer steps, the first update of the masks. Defaults to 0.
        end_step: Int, in optimizer steps, the last update of the masks; None for no end. Defaults to None.
        rises_and_falls: Bool, whether the target falls at some step. Then the mode must let pruned weights
            return. Defaults to False.
        adaptive: Bool, whether `Prune` sets the target by a monitored log. Defaults to False.
        rewind_step: Int, the weights of this step are restored after each update; None to train on.
            Defaults to None.

    Example:
    >>> class Staircase(Schedule):
    ...     def __init__(self, width=10):
    ...         self.width = width
    ...
    ...     def __call__(self, step):
    ...         return min(0.1 * (step // self.width), 0.8)
    ...
    ...     def get_config(self):
    ...         return {"width": self.width}
    >>> Staircase()(25), Staircase().final
    (0.2, 0.8)
    >>> prune = Prune(Staircase(100), frequency=100)
    """

    quantity: Literal["sparsity", "threshold"] = "sparsity"
    begin_step: int = 0
    end_step: int | None = None
    rises_and_falls: bool = False
    adaptive: bool = False
    rewind_step: int | None = None
    # Whether masks are updated every `frequency` steps, besides the fixed steps of the schedule.
    _follows_frequency = True

    def __call__(self, step: int) -> float:
        """Return the target at a step.

        Args:
            step: Int, number of optimizer steps done.

        Returns:
            Float, a sparsity in [0, 1) or a threshold; 0.0 before `begin_step`.
        """
        raise NotImplementedError

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the call of each subclass check its step: any comparison with NaN is false."""
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            setattr(cls, "__call__", _with_checked_step(vars(cls)["__call__"]))  # noqa: B010

    @property
    def final(self) -> float:
        """The target at `end_step`, or after very many steps if there is no end."""
        return self(_LAST_STEP if self.end_step is None else self.end_step)

    def targets(self, step: int, weights: Sequence[np.ndarray]) -> list[float] | None:
        """Return one target per tensor, or None if `self(step)` is the target of all tensors.

        Args:
            step: Int, number of optimizer steps done.
            weights: Arrays, the masked values of the pruned weights, in the order of the pruner.
        """
        return None

    def crowded(self, tensors: int, frequency: int) -> str | None:
        """Return the text of a warning if updates are too rare for so many tensors, or None.

        Args:
            tensors: Int, number of pruned tensors.
            frequency: Int, steps between two updates.
        """
        return None

    def is_update_step(self, step: int, frequency: int) -> bool:
        """Return whether the masks are updated at a step.

        Args:
            step: Int, number of optimizer steps done.
            frequency: Int, steps between two updates.
        """
        checked_step(step)
        validation.positive_int(frequency, "frequency", "in optimizer steps")
        if step < self.begin_step or (self.end_step is not None and step > self.end_step):
            return False
        if step == self._latest_fixed_step(step):
            return True
        return self._follows_frequency and (step - self.begin_step) % frequency == 0

    def latest_update_step(self, after: int, until: int, frequency: int) -> int | None:
        """Return the last update step in (after, until], or None.

        Args:
            after: Int, a step.
            until: Int, a step.
            frequency: Int, steps between two updates.
        """
        if self.end_step is not None:
            until = min(until, self.end_step)
        after = max(after, self.begin_step - 1)
        if after >= until:
            return None
        if type(self).is_update_step is not Schedule.is_update_step:
            # A subclass with its own rule: search step by step.
            steps = range(until, after, -1)
            return next((step for step in steps if self.is_update_step(step, frequency)), None)
        fixed = self._latest_fixed_step(until)
        candidates = [] if fixed is None else [fixed]
        if self._follows_frequency:
            candidates.append(until - (until - self.begin_step) % frequency)
        latest = max(candidates, default=after)
        return latest if latest > after else None

    def _latest_fixed_step(self, until: int) -> int | None:
        """Return the last step in [begin_step, until] that updates the masks at any frequency, or None."""
        return self.end_step if self.end_step is not None and until >= self.end_step else None

    def get_config(self) -> dict[str, Any]:
        """Return the fields of a dataclass, else an empty dict."""
        return asdict(self) if is_dataclass(self) else super().get_config()

    def _set_field(self, name: str, value: Any) -> None:
        """Set a field of a frozen dataclass. Only `__post_init__` may do so."""
        object.__setattr__(self, name, value)

    def _set_step(self, name: str) -> None:
        """Check a field that is a step, and store it as a plain int, as JSON and `repr` need."""
        value = validation.non_negative_int(getattr(self, name), name, "in optimizer steps")
        self._set_field(name, value)

    def _check_steps(self) -> None:
        """Check `begin_step` and `end_step`."""
        self._set_step("begin_step")
        if self.end_step is not None:
            self._set_step("end_step")
            if self.end_step < self.begin_step:
                raise InvalidArgumentError(
                    "`begin_step` must not be larger than `end_step`. "
                    f"Received: begin_step={self.begin_step}, end_step={self.end_step}."
                )

    def _check_power(self, power: float) -> None:
        """Check the field `power`. An int stays an int."""
        value = validation.positive(power, "power")
        if isinstance(power, np.generic):
            self._set_field("power", value)


def _with_checked_step(call: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    @functools.wraps(call)
    def checked(self: Any, step: Any) -> float:
        return call(self, checked_step(step))

    return checked


def checked_step(step: Any) -> float:
    """Return a step. A scalar array or tensor becomes an int.

    Raises:
        InvalidArgumentError: `step` is not a finite number.
    """
    if not validation.is_number(step) and not isinstance(step, bool):
        with contextlib.suppress(TypeError, ValueError):
            return operator.index(step)
    validation.number(step, "step", "a number of optimizer steps")
    return step


family = Family("schedule", Schedule)


def interpolate(
    step: float,
    begin_step: int,
    end_step: int,
    initial: float,
    final: float,
    curve: Callable[[float], float],
) -> float:
    """Return the value at a step between `initial` and `final`, which are exact at the two ends.

        v(t) = final + (initial - final) * curve(1 - (t - begin) / (end - begin))

    Args:
        step: Number, at least `begin_step`.
        begin_step: Int, step of the value `initial`.
        end_step: Int, step of the value `final`; later steps have it too.
        initial: Float.
        final: Float.
        curve: Function, share of the steps that remain, in (0, 1) -> share of the difference that remains.

    Example:
    >>> interpolate(5, 0, 10, 0.0, 0.8, lambda remaining: remaining**3)
    0.7000000000000001
    """
    if step >= end_step:
        return final
    if step == begin_step:
        return initial
    remaining = 1.0 - (step - begin_step) / (end_step - begin_step)
    return final + (initial - final) * curve(remaining)
