"""Which entries of which weights are to go, for `GrowingL2`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.stripping import plain_copy
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import prunable_candidates
from keras_ganprune.pruning import granularity as granularities
from keras_ganprune.pruning._shrink_scored import best_units
from keras_ganprune.pruning.granularity import Channel
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.groups import channel_groups

# A weight, and an array that broadcasts over it: True for entries that are to go.
Entries = list[tuple[keras.Variable, np.ndarray]]


def entries_to_go(
    network: Any, sparsity: float | None, budget: Budget | None, settings: Mapping[str, Any]
) -> Entries:
    """Return the entries that `Shrink` or `Prune` would remove now.

    Args:
        network: A built network, which is not changed.
        sparsity, budget: The amount; one of them is None.
        settings: The criterion, granularity, allocation, keep and limits of `GrowingL2`.
    """
    granularity = granularities.get(settings["granularity"])
    if isinstance(granularity, Channel) and granularity.coupled:
        return _channels(network, sparsity, budget, settings)
    if sparsity is None or settings["limits"] is not None:
        raise InvalidArgumentError(
            "`budget` and `limits` are for whole channels: `granularity` must be 'channel' or a coupled "
            f"`Channel`. Received: {granularity!r}. Give `sparsity`."
        )
    return _weights(network, sparsity, settings)


def _channels(
    network: Any, sparsity: float | None, budget: Budget | None, settings: Mapping[str, Any]
) -> Entries:
    """Return the entries of whole channels: a row for each axis of a weight."""
    groups = channel_groups(network, keep=settings["keep"])
    keeps, _ = best_units(
        groups,
        settings["criterion"],
        settings["granularity"],
        settings["allocation"],
        sparsity,
        budget,
        settings["limits"],
    )
    keeps = groups.never_empty(keeps)
    return [
        (piece.weight.variable, ~piece.mask(keep))
        for group, keep in zip(groups, keeps, strict=True)
        for piece in group.slices
        if piece.masked
    ]


def _weights(network: Any, sparsity: float, settings: Mapping[str, Any]) -> Entries:
    """Return single weights or blocks: those that `Prune` would mask in a copy of the network."""
    copy = plain_copy(network, what="copy", fix="Use `granularity='channel'`.")
    pairs = zip(copy.variables, network.variables, strict=True)
    original = {id(twin): variable for twin, variable in pairs}
    pruner = Pruner(
        copy,
        criterion=settings["criterion"],
        granularity=settings["granularity"],
        allocation=settings["allocation"],
        scope=_all_but(settings["keep"], copy),
    )
    pruner.update(sparsity=sparsity)
    return [(original[id(w.variable)], ~to_numpy(w.mask)) for w in pruner.weights]


def _all_but(keep: Any, network: Any) -> Any:
    """Return the scope that leaves out some layers."""
    if keep is None or (isinstance(keep, (list, tuple)) and not keep):
        return None
    layers = prunable_candidates(network)
    left_out = {id(layer) for _, layer in scopes.select(layers, keep, "keep")}
    return [layer for _, layer in layers if id(layer) not in left_out]
