"""The result of a conversion: the Keras 3 model, and the rest of its pruning schedules."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.pruning import granularity, schedules

# What `Prune` takes from the old model, part by part.
_SETTINGS_OF_A_PART = {"frequency", "granularity", "schedule", "scope"}


@dataclass(frozen=True)
class Part:
    """The layers of a converted model that share one remaining schedule.

    Attributes:
        layers: Paths of the layers in the converted model.
        schedule: The remaining `Schedule`, whose step 0 is now. None if it has ended.
        frequency: Int, optimizer steps between two mask updates.
        granularity: `Granularity` of the updates.
        step: Int, TFMOT's `pruning_step` of these layers.
    """

    layers: tuple[str, ...]
    schedule: schedules.Schedule | None
    frequency: int
    granularity: granularity.Granularity
    step: int

    @property
    def scope(self) -> re.Pattern:
        """The `scope` of `Prune` that matches exactly these layers."""
        return re.compile(f"^({'|'.join(re.escape(path) for path in self.layers)})$")


@dataclass(frozen=True)
class Converted:
    """A Keras 3 model whose pruning continues where TFMOT stopped.

    Attributes:
        model: The Keras 3 model, with masks, not compiled.
        parts: One `Part` per remaining schedule. It is empty for a model that TFMOT has stripped.
        max_difference: Float, largest difference between the outputs of the old and of the new model.
    """

    model: keras.Model
    parts: tuple[Part, ...]
    max_difference: float

    @property
    def schedule(self) -> schedules.Schedule | None:
        """The remaining schedule of all layers, or None if it has ended.

        Raises:
            InvalidArgumentError: The layers have different schedules.
        """
        return self._common("schedule")

    @property
    def frequency(self) -> int | None:
        """The steps between two mask updates of all layers, or None for a stripped model.

        Raises:
            InvalidArgumentError: The layers have different frequencies.
        """
        return self._common("frequency")

    def _common(self, name: str) -> Any:
        values = list(dict.fromkeys(getattr(part, name) for part in self.parts)) or [None]
        if len(values) > 1:
            raise InvalidArgumentError(
                f"The layers of '{self.model.name}' do not share one `{name}`. Received: {values}. "
                "Look at `parts`; `prunes()` makes a callback for each."
            )
        return values[0]

    def prunes(self, target: Any = None, **settings: Any) -> list[Prune]:
        """Return the callbacks that continue the pruning, one per part whose schedule has not ended.

        Without these callbacks the masks stay as they are.

        Args:
            target: Where the converted model is in the fitted model, as for `Prune`, such as
                'generator'. Defaults to None, the fitted model itself.
            **settings: More arguments of `Prune`, such as `criterion` or `verbose`.

        Raises:
            InvalidArgumentError: `settings` has `frequency`, `granularity`, `schedule` or `scope`, which
                the old model determines.
        """
        fixed = sorted(_SETTINGS_OF_A_PART & set(settings))
        if fixed:
            raise InvalidArgumentError(
                f"`{fixed[0]}` must be that of the old model, which can differ between its layers. "
                f"Received: {fixed[0]}={settings[fixed[0]]!r}. To choose another one, write the callback "
                "yourself: `Prune(schedule, target, frequency, ...)`; `parts` has the settings of the old "
                "model."
            )
        return [
            Prune(
                part.schedule,
                target,
                part.frequency,
                granularity=part.granularity,
                scope=part.scope,
                **settings,
            )
            for part in self.parts
            if part.schedule is not None
        ]

    def __str__(self):
        weights = masked_weights(self.model)
        total = sum(math.prod(w.mask.shape) for w in weights)
        kept = sum(int(np.count_nonzero(to_numpy(w.mask))) for w in weights)
        left = sum(part.schedule is not None for part in self.parts)
        return (
            f"'{self.model.name}' in Keras 3: {kept:,} of {total:,} weights kept in {len(weights)} "
            f"tensors, {left} schedule{'s' * (left != 1)} to continue; its outputs differ by "
            f"{self.max_difference:g} at most"
        )
