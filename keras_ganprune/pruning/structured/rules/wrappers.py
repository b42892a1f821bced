"""Rules of layers that wrap another layer."""

from __future__ import annotations

import dataclasses

from keras import layers

from keras_ganprune.pruning.structured.rules.elementwise import IDENTITIES
from keras_ganprune.pruning.structured.rules.mixing import all_stay
from keras_ganprune.pruning.structured.rules.registry import entry_of, register_rule


def _wrapper_config(layer, config, sizes):
    """Return the configuration of a wrapper whose inner layer is cut."""
    entry = entry_of(layer.layer)
    if entry is None:
        return config
    weight = sizes.weight
    # The inner layer names its weights without the wrapper.
    sizes = dataclasses.replace(sizes, weight=lambda name: weight(f"layer.{name}"))
    # The wrapper builds the inner layer; the old `build_config` has the old shape.
    inner = {k: v for k, v in config["layer"].items() if k != "build_config"}
    if entry.config is not None:
        inner["config"] = entry.config(layer.layer, inner["config"], sizes)
    return {**config, "layer": inner}


def _inner_rule(layer):
    entry = entry_of(layer.layer)
    return all_stay if entry is None else entry.rule


@register_rule(layers.SpectralNormalization, config=_wrapper_config)
def spectral_normalization(layer, channels, x):
    """As the inner layer, with a state along the last axis of the kernel."""
    outputs = _inner_rule(layer)(layer.layer, channels, x)
    # In a transposed convolution, the last axis of the kernel runs over the input channels.
    channels.state(layer, "vector_u", -1, channels.labels_of(layer.kernel, -1))
    return outputs


@register_rule(layers.TimeDistributed, config=_wrapper_config)
def time_distributed(layer, channels, x, training=None, mask=None):
    """As the inner layer, where that does not depend on the rank of its input."""
    channels.fix(x[1], "they are steps in time")
    if not isinstance(layer.layer, (layers.Dense, *IDENTITIES)):
        # The rules of other layers count axes, and the inner layer has one axis fewer than `x`.
        return all_stay(layer, channels, x)
    return _inner_rule(layer)(layer.layer, channels, x)
