"""How the target moves with training: step -> sparsity, or step -> threshold."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_ganprune._registry import Configurable, Family
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.masks import validate_sparsity


def _validate_step(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InvalidArgumentError(
            f"`{name}` must be a non-negative int, in optimizer steps. Received: {value!r}."
        )


class Schedule(Configurable):
    """A target that depends on the step; immutable.

    Attributes:
        quantity: 'sparsity' or 'threshold', what `__call__` returns.
        begin_step: Int, first step at which masks are updated.
        end_step: Int, last such step, or None for no end.
    """

    quantity = "sparsity"
    begin_step: int = 0
    end_step: int | None = None

    def __call__(self, step: int) -> float:
        """Return the target at `step`, in optimizer steps done so far."""
        raise NotImplementedError

    def is_update_step(self, step: int, frequency: int) -> bool:
        """Return whether masks are updated at `step`: begin, begin+f, ..., and always at the end."""
        if step < self.begin_step or (self.end_step is not None and step > self.end_step):
            return False
        return step == self.end_step or (step - self.begin_step) % frequency == 0

    def latest_update_step(self, after: int, until: int, frequency: int) -> int | None:
        """Return the largest update step in (after, until], or None."""
        if self.end_step is not None:
            until = min(until, self.end_step)
        for step in range(until, max(after, self.begin_step - 1), -1):
            if self.is_update_step(step, frequency):
                return step
        return None

    def _validate_range(self) -> None:
        _validate_step(self.begin_step, "begin_step")
        if self.end_step is not None:
            _validate_step(self.end_step, "end_step")
            if self.end_step < self.begin_step:
                raise InvalidArgumentError(
                    "`begin_step` must not be larger than `end_step`. "
                    f"Received: begin_step={self.begin_step}, end_step={self.end_step}."
                )

    def get_config(self):
        return asdict(self)


_family = Family("schedule", Schedule)


@_family.register
@dataclass(frozen=True)
class ConstantSparsity(Schedule):
    """One sparsity from `begin_step` on.

    Args:
        sparsity: Float in [0, 1), share of the weights to remove.
        begin_step: Int, optimizer steps.
        end_step: Int or None, the last step at which masks are updated.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> ConstantSparsity(0.5, begin_step=100)(100)
    0.5
    """

    sparsity: float
    begin_step: int = 0
    end_step: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "sparsity", validate_sparsity(self.sparsity))
        self._validate_range()

    def __call__(self, step):
        return self.sparsity if step >= self.begin_step else 0.0


@_family.register
@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """Polynomial sparsity schedule of Zhu & Gupta.

        s(t) = s_f + (s_i - s_f) * (1 - (t - t_0) / (t_1 - t_0)) ** power

    Args:
        final_sparsity: Float in [0, 1), reached exactly at `end_step` and kept from then on.
        begin_step, end_step: Int, optimizer steps, `begin_step < end_step`.
        initial_sparsity: Float in [0, 1), the value at `begin_step`.
        power: Positive float, unitless.

    Returns (from `__call__`): Float sparsity.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> schedule = PolynomialDecay(0.8, begin_step=100, end_step=110, initial_sparsity=0.2)
    >>> [round(schedule(t), 4) for t in (100, 102, 105, 110)]
    [0.2, 0.4928, 0.725, 0.8]

    Reference: [To prune, or not to prune](https://arxiv.org/abs/1710.01878), Eq. 1.
    """

    final_sparsity: float
    begin_step: int
    end_step: int
    initial_sparsity: float = 0.0
    power: float = 3.0

    def __post_init__(self):
        for name in ("final_sparsity", "initial_sparsity"):
            object.__setattr__(self, name, validate_sparsity(getattr(self, name), name))
        self._validate_range()
        if self.end_step is None or self.begin_step == self.end_step:
            raise InvalidArgumentError(
                "`begin_step` must be smaller than `end_step`. Received: "
                f"begin_step={self.begin_step}, end_step={self.end_step}. "
                "For one jump use `ConstantSparsity(sparsity, begin_step)`."
            )
        if not (isinstance(self.power, (int, float)) and 0 < self.power < math.inf):
            raise InvalidArgumentError(
                f"`power` must be a positive number. Received: {self.power!r}."
            )

    def __call__(self, step):
        if step < self.begin_step:
            return 0.0
        if step == self.begin_step:
            return self.initial_sparsity
        if step >= self.end_step:
            return self.final_sparsity
        left = 1.0 - (step - self.begin_step) / (self.end_step - self.begin_step)
        return (
            self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * left**self.power
        )


@_family.register
@dataclass(frozen=True)
class Threshold(Schedule):
    """Prune every unit whose score is below a fixed threshold; one equal to it is kept.

    Args:
        threshold: Non-negative float, in units of the criterion's scores (|w| for `Magnitude`).
        begin_step: Int, optimizer steps.
        end_step: Int or None, the last step at which masks are updated.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> Threshold(0.01)(0)
    0.01
    """

    threshold: float
    begin_step: int = 0
    end_step: int | None = None

    quantity = "threshold"

    def __post_init__(self):
        value = self.threshold
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise InvalidArgumentError(
                f"`threshold` must be a non-negative number. Received: {value!r}."
            )
        if not 0.0 <= float(value) < math.inf:
            raise InvalidArgumentError(
                f"`threshold` must be a finite, non-negative number. Received: {value!r}."
            )
        object.__setattr__(self, "threshold", float(value))
        self._validate_range()

    def __call__(self, step):
        return self.threshold if step >= self.begin_step else 0.0


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


def get(identifier: Any) -> Schedule:
    """Return a schedule for an instance (ours or TFMOT's), a config, or a number.

    A plain number is a constant sparsity.

    Example:
    >>> get(0.5)
    ConstantSparsity(sparsity=0.5, begin_step=0, end_step=None)
    """
    if isinstance(identifier, (int, float, np.number)) and not isinstance(identifier, bool):
        return ConstantSparsity(identifier)
    return _family.get(identifier, convert=_from_tfmot)
