"""The result of a conversion: the Keras 3 model, and its remaining pruning schedules."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.pruning import granularity, schedules
from keras_ganprune.utils.notebook import Block, ShownInNotebooks

# The arguments of `Prune` that the old model determines for each part.
_SETTINGS_OF_A_PART = {"frequency", "granularity", "schedule", "scope"}


@dataclass(frozen=True)
class Part:
    """The layers of a converted model that share one remaining schedule.

    Attributes:
        layers: Paths of the layers in the converted model.
        schedule: The remaining `Schedule`; its step 0 is the present step. None if it has ended.
        frequency: Int, optimizer steps between two mask updates.
        granularity: `Granularity` of the updates.
        step: Int, TFMOT's `pruning_step` of these layers.

    Example:
    >>> rest = schedules.PolynomialDecay(0.8, begin_step=0, end_step=100)
    >>> part = Part(("a", "b"), rest, 10, granularity.Unstructured(), step=0)
    >>> bool(part.scope.search("b")), bool(part.scope.search("c"))
    (True, False)
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
class Converted(ShownInNotebooks):
    """A Keras 3 model whose pruning continues where TFMOT stopped.

    Attributes:
        model: The Keras 3 model, with masks, not compiled.
        parts: One `Part` per remaining schedule. It is empty for a model that TFMOT has stripped.
        max_difference: Float, largest difference between the outputs of the old and of the new model.

    Example:
    >>> from keras_ganprune.interop.tfmot import Converted
    >>> model = make_prunable(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="net"))
    >>> str(Converted(model, (), 0.0)).partition(",")[0]
    "'net' in Keras 3: 8 of 8 weights kept in 1 tensors"
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
            target: Attribute name of the converted model in the fitted model, as for `Prune`, such as
                'generator'. Defaults to None, the fitted model itself.
            **settings: More arguments of `Prune`, such as `criterion` or `verbose`.

        Raises:
            InvalidArgumentError: `settings` has `frequency`, `granularity`, `schedule` or `scope`, which
                the old model determines.
        """
        fixed = sorted(_SETTINGS_OF_A_PART & set(settings))
        if fixed:
            raise InvalidArgumentError(
                f"`{fixed[0]}` cannot be chosen, because the old model determines it for each layer. "
                f"Received: {fixed[0]}={settings[fixed[0]]!r}. To choose another value, create the callback "
                "yourself: `Prune(schedule, target, frequency, ...)`. `parts` has the settings of the old "
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

    def _blocks(self) -> list[Block]:
        return [str(self)]

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
