"""Sparsity that jumps or rises once: constant, one shot, and ramps of several shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.mask_ops import validate_sparsity
from keras_ganprune.pruning.schedules.base import Schedule, _family, interpolate


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
class OneShot(Schedule):
    """Prune once, at one step, whatever the frequency of updates.

    Args:
        sparsity: Float in [0, 1), share of the weights to remove.
        step: Int, optimizer steps. It is both `begin_step` and `end_step`.

    Raises: InvalidArgumentError (a ValueError).

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
        object.__setattr__(self, "sparsity", validate_sparsity(self.sparsity))
        self._set_step("step")

    @property
    def begin_step(self):
        return self.step

    @property
    def end_step(self):
        return self.step

    def __call__(self, step):
        return self.sparsity if step >= self.step else 0.0


@dataclass(frozen=True)
class _Ramp(Schedule):
    """From one sparsity to another; a subclass gives the `curve` in between."""

    final_sparsity: float
    begin_step: int
    end_step: int
    initial_sparsity: float = 0.0

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

    def curve(self, left: float) -> float:
        """Return the share of the difference that is left, when `left` of the time is left."""
        raise NotImplementedError

    @property
    def rises_and_falls(self):
        return self.initial_sparsity > self.final_sparsity

    def __call__(self, step):
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


@_family.register
@dataclass(frozen=True)
class PolynomialDecay(_Ramp):
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

    power: float = 3.0

    def __post_init__(self):
        if isinstance(self.begin_step, float) and 0 < self.begin_step < 1:
            raise InvalidArgumentError(
                "`begin_step` must be a non-negative int, in optimizer steps. "
                f"Received: {self.begin_step!r}. The order is PolynomialDecay(final_sparsity, begin_step, "
                "end_step, initial_sparsity, power), another than TFMOT's; name the arguments."
            )
        super().__post_init__()
        self._set_power()

    def curve(self, left):
        return left**self.power


@_family.register
@dataclass(frozen=True)
class Linear(_Ramp):
    """Sparsity that rises by the same amount at every step.

        s(t) = s_i + (s_f - s_i) * (t - t_0) / (t_1 - t_0)

    Args:
        final_sparsity: Float in [0, 1), reached exactly at `end_step` and kept from then on.
        begin_step, end_step: Int, optimizer steps, `begin_step < end_step`.
        initial_sparsity: Float in [0, 1), the value at `begin_step`.

    Returns (from `__call__`): Float sparsity.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> schedule = Linear(0.8, begin_step=100, end_step=110, initial_sparsity=0.2)
    >>> [round(schedule(t), 4) for t in (100, 102, 105, 110)]
    [0.2, 0.32, 0.5, 0.8]
    """

    def curve(self, left):
        return left


@_family.register
@dataclass(frozen=True)
class Cubic(_Ramp):
    """`PolynomialDecay` of power 3, the one that Zhu & Gupta use: fast at first, then ever slower.

        s(t) = s_f + (s_i - s_f) * (1 - (t - t_0) / (t_1 - t_0)) ** 3

    Args:
        final_sparsity: Float in [0, 1), reached exactly at `end_step` and kept from then on.
        begin_step, end_step: Int, optimizer steps, `begin_step < end_step`.
        initial_sparsity: Float in [0, 1), the value at `begin_step`.

    Returns (from `__call__`): Float sparsity.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> [Cubic(0.5, begin_step=0, end_step=20)(t) for t in (0, 10, 20)]
    [0.0, 0.4375, 0.5]

    Reference: [To prune, or not to prune](https://arxiv.org/abs/1710.01878), Eq. 1.
    """

    def curve(self, left):
        return left**3


@_family.register
@dataclass(frozen=True)
class Cosine(_Ramp):
    """Sparsity along half a cosine: slow at both ends, fastest in the middle.

        s(t) = s_i + (s_f - s_i) * (1 - cos(pi * (t - t_0) / (t_1 - t_0))) / 2

    Args:
        final_sparsity: Float in [0, 1), reached exactly at `end_step` and kept from then on.
        begin_step, end_step: Int, optimizer steps, `begin_step < end_step`.
        initial_sparsity: Float in [0, 1), the value at `begin_step`.

    Returns (from `__call__`): Float sparsity.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> schedule = Cosine(0.8, begin_step=0, end_step=12)
    >>> [round(schedule(t), 4) for t in (0, 4, 6, 8, 12)]
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """

    def curve(self, left):
        # The same cosine, read from the other end.
        return (1.0 - math.cos(math.pi * left)) / 2.0
