"""The rule by which the density of a discriminator follows the balance ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import validation


@dataclass(frozen=True)
class DensityRule:
    """One step of density up or down when a ratio leaves its band.

    The arguments are those of `BalanceController`.

    Example:
    >>> rule = DensityRule(0.45, 0.55, 0.1, 0.05, 1.0)
    >>> rule.next_density(0.5, ratio=0.7), rule.next_density(0.5, ratio=0.5)
    (0.6, 0.5)
    """

    low: float
    high: float
    increment: float
    minimum: float
    maximum: float

    def next_density(self, density: float, ratio: float) -> float:
        """Return the density after a measured ratio; NaN changes nothing."""
        if ratio > self.high:
            return min(density + self.increment, self.maximum)
        if ratio < self.low:
            return max(density - self.increment, self.minimum)
        return density


def density_rule(
    low: Any, high: Any, density: float, increment: Any, minimum: Any, maximum: Any
) -> DensityRule:
    """Return the rule for checked arguments of `BalanceController`.

    Raises:
        InvalidArgumentError: An argument breaks its rule.
    """
    for name, value in (("low", low), ("high", high)):
        if not validation.is_number(value):
            raise InvalidArgumentError(f"`{name}` must be a number. Received: {value!r}.")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidArgumentError(
            f"`low` must be smaller than `high`. Received: low={low}, high={high}. "
            "The usual band is low=0.45, high=0.55."
        )
    minimum, maximum = valid_density(minimum, "minimum"), valid_density(maximum, "maximum")
    if not minimum <= density <= maximum:
        raise InvalidArgumentError(
            "`density` must be between `minimum` and `maximum`. Received: "
            f"minimum={minimum:g}, density={density:g}, maximum={maximum:g}."
        )
    increment = validation.number(
        increment, "increment", "a step of density in (0, 1)", lambda value: 0 < value < 1
    )
    return DensityRule(low, high, increment, minimum, maximum)


def valid_density(value: Any, name: str) -> float:
    """Return a density as a float, or raise `InvalidArgumentError`."""
    if not validation.is_number(value) or not 0.0 < value <= 1.0:
        percent = validation.looks_like_percent(value)
        fix = f" For {value:g} %, pass {value / 100:g}." if percent else ""
        raise InvalidArgumentError(
            f"`{name}` must be a density, the share of weights that are kept, in (0, 1]. "
            f"Received: {value!r}.{fix}"
        )
    return float(value)
