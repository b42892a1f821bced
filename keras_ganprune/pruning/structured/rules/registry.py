"""The registry of shrink rules: how channels pass through each kind of layer.

To add a rule for a layer of Keras, write one function in the file of this folder that has its kind
(`kernels.py`, `normalization.py`, `elementwise.py`, `shapes.py`, `merging.py`, `recurrent.py`,
`attention.py`, `wrappers.py`) and put one decorator on it:

    @register_rule(layers.MyLayer)
    def my_layer(layer, channels, x):
        channels.along(layer, "scale", 0, x[-1])
        return x

Operations of `keras.ops` are in `ops.py` and `slices.py`, with `@register_operation_rule("Name")`. A layer
that mixes its channels needs one more row in `mixing.py`. That is all: `rules/__init__.py` imports the
files, and `shrink`, `Prune(granularity="channel")`, `Costs` and the optimizers follow the labels. If the
layer has a kernel, add a rule for its multiply-accumulates to `layer_macs.py` likewise. The test is one
row in `tests/pruning/structured/rules/test_rules.py`: the expected groups. The test cuts the network,
too, and compares the outputs.

`register_rule` says what a rule gets and returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import ArgumentTypeError
from keras_ganprune.pruning.structured.channels import Rule
from keras_ganprune.pruning.structured.sized_operations import Sized
from keras_ganprune.utils import annotated


@dataclass(frozen=True)
class Sizes:
    """The sizes of a layer after a cut, for the function that writes its configuration.

    Attributes:
        weight: Function from the attribute path of a weight, such as 'kernel', to its new shape.
        before: Shapes of the inputs of the call before the cut, with the batch first.
        inputs: Shapes of the inputs after the cut.
        outputs: Shapes of the outputs after the cut.
        kept: Function (i, axis) -> bool array of the positions that stay along an axis of input i.
    """

    weight: Callable[[str], tuple[int, ...]]
    before: list[tuple[int | None, ...]]
    inputs: list[tuple[int | None, ...]]
    outputs: list[tuple[int | None, ...]]
    kept: Callable[[int, int], np.ndarray]


# Called as config(layer, config of the layer, sizes); returns the config of the smaller layer.
Config = Callable[[Any, dict, Sizes], dict]


@dataclass(frozen=True)
class Entry:
    """A rule, and the function that writes the configuration of the smaller layer (or None)."""

    rule: Rule
    config: Config | None

    @property
    def is_of_user(self) -> bool:
        """Whether a user has registered the rule."""
        return str(self.rule.__module__).split(".")[0] != __name__.split(".")[0]


_LAYERS: dict[type, Entry] = {}
# Rules of layers without a public name, by module and class.
_HIDDEN: dict[str, Entry] = {}
# The classes of `keras.ops` operations are not public, so their names are the keys.
_OPERATIONS: dict[str, Entry] = {}
# The key of the rule for all operations of Keras that have none of their own.
UNLISTED = ""


def check_rule(rule: Any, decorator: str, arguments: str) -> None:
    """Raise `ArgumentTypeError` if what is decorated is not a function of at least three arguments."""
    enough = callable(rule) and not isinstance(rule, type)
    if not enough or not any(annotated.takes(rule, count) for count in range(3, 12)):
        raise ArgumentTypeError(
            f"`{decorator}` decorates a function of {arguments}, with one argument for each input of the "
            f"layer. Received: {rule!r}."
        )


def register_rule(
    *layer_classes: type[keras.layers.Layer], config: Config | None = None
) -> Callable[[Rule], Rule]:
    """Register how channels pass through a layer of your own, so that `shrink` can cut it.

    Use it as a decorator of a function `rule(layer, channels, *inputs)`. The function gets

    - `layer`: the built layer;
    - `channels`: the `Channels` of the network, which the rule fills in;
    - one `Axes` for each tensor that the layer is called with, in the structure and under the names
      of the arguments of `call` (`training` and `mask` may be left out). `x[-1]` are the labels of the
      last axis of `x`, or None if that axis is never cut.

    It returns the `Axes` of the output, or a list of them. On the way it records which axis of which
    weight runs along which channels:

    - `channels.makes(layer, "kernel", axis)` returns the labels of new channels that the layer makes;
    - `channels.reads(layer, "kernel", axis, labels)`: the axis runs over the channels of an input;
    - `channels.along(layer, "bias", axis, labels)`: a bias or scale with an entry per channel;
    - `channels.state(layer, "moving_mean", axis, labels)`: the same for what is not trained;
    - `channels.tie(labels, others)`: these channels can only be removed together;
    - `channels.fix(labels, why)`: these channels must stay.

    An incomplete rule does no harm: `shrink` compares the outputs with those of the model, and raises.

    Args:
        *layer_classes: Subclasses of `keras.layers.Layer`. A subclass of such a class follows the same
            rule, unless it defines `call`.
        config: Function `(layer, config, sizes) -> config` that returns the configuration of the smaller
            layer; needed if the constructor takes a number of channels. `sizes.weight("kernel")` is the
            new shape of a weight; `sizes.inputs` and `sizes.outputs` are the new shapes of the tensors.
            Defaults to None: the configuration stays the same, and `build` sees the smaller inputs.

    Returns: The decorator. It returns the function unchanged.

    Raises:
        ArgumentTypeError: An argument is not a layer class, or there is none.

    Example:
    >>> class Widen(keras.layers.Layer):
    ...     def __init__(self, units, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.units = units
    ...     def build(self, shape):
    ...         self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
    ...         self.shift = self.add_weight(shape=(self.units,), name="shift")
    ...     def call(self, x):
    ...         return x @ self.kernel + self.shift
    ...     def get_config(self):
    ...         return {**super().get_config(), "units": self.units}
    >>> def smaller(layer, config, sizes):
    ...     return {**config, "units": sizes.weight("kernel")[-1]}
    >>> @register_rule(Widen, config=smaller)
    ... def widen(layer, channels, x):
    ...     channels.reads(layer, "kernel", 0, x[-1])
    ...     new_labels = channels.makes(layer, "kernel", 1)
    ...     channels.along(layer, "shift", 0, new_labels)
    ...     return x.along(channels.shape, -1, new_labels)
    >>> model = keras.Sequential([keras.Input((4,)), Widen(6, name="a"), keras.layers.Dense(2, name="b")])
    >>> channel_groups(model)
    a: 6 channels
      out   a/kernel axis 1
      along a/shift axis 0
      in    b/kernel axis 0
    b: all channels stay, because they are those of the network's output.
    """
    function = callable(config) and not isinstance(config, (type, keras.layers.Layer))
    if config is not None and not (function and annotated.takes(config, 3)):
        raise ArgumentTypeError(
            "`config` must be a function of three arguments, (layer, config, sizes) -> config, or None. "
            f"Received: {config!r}."
        )
    check_layer_classes(layer_classes, "register_rule")

    def register(rule: Rule) -> Rule:
        check_rule(rule, "register_rule", "(layer, channels, x)")
        for cls in layer_classes:
            _LAYERS[cls] = Entry(rule, config)
        return rule

    return register


def check_layer_classes(classes: tuple[Any, ...], decorator: str) -> None:
    """Raise `ArgumentTypeError` unless there is at least one class and all are layer classes."""
    text = f"`{decorator}` takes subclasses of `keras.layers.Layer`"
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
            raise ArgumentTypeError(f"{text}. Received: {cls!r}.")
    if not classes:
        raise ArgumentTypeError(f"{text}: those that the rule is for. Received none.")


def _under_names(
    entries: dict[str, Entry], names: tuple[str, ...], config: Config | None
) -> Callable[[Rule], Rule]:
    """Return a decorator that enters a rule under names."""

    def register(rule: Rule) -> Rule:
        for name in names:
            entries[name] = Entry(rule, config)
        return rule

    return register


def register_operation_rule(*names: str, config: Config | None = None) -> Callable[[Rule], Rule]:
    """Register the rule of `keras.ops` operations, by the names of their classes.

    Args:
        *names: Names of operation classes, such as 'Add'.
        config: As in `register_rule`. Defaults to None.
    """
    return _under_names(_OPERATIONS, names, config)


def register_hidden_rule(*names: str, config: Config | None = None) -> Callable[[Rule], Rule]:
    """Register the rule of layers of Keras or KerasHub that have no public name.

    Args:
        *names: Module and class of each, such as 'keras.src.applications.convnext.LayerScale'.
        config: As in `register_rule`. Defaults to None.
    """
    return _under_names(_HIDDEN, names, config)


def entry_of(operation: keras.Operation) -> Entry | None:
    """Return the rule of a layer or operation, or None.

    A subclass follows the rule of its parent unless it defines `call`.
    """
    if isinstance(operation, keras.layers.Layer):
        for cls in type(operation).__mro__:
            if cls in _LAYERS:
                return _LAYERS[cls]
            hidden = _HIDDEN.get(f"{cls.__module__}.{cls.__name__}")
            if hidden is not None:
                return hidden
            if "call" in vars(cls):
                return None
        return None
    if isinstance(operation, Sized):
        return _OPERATIONS["Sized"]
    cls = type(operation)
    if not cls.__module__.startswith(("keras.src.ops", "keras.src.activations")):
        return None
    return _OPERATIONS.get(cls.__name__) or _OPERATIONS.get(UNLISTED)
