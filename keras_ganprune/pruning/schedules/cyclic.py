"""Sparsity that falls and rises again in cycles."""

from __future__ import annotations

from dataclasses import dataclass, field

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.schedules.base import Schedule, family, interpolate
from keras_ganprune.utils import validation
from keras_ganprune.utils.validation import validate_sparsity


@family.register
@dataclass(frozen=True)
class Cyclic(Schedule):
    """Prune and regrow: in each cycle the sparsity falls at once to `low`, then rises again to `high`.

        s(q) = high + (low - high) * (1 - q / rise_steps) ** 3   at step q < rise_steps of a cycle
        s(q) = high                                              in the rest of the cycle

    Weights that were pruned too early can return, so the mode must let them. A cycle begins at
    `begin_step`, and then every `period` steps if a whole cycle fits before `end_step`. After the last
    cycle the sparsity is `high`. At any frequency, the masks are updated at the first step of each cycle,
    at the end of each rise, and at `end_step`.

    Args:
        low: Float in [0, 1), below `high`, the sparsity at the beginning of a cycle.
        high: Float in [0, 1), the sparsity at the end of a cycle.
        period: Int of at least 2, optimizer steps per cycle.
        begin_step: Int, in optimizer steps.
        end_step: Int, in optimizer steps, at least one `period` after `begin_step`.
        rise: Float in (0, 1), share of the period in which the sparsity rises. It is rounded to whole
            steps, at least one and fewer than `period`. Defaults to 0.5.

    Raises:
        InvalidArgumentError: `low` or `high` is not in [0, 1), or `low` is not below `high`.
        InvalidArgumentError: `period` is not an int of at least 2, or does not fit between the steps.
        InvalidArgumentError: A step is not a non-negative int, or `rise` is not in (0, 1).

    Example:
    >>> schedule = Cyclic(0.4, 0.8, period=10, begin_step=0, end_step=20)
    >>> [round(schedule(t), 4) for t in (0, 2, 5, 9, 10, 15, 20)]
    [0.4, 0.7136, 0.8, 0.8, 0.4, 0.8, 0.8]

    Reference:
        [Cyclical pruning](https://arxiv.org/abs/2202.01290), with the cubic rise of [Zhu &
        Gupta](https://arxiv.org/abs/1710.01878), Eq. 1.
    """

    low: float
    high: float
    period: int
    begin_step: int = field()  # without `field()` the base class's value would be the default
    end_step: int = field()
    rise: float = 0.5

    rises_and_falls = True

    def __post_init__(self):
        for name in ("low", "high"):
            self._set_field(name, validate_sparsity(getattr(self, name), name))
        if self.low >= self.high:
            raise InvalidArgumentError(
                f"`low` must be smaller than `high`. Received: low={self.low:g}, high={self.high:g}. "
                "For a constant sparsity use `ConstantSparsity`."
            )
        period = validation.int_at_least(self.period, "period", 2, "in optimizer steps")
        self._set_field("period", period)
        if self.end_step is None:
            raise InvalidArgumentError(
                "`end_step` must be an int: the cycles end at `high`. Received: None."
            )
        self._check_steps()
        if period > self.end_step - self.begin_step:
            raise InvalidArgumentError(
                "`period` must fit between `begin_step` and `end_step`. Received: "
                f"period={period}, begin_step={self.begin_step}, end_step={self.end_step}, "
                f"which are {self.end_step - self.begin_step} steps apart."
            )
        rule = "a share of the period in (0, 1)"
        self._set_field(
            "rise", validation.number(self.rise, "rise", rule, lambda rise: 0 < rise < 1)
        )

    @property
    def rise_steps(self) -> int:
        """Number of steps per cycle in which the sparsity rises."""
        return min(max(1, round(self.rise * self.period)), self.period - 1)

    @property
    def _cycles(self) -> int:
        return (self.end_step - self.begin_step) // self.period

    def __call__(self, step: int) -> float:
        """Return the sparsity at a step."""
        if step < self.begin_step:
            return 0.0
        cycle, position = divmod(step - self.begin_step, self.period)
        if cycle >= self._cycles:
            return self.high
        return interpolate(
            position, 0, self.rise_steps, self.low, self.high, lambda remaining: remaining**3
        )

    def _latest_fixed_step(self, until: int) -> int:
        if until >= self.end_step:
            return self.end_step
        cycle, position = divmod(until - self.begin_step, self.period)
        if cycle >= self._cycles:
            cycle, position = self._cycles - 1, self.period
        risen = self.rise_steps if position >= self.rise_steps else 0
        return self.begin_step + cycle * self.period + risen
