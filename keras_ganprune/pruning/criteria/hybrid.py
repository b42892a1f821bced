"""A mix of criteria."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.criteria.base import Criterion, family


def _normalize(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    mean = float(np.mean(np.abs(scores)))
    return scores / mean if mean > 0 else scores


@family.register
class Hybrid(Criterion):
    """A weighted sum of criteria, each divided by its mean over the tensor first.

        score = sum over criteria of weight_c * score_c / mean(score_c)

    Args:
        weights: dict, criterion (name, config or instance) -> positive weight. Or a list of such pairs.

    Raises: InvalidArgumentError (a ValueError): a weight is not positive, or two gradient criteria need
        different averages or sources.

    Example:
    >>> mix = Hybrid({"magnitude": 1.0, "gradient": 1.0})
    >>> mix.score(np.array([1.0, 3.0]), np.array([0.4, 0.0]))
    array([2.5, 1.5])

    Reference: magnitude with gradient, as drop and grow of
    [RigL](https://arxiv.org/abs/1911.11134), here in one score.
    """

    def __init__(self, weights: Mapping[Any, float] | Sequence[tuple[Any, float]]):
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
            if (
                isinstance(weight, bool)
                or not isinstance(weight, (int, float, np.number))
                or not 0.0 < weight < math.inf
            ):
                raise InvalidArgumentError(
                    "The weights of a Hybrid must be positive numbers. "
                    f"Received: {weight!r} for {identifier!r}. To leave a criterion out, do not name it."
                )
            self.parts.append((family.get(identifier), float(weight)))
        gradient = [c for c, _ in self.parts if c.needs_gradient]
        for name in ("moment", "source"):
            if len({getattr(c, name) for c in gradient}) > 1:
                raise InvalidArgumentError(
                    f"Gradient criteria in one Hybrid must have the same `{name}`. Received: "
                    f"{', '.join(f'{c!r} ({getattr(c, name)})' for c in gradient)}. "
                    "Mix criteria that look at the same gradients."
                )
        if gradient:
            self.needs_gradient = True
            self.moment, self.source = gradient[0].moment, gradient[0].source
            self.batches = max(c.batches for c in gradient)

    def bind(self, context):
        return Hybrid([(c.bind(context), w) for c, w in self.parts])

    def score(self, weight, gradient=None):
        return sum(w * _normalize(c.score(weight, gradient)) for c, w in self.parts)

    def unit_scores(self, weight, gradient, granularity):
        return sum(
            w * _normalize(c.unit_scores(weight, gradient, granularity)) for c, w in self.parts
        )

    def note(self):
        return "; ".join(filter(None, (c.note() for c, _ in self.parts))) or None

    def conflict(self, granularity, joint):
        for criterion, _ in self.parts:
            # Normalised scores do compare between tensors.
            reason = criterion.conflict(granularity, joint=False)
            if reason:
                return f"{type(criterion).__name__}: {reason}"
        return None

    def get_config(self):
        return {
            "weights": [[keras.saving.serialize_keras_object(c), w] for c, w in self.parts],
        }

    def __repr__(self):
        return f"Hybrid({{{', '.join(f'{c!r}: {w:g}' for c, w in self.parts)}}})"
