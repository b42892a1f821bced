"""Sparsities that the user sets layer by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.pruning.allocation.base import Allocation, Tensor, checked_minimum, family
from keras_ganprune.pruning.allocation.layer_patterns import (
    last_name,
    matching_tensors,
    pattern_text,
)
from keras_ganprune.utils import validation


@family.register
class PerLayer(Allocation):
    """Sparsities that are set layer by layer. Layers that are not named share the rest of the total.

    The numbers are the sparsities at the end of the schedule. Before that, all tensors have reached the
    same share of theirs: `s_i(t) = s_i * s(t) / s_final`.

    Args:
        sparsities: Dict of layer -> sparsity in [0, 1). A layer is a name, a path, either with `*`, or a
            regular expression (compiled, or a text that begins with 're:'). A text that is the name of a
            layer means this layer. The first entry that matches a tensor counts.
        minimum: The least that every tensor keeps: an int number of units, or a float share of its units.
            Defaults to 1.

    Raises:
        InvalidArgumentError: `sparsities` is empty or not a dict, a key is not a layer, or a value is not
            a fraction in [0, 1).
        InvalidArgumentError: `minimum` is neither a positive int nor a float in (0, 1).

    Example:
    >>> tensors = [Tensor("a/kernel", "a", (10, 4), 40, 1), Tensor("b/kernel", "b", (10, 4), 40, 1)]
    >>> PerLayer({"a": 0.9}).sparsities(tensors, 0.8, 0.8)
    [0.9, 0.7]
    """

    def __init__(
        self,
        sparsities: Mapping[str, float] | Mapping[str | re.Pattern[str], float],
        minimum: int | float = 1,
    ):
        if not isinstance(sparsities, Mapping) or not sparsities:
            raise InvalidArgumentError(
                "`sparsities` must be a dict of layer name or pattern -> sparsity, with at least one "
                f"entry. Received: {sparsities!r}."
            )
        self.named = {
            pattern_text(pattern): validation.validate_sparsity(value, f"sparsities[{pattern!r}]")
            for pattern, value in sparsities.items()
        }
        self.minimum = checked_minimum(minimum)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, with regular expressions as texts."""
        return {"sparsities": dict(self.named), "minimum": self.minimum}

    def check(self, tensors: Sequence[Tensor], final: float | None = None) -> None:
        """Raise an error if the sparsities cannot be used with these tensors.

        Args:
            tensors: The tensors that are pruned.
            final: Float, the total sparsity at the end of the schedule, or None to check the names only.

        Raises:
            InvalidArgumentError: An entry matches no tensor, or the total cannot be met.
        """
        for pattern in self.named:
            if not matching_tensors(pattern, tensors):
                by_path = "/" in pattern
                known = {t.layer_path if by_path else last_name(t.layer_path) for t in tensors}
                raise InvalidArgumentError(unknown_name("layer in `sparsities`:", pattern, known))
        if final is not None:
            self._final_sparsities(tensors, final)

    def _final_sparsities(self, tensors: Sequence[Tensor], final: float) -> list[float]:
        """Return the sparsity of each tensor at the end of the schedule."""
        named: list[float | None] = [None] * len(tensors)
        for pattern, number in reversed(self.named.items()):
            for index in matching_tensors(pattern, tensors):
                named[index] = number
        total = sum(t.size for t in tensors)
        removed = sum(t.size * s for t, s in zip(tensors, named, strict=True) if s is not None)
        rest = sum(t.size for t, s in zip(tensors, named, strict=True) if s is None)
        if rest == 0:
            if abs(removed / total - final) > 1e-3:
                raise InvalidArgumentError(
                    f"The sparsities of the layers give a total of {removed / total:.4f}, which is not "
                    f"the requested {final:g}. Request sparsity {removed / total:.4f}, or leave one layer "
                    "out of `sparsities`, so that it makes up the difference."
                )
            return [s for s in named if s is not None]
        other = (final * total - removed) / rest
        if not -1e-9 <= other < 1.0:
            low, high = removed / total, (removed + rest) / total
            raise InvalidArgumentError(
                f"The sparsities of the layers cannot meet the total of {final:g}: the layers that are "
                f"not named would need sparsity {other:.4f}. With these numbers the total can be from "
                f"{low:.4f} to below {high:.4f}."
            )
        return [max(other, 0.0) if s is None else s for s in named]

    def sparsities(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[float]:
        """Return the sparsity of each tensor.

        Raises:
            InvalidArgumentError: The total `final` cannot be met.
        """
        if final == 0.0:
            return [0.0] * len(tensors)
        share = sparsity / final
        # `sparsity` can exceed `final` in a cyclic schedule or in `Pruner.update`; each result must stay
        # below 1.
        return [
            min(round(s * share, 12), 1.0 - 1e-9) for s in self._final_sparsities(tensors, final)
        ]
