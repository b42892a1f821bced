"""`Task`: what one training of a compression does."""

from __future__ import annotations

from typing import Any, cast

import attrs

from keras_ganprune.pruning.allocation import GlobalRanking
from keras_ganprune.pruning.granularity import Channel, Granularity
from keras_ganprune.pruning.structured.budget import Budget


@attrs.frozen
class Task:
    """What one training does.

    Attributes:
        kind: 'dense', 'sparsity' or 'budget'.
        value: The sparsity, or the share of the quantity that stays.
        quantity: 'macs', 'parameters' or 'bytes' of a budget.
        criterion: Criterion of `Prune`.
        granularity: Granularity of `Prune`, or None: single weights, or channels.
        minimum: What every group of channels keeps at least: an int, or a share of its channels.
        latency: The `Budget` in latency that `value` was found for, or None. The channels are masked by
            multiply-accumulates; the cut corrects their number by measurement.
    """

    kind: str
    value: float = 0.0
    quantity: str = "weights"
    criterion: str = "taylor"
    granularity: Granularity | None = None
    minimum: int | float = 1
    latency: Budget | None = None

    @property
    def key(self) -> str:
        """Name of the states of this training."""
        return f"{self.kind}-{self.quantity}-{self.value:.6f}-{self.criterion}"

    @property
    def allocation(self) -> GlobalRanking:
        """How the sparsity is spread over the layers."""
        return GlobalRanking(minimum=self.minimum)

    @property
    def units(self) -> Granularity | str:
        """What is removed together."""
        if self.granularity is not None:
            return self.granularity
        return "unstructured" if self.kind == "sparsity" else Channel(of=cast(Any, self.quantity))

    def __str__(self) -> str:
        if self.kind == "sparsity":
            return f"sparsity {self.value:.4g}"
        if self.latency is not None:
            return f"{self.latency.fraction:.4g} of the latency ({self.latency.runtime})"
        return "dense" if self.kind == "dense" else f"{self.value:.4g} of the {self.quantity}"
