"""A weighted sum of criteria."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.criteria.base import Criterion, WeightContext, family
from keras_ganprune.pruning.granularity import Granularity
from keras_ganprune.utils.validation import is_number


def _divided_by_mean(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    mean = float(np.mean(np.abs(scores)))
    return scores / mean if mean > 0 else scores


@family.register
class Hybrid(Criterion):
    """A weighted sum of criteria, each divided by the mean of its scores over the tensor.

        score = sum over criteria c of weight_c * score_c / mean(score_c)

    Args:
        weights: Dict of criterion (name or instance) -> positive weight, or a list of such pairs. In a
            list a criterion can also be a config.

    Raises:
        InvalidArgumentError: `weights` is empty, or is not a dict or a list of pairs.
        InvalidArgumentError: A criterion is unknown, or its weight is not a positive number.
        InvalidArgumentError: Two gradient criteria differ in `moment` or `source`.

    Example:
    >>> mix = Hybrid({"magnitude": 1.0, "gradient": 1.0})
    >>> mix.score(np.array([1.0, 3.0]), np.array([0.4, 0.0]))
    array([2.5, 1.5])

    Reference:
        [RigL](https://arxiv.org/abs/1911.11134), §3, which drops weights by magnitude and grows them by
        gradient. `Hybrid` combines such criteria in one score.
    """

    def __init__(
        self,
        weights: Mapping[str, float]
        | Mapping[Criterion | str, float]
        | Sequence[tuple[Criterion | str | Mapping[str, Any], float]],
    ):
        pairs = list(weights.items()) if isinstance(weights, Mapping) else weights
        if not isinstance(pairs, (list, tuple)) or not all(
            isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs
        ):
            raise InvalidArgumentError(
                "`weights` must be a dict of criterion -> weight, or a list of such pairs. "
                f"Received: {weights!r}. Write for example {{'magnitude': 0.5, 'gradient': 0.5}}."
            )
        if not pairs:
            raise InvalidArgumentError(
                "`weights` must name at least one criterion. Received none. "
                "Write for example {'magnitude': 0.5, 'gradient': 0.5}."
            )
        self.parts: list[tuple[Criterion, float]] = []
        for identifier, weight in pairs:
            if not is_number(weight) or not 0.0 < weight < math.inf:
                raise InvalidArgumentError(
                    "The weights of a Hybrid must be positive numbers. "
                    f"Received: {weight!r} for {identifier!r}. To leave a criterion out, do not name it."
                )
            self.parts.append((family.get(identifier), float(weight)))
        self._adopt_gradients([c for c, _ in self.parts if c.needs_gradient])
        self.batches = max(c.batches for c, _ in self.parts)
        self.measures = any(c.measures for c, _ in self.parts)
        self.needs_calibration = any(c.needs_calibration for c, _ in self.parts)

    def _adopt_gradients(self, gradient_criteria: list[Criterion]) -> None:
        """Take the gradient settings from the parts, and check that they agree."""
        if not gradient_criteria:
            return
        for name in ("moment", "source", "signed", "times_weight"):
            if len({getattr(c, name) for c in gradient_criteria}) > 1:
                raise InvalidArgumentError(
                    f"Gradient criteria in one Hybrid must have the same `{name}`. Received: "
                    f"{', '.join(f'{c!r} ({getattr(c, name)})' for c in gradient_criteria)}. "
                    "Mix criteria that use the same gradients."
                )
        self.needs_gradient = True
        first = gradient_criteria[0]
        self.moment, self.source = first.moment, first.source
        self.signed, self.times_weight = first.signed, first.times_weight

    def bind(self, context: WeightContext) -> Hybrid:
        """Return a mix of the bound criteria."""
        return Hybrid([(c.bind(context), w) for c, w in self.parts])

    def evidence(
        self,
        networks: Sequence[keras.layers.Layer],
        weights: Sequence[MaskedWeight],
        gradients: list[Any],
        calibration: Sequence[Any] | None,
    ) -> list[Any]:
        """Return for each weight its gradient; if a part measures, a tuple with an entry per part."""
        if not self.measures:
            return gradients
        columns = [c.evidence(networks, weights, gradients, calibration) for c, _ in self.parts]
        return list(zip(*columns, strict=True))

    def _received(self, gradient: Any) -> Any:
        """Return what each part receives."""
        return gradient if self.measures and gradient is not None else [gradient] * len(self.parts)

    def score(self, weight: np.ndarray, gradient: Any = None) -> np.ndarray:
        """Return the weighted sum of the divided scores of weights."""
        parts = (
            w * _divided_by_mean(c.score(weight, own))
            for (c, w), own in zip(self.parts, self._received(gradient), strict=True)
        )
        return np.asarray(sum(parts))

    def unit_scores(
        self, weight: np.ndarray, gradient: Any, granularity: Granularity
    ) -> np.ndarray:
        """Return the weighted sum of the divided scores of units."""
        parts = (
            w * _divided_by_mean(c.unit_scores(weight, own, granularity))
            for (c, w), own in zip(self.parts, self._received(gradient), strict=True)
        )
        return np.asarray(sum(parts))

    def note(self) -> str | None:
        """Return the remarks of all parts, or None."""
        return "; ".join(filter(None, (c.note() for c, _ in self.parts))) or None

    def conflict(self, granularity: Granularity, joint: bool) -> str | None:
        """Return why one of the criteria cannot be used with the granularity, or None."""
        for criterion, _ in self.parts:
            # Divided by their mean, scores of different tensors can be compared.
            reason = criterion.conflict(granularity, joint=False)
            if reason:
                return f"{type(criterion).__name__}: {reason}"
        return None

    def get_config(self) -> dict:
        """Return the constructor's arguments, with the config of each criterion."""
        return {
            "weights": [[keras.saving.serialize_keras_object(c), w] for c, w in self.parts],
        }

    def __repr__(self):
        return f"Hybrid({{{', '.join(f'{c!r}: {w:g}' for c, w in self.parts)}}})"
