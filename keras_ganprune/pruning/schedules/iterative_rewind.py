"""Rounds of pruning, each followed by a return to early weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.schedules.base import Schedule, family
from keras_ganprune.utils import validation
from keras_ganprune.utils.validation import validate_sparsity


@family.register
@dataclass(frozen=True)
class IterativeRewind(Schedule):
    """Lottery ticket: train, prune a share, rewind the kept weights to early values, and repeat.

        s(r) = 1 - (1 - final_sparsity) ** (r / rounds)   in round r = 1 ... rounds

    Each round removes the same share of the weights that the round before has kept. Round r prunes at
    `begin_step + (r - 1) * round_steps`, at any frequency, and at no other step. Then the kept weights
    return to their values at `rewind_step`.

    Args:
        final_sparsity: Float in [0, 1), the sparsity of the last round.
        rounds: Positive int, number of rounds.
        begin_step: Int, in optimizer steps, the first round.
        round_steps: Positive int, optimizer steps from one round to the next.
        rewind_step: Int, in optimizer steps, at most `begin_step`. At 0 the weights are the initial ones;
            GANs and deep networks train better from an early step. Defaults to 0.
        rewind: 'model' (all networks of the fitted model return) or 'target' (only the pruned ones).
            Defaults to 'model'.

    Raises:
        InvalidArgumentError: `final_sparsity` is not in [0, 1).
        InvalidArgumentError: `rounds` or `round_steps` is not a positive int.
        InvalidArgumentError: A step is not a non-negative int, or `rewind_step` is above `begin_step`.
        InvalidArgumentError: `rewind` is not 'model' or 'target'.

    Example:
    >>> schedule = IterativeRewind(0.488, rounds=3, begin_step=1000, round_steps=500)
    >>> [round(schedule(t), 4) for t in (999, 1000, 1499, 1500, 2000)]
    [0.0, 0.2, 0.2, 0.36, 0.488]
    >>> schedule.end_step
    2000

    Reference:
        [The lottery ticket hypothesis](https://arxiv.org/abs/1803.03635), §2; [Linear mode
        connectivity](https://arxiv.org/abs/1912.05671) for a `rewind_step` above 0; [GANs can play lottery
        tickets too](https://arxiv.org/abs/2106.00134).
    """

    final_sparsity: float
    rounds: int
    begin_step: int = field()  # as in `Cyclic`
    round_steps: int = field()
    rewind_step: int = 0
    rewind: Literal["model", "target"] = "model"

    _follows_frequency = False

    def __post_init__(self):
        sparsity = validate_sparsity(self.final_sparsity, "final_sparsity")
        self._set_field("final_sparsity", sparsity)
        self._set_field("rounds", validation.positive_int(self.rounds, "rounds"))
        steps = validation.positive_int(self.round_steps, "round_steps", "in optimizer steps")
        self._set_field("round_steps", steps)
        self._set_step("begin_step")
        self._set_step("rewind_step")
        if self.rewind_step > self.begin_step:
            raise InvalidArgumentError(
                "`rewind_step` must not be larger than `begin_step`, because the weights are restored from "
                f"a dense network. Received: rewind_step={self.rewind_step}, begin_step={self.begin_step}."
            )
        validation.one_of(self.rewind, "rewind", ("model", "target"))

    @property
    def end_step(self) -> int:
        """The step of the last round."""
        return self.begin_step + (self.rounds - 1) * self.round_steps

    def __call__(self, step: int) -> float:
        """Return the sparsity at a step."""
        if step < self.begin_step:
            return 0.0
        done = 1 + (step - self.begin_step) // self.round_steps
        if done >= self.rounds:
            return self.final_sparsity
        return 1.0 - (1.0 - self.final_sparsity) ** (done / self.rounds)

    def _latest_fixed_step(self, until: int) -> int:
        until = min(until, self.end_step)
        return until - (until - self.begin_step) % self.round_steps
