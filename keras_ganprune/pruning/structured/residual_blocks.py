"""Residual blocks: the calls between a tensor and the `Add` that the tensor is an input of again."""

from __future__ import annotations

import collections
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.prunable import pruned_names, weight_variable
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.structured.graph import Call, Graph, Tensor, leaves
from keras_ganprune.pruning.structured.rules.elementwise import IDENTITIES, keeps_zero
from keras_ganprune.pruning.structured.rules.ops import ZERO_TO_ZERO
from keras_ganprune.pruning.structured.rules.registry import entry_of
from keras_ganprune.pruning.structured.rules.shapes import SPATIAL


@dataclass(frozen=True, eq=False)
class BlockWeight:
    """A weight of a residual block, which is masked with the block.

    Attributes:
        layer_path: Path of the layer that holds the weight.
        name: Attribute path of the weight in that layer.
        layer: The layer.
        variable: The weight.
        kernel: Whether it is a kernel, not a bias or a scale.
    """

    layer_path: str
    name: str
    layer: keras.layers.Layer
    variable: keras.Variable
    kernel: bool


@dataclass(frozen=True, eq=False)
class Block:
    """The branch of a residual connection. It adds zero if all its weights are zero.

    Attributes:
        name: Path of the call that adds the branch.
        add: That call.
        skip: The other input of that call, which is the result without the branch.
        calls: The calls that only the branch needs.
        weights: The weights that are masked with the branch: kernels, biases, scales.
        means: The moving means, which are zero if the weights are.
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

    A block is the branch of an `Add` of two tensors of the same shape: the calls that only one of the
    two inputs needs. If both inputs have such a branch, the one with more weights is the block; the
    other is the projection of the shortcut.
    """
    made_by = {id(t): call for call in graph.calls for t in call.outputs}
    readers = _readers(graph)
    shared = _called_repeatedly(graph)
    blocks = []
    for call in graph.calls:
        if type(call.operation).__name__ != "Add" or len(call.inputs) != 2:
            continue
        sides = []
        for branch, skip in (call.inputs, call.inputs[::-1]):
            if branch.shape != skip.shape:
                continue
            # A sum of tensors that depend on different inputs is not a shortcut.
            if not _upstream(branch, made_by) & _upstream(skip, made_by):
                continue
            inside = _exclusive(graph, call, branch, readers)
            weights, means = _weights(inside)
            is_zero = id(branch) in _zeros(inside)
            if weights and is_zero and not shared & {id(c.operation) for c in inside}:
                sides.append(Block(call.path, call, skip, tuple(inside), weights, means))
        if sides:
            blocks.append(max(sides, key=_size))
    # A branch that contains other blocks is the trunk of the network, with a long shortcut around it.
    adds = {id(block.add) for block in blocks}
    return [block for block in blocks if not adds & {id(call) for call in block.calls}]


def _readers(graph: Graph) -> dict[int, set[int]]:
    """Return, for each tensor, the ids of the calls that read it; 0 stands for the output."""
    readers: dict[int, set[int]] = {}
    for call in graph.calls:
        for tensor in call.inputs:
            readers.setdefault(id(tensor), set()).add(id(call))
    for tensor in leaves(graph.outputs):
        readers.setdefault(id(tensor), set()).add(0)
    return readers


def _upstream(tensor: Tensor, made_by: dict[int, Call]) -> set[int]:
    """Return the ids of the tensors that a tensor depends on, with its own."""
    tensors: set[int] = set()
    waiting = [tensor]
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in tensors:
            tensors.add(id(tensor))
            call = made_by.get(id(tensor))
            waiting += [] if call is None else call.inputs
    return tensors


def _size(block: Block) -> int:
    return sum(math.prod(w.variable.shape) for w in block.weights)


def _called_repeatedly(graph: Graph) -> set[int]:
    """Return the ids of the layers that are called several times, so that no block owns their weights."""
    counts = collections.Counter(id(call.operation) for call in graph.calls)
    return {key for key, count in counts.items() if count > 1}


def _exclusive(graph: Graph, add: Call, branch: Tensor, readers: dict[int, set[int]]) -> list[Call]:
    """Return the calls whose results reach only one input of an addition."""
    inside: dict[int, Call] = {}
    for call in reversed(graph.calls[: graph.calls.index(add)]):
        read_by = set().union(*(readers.get(id(t), set()) for t in call.outputs))
        if id(add) in read_by and not any(t is branch for t in call.outputs):
            continue
        if read_by and read_by <= inside.keys() | {id(add)}:
            inside[id(call)] = call
    return list(inside.values())[::-1]


def _weights(calls: list[Call]) -> tuple[tuple[BlockWeight, ...], tuple[keras.Variable, ...]]:
    """Return the weights that are masked with a branch, and its moving means."""
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
    """Return the attribute paths of the weights of a layer that are masked: kernels, biases, scales."""
    kernels = list(pruned_names(layer))
    others = ["bias", "gamma", "beta", "alpha"]
    others += [f"{name.rpartition('.')[0]}.bias" for name in kernels if "." in name]
    return [*kernels, *dict.fromkeys(others)]


# Layers and operations that give zeros for zeros, if all their weights are zero.
_PASSING = (
    *IDENTITIES,
    *SPATIAL,
    keras.layers.Resizing,
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
    """Return the ids of the tensors that are zero if all weights of a branch are zero."""
    zeros: set[int] = set()
    for call in calls:
        if _gives_zero(call.operation, [id(t) in zeros for t in call.inputs]):
            zeros |= {id(t) for t in call.outputs}
    return zeros


def _gives_zero(operation: keras.Operation, zeros: list[bool]) -> bool:
    """Return whether an operation whose weights are zero gives zero.

    Args:
        operation: The layer or operation.
        zeros: For each input whether it is zero.
    """
    layers = keras.layers
    inner: Any = operation
    if isinstance(operation, layers.SpectralNormalization):
        inner = operation.layer
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
