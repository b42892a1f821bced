"""How channels pass through recurrent layers and attention."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_ganprune.pruning.structured.channels import Axes
from keras_ganprune.pruning.structured.rules.layers import activated, stays
from keras_ganprune.pruning.structured.rules.registry import register_rule


def _units(layer, config, sizes):
    return {**config, "units": sizes.weight("cell.recurrent_kernel")[0]}


def _recurrent(layer, channels, x, initial_state=None, mask=None, training=None):
    """A unit has a column in every gate, and is read again at the next step."""
    cell = layer.cell
    gates = cell.kernel.shape[1] // cell.units
    channels.reads(layer, "cell.kernel", 0, channels.keeps_only(x, -1, "they are steps in time"))
    columns = channels.makes(layer, "cell.kernel", 1)
    made = columns[: cell.units]
    channels.tie(np.tile(made, gates), columns)
    channels.tie(channels.makes(layer, "cell.recurrent_kernel", 1), columns)
    channels.reads(layer, "cell.recurrent_kernel", 0, made)
    channels.along(layer, "cell.bias", -1, columns)
    states = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
    for state in states:
        if isinstance(state, Axes):
            channels.tie(made, state[-1])
    # The state of a unit begins at zero, and stays there if the candidate is zero.
    probe = activated(channels, cell.activation, Axes((None, cell.units), (None, made)))
    outputs = [
        Axes.fixed(shape).along(shape, -1, made, zero=probe.zero and initial_state is None)
        for shape in channels.shapes
    ]
    return outputs if len(outputs) > 1 else outputs[0]


register_rule(layers.LSTM, layers.GRU, layers.SimpleRNN, config=_units)(_recurrent)


def _heads(layer, config, sizes):
    shape = sizes.weight("_output_dense.kernel")
    if len(shape) != 3:
        return config
    return {
        **config,
        "num_heads": sizes.weight("_query_dense.kernel")[1],
        # Left open, it would be the width of the query.
        "output_shape": [shape[-1]],
    }


@register_rule(layers.MultiHeadAttention, config=_heads)
def multi_head_attention(
    layer,
    channels,
    query,
    value,
    key=None,
    query_mask=None,
    value_mask=None,
    key_mask=None,
    attention_mask=None,
    return_attention_scores=False,
    training=None,
    use_causal_mask=False,
):
    """Whole heads go, and channels of what comes in and out."""
    if query.rank != 3 or len(layer._output_dense.kernel.shape) != 3 or return_attention_scores:
        given = [x for x in (query, value, key) if x is not None]
        return stays(layer, channels, *given)
    key = value if key is None else key
    for x, part in ((query, "query"), (key, "key"), (value, "value")):
        read = channels.keeps_only(x, -1, "they are places in a sequence")
        channels.reads(layer, f"_{part}_dense.kernel", 0, read)
    heads = channels.makes(layer, "_query_dense.kernel", 1)
    for part in ("key", "value"):
        channels.tie(channels.makes(layer, f"_{part}_dense.kernel", 1), heads)
    for part in ("query", "key", "value"):
        channels.along(layer, f"_{part}_dense.bias", 0, heads)
    channels.reads(layer, "_output_dense.kernel", 0, heads)
    made = channels.makes(layer, "_output_dense.kernel", 2)
    channels.along(layer, "_output_dense.bias", 0, made)
    return query.along(channels.shape, -1, made, zero=True)


# Keras has it since 3.9. Its mean square is over masked channels too.
_NEWER = [getattr(layers, name) for name in ("RMSNormalization",) if hasattr(layers, name)]

register_rule(
    *_NEWER,
    layers.GroupQueryAttention,
    layers.Attention,
    layers.AdditiveAttention,
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
    layers.Bidirectional,
    layers.RNN,
)(stays)
