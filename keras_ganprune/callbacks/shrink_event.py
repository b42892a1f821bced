"""`ShrinkEvent`: the size of a network before and after a cut."""

from __future__ import annotations

from dataclasses import dataclass

import attrs
import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.pruning.achieved_latency import AchievedLatency
from keras_ganprune.pruning.shrink_model import Shrunk
from keras_ganprune.pruning.structured.costs import Costs, Keeps
from keras_ganprune.pruning.structured.counted_macs import CountedMacs
from keras_ganprune.pruning.structured.groups import channel_groups


@dataclass(frozen=True)
class ShrinkEvent:
    """One network that was made smaller.

    Attributes:
        step: Int, optimizer step of the cut.
        name: Name of the network in the model.
        channels: Pair (before, after), number of channels.
        parameters: Pair (before, after), number of parameters.
        macs: Pair (before, after), multiply-accumulates per sample: ints that name the layers that are not
            counted, see `CountedMacs`. None if an image size is unknown.
        groups: One row per group of channels: (path of the first layer that produces them, before, after).
        latency: `AchievedLatency` for a budget in latency, or None.

    Example:
    >>> from keras_ganprune.callbacks.shrink_event import ShrinkEvent
    >>> print(ShrinkEvent(100, "generator", (64, 32), (5000, 1500), (20000, 5000)))
    step 100: 'generator' has 32 of 64 channels left, 1,500 of 5,000 parameters, 25.0% of the MACs
    """

    step: int
    name: str
    channels: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int] | None
    groups: tuple[tuple[str, int, int], ...] = ()
    latency: AchievedLatency | None = None

    def __str__(self) -> str:
        text = (
            f"step {self.step}: '{self.name}' has {self.channels[1]:,} of {self.channels[0]:,} channels "
            f"left, {self.parameters[1]:,} of {self.parameters[0]:,} parameters"
        )
        if self.macs is not None:
            before, after = self.macs
            text += f", {after / before:.1%} of the MACs"
            if isinstance(before, CountedMacs) and before.uncounted:
                text += f" that are counted (not counted: {before.missing})"
        if self.latency is not None:
            # The share of the MACs stands before.
            text += f", {attrs.evolve(self.latency, macs=None)}"
        return text


def shrink_event(step: int, name: str, network: keras.layers.Layer, shrunk: Shrunk) -> ShrinkEvent:
    """Return the sizes of a network and of the smaller one.

    Args:
        step: Optimizer step of the cut.
        name: Name of the network in the model.
        network: The network before the cut.
        shrunk: The result of `shrink_with_cuts`.
    """
    # A dead block is left out as a whole, although each of its groups keeps one unit.
    rebuilt = {id(cut.old) for cut in shrunk.cuts}
    counts = [
        int(np.count_nonzero(keep))
        if any(id(s.weight.variable) in rebuilt for s in group.slices)
        else 0
        for group, keep in zip(shrunk.groups, shrunk.keeps, strict=True)
    ]
    rows = zip(shrunk.groups, counts, strict=True)
    return ShrinkEvent(
        step,
        name,
        (shrunk.groups.size, sum(counts)),
        (network.count_params(), shrunk.model.count_params()),
        _macs(shrunk),
        tuple((group.name, group.size, count) for group, count in rows),
        shrunk.latency,
    )


def _macs(shrunk: Shrunk) -> tuple[CountedMacs, CountedMacs] | None:
    """Return the MACs before and after the cut, or None if an image size is unknown."""
    try:
        costs = Costs(shrunk.groups)
        if shrunk.bypassed:
            return _counted(costs), _counted(Costs(channel_groups(shrunk.model)))
        return _counted(costs), _counted(costs, shrunk.keeps)
    except (InvalidArgumentError, UnsupportedLayerError):
        return None


def _counted(costs: Costs, keeps: Keeps = None) -> CountedMacs:
    unknown = [(row.layer, row.kind) for row in costs.rows() if row.macs is None]
    return CountedMacs(costs.macs(keeps), unknown)
