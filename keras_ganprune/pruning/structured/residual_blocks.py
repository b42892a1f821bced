"""Residual blocks: what lies between a tensor and the `Add` that it is added to again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np

from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.prunable import pruned_names, weight_variable
from keras_ganprune.pruning.structured.graph import Call, Graph, Tensor
from keras_ganprune.pruning.structured.rules.layers import AS_THEY_ARE, SPATIAL, keeps_zero
from keras_ganprune.pruning.structured.rules.ops import ZERO_TO_ZERO
from keras_ganprune.pruning.structured.rules.registry import entry_of


@dataclass(frozen=True, eq=False)
class BlockWeight:
    """A weight of a block: masked with it."""

    layer_path: str
    name: str
    layer: keras.layers.Layer
    variable: keras.Variable
    kernel: bool


@dataclass(frozen=True, eq=False)
class Block:
    """The branch of a residual connection, which adds nothing if all its weights are zero.

    Attributes:
        name: Path of the call that adds it.
        add: That call.
        skip: The tensor that is left without it.
        calls: What is in the branch alone.
        weights: All that is masked with it: kernels, biases, scales.
        means: Moving means, which are zero then.
    """

    name: str
    add: Call
    skip: Tensor
    calls: tuple[Call, ...]
    weights: tuple[BlockWeight, ...]
    means: tuple[keras.Variable, ...]

    def __repr__(self) -> str:
        inside = ", ".join(dict.fromkeys(w.layer_path for w in self.weights))
        return f"{self.name}: adds {inside}"

    @property
    def dead(self) -> bool:
        """Whether every weight is zero."""
        return not any(np.any(to_numpy(w.variable)) for w in self.weights)


def residual_blocks(graph: Graph) -> list[Block]:
    """Return the residual blocks of a network that can be masked as a whole, in the order of their calls.

    A block is what one side of an `Add` of two tensors of one shape is computed by and nothing else is.
    Of two such sides it is the one with more weights: the other is the projection of a shortcut.
    """
    made_by = {id(t): call for call in graph.calls for t in call.outputs}
    uses: dict[int, set[int]] = {}
    for call in graph.calls:
        for tensor in call.inputs:
            uses.setdefault(id(tensor), set()).add(id(call))
    for tensor in keras.tree.flatten(graph.outputs):
        uses.setdefault(id(tensor), set()).add(0)
    shared = _called_often(graph)
    found = []
    for call in graph.calls:
        if type(call.operation).__name__ != "Add" or len(call.inputs) != 2:
            continue
        sides = []
        for branch, skip in (call.inputs, call.inputs[::-1]):
            if branch.shape != skip.shape:
                continue
            inside = _exclusive(graph, call, branch, uses)
            # A sum of what comes of two different inputs is no way around one of them.
            if not _upstream(branch, made_by) & _upstream(skip, made_by):
                continue
            weights, means = _weights(inside)
            zero = id(branch) in _zeros(inside)
            if weights and zero and not shared & {id(c.operation) for c in inside}:
                sides.append(Block(call.path, call, skip, tuple(inside), weights, means))
        if sides:
            found.append(max(sides, key=_size))
    # One that holds others is no block but the trunk, with a long way around it.
    adds = {id(block.add) for block in found}
    return [block for block in found if not adds & {id(call) for call in block.calls}]


def _upstream(tensor: Tensor, made_by: dict[int, Call]) -> set[int]:
    """Return what a tensor is computed from, itself included, by id."""
    found: set[int] = set()
    waiting = [tensor]
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in found:
            found.add(id(tensor))
            call = made_by.get(id(tensor))
            waiting += [] if call is None else call.inputs
    return found


def _size(block: Block) -> int:
    return sum(math.prod(w.variable.shape) for w in block.weights)


def _called_often(graph: Graph) -> set[int]:
    """Return the layers that are called several times, by id: their weights are not of one block alone."""
    counted: dict[int, int] = {}
    for call in graph.calls:
        counted[id(call.operation)] = counted.get(id(call.operation), 0) + 1
    return {key for key, count in counted.items() if count > 1}


def _exclusive(graph: Graph, add: Call, branch: Tensor, uses: dict[int, set[int]]) -> list[Call]:
    """Return the calls whose results reach nothing but one input of an addition."""
    inside: dict[int, Call] = {}
    for call in reversed(graph.calls[: graph.calls.index(add)]):
        ways = set().union(*(uses.get(id(t), set()) for t in call.outputs))
        into_add = id(add) in ways
        if into_add and not any(t is branch for t in call.outputs):
            continue
        if ways and ways <= inside.keys() | {id(add)}:
            inside[id(call)] = call
    return list(inside.values())[::-1]


def _weights(calls: list[Call]) -> tuple[tuple[BlockWeight, ...], tuple[keras.Variable, ...]]:
    weights, means = [], []
    for call in calls:
        layer = call.operation
        if not isinstance(layer, keras.layers.Layer):
            continue
        holder = layer.layer if isinstance(layer, keras.layers.Wrapper) else layer
        path = call.path if holder is layer else f"{call.path}/{holder.name}"
        for name in _names(holder):
            variable = weight_variable(holder, name)
            if variable is not None:
                kernel = name in pruned_names(holder)
                weights.append(BlockWeight(path, name, holder, variable, kernel))
        if isinstance(holder, keras.layers.BatchNormalization):
            means.append(holder.moving_mean)
    return tuple(weights), tuple(means)


def _names(layer: keras.layers.Layer) -> list[str]:
    """Return the attribute paths of what is masked in a layer: kernels, and the biases and scales beside."""
    kernels = list(pruned_names(layer))
    beside = ["bias", "gamma", "beta", "alpha"]
    beside += [f"{name.rpartition('.')[0]}.bias" for name in kernels if "." in name]
    return [*kernels, *dict.fromkeys(beside)]


# What gives zeros for zeros, with whatever weights it has at zero.
_PASSING = (
    *AS_THEY_ARE,
    *SPATIAL,
    keras.layers.PReLU,
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Concatenate,
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
)
_PASSING_OPERATIONS = (*ZERO_TO_ZERO, "Add", "Reshape", "Transpose")


def _zeros(calls: list[Call]) -> set[int]:
    """Return the tensors, by id, that are zero if all weights of the calls of a branch are."""
    found: set[int] = set()
    for call in calls:
        if _gives_zero(call.operation, [id(t) in found for t in call.inputs]):
            found |= {id(t) for t in call.outputs}
    return found


def _gives_zero(operation: keras.Operation, zeros: list[bool]) -> bool:
    """Return whether an operation without weights gives zero, for inputs of which these are."""
    layers = keras.layers
    inner = operation.layer if isinstance(operation, layers.SpectralNormalization) else operation
    if isinstance(inner, (layers.BatchNormalization, layers.GroupNormalization)):
        return inner.scale or all(zeros)
    if isinstance(inner, layers.LayerNormalization):
        return inner.scale
    if pruned_names(inner):
        activation = getattr(inner, "activation", None)
        return entry_of(inner) is not None and (activation is None or keeps_zero(activation))
    if isinstance(inner, (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)):
        return all(zeros) and keeps_zero(inner)
    if type(inner).__name__ == "Multiply":
        return any(zeros)
    passing = isinstance(inner, _PASSING) or (
        type(inner).__name__ in _PASSING_OPERATIONS and entry_of(inner) is not None
    )
    return all(zeros) and passing
