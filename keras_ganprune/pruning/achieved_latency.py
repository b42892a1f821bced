"""`AchievedLatency`: the time of a network as a share of that of the dense network."""

from __future__ import annotations

import attrs
import numpy as np

from keras_ganprune.pruning.structured.requested_budget import Budget
from keras_ganprune.pruning.structured.runtimes import Run
from keras_ganprune.utils import turns

_TITLES = {
    "onnx": "ONNX Runtime",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
    "keras": "Keras",
}
_ROUNDS = 200  # at most


@attrs.frozen
class AchievedLatency:
    """The measured latency of a network after a cut.

    Attributes:
        budget: The `Budget` that was requested.
        share: Median of time of the network / time of the dense network, which run in turns. The time that
            other programs take from a runtime with one thread is left out.
        milliseconds: Pair (dense, after the cut), median times of a call.
        macs: Share of the multiply-accumulates that stays, or None if it is not known.

    Example:
    >>> from keras_ganprune.pruning.achieved_latency import AchievedLatency
    >>> print(AchievedLatency(kgp.Budget(latency=0.25), 0.26, (4.0, 1.04), 0.2))
    0.260 of the latency in ONNX Runtime (requested: 0.25; 1.04 of 4 ms, batch of 1), 20.0% of the MACs
    """

    budget: Budget
    share: float
    milliseconds: tuple[float, float]
    macs: float | None = None

    def __str__(self) -> str:
        before, after = self.milliseconds
        macs = "" if self.macs is None else f", {self.macs:.1%} of the MACs"
        return (
            f"{self.share:.3f} of the latency in {title(self.budget)} (requested: {self.budget.fraction:g}; "
            f"{after:.3g} of {before:.3g} ms, batch of {self.budget.batch_size}){macs}"
        )


def title(budget: Budget) -> str:
    """Return the name of the runtime of a latency, as it is written."""
    return _TITLES[str(budget.runtime)]


def measured(
    budget: Budget,
    dense: Run,
    small: Run,
    macs: float | None = None,
    seconds: float = 1.0,
    loads: int = 1,
) -> AchievedLatency:
    """Run two networks in turns, and return the latency of the second as a share of the first.

    Args:
        budget: The requested latency.
        dense, small: Networks in the runtime.
        macs: Share of the multiply-accumulates that the second has. Defaults to None: not known.
        seconds: Seconds of measurement for each, and for each load. Defaults to 1.
        loads: Number of times that both are loaded; the median counts. Defaults to 1: as they are.
    """
    rows = []
    for load in range(loads):
        if load:
            dense.again()
            small.again()
        wall, cpu = turns.in_turns((dense, small), load, seconds, _ROUNDS)
        # With one thread, what the clock shows beyond the CPU time went to other programs. A backend of
        # Keras may have several threads, or wait for a GPU.
        times = wall if budget.runtime == "keras" else np.minimum(wall, cpu)
        rows.append((np.median(times[1] / times[0]), *np.median(times, axis=1)))
    share, before, after = (float(value) for value in np.median(rows, axis=0))
    return AchievedLatency(budget, share, (before * 1e3, after * 1e3), macs)
