"""Runs the rules of all calls of a network, which fill in its `Channels`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import keras

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.structured.channels import Axes, Channels, Rule
from keras_ganprune.pruning.structured.followed_layers import check_sizes, follow
from keras_ganprune.pruning.structured.graph import Call, Graph, Tensor, leaves, tensors_in
from keras_ganprune.pruning.structured.rule_advice import not_followed
from keras_ganprune.pruning.structured.symbolic_calls import OPTIONAL


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
    for tensor in leaves(graph.inputs):
        channels.axes[id(tensor)] = Axes.fixed(tensor.shape)
    runner = _Runner(channels, rule_of, keep)
    runner.run(graph.calls)
    for tensor in tensors_in(graph.outputs):
        channels.fix(channels.axes[id(tensor)], "they are those of the network's output")
    channels.call = None
    for call in runner.followed:
        check_sizes(call, channels)
    # Only now is it known which channels stay.
    reached = [
        call
        for call in runner.opaque
        if any(channels.movable(row) for t in call.inputs for row in channels.axes[id(t)].labels)
    ]
    if reached:
        raise not_followed(graph.model, reached, channels)
    return channels


class _Runner:
    """Runs the rules of calls, also of those inside layers without a rule."""

    def __init__(
        self,
        channels: Channels,
        rule_of: Callable[[keras.Operation], Rule | None],
        keep: Callable[[keras.Operation], bool],
    ):
        self.channels, self.rule_of, self.keep = channels, rule_of, keep
        self.opaque: list[Call] = []
        self.followed: list[Call] = []
        self._around: list[Call] = []

    def run(self, calls: Sequence[Call]) -> None:
        """Run the rules of calls in their order."""
        for call in calls:
            self.channels.call = call
            for tensor, axes in zip(call.outputs, self._results(call), strict=True):
                self.channels.axes[id(tensor)] = axes

    def _results(self, call: Call) -> list[Axes]:
        channels, keeps = self.channels, self.keep(call.operation)
        rule = self.rule_of(call.operation)
        if rule is not None:
            results = _apply(rule, call, channels)
            for result in results if keeps else ():
                channels.fix(result, f"'{call.path}' is left as it is")
            return results
        is_layer = isinstance(call.operation, keras.layers.Layer)
        if call.inside and not keeps:
            self.followed.append(call)
            self._around.append(call)
            results = follow(call, channels, self.run)
            self._around.pop()
            return results
        if is_layer and not keeps and call.opaque != OPTIONAL:
            self.opaque.append(call)
        else:
            why = "is left as it is" if is_layer else "is an operation without a rule"
            if call.opaque == OPTIONAL:
                why = f"stays as it is, since {OPTIONAL}"
            for around in self._around[-1:]:
                around.blocked = around.blocked or type(call.operation).__name__
            for tensor in call.inputs:
                channels.fix(channels.axes[id(tensor)], f"'{call.path}' {why}")
        return [Axes.fixed(t.shape) for t in call.outputs]


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
