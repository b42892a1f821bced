"""Schedules made of several rises: in cycles, in rounds with a rewind, or layer after layer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.mask_ops import validate_sparsity
from keras_ganprune.pruning.schedules.base import Schedule, _family, interpolate
from keras_ganprune.pruning.schedules.lookup import get
from keras_ganprune.utils import validation


@_family.register
@dataclass(frozen=True)
class Cyclic(Schedule):
    """Prune and regrow: in every cycle sparsity falls at once to `low`, and rises again to `high`.

        s(q) = high + (low - high) * (1 - q / rise_steps) ** 3   at step q < rise_steps of a cycle
        s(q) = high                                              for the rest of it

    Weights that were pruned too early can return, so it needs a mode that lets them. A cycle begins
    at `begin_step`, and again every `period` steps as long as a whole one fits before `end_step`;
    from `end_step` on (and from the last whole cycle on) sparsity is `high`. The first step of each
    cycle and the end of each rise always update the masks, whatever the frequency.

    Args:
        low, high: Floats in [0, 1), `low < high`.
        period: Int of at least 2, optimizer steps in a cycle.
        begin_step, end_step: Int, optimizer steps, with at least one `period` between them.
        rise: Float in (0, 1), share of the period in which sparsity rises, rounded to whole steps:
            at least one, and less than the period.

    Returns (from `__call__`): Float sparsity.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> schedule = Cyclic(0.4, 0.8, period=10, begin_step=0, end_step=20)
    >>> [round(schedule(t), 4) for t in (0, 2, 5, 9, 10, 15, 20)]
    [0.4, 0.7136, 0.8, 0.8, 0.4, 0.8, 0.8]

    Reference: after [Cyclical pruning](https://arxiv.org/abs/2202.01290), with the cubic rise of
    [Zhu & Gupta](https://arxiv.org/abs/1710.01878), Eq. 1.
    """

    low: float
    high: float
    period: int
    begin_step: int = field()  # or the base class's value would be its default
    end_step: int = field()
    rise: float = 0.5

    rises_and_falls = True

    def __post_init__(self):
        for name in ("low", "high"):
            object.__setattr__(self, name, validate_sparsity(getattr(self, name), name))
        if self.low >= self.high:
            raise InvalidArgumentError(
                f"`low` must be smaller than `high`. Received: low={self.low:g}, high={self.high:g}. "
                "For one sparsity use `ConstantSparsity`."
            )
        period = validation.positive_int(self.period, "period", "in optimizer steps")
        if period < 2:
            raise InvalidArgumentError(
                f"`period` must be at least 2: a step at `low` and one at `high`. Received: {period}."
            )
        object.__setattr__(self, "period", period)
        if self.end_step is None:
            raise InvalidArgumentError(
                "`end_step` must be an int: the cycles end at `high`. Received: None."
            )
        self._validate_range()
        if period > self.end_step - self.begin_step:
            raise InvalidArgumentError(
                "`period` must fit between `begin_step` and `end_step`. Received: "
                f"period={period}, begin_step={self.begin_step}, end_step={self.end_step}, "
                f"which are {self.end_step - self.begin_step} steps apart."
            )
        rise = validation.number(
            self.rise, "rise", "a share of the period in (0, 1)", lambda v: 0 < v < 1
        )
        object.__setattr__(self, "rise", rise)

    @property
    def rise_steps(self) -> int:
        """How many steps of each cycle sparsity rises."""
        return min(max(1, round(self.rise * self.period)), self.period - 1)

    @property
    def _cycles(self) -> int:
        return (self.end_step - self.begin_step) // self.period

    def __call__(self, step):
        if step < self.begin_step:
            return 0.0
        cycle, position = divmod(step - self.begin_step, self.period)
        if cycle >= self._cycles:
            return self.high
        return interpolate(position, 0, self.rise_steps, self.low, self.high, lambda left: left**3)

    def _latest_fixed_step(self, until):
        if until >= self.end_step:
            return self.end_step
        cycle, position = divmod(until - self.begin_step, self.period)
        if cycle >= self._cycles:
            cycle, position = self._cycles - 1, self.period
        risen = self.rise_steps if position >= self.rise_steps else 0
        return self.begin_step + cycle * self.period + risen


@_family.register
@dataclass(frozen=True)
class IterativeRewind(Schedule):
    """Lottery ticket: train, prune a share, set what is left back to early weights, and repeat.

        s(r) = 1 - (1 - final_sparsity) ** (r / rounds)   in round r = 1 ... rounds

    Every round removes the same share of what the one before has left. Round r prunes at
    `begin_step + (r - 1) * round_steps`, and at no other step, whatever the frequency; then the
    kept weights go back to the values they had at `rewind_step`.

    Args:
        final_sparsity: Float in [0, 1), of the last round.
        rounds: Positive int, how many times weights are pruned.
        begin_step: Int, optimizer steps, of the first round.
        round_steps: Positive int, optimizer steps from one round to the next.
        rewind_step: Int, optimizer steps, at most `begin_step`. 0 is the initialisation; GANs and
            deep networks do better with an early step.
        rewind: 'model' (all networks of the fitted model go back) or 'target' (only the pruned ones).

    Returns (from `__call__`): Float sparsity.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> schedule = IterativeRewind(0.488, rounds=3, begin_step=1000, round_steps=500)
    >>> [round(schedule(t), 4) for t in (999, 1000, 1499, 1500, 2000)]
    [0.0, 0.2, 0.2, 0.36, 0.488]
    >>> schedule.end_step
    2000

    Reference: [The lottery ticket hypothesis](https://arxiv.org/abs/1803.03635);
    [Linear mode connectivity](https://arxiv.org/abs/1912.05671) for going back to a later step than 0;
    [GANs can play lottery tickets too](https://arxiv.org/abs/2106.00134).
    """

    final_sparsity: float
    rounds: int
    begin_step: int = field()  # as in `Cyclic`
    round_steps: int = field()
    rewind_step: int = 0
    rewind: str = "model"

    _follows_frequency = False

    def __post_init__(self):
        sparsity = validate_sparsity(self.final_sparsity, "final_sparsity")
        object.__setattr__(self, "final_sparsity", sparsity)
        for name, unit in (("rounds", "how often to prune"), ("round_steps", "in optimizer steps")):
            object.__setattr__(self, name, validation.positive_int(getattr(self, name), name, unit))
        self._set_step("begin_step")
        self._set_step("rewind_step")
        if self.rewind_step > self.begin_step:
            raise InvalidArgumentError(
                "`rewind_step` must not be larger than `begin_step`: the weights to go back to must "
                f"be dense. Received: rewind_step={self.rewind_step}, begin_step={self.begin_step}."
            )
        validation.one_of(self.rewind, "rewind", ("model", "target"))

    @property
    def end_step(self):
        return self.begin_step + (self.rounds - 1) * self.round_steps

    def __call__(self, step):
        if step < self.begin_step:
            return 0.0
        done = 1 + (step - self.begin_step) // self.round_steps
        if done >= self.rounds:
            return self.final_sparsity
        return 1.0 - (1.0 - self.final_sparsity) ** (done / self.rounds)

    def _latest_fixed_step(self, until):
        until = min(until, self.end_step)
        return until - (until - self.begin_step) % self.round_steps


@_family.register
@dataclass(frozen=True)
class LayerwiseOrder(Schedule):
    """Prune layers one after the other, front to back or back to front, each along its own schedule.

        T = end - begin,   length = T / (1 + (n - 1) * (1 - overlap))
        tensor i of n runs the whole schedule from begin + i * length * (1 - overlap), in `length` steps

    One schedule is squeezed into the slice of each tensor in turn; with a list every tensor has a
    schedule of its own, and the order is what their steps say. All tensors are at their final
    sparsity at `end_step`. The begin and end of every schedule of a list update the masks, whatever
    the frequency; of the slices of one schedule, as their number is not known here, only the first
    begin and the last end do.

    Args:
        schedule: A sparsity `Schedule` with `begin_step < end_step`, or a list of schedules with an
            `end_step`, one for each pruned tensor in order. Not one that cycles, rewinds, adapts or
            has targets for each tensor itself.
        order: 'forward' (the first tensor first) or 'backward'. For one schedule only.
        overlap: Float in [0, 1), share of its slice that a tensor has in common with the next one.
            For one schedule only.

    Returns (from `targets`): List of float sparsities, one for each tensor. `__call__` knows no
    tensors, and gives a mean for display: the one schedule's own value, or the mean of the list's.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> schedule = LayerwiseOrder(Linear(0.8, begin_step=0, end_step=100))
    >>> weights = [np.ones((3, 3)), np.ones((3, 5))]
    >>> schedule.targets(25, weights), schedule.targets(75, weights)
    ([0.4, 0.0], [0.8, 0.4])
    """

    schedule: Any
    order: str = "forward"
    overlap: float = 0.0

    def __post_init__(self):
        is_list = isinstance(self.schedule, (list, tuple))
        parts = tuple(get(part) for part in (self.schedule if is_list else [self.schedule]))
        if not parts:
            raise InvalidArgumentError(
                "`schedule` must be a schedule, or a list of one for each tensor. Received: an empty list."
            )
        for part in parts:
            _check_part(part)
        object.__setattr__(self, "schedule", parts if is_list else parts[0])
        validation.one_of(self.order, "order", ("forward", "backward"))
        overlap = validation.number(
            self.overlap, "overlap", "a number in [0, 1)", lambda v: 0 <= v < 1
        )
        object.__setattr__(self, "overlap", overlap)
        if is_list and (self.order != "forward" or self.overlap):
            raise InvalidArgumentError(
                "`order` and `overlap` cut the window of one schedule; a list of schedules has steps "
                f"of its own. Received: order={self.order!r}, overlap={self.overlap:g} with a list of "
                f"{len(parts)}. Leave them out, or give the list in another order."
            )
        if not is_list and self.begin_step == self.end_step:
            raise InvalidArgumentError(
                "`schedule` must have `begin_step < end_step`: what is between them is shared out among "
                f"the tensors. Received: {self.schedule!r}. "
                "For one jump a tensor use `ConstantSparsity(sparsity, begin_step, end_step)`."
            )

    @property
    def _parts(self) -> tuple[Schedule, ...]:
        return self.schedule if isinstance(self.schedule, tuple) else (self.schedule,)

    @property
    def begin_step(self):
        return min(part.begin_step for part in self._parts)

    @property
    def end_step(self):
        return max(part.end_step for part in self._parts)

    @property
    def rises_and_falls(self):
        return any(part.rises_and_falls for part in self._parts)

    def __call__(self, step):
        # `mean` is exact: equal sparsities have that very mean.
        return statistics.mean(float(part(step)) for part in self._parts)

    def targets(self, step: int, weights: Sequence[np.ndarray]) -> list[float]:
        """Return the sparsity of each tensor.

        Raises:
            InvalidArgumentError: a list of schedules is not as long as `weights`.
        """
        count = len(weights)
        if not isinstance(self.schedule, tuple):
            values = [self._squeezed(step, position, count) for position in range(count)]
            return values if self.order == "forward" else values[::-1]
        if count != len(self.schedule):
            raise InvalidArgumentError(
                "A list of schedules must have one for each pruned tensor. Received: "
                f"{len(self.schedule)} schedule(s) for {count} tensor(s). "
                "`Pruner.weights` lists the tensors; `scope` chooses them."
            )
        return [part(step) for part in self.schedule]

    def crowded(self, tensors, frequency):
        if isinstance(self.schedule, tuple) or tensors < 2:
            return None
        steps = float(self._slice(tensors))
        if frequency <= steps:
            return None
        return (
            f"`LayerwiseOrder` gives each of {tensors} tensors {steps:.4g} steps, but masks are updated "
            f"every {frequency} steps only, so that several tensors are pruned at once. Give "
            f"frequency={max(1, int(steps // 4))} or so, or more steps between `begin_step` and `end_step`."
        )

    def _latest_fixed_step(self, until):
        steps = [step for part in self._parts for step in (part.begin_step, part.end_step)]
        return max(step for step in steps if step <= until)

    def get_config(self):
        parts = [keras.saving.serialize_keras_object(part) for part in self._parts]
        return {
            "schedule": parts if isinstance(self.schedule, tuple) else parts[0],
            "order": self.order,
            "overlap": self.overlap,
        }

    def _slice(self, count: int) -> Fraction:
        """Return how many steps each of `count` tensors has."""
        gap = 1 - Fraction(repr(self.overlap))
        return (self.end_step - self.begin_step) / (1 + (count - 1) * gap)

    def _squeezed(self, step: int, position: int, count: int) -> float:
        """Return the one schedule's value in the slice at `position` of `count`, at `step`."""
        # Fractions, so that a slice ends exactly where the arithmetic says: 0.1 is a tenth.
        gap = 1 - Fraction(repr(self.overlap))
        window = self.end_step - self.begin_step
        length = self._slice(count)
        inside = int(step) - self.begin_step - position * length * gap
        if inside < 0:
            return 0.0
        inner = self.begin_step + min(inside / length, 1) * window
        return self.schedule(int(inner) if inner.denominator == 1 else float(inner))


def _check_part(part: Schedule) -> None:
    """Raise if a schedule cannot be run for one tensor among others."""
    reasons = {
        "its quantity is a threshold, not a sparsity": part.quantity != "sparsity",
        "it adapts to what training measures": part.adaptive,
        "it rewinds the weights of all tensors": part.rewind_step is not None,
        "it goes up and down in cycles": isinstance(part, Cyclic),
        "it has targets for each tensor itself": type(part).targets is not Schedule.targets,
        "it has no `end_step`": part.end_step is None,
    }
    for reason, applies in reasons.items():
        if applies:
            raise InvalidArgumentError(
                "`LayerwiseOrder` needs schedules of one rise in sparsity with an `end_step`. "
                f"Received: {part!r}, which does not do: {reason}."
            )
