"""Layers without a rule that stay one layer: their channels are followed through the operations inside.

Such a layer is built again from its configuration. So a weight can only be cut where its size is that of an
input, or an argument of the constructor. Both are found by building the layer with other sizes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.graph import Argument, Call, Inside, Tensor, tensors_in
from keras_ganprune.pruning.structured.rebuild_layers import (
    build_again,
    build_sublayers,
    configuration,
)


def follow(call: Call, channels: Channels, run: Callable[[Sequence[Call]], None]) -> list[Axes]:
    """Run the rules of the calls inside a layer, and return the axes of its outputs.

    Args:
        call: The call of the layer.
        channels: The channels of the network.
        run: Function that runs the rules of calls.
    """
    results: list[list[Axes]] = []
    for inside in call.inside:
        _enter(call, inside, channels)
        run(inside.calls)
        for variable, value in inside.updates:
            _tie(channels, *(channels.axes[id(t)] for t in (variable, value)))
        results.append([channels.axes[id(t)] for t in tensors_in(inside.outputs)])
    channels.call = call
    if any(len(result) != len(call.outputs) for result in results):
        for axes in (channels.axes[id(t)] for t in call.inputs):
            channels.fix(axes, f"'{call.path}' returns other tensors in training")
        return [Axes.fixed(t.shape) for t in call.outputs]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            _tie(channels, one, two)
    return [_as_outside(channels, x, t) for x, t in zip(results[0], call.outputs, strict=True)]


def _enter(call: Call, inside: Inside, channels: Channels) -> None:
    """Record the axes of the tensors that the calls inside a layer begin with."""
    axes = channels.axes
    for outer, inner in zip(call.inputs, inside.inputs, strict=True):
        outside = axes[id(outer)]
        axes[id(inner)] = dataclasses.replace(outside, shape=tuple(inner.shape), weight=False)
    layer: Any = call.operation
    for name, variable, tensor in inside.weights:
        rows = [
            channels.follows(layer, name, variable, axis) if size > 1 else None
            for axis, size in enumerate(variable.shape)
        ]
        axes[id(tensor)] = Axes(tuple(tensor.shape), tuple(rows), weight=True)
    for tensor in inside.free:
        rows = [channels.units.new(n) if n else None for n in tensor.shape]
        axes[id(tensor)] = Axes(tuple(tensor.shape), tuple(rows), False)


def _tie(channels: Channels, one: Axes, two: Axes) -> None:
    for a, b in zip(one.labels, two.labels, strict=False):
        if a is not None or b is not None:
            if a is not None and b is not None and len(a) != len(b):
                channels.fix(a, "they differ in training")
                channels.fix(b, "they differ in training")
            else:
                channels.tie(a, b, "they differ in training")


def _as_outside(channels: Channels, x: Axes, tensor: Tensor) -> Axes:
    """Return the axes of an output with the unknown sizes of the network."""
    labels = []
    for row, size in zip(x.labels, tensor.shape, strict=True):
        if row is not None and len(row) != size:
            channels.fix(row, "they run along a size that is not known")
            row = None
        labels.append(row)
    return Axes(tuple(tensor.shape), tuple(labels), x.zero, x.nonzero)


# --- sizes -------------------------------------------------------------------------------------------


def check_sizes(call: Call, channels: Channels) -> None:
    """Let the channels of a layer stay whose number is neither that of an input nor an argument.

    Args:
        call: The call of a layer whose channels were followed.
        channels: The channels of the network. `call.arguments` is filled in.
    """
    layer: Any = call.operation
    axes = [
        (n, axis, row)
        for n, w in enumerate(layer.weights)
        for axis in range(len(w.shape))
        if channels.movable(row := channels.labels_of(w, axis))
    ]
    if not axes:
        return
    found = _Grown(call, channels)
    for n, axis, row in axes:
        if row is None or found.follows_input(n, axis, row):
            continue
        argument = found.argument(n, axis)
        if argument is None:
            channels.fix(row, found.why(n, axis))
        else:
            call.arguments.setdefault(argument, []).append((layer.weights[n], axis))
    for argument, members in list(call.arguments.items()):
        rows = [channels.labels_of(w, axis) for w, axis in members]
        for n, axis in found.axes_of(argument):
            # Axes that have this size and stay.
            row = channels.labels_of(layer.weights[n], axis)
            rows.append(row if channels.movable(row) else None)
        if any(row is None or len(row) != found.value(argument) for row in rows):
            for row in rows:
                channels.fix(row, f"`{argument[0]}` of '{call.path}' is the size of others, too")
            continue
        for row in rows[1:]:
            channels.tie(rows[0], row)


class _Grown:
    """How the weights of a layer grow with its inputs and its arguments: it is built with twice the size."""

    def __init__(self, call: Call, channels: Channels):
        self.call, self.channels = call, channels
        self.layer: Any = call.operation
        self.failure = ""
        self.old = [tuple(w.shape) for w in self.layer.weights]
        self._inputs: dict[frozenset[int], list[tuple[int, ...]] | None] = {}
        self._arguments: dict[Argument, list[tuple[int, ...]] | None] | None = None
        self.config: dict[str, Any] = {}
        try:
            self.config = configuration(self.layer, call.path) or {}
            if self._shapes(self.config, frozenset()) != self.old:
                self.failure = "built again from its configuration, it has weights of other shapes"
        except Exception as error:
            self.failure = " ".join(str(error).split())[:200]

    def _shapes(self, config: dict[str, Any], doubled: frozenset[int]) -> list[tuple[int, ...]]:
        """Return the shapes of the weights of a new layer, called on inputs of which some axes are doubled.

        Args:
            config: Its configuration.
            doubled: Numbers of axes, counted over all inputs.
        """
        inputs, number = iter(self.call.inside[0].inputs), 0

        def symbol(leaf: Any) -> Any:
            nonlocal number
            if not isinstance(leaf, Tensor):
                return leaf
            shape = list(next(inputs).shape)
            for axis, size in enumerate(shape):
                shape[axis] = (size or 1) * (2 if number in doubled else 1)
                number += 1
            return keras.KerasTensor(tuple(shape), leaf.dtype)

        args, kwargs = keras.tree.map_structure(symbol, (self.call.args, self.call.kwargs))  # type: ignore[misc]
        state = random.getstate()  # Initializers draw their seeds from it.
        try:
            new: Any = build_again(self.layer, self.call.path, lambda: config, self.layer.name)
            new(*args, **kwargs)
            build_sublayers(new, self.layer, args, kwargs)
        finally:
            random.setstate(state)
        return [tuple(w.shape) for w in new.weights]

    def follows_input(self, n: int, axis: int, row: np.ndarray) -> bool:
        """Return whether an axis of a weight grows with the inputs that have its channels."""
        if self.failure:
            return False
        doubled = self._axes_with(row)
        if not doubled:
            return False
        if doubled not in self._inputs:
            self._inputs[doubled] = self._tried(self.config, doubled)
        grown = self._inputs[doubled]
        return grown is not None and grown[n][axis] == 2 * self.old[n][axis]

    def _axes_with(self, row: np.ndarray) -> frozenset[int]:
        """Return the axes of the inputs that share channels with a row, directly or through each other."""
        find, number = self.channels.units.find, 0
        rows = []
        for tensor in self.call.inputs:
            for labels in self.channels.axes[id(tensor)].labels:
                if labels is not None:
                    rows.append((number, set(find(labels).tolist()) - {0}))
                number += 1
        classes = set(find(row).tolist()) - {0}
        found: set[int] = set()
        while True:
            new = {k for k, own in rows if k not in found and own & classes}
            if not new:
                return frozenset(found)
            found |= new
            classes |= set().union(*(own for k, own in rows if k in new))

    def _tried(
        self, config: dict[str, Any], doubled: frozenset[int]
    ) -> list[tuple[int, ...]] | None:
        with contextlib.suppress(Exception):
            grown = self._shapes(config, doubled)
            same = len(grown) == len(self.old)
            if same and all(len(a) == len(b) for a, b in zip(grown, self.old, strict=True)):
                return grown
        return None

    def argument(self, n: int, axis: int) -> Argument | None:
        """Return the argument of the constructor that is the size of an axis of a weight, or None."""
        if self.failure:
            return None
        if self._arguments is None:
            sizes = {size for shape in self.old for size in shape}
            self._arguments = {
                argument: self._tried(set_argument(self.config, argument, 2 * value), frozenset())
                for argument, value in _ints(self.config)
                if value in sizes and value > 1
            }
        for argument, grown in self._arguments.items():
            if grown is None or self.value(argument) != self.old[n][axis]:
                continue
            if grown[n][axis] == 2 * self.old[n][axis]:
                return argument
        return None

    def axes_of(self, argument: Argument) -> list[tuple[int, int]]:
        """Return all axes of weights that grow with an argument."""
        grown = (self._arguments or {}).get(argument) or self.old
        return [
            (n, axis)
            for n, shape in enumerate(self.old)
            for axis, size in enumerate(shape)
            if grown[n][axis] != size
        ]

    def value(self, argument: Argument) -> int:
        """Return the value of an argument."""
        name, place = argument
        return self.config[name] if place is None else self.config[name][place]

    def why(self, n: int, axis: int) -> str:
        """Return why the channels along an axis of a weight stay."""
        kind, weight = type(self.layer).__name__, self.layer.weights[n]
        if self.failure:
            return f"'{self.call.path}' cannot be built again with other sizes ({self.failure})"
        return (
            f"the size {self.old[n][axis]} of '{weight.path}' is neither that of an input of `{kind}` "
            f"'{self.call.path}' nor an argument of its constructor; `register_rule({kind})` can cut it"
        )


def _ints(config: dict[str, Any]) -> Iterator[tuple[Argument, int]]:
    """Yield the arguments that are ints, also those in lists."""
    for name, value in config.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield (name, None), value
        if isinstance(value, (list, tuple)):
            for place, entry in enumerate(value):
                if isinstance(entry, int) and not isinstance(entry, bool):
                    yield (name, place), entry


def set_argument(config: dict[str, Any], argument: Argument, value: int) -> dict[str, Any]:
    """Return a configuration with another value of one argument."""
    name, place = argument
    if place is None:
        return {**config, name: value}
    entries = list(config[name])
    entries[place] = value
    return {**config, name: type(config[name])(entries)}
