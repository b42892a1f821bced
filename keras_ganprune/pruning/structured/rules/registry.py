"""Where the rules are kept: one for each kind of layer or operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.pruning.structured.channels import Rule


@dataclass(frozen=True)
class Sizes:
    """What a layer is after a cut, for the function that writes its configuration.

    Attributes:
        weight: Function from an attribute path of a weight to its new shape.
        before: Shapes of the inputs of the call as they were, with the batch first.
        inputs, outputs: Shapes of the inputs and outputs of the call as they are after the cut.
        kept: Function (i, axis) -> bool array, which places are kept along an axis of the i-th input.
    """

    weight: Callable[[str], tuple[int, ...]]
    before: list[tuple[int | None, ...]]
    inputs: list[tuple[int | None, ...]]
    outputs: list[tuple[int | None, ...]]
    kept: Callable[[int, int], np.ndarray]


Config = Callable[[Any, dict, Sizes], dict]


@dataclass(frozen=True)
class Entry:
    """A rule, and the function that writes the configuration of a layer after a cut (or None)."""

    rule: Rule
    config: Config | None


_LAYERS: dict[type, Entry] = {}
# Operations of `keras.ops` have no public classes, so they go by the names of those that there are.
_OPERATIONS: dict[str, Entry] = {}


def register_rule(*layer_classes: type, config: Config | None = None) -> Callable[[Rule], Rule]:
    """Say how channels pass through a layer of your own, so that `shrink` can cut it.

    The decorated function is called as `rule(layer, channels, *inputs)`, with the `Axes` of each
    tensor that the layer is called with, and returns the `Axes` of its output, or a list of them. On the
    way it tells `channels` which axis of which weight runs along which channels: `makes` and `reads` for
    the two sides of a kernel, `along` for a bias or a scale, `state` for what is not trained, `tie` for
    two that go together, `fix` for what has to stay. A rule that says too little is found out: `shrink`
    compares the outputs.

    Args:
        *layer_classes: Subclasses of `keras.layers.Layer`. A subclass of one follows the same rule
            unless it has a `call` of its own.
        config: Function (layer, config, sizes) -> config of the smaller layer, where its constructor
            takes a number of channels; `sizes` has the new shapes. None if they are seen from the input.

    Returns: The decorator.

    Raises: UnsupportedLayerError (a TypeError): not a layer class.

    Example:
    >>> class Shift(keras.layers.Layer):
    ...     def build(self, shape):
    ...         self.shift = self.add_weight(shape=(shape[-1],))
    ...     def call(self, x):
    ...         return x + self.shift
    >>> @register_rule(Shift)
    ... def shift(layer, channels, x):
    ...     channels.along(layer, "shift", -1, x[-1])
    ...     return x
    """
    for cls in layer_classes:
        if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
            raise UnsupportedLayerError(
                f"`register_rule` takes subclasses of `keras.layers.Layer`. Received: {cls!r}."
            )
    if not layer_classes:
        raise UnsupportedLayerError(
            "`register_rule` takes the layer classes that the rule is for. Received none."
        )

    def register(rule: Rule) -> Rule:
        for cls in layer_classes:
            _LAYERS[cls] = Entry(rule, config)
        return rule

    return register


def operation_rule(*names: str, config: Config | None = None) -> Callable[[Rule], Rule]:
    """Register the rule of `keras.ops` operations, by the names of their classes."""

    def register(rule: Rule) -> Rule:
        for name in names:
            _OPERATIONS[name] = Entry(rule, config)
        return rule

    return register


def entry_of(operation: keras.Operation) -> Entry | None:
    """Return the rule of a layer or operation; None if there is none that is sure to be right.

    A subclass does what its parent does only as long as it has no `call` of its own.
    """
    if isinstance(operation, keras.layers.Layer):
        for cls in type(operation).__mro__:
            if cls in _LAYERS:
                return _LAYERS[cls]
            if "call" in vars(cls):
                return None
        return None
    cls = type(operation)
    if not cls.__module__.startswith("keras.src.ops"):
        return None
    return _OPERATIONS.get(cls.__name__)
