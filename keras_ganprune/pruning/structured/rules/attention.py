"""The rule of multi-head attention."""

from __future__ import annotations

from keras import layers

from keras_ganprune.pruning.structured.rules.mixing import all_stay
from keras_ganprune.pruning.structured.rules.registry import register_rule


def _attention_config(layer, config, sizes):
    shape = sizes.weight("_output_dense.kernel")
    if len(shape) != 3:
        return config
    return {
        **config,
        "num_heads": sizes.weight("_query_dense.kernel")[1],
        # By default it would be the width of the query.
        "output_shape": [shape[-1]],
    }


@register_rule(layers.MultiHeadAttention, config=_attention_config)
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
    """A head is removed as a whole; the channels of the inputs and the output are single."""
    if query.rank != 3 or len(layer._output_dense.kernel.shape) != 3 or return_attention_scores:
        return all_stay(layer, channels, *(x for x in (query, value, key) if x is not None))
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
    new_labels = channels.makes(layer, "_output_dense.kernel", 2)
    channels.along(layer, "_output_dense.bias", 0, new_labels)
    return query.along(channels.shape, -1, new_labels, zero=True)
