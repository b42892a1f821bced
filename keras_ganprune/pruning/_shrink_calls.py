"""The comparison of a smaller network with the user's model call by call, where their outputs differ.

Rounding adds up over a deep network, so different outputs alone do not show that a network is wrong. Here
the user's layers run one after the other, and each new layer gets the cut tensors of the old one. So the
differences of other layers do not reach it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from keras_ganprune.backend.no_gradients import no_gradients
from keras_ganprune.pruning._shrink_blame import Parted, reason
from keras_ganprune.pruning._shrink_numbers import gap_of
from keras_ganprune.pruning.structured.graph import Call, Tensor, leaves
from keras_ganprune.pruning.structured.rebuild import Builder

# Values of variables in place of their own.
Values = Sequence[tuple[keras.Variable, Any]]


@dataclass
class _Run:
    """The tensors of one run of a graph, by the id of their `Tensor`."""

    tensors: dict[int, Any] = field(default_factory=dict)

    def fill(self, structure: Any) -> Any:
        """Return a structure with the tensors in the place of their `Tensor`s."""
        return keras.tree.map_structure(
            lambda leaf: self.tensors[id(leaf)] if isinstance(leaf, Tensor) else leaf, structure
        )

    def call(self, operation: Any, args: tuple, kwargs: Mapping[str, Any], call: Call) -> list[Any]:
        """Run an operation, and return its outputs."""
        kwargs = dict(kwargs)
        if isinstance(operation, keras.layers.Layer):
            takes_training = "training" in inspect.signature(operation.call).parameters
            if takes_training and kwargs.get("training") is None:
                kwargs["training"] = False
        return leaves(operation(*self.fill(args), **self.fill(kwargs)))

    def put(self, call: Call, outputs: list[Any]) -> None:
        """Keep the outputs of a call."""
        self.tensors.update({id(t): x for t, x in zip(call.outputs, outputs, strict=True)})


def first_parted(
    builder: Builder,
    small: keras.Model,
    arrays: Any,
    values: Values,
    expected: list[Any],
    actual: list[Any],
) -> str | None:
    """Return what is wrong with a smaller network, or None if only rounding has added up.

    Args:
        builder: The builder of the smaller network.
        small: The smaller network.
        arrays: Structure of the inputs.
        values: The values of the removed channels' weights.
        expected: Outputs of the user's model.
        actual: Outputs of the smaller network.
    """
    graph = builder.graph
    inputs = {
        id(t): _as_input(a, t) for t, a in zip(leaves(graph.inputs), leaves(arrays), strict=True)
    }
    old, chain = _Run(dict(inputs)), _Run(dict(inputs))
    needed = builder.needed()
    with no_gradients(), keras.StatelessScope(state_mapping=list(values)):
        for call in graph.calls:
            if id(call) not in needed:
                continue
            outputs = old.call(call.operation, call.args, call.kwargs, call)
            old.put(call, outputs)
            found = _compared(builder, call, old, chain)
            if found is not None:
                again = old.call(call.operation, call.args, call.kwargs, call)
                pairs = zip(outputs, again, strict=True)
                draws = any(gap_of(a, b).is_large for a, b in pairs)
                return reason(replace(found, draws=draws), builder)
    for one, other, who in (
        (leaves(old.fill(graph.outputs)), expected, graph.model),
        (leaves(chain.fill(graph.outputs)), actual, small),
    ):
        if any(gap_of(a, b).is_large for a, b in zip(one, other, strict=True)):
            return (
                f"The calls that '{who.name}' makes on `keras.Input`s, run one after the other, do not give "
                "what it gives on arrays. Its `call` must run the same layers for all values: use "
                "`keras.ops.where` or `keras.ops.cond` instead of `if`."
            )
    return None


def first_failing(builder: Builder, arrays: Any, values: Values) -> Call | None:
    """Return the first call whose new operation fails on the cut tensors of the old one, or None.

    Args:
        builder: The builder of the smaller network.
        arrays: Structure of the inputs.
        values: The values of the removed channels' weights.
    """
    pairs = zip(leaves(builder.graph.inputs), leaves(arrays), strict=True)
    old, needed = _Run({id(t): _as_input(a, t) for t, a in pairs}), builder.needed()
    with no_gradients(), keras.StatelessScope(state_mapping=list(values)):
        for call in builder.graph.calls:
            if id(call) not in needed:
                continue
            old.put(call, old.call(call.operation, call.args, call.kwargs, call))
            new = builder.new_calls.get(id(call))
            if new is None:
                continue
            cut = _Run({id(t): _cut(builder, t, old.tensors[id(t)]) for t in call.inputs})
            try:
                cut.call(new.operation, new.args, new.kwargs, call)
            except Exception:
                return call
    return None


def _compared(builder: Builder, call: Call, old: _Run, chain: _Run) -> Parted | None:
    """Run the new operation of a call on cut tensors and on those of the new network; compare the first."""
    replaced = builder.dropped.get(id(call))
    if replaced is not None:
        # The call is left out, since it adds nothing to this tensor.
        chain.put(call, [chain.tensors[id(replaced)]])
        given, wanted = old.tensors[id(replaced)], old.tensors[id(call.outputs[0])]
        gap = gap_of(wanted, given)
        return Parted(call, gap) if gap.is_large else None
    new, whole = builder.new_calls[id(call)], builder.is_whole(call)
    cut = _Run({id(t): _cut(builder, t, old.tensors[id(t)]) for t in call.inputs})
    for run, keep in ((cut, False), (chain, True)):
        outputs = run.call(new.operation, new.args, new.kwargs, call)
        if keep:
            run.put(call, outputs)
            continue
        for tensor, output in zip(call.outputs, outputs, strict=True):
            gap = gap_of(_cut(builder, tensor, old.tensors[id(tensor)]), output, whole)
            if gap.is_large:
                return Parted(call, gap)
    return None


def _as_input(array: Any, tensor: Tensor) -> Any:
    """Return an array in the type and rank of an input, as a functional model does."""
    value: Any = keras.ops.convert_to_tensor(array, dtype=tensor.dtype)
    rank = len(tensor.shape)
    if len(value.shape) == rank - 1 and tensor.shape[-1] == 1:
        return keras.ops.expand_dims(value, -1)
    if len(value.shape) == rank + 1 and value.shape[-1] == 1:
        return keras.ops.squeeze(value, -1)
    return value


def _cut(builder: Builder, tensor: Tensor, value: Any) -> Any:
    """Return the part of a tensor that the smaller network has."""
    index = builder.tensor_index(tensor)
    if all(kept is None for kept in index):
        return value
    for axis, kept in enumerate(index):
        if kept is not None:
            value = keras.ops.take(value, kept, axis=axis)
    return value
