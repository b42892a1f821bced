"""The rule of layers that mix their channels: all channels stay."""

from __future__ import annotations

import keras
from keras import layers

from keras_ganprune.pruning.structured.channels import Axes
from keras_ganprune.pruning.structured.graph import leaves
from keras_ganprune.pruning.structured.rules.registry import register_rule

# Keras has it since 3.9. Its mean square is over masked channels too.
_NEWER = [getattr(layers, name) for name in ("RMSNormalization",) if hasattr(layers, name)]


@register_rule(
    *_NEWER,
    layers.Dot,
    layers.Attention,
    layers.AdditiveAttention,
    layers.GroupQueryAttention,
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
    layers.Bidirectional,
    layers.RNN,
)
def all_stay(layer: keras.Operation, channels, *inputs, **kwargs):
    """All channels of all inputs stay: the layer mixes them, or has no rule yet."""
    for x in leaves((inputs, kwargs)):
        if isinstance(x, Axes):
            channels.fix(x, f"'{layer.name}' ({type(layer).__name__}) mixes them")
    outputs = [Axes.fixed(shape) for shape in channels.shapes]
    return outputs if len(outputs) > 1 else outputs[0]
