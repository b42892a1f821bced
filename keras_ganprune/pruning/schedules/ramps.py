"""Sparsity that jumps or rises once: constant, one shot, and ramps of several shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.schedules.base import Schedule, family, interpolate
from keras_ganprune.utils.validation import validate_sparsity


@family.register
@dataclass(frozen=True)
class ConstantSparsity(Schedule):
    """The same sparsity from `begin_step` on.

    Args:
        sparsity: Float in [0, 1), share of the weights to remove.
        begin_step: Int, in optimizer steps. Defaults to 0.
        end_step: Int, in optimizer steps, the last update of the masks; None for no end. Defaults to None.

    Raises:
        InvalidArgumentError: `sparsity` is not in [0, 1).
        InvalidArgumentError: A step is not a non-negative int, or `begin_step` is above `end_step`.

    Example:
    >>> ConstantSparsity(0.5, begin_step=100)(100)
    0.5
    """

    sparsity: float
    begin_step: int = 0
    end_step: int | None = None

    def __post_init__(self):
        self._set_field("sparsity", validate_sparsity(self.sparsity))
        self._check_steps()

    def __call__(self, step: int) -> float:
        """Return the sparsity at a step."""
        return self.sparsity if step >= self.begin_step else 0.0


@family.register
@dataclass(frozen=True)
class OneShot(Schedule):
    """Prune once, at one step, at any frequency of updates.

    Args:
        sparsity: Float in [0, 1), share of the weights to remove.
        step: Int, in optimizer steps. It is both `begin_step` and `end_step`.

    Raises:
        InvalidArgumentError: `sparsity` is not in [0, 1), or `step` is not a non-negative int.

    Example:
    >>> schedule = OneShot(0.5, step=20)
    >>> [schedule(t) for t in (19, 20, 21)]
    [0.0, 0.5, 0.5]
    >>> [schedule.is_update_step(t, 1) for t in (19, 20, 21)]
    [False, True, False]
    """

    sparsity: float
    step: int

    def __post_init__(self):
        self._set_field("sparsity", validate_sparsity(self.sparsity))
        self._set_step("step")

    @property
    def begin_step(self) -> int:
        """The step of the only update."""
        return self.step

    @property
    def end_step(self) -> int:
        """The step of the only update."""
        return self.step

    def __call__(self, step: int) -> float:
        """Return the sparsity at a step."""
        return self.sparsity if step >= self.step else 0.0


@dataclass(frozen=True)
class Ramp(Schedule):
    """Base class of schedules that change from one sparsity to another.

    A subclass must define `curve`.

    Args:
        final_sparsity: Float in [0, 1), the sparsity at `end_step` and after it.
        begin_step: Int, in optimizer steps.
        end_step: Int, in optimizer steps, larger than `begin_step`.
        initial_sparsity: Float in [0, 1), the sparsity at `begin_step`. Defaults to 0.0.

    Raises:
        InvalidArgumentError: A sparsity is not in [0, 1).
        InvalidArgumentError: A step is not a non-negative int, or `begin_step` is not below `end_step`.

    Example:
    >>> class Quadratic(Ramp):
    ...     def curve(self, remaining):
    ...         return remaining**2
    >>> Quadratic(0.8, begin_step=0, end_step=10)(5)
    0.6000000000000001
    """

    final_sparsity: float
    begin_step: int
    end_step: int
    initial_sparsity: float = 0.0

    def __post_init__(self):
        for name in ("final_sparsity", "initial_sparsity"):
            self._set_field(name, validate_sparsity(getattr(self, name), name))
        self._check_steps()
        if self.end_step is None or self.begin_step == self.end_step:
            raise InvalidArgumentError(
                "`begin_step` must be smaller than `end_step`. Received: "
                f"begin_step={self.begin_step}, end_step={self.end_step}. "
                "For one jump use `ConstantSparsity(sparsity, begin_step)`."
            )

    def curve(self, remaining: float) -> float:
        """Return the share of the difference in sparsity that remains.

        Args:
            remaining: Float in (0, 1), share of the steps that remain.
        """
        raise NotImplementedError

    @property
    def rises_and_falls(self) -> bool:
        """Whether the sparsity falls."""
        return self.initial_sparsity > self.final_sparsity

    def __call__(self, step: int) -> float:
        """Return the sparsity at a step."""
        if step < self.begin_step:
            return 0.0
        return interpolate(
            step,
            self.begin_step,
            self.end_step,
            self.initial_sparsity,
            self.final_sparsity,
            self.curve,
        )


@family.register
@dataclass(frozen=True)
class PolynomialDecay(Ramp):
    """The polynomial schedule of Zhu & Gupta.

        s(t) = s_f + (s_i - s_f) * (1 - (t - t_0) / (t_1 - t_0)) ** power

    The order of the arguments is not that of TFMOT's `PolynomialDecay`.

    Args:
        final_sparsity: Float in [0, 1), the sparsity at `end_step` (exactly) and after it.
        begin_step: Int, in optimizer steps.
        end_step: Int, in optimizer steps, larger than `begin_step`.
        initial_sparsity: Float in [0, 1), the sparsity at `begin_step`. Defaults to 0.0.
        power: Positive float. Defaults to 3.0.

    Raises:
        InvalidArgumentError: A sparsity is not in [0, 1), or `power` is not a positive number.
        InvalidArgumentError: A step is not a non-negative int, or `begin_step` is not below `end_step`.

    Example:
    >>> schedule = PolynomialDecay(0.8, begin_step=100, end_step=110, initial_sparsity=0.2)
    >>> [round(schedule(t), 4) for t in (100, 102, 105, 110)]
    [0.2, 0.4928, 0.725, 0.8]

    Reference:
        [To prune, or not to prune](https://arxiv.org/abs/1710.01878), Eq. 1.
    """

    power: float = 3.0

    def __post_init__(self):
        if isinstance(self.begin_step, float) and 0 < self.begin_step < 1:
            raise InvalidArgumentError(
                "`begin_step` must be a non-negative int, in optimizer steps. "
                f"Received: {self.begin_step!r}. The order is PolynomialDecay(final_sparsity, begin_step, "
                "end_step, initial_sparsity, power), unlike in TFMOT; use the names of the arguments."
            )
        super().__post_init__()
        self._check_power(self.power)

    def curve(self, remaining: float) -> float:
        """Return `remaining ** power`."""
        return remaining**self.power


@family.register
@dataclass(frozen=True)
class Linear(Ramp):
    """Sparsity that rises by the same amount at every step.

        s(t) = s_i + (s_f - s_i) * (t - t_0) / (t_1 - t_0)

    Args:
        final_sparsity: Float in [0, 1), the sparsity at `end_step` (exactly) and after it.
        begin_step: Int, in optimizer steps.
        end_step: Int, in optimizer steps, larger than `begin_step`.
        initial_sparsity: Float in [0, 1), the sparsity at `begin_step`. Defaults to 0.0.

    Raises:
        InvalidArgumentError: A sparsity is not in [0, 1).
        InvalidArgumentError: A step is not a non-negative int, or `begin_step` is not below `end_step`.

    Example:
    >>> schedule = Linear(0.8, begin_step=100, end_step=110, initial_sparsity=0.2)
    >>> [round(schedule(t), 4) for t in (100, 102, 105, 110)]
    [0.2, 0.32, 0.5, 0.8]
    """

    def curve(self, remaining: float) -> float:
        """Return `remaining`."""
        return remaining


@family.register
@dataclass(frozen=True)
class Cubic(Ramp):
    """`PolynomialDecay` of power 3, the value of Zhu & Gupta: fast at first, then slower and slower.

        s(t) = s_f + (s_i - s_f) * (1 - (t - t_0) / (t_1 - t_0)) ** 3

    Args:
        final_sparsity: Float in [0, 1), the sparsity at `end_step` (exactly) and after it.
        begin_step: Int, in optimizer steps.
        end_step: Int, in optimizer steps, larger than `begin_step`.
        initial_sparsity: Float in [0, 1), the sparsity at `begin_step`. Defaults to 0.0.

    Raises:
        InvalidArgumentError: A sparsity is not in [0, 1).
        InvalidArgumentError: A step is not a non-negative int, or `begin_step` is not below `end_step`.

    Example:
    >>> [Cubic(0.5, begin_step=0, end_step=20)(t) for t in (0, 10, 20)]
    [0.0, 0.4375, 0.5]

    Reference:
        [To prune, or not to prune](https://arxiv.org/abs/1710.01878), Eq. 1.
    """

    def curve(self, remaining: float) -> float:
        """Return `remaining ** 3`."""
        return remaining**3


@family.register
@dataclass(frozen=True)
class Cosine(Ramp):
    """Sparsity that follows half a cosine: slow at both ends, fastest in the middle.

        s(t) = s_i + (s_f - s_i) * (1 - cos(pi * (t - t_0) / (t_1 - t_0))) / 2

    Args:
        final_sparsity: Float in [0, 1), the sparsity at `end_step` (exactly) and after it.
        begin_step: Int, in optimizer steps.
        end_step: Int, in optimizer steps, larger than `begin_step`.
        initial_sparsity: Float in [0, 1), the sparsity at `begin_step`. Defaults to 0.0.

    Raises:
        InvalidArgumentError: A sparsity is not in [0, 1).
        InvalidArgumentError: A step is not a non-negative int, or `begin_step` is not below `end_step`.

    Example:
    >>> schedule = Cosine(0.8, begin_step=0, end_step=12)
    >>> [round(schedule(t), 4) for t in (0, 4, 6, 8, 12)]
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """

    def curve(self, remaining: float) -> float:
        """Return `(1 - cos(pi * remaining)) / 2`."""
        # The cosine is symmetric, so the remaining share can be used instead of the passed one.
        return (1.0 - math.cos(math.pi * remaining)) / 2.0


@family.register
@dataclass(frozen=True)
class Exponential(Ramp):
    """Density that falls by the same factor at every step: the schedule of iterative pruning at the start.

        1 - s(t) = (1 - s_i) * ((1 - s_f) / (1 - s_i)) ** ((t - t_0) / (t_1 - t_0))

    Args:
        final_sparsity: Float in [0, 1), the sparsity at `end_step` (exactly) and after it.
        begin_step: Int, in optimizer steps.
        end_step: Int, in optimizer steps, larger than `begin_step`.
        initial_sparsity: Float in [0, 1), the sparsity at `begin_step`. Defaults to 0.0.

    Raises:
        InvalidArgumentError: A sparsity is not in [0, 1).
        InvalidArgumentError: A step is not a non-negative int, or `begin_step` is not below `end_step`.

    Example:
    >>> schedule = Exponential(0.875, begin_step=0, end_step=3)
    >>> [round(schedule(t), 4) for t in range(4)]
    [0.0, 0.5, 0.75, 0.875]

    Reference:
        [Iteratively conserving synaptic flow](https://arxiv.org/abs/2006.05467), Algorithm 1.
    """

    def curve(self, remaining: float) -> float:
        """Return the share of the difference in sparsity that remains."""
        first, last = 1.0 - self.initial_sparsity, 1.0 - self.final_sparsity
        if first == last:
            return remaining
        return (first * (last / first) ** (1.0 - remaining) - last) / (first - last)
