"""What helps where channels reach layers without a rule: what to keep, and the rule to write."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.traversal import walk
from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.graph import Call, leaves
from keras_ganprune.pruning.structured.rules.observed import observed_call
from keras_ganprune.utils import validation

_SHOWN = 3


def not_followed(
    model: keras.layers.Layer, calls: Sequence[Call], channels: Channels
) -> UnsupportedLayerError:
    """Return the error for calls of layers without a rule. It names each class once.

    Args:
        model: The network.
        calls: The calls that channels reach.
        channels: The channels of the network.
    """
    by_class: dict[type, dict[str, Call]] = {}
    for call in calls:
        by_class.setdefault(type(call.operation), {}).setdefault(call.path, call)
    texts, keep = [], []
    for cls, found in by_class.items():
        selected = _selector(model, list(found), cls)
        texts.append(_of_class(list(found.values()), channels, selected))
        keep += (
            list(found)
            if isinstance(selected, type)
            else validation.entries(selected) or [selected]
        )
    error = UnsupportedLayerError("\n".join(texts))
    error.keep = tuple(keep)
    return error


def _of_class(calls: list[Call], channels: Channels, selected: str | list[str] | type) -> str:
    first = calls[0]
    kind = type(first.operation).__name__
    others = f" and {len(calls) - 1} more" if len(calls) > 1 else ""
    inside = f" Its inside is not known either: {first.opaque}." if first.opaque else ""
    keep = f'"{selected}"' if isinstance(selected, str) else getattr(selected, "__name__", selected)
    rule = rule_to_write(first.operation, first, channels)
    return (
        f"Channels cannot be followed through {kind} '{first.path}'{others}: there is no rule for it."
        f"{inside} Register one with `register_rule({kind})`, or leave it alone with `keep={keep}` (in "
        "`Prune`, with a `scope` of other layers); then all channels that reach it stay."
        + (f" The rule to write:\n{rule}" if rule else "")
    )


def _selector(model: keras.layers.Layer, paths: list[str], cls: type) -> str | list[str] | type:
    """Return what selects all layers of a class and no other: a pattern, their paths, or the class."""
    layers = walk(model)[1:]
    stem = paths[0]
    if len(paths) == 1:
        # A name that Keras made is a pattern, which also holds for the next layer of the class.
        name = re.sub(
            r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", cls.__name__)
        )
        stem = name.lower() if stem.rpartition("/")[2].startswith(name.lower()) else ""
    while stem:
        try:
            found = scopes.select(layers, f"{stem}*", "keep")
        except InvalidArgumentError:  # the name has characters that have a meaning in patterns
            break
        if any(not isinstance(layer, cls) for _, layer in found):
            break
        if set(paths) <= {path for path, _ in found}:
            return f"{stem}*"
        stem = stem[:-1]
    return paths if len(paths) <= _SHOWN else cls


def rule_to_write(
    layer: Any, call: Call | None = None, channels: Channels | None = None
) -> str | None:
    """Return a `register_rule` for a layer.

    The kernels of the layer read the last axis but one and make the last. A layer without weights is run, to
    see what it does to its channels.

    Args:
        layer: Built layer without a rule.
        call: A call of it. Defaults to None: not known.
        channels: The channels of the network, if there is a call.

    Returns: The code, or None if the layer mixes its channels, so that no rule would help.
    """
    names = {id(v): name for name, v in vars(layer).items() if isinstance(v, keras.Variable)}
    weights = [(names[id(w)], len(w.shape), w.trainable) for w in layer.weights if id(w) in names]
    kernels = [name for name, rank, _ in weights if rank > 1]
    begin = f"@kgp.register_rule({type(layer).__name__})"
    if not layer.weights:
        body = None if call is None or channels is None else _seen(call, channels)
        return None if body is None else "\n".join([begin, *body])
    lines = [
        f"{begin}  # with `config=` if its size is an argument",
        "def rule(layer, channels, x):",
    ]
    if kernels:
        lines += [
            f'    channels.reads(layer, "{kernels[0]}", -2, x[-1])',
            f'    new = channels.makes(layer, "{kernels[0]}", -1)',
        ]
    labels = "new" if kernels else "x[-1]"
    lines += [
        f'    channels.{"along" if trainable else "state"}(layer, "{name}", 0, {labels})'
        for name, rank, trainable in weights
        if rank == 1
    ]
    lines.append("    return x.along(channels.shape, -1, new)" if kernels else "    return x")
    return "\n".join(lines)


def _seen(call: Call, channels: Channels) -> list[str] | None:
    """Return the lines of the rule of a layer without weights, by what it does to channels of its own."""
    inputs = call.inputs
    if len(inputs) != 1 or len(call.outputs) != 1 or leaves(call.args)[:1] != inputs:
        return None
    (x,), (y,) = inputs, call.outputs
    name = next(iter(inspect.signature(call.operation.call).parameters), "inputs")
    begin = f"def rule(layer, channels, {name}):"
    if len(x.shape) != len(y.shape) or x.shape[-1] != y.shape[-1] or x.shape[-1] is None:
        return None
    scratch = Channels(call=call)
    labels = scratch.units.new(x.shape[-1])
    axes = Axes.fixed(x.shape).along(x.shape, -1, labels)
    kwargs = {key: value for key, value in call.kwargs.items() if key not in ("training", "mask")}
    result = observed_call(call.operation, scratch, (axes, *call.args[1:]), kwargs)
    if isinstance(result, list) or result[-1] is None:
        return None
    if result.zero:
        return [begin, f"    return {name}"]
    return [begin, f"    return {name}.along(channels.shape, -1, {name}[-1], zero=False)"]
