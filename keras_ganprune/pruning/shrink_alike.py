"""Cuts a copy of a network, such as its weight average, in the same places as the network."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.traversal import walk
from keras_ganprune.pruning._shrink_verify import check_same_outputs, masked_values
from keras_ganprune.pruning.shrink_model import Shrunk
from keras_ganprune.pruning.structured.graph import leaves
from keras_ganprune.pruning.structured.groups import Groups, channel_groups
from keras_ganprune.pruning.structured.rebuild import Builder


def shrink_alike(
    network: keras.Model, copy: keras.Model, shrunk: Shrunk, keep: Any = None, verify: bool = True
) -> Shrunk:
    """Return a smaller copy of a network, cut in the same places as the network.

    The outputs are those of `copy` with the removed channels masked. The state of its layers is that of
    `copy` too. Neither network is changed.

    Args:
        network: The network that was cut.
        copy: Another network with the same layers and weight shapes.
        shrunk: The result of `shrink_with_cuts` for `network`.
        keep: The argument that `network` was cut with. Defaults to None.
        verify: Whether to compare the outputs with those of `copy`. Defaults to True.

    Raises:
        UnsupportedLayerError: The two networks have the same weight shapes, but not the same layers.
        DifferentOutputsError: `verify` is True and the outputs differ.
    """
    groups = channel_groups(copy, keep=_same_layers(network, copy, keep))
    if _places(groups) != _places(shrunk.groups):
        raise UnsupportedLayerError(
            f"'{copy.name}' has the weight shapes of '{network.name}', but other layers, so it cannot be "
            f"cut in the same places. Make it with `keras.models.clone_model({network.name})`, or leave it "
            "out of `copies`."
        )
    bypassed = _same_calls(shrunk, groups)
    builder = Builder(groups, shrunk.keeps, bypassed)
    small, cuts = builder.build()
    if verify:
        values = dict((id(v), (v, value)) for v, value in masked_values(groups, shrunk.keeps))
        rebuilt = {id(cut.old) for cut in cuts}
        for call in groups.graph.calls:
            # The layers of a residual block that goes as a whole add nothing.
            if bypassed and id(call) not in builder.new_calls:
                for weight in getattr(call.operation, "weights", []):
                    if id(weight) not in rebuilt:
                        values[id(weight)] = (weight, np.zeros(tuple(weight.shape)))
        check_same_outputs(builder, small, list(values.values()))
    return Shrunk(small, tuple(cuts), groups, shrunk.keeps, bypassed)


def _same_layers(network: keras.Model, copy: keras.Model, keep: Any) -> Any:
    """Return the layers of the copy that have the places of those that `keep` names in the network."""
    if keep is None or (isinstance(keep, (list, tuple)) and not keep):
        return None
    layers, others = walk(network), walk(copy)
    if len(layers) != len(others):
        return keep
    kept = {id(layer) for _, layer in scopes.select(layers[1:], keep, "keep")}
    pairs = zip(layers, others, strict=True)
    return [other for (_, layer), (_, other) in pairs if id(layer) in kept]


def _places(groups: Groups) -> list[Any]:
    """Return what the groups of two networks with the same layers have in common."""
    place = {id(w): n for n, w in enumerate(groups.graph.model.weights)}
    return [
        [
            (place.get(id(s.weight.variable), -1), s.weight.axis, s.weight.role, s.units.tolist())
            for s in group.slices
        ]
        for group in groups
    ] + [type(call.operation).__name__ for call in groups.graph.calls]


def _same_calls(shrunk: Shrunk, groups: Groups) -> dict[int, Any]:
    """Return the calls of the copy that are left out, each with the tensor that replaces its result."""
    old, new = shrunk.groups.graph, groups.graph
    tensor_of = {id(a): b for a, b in zip(leaves(old.inputs), leaves(new.inputs), strict=True)}
    bypassed = {}
    for one, other in zip(old.calls, new.calls, strict=True):
        tensor_of.update({id(a): b for a, b in zip(one.outputs, other.outputs, strict=True)})
        if id(one) in shrunk.bypassed:
            bypassed[id(other)] = tensor_of[id(shrunk.bypassed[id(one)])]
    return bypassed
