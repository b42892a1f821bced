"""`DemoOptions`: the checked options of the demo, and the callbacks that they define."""

from __future__ import annotations

from typing import Any, Literal, cast

import attrs

from keras_ganprune.applications.image_generation import _option_rules, _schedules
from keras_ganprune.applications.image_generation._fields import TARGETS, DemoFields
from keras_ganprune.applications.option_fields import documented
from keras_ganprune.callbacks.balance_controller import BalanceController
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.shrink import Shrink
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning import compatibility, criteria, modes
from keras_ganprune.pruning import granularity as granularities
from keras_ganprune.pruning.granularity import Granularity
from keras_ganprune.pruning.schedules import Schedule

# Any begin and end step: compatibility does not depend on them.
_EXAMPLE_STEPS = (300, 650)


@documented
@attrs.frozen
class DemoOptions(DemoFields):
    """The options of `keras-ganprune demo`.

    Raises:
        InvalidArgumentError: An option has a wrong value, two options contradict each other, or an option has
            no effect.
        UnsupportedLayerError: The criterion, granularity, allocation and mode are not compatible.

    Example:
    >>> DemoOptions(schedule="cubic", granularity="2:4").final_sparsity
    0.5
    """

    def __attrs_post_init__(self) -> None:
        if self.schedule is None:
            self._set("schedule", "polynomial" if self.threshold is None else "threshold")
        _option_rules.check(self)
        for name, value in self._default_criterion_and_allocation().items():
            if getattr(self, name) is None:
                self._set(name, value)
        # Incompatible settings raise an error here, before data is loaded or a folder is created.
        self._check_compatible(self.criterion, self.allocation)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the class is frozen

    def _check_compatible(self, criterion: Any, allocation: Any) -> None:
        schedule = self.plan(*_EXAMPLE_STEPS)
        compatibility.check(
            compatibility.get(criterion, self.unit, allocation, self.mode, schedule)
        )

    def _default_criterion_and_allocation(self) -> dict[str, str]:
        """Return the best criterion and allocation that are compatible with the other options.

        Taylor scores with a global ranking reduce the quality of a GAN least (benchmarks/quality.py).
        Channels of different layers are not comparable, and a budget of MACs has an allocation already.
        """
        plain = {"criterion": "magnitude", "allocation": "uniform"}
        by_threshold = self.schedule in _schedules.THRESHOLDS
        if self.structured or self.granularity != "unstructured" or by_threshold:
            return plain
        for criterion in ("taylor", "magnitude"):
            try:
                self._check_compatible(
                    criterion if self.criterion is None else self.criterion,
                    "global_ranking" if self.allocation is None else self.allocation,
                )
            except (InvalidArgumentError, UnsupportedLayerError):
                continue
            return {"criterion": criterion, "allocation": "global_ranking"}
        return plain

    @property
    def unit(self) -> Granularity:
        """The granularity. With `structured` it is `Channel`, whose `of` is the unit of the sparsity."""
        if self.structured:
            return granularities.Channel(of=self.share_of)
        return granularities.get(self.granularity)

    @property
    def share_of(self) -> Literal["channels", "macs", "parameters"]:
        """With `structured`, the unit of which the sparsity is a share."""
        if self.parameters is not None:
            return "parameters"
        return "macs" if self.sparsity is None else "channels"

    @property
    def final_sparsity(self) -> float:
        """The sparsity at the end of the schedule."""
        if self.sparsity is not None:
            return self.sparsity
        if self.structured:
            remaining = self.macs if self.parameters is None else self.parameters
            return 1.0 - (0.25 if remaining is None else remaining)
        # Only patterns have a sparsity of their own.
        unit = cast(Any, granularities.get(self.granularity))
        return unit.sparsity if unit.pattern else 0.8

    @property
    def limit(self) -> float:
        """The threshold at the end of the schedule; 0 for a schedule with a sparsity."""
        if self.threshold is not None:
            return self.threshold
        return _schedules.THRESHOLDS.get(self.schedule, 0.0)

    def plan(self, begin: int, end: int) -> Schedule:
        """Return the schedule that prunes from step `begin` to step `end`."""
        end = max(end, begin + 1)
        settings = _schedules.Settings(
            begin, end, self.final_sparsity, self.limit, cast("Any", self.order)
        )
        return _schedules.SCHEDULES[self.schedule](settings)

    def callbacks(self, schedule: Schedule, frequency: int) -> dict[str, Prune]:
        """Return the pruning callback of each pruned network. With `joint`, both share one callback."""
        settings: dict[str, Any] = {
            "frequency": frequency,
            "criterion": criteria.get(cast("criteria.CriterionLike", self.criterion)),
            "granularity": self.unit,
            "allocation": allocations.get(cast("allocations.AllocationLike", self.allocation)),
            "mode": modes.get(self.mode),
        }
        if self.joint:
            both = list(TARGETS)
            return dict.fromkeys(both, Prune(schedule, both, **settings))
        prunes = {target: Prune(schedule, target, **settings) for target in self.targets}
        if self.balance:
            prunes["discriminator"] = BalanceController(
                begin_step=schedule.begin_step, frequency=frequency
            )
        return prunes

    def cuts(self, schedule: Schedule) -> list[Shrink]:
        """Return, with `structured`, the callback that cuts out masked channels when the schedule ends."""
        if not self.structured or schedule.end_step is None:
            return []
        return [Shrink(schedule.end_step, list(self.targets))]
