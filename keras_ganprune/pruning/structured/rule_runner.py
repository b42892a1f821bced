"""Runs the rules of all calls of a network, which fill in its `Channels`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, cast

import keras

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.pruning.structured.channels import Axes, Channels, Rule
from keras_ganprune.pruning.structured.graph import Call, Graph, Tensor, leaves
from keras_ganprune.pruning.structured.rule_advice import not_followed


def run_rules(
    graph: Graph,
    rule_of: Callable[[keras.Operation], Rule | None],
    paths: dict[int, str],
    keep: Callable[[keras.Operation], bool],
) -> Channels:
    """Run the rule of every call of a graph, and return the channels.

    Args:
        graph: The calls of a model.
        rule_of: Function that returns the rule of an operation, or None.
        paths: Path of each layer in the model, by id.
        keep: Function that returns whether all channels that a layer makes must stay.

    Raises:
        UnsupportedLayerError: Channels that could be removed reach a layer without a rule, whose
            inside is not known either.
    """
    channels = Channels(_paths=paths)
    axes = channels.axes
    for tensor in leaves(graph.inputs):
        axes[id(tensor)] = Axes.fixed(tensor.shape)
    opaque: list[Call] = []
    for call in graph.calls:
        channels.call = call
        rule = rule_of(call.operation)
        if rule is not None:
            results = _apply(rule, call, channels)
            if keep(call.operation):
                for result in results:
                    channels.fix(result, f"'{call.path}' is left as it is")
        else:
            results = [Axes.fixed(t.shape) for t in call.outputs]
            is_layer = isinstance(call.operation, keras.layers.Layer)
            if is_layer and not keep(call.operation):
                opaque.append(call)
            else:
                why = "is left as it is" if is_layer else "is an operation without a rule"
                for tensor in call.inputs:
                    channels.fix(axes[id(tensor)], f"'{call.path}' {why}")
        for tensor, result in zip(call.outputs, results, strict=True):
            axes[id(tensor)] = result
    for tensor in leaves(graph.outputs):
        channels.fix(axes[id(tensor)], "they are those of the network's output")
    channels.call = None
    # Only now is it known which channels stay.
    reached = [
        call
        for call in opaque
        if any(channels.movable(row) for t in call.inputs for row in axes[id(t)].labels)
    ]
    if reached:
        raise UnsupportedLayerError(not_followed(graph.model, reached, channels))
    return channels


def _apply(rule: Rule, call: Call, channels: Channels) -> list[Axes]:
    """Run the rule of a call, and return the checked `Axes` of its outputs."""

    def axes_of(leaf: Any) -> Any:
        return channels.axes[id(leaf)] if isinstance(leaf, Tensor) else leaf

    args, kwargs = cast("Any", keras.tree.map_structure(axes_of, (call.args, call.kwargs)))
    # A rule need not name the arguments that have nothing to do with channels.
    parameters = inspect.signature(rule).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        ignored = ("training", "mask")
        kwargs = {k: v for k, v in kwargs.items() if k in parameters or k not in ignored}
    result = rule(call.operation, channels, *args, **kwargs)
    results: list[Any] = list(result) if isinstance(result, (list, tuple)) else [result]
    kind = type(call.operation).__name__
    for tensor, result in zip(call.outputs, results, strict=False):
        if not isinstance(result, Axes) or result.rank != len(tensor.shape):
            raise InvalidArgumentError(
                f"The rule of {kind} must return the `Axes` of its output, of the shape {tensor.shape}. "
                f"Received: {result!r}."
            )
        for labels, size in zip(result.labels, tensor.shape, strict=True):
            if labels is not None and len(labels) != size:
                raise InvalidArgumentError(
                    f"The rule of {kind} must return as many labels as its output {tensor.shape} has "
                    f"positions along the axis of length {size}. Received: {len(labels)}."
                )
    if len(results) != len(call.outputs):
        raise InvalidArgumentError(
            f"The rule of {kind} must return one `Axes` for each of its {len(call.outputs)} outputs. "
            f"Received: {len(results)}."
        )
    return [
        dataclasses.replace(result, shape=tuple(tensor.shape))
        for tensor, result in zip(call.outputs, results, strict=True)
    ]
