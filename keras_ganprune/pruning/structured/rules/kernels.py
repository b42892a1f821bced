"""Rules of layers with kernels: dense layers, convolutions and embeddings."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_ganprune.pruning.structured.channels import Axes, Channels, channel_axis
from keras_ganprune.pruning.structured.rules.elementwise import activated
from keras_ganprune.pruning.structured.rules.registry import register_rule

# --- dense layers ------------------------------------------------------------------------------------


def _dense_config(layer, config, sizes):
    return {**config, "units": sizes.weight("kernel")[-1]}


@register_rule(layers.Dense, config=_dense_config)
def dense(layer, channels, x):
    """Axis 0 of the kernel reads the last axis of the input; axis 1 makes channels."""
    read = channels.keeps_only(x, -1, f"'{layer.name}' runs over them")
    channels.reads(layer, "kernel", 0, read)
    new_labels = channels.makes(layer, "kernel", 1)
    channels.along(layer, "bias", 0, new_labels)
    return activated(channels, layer.activation, x.along(channels.shape, -1, new_labels, zero=True))


def _einsum_config(layer, config, sizes):
    # `output_shape` may have fewer entries than there are axes, and None where it follows the input.
    old = config["output_shape"]
    old = (old,) if isinstance(old, int) else tuple(old)
    new = sizes.outputs[0][len(sizes.outputs[0]) - len(old) :]
    shape = [None if n is None else size for n, size in zip(old, new, strict=True)]
    return {**config, "output_shape": shape}


@register_rule(layers.EinsumDense, config=_einsum_config)
def einsum_dense(layer, channels, x):
    """Every letter of the equation is an axis: read, made, or passed on."""
    left, kernel, output = layer.equation.replace(" ", "").replace("->", ",").split(",")
    left, output = _without_dots(left, x.rank), _without_dots(output, len(channels.shape))
    labels: list[np.ndarray | None] = [None] * len(output)
    for axis, letter in enumerate(left):
        if letter in kernel:
            channels.reads(layer, "kernel", kernel.index(letter), x[axis])
        elif letter not in output:
            channels.fix(x[axis], f"'{layer.name}' sums over them")
        if letter in output:
            labels[output.index(letter)] = x[axis]
    # Of several new axes, such as heads and their width, only the last is cut.
    new = [letter for letter in output if letter in kernel and letter not in left]
    for letter in new[-1:]:
        labels[output.index(letter)] = channels.makes(layer, "kernel", kernel.index(letter))
    bias_axes = (getattr(layer, "bias_axes", None) or "").replace(" ", "")
    for letter in bias_axes:
        # The bias has an axis of length one for a letter that `bias_axes` skips, so count from the end.
        axis = output.index(letter) - len(output)
        if labels[axis] is not None:
            channels.along(layer, "bias", axis, labels[axis])
    return activated(channels, layer.activation, Axes(channels.shape, tuple(labels), True))


def _without_dots(term: str, rank: int) -> str:
    """Return a term of an equation with a letter for each axis that '...' stands for."""
    missing = rank - len(term.replace("...", ""))
    return term.replace("...", "".join(chr(0x100 + i) for i in range(missing)))


# --- convolutions ------------------------------------------------------------------------------------


def _conv_config(layer, config, sizes):
    return {**config, "filters": sizes.weight("kernel")[-1]}


@register_rule(layers.Conv1D, layers.Conv2D, layers.Conv3D, config=_conv_config)
def conv(layer, channels, x):
    """The last axis but one of the kernel reads; the last axis makes channels."""
    axis = channel_axis(layer, x)
    read = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    read = _across_groups(channels, read, layer.groups)
    channels.reads(layer, "kernel", -2, read)
    new_labels = channels.makes(layer, "kernel", -1)
    _across_groups(channels, new_labels, layer.groups)
    channels.along(layer, "bias", 0, new_labels)
    return activated(
        channels, layer.activation, x.along(channels.shape, axis, new_labels, zero=True)
    )


def _across_groups(channels: Channels, labels: np.ndarray | None, groups: int) -> np.ndarray | None:
    """Tie the channels at equal places of the groups of a convolution; return those of the first."""
    if groups == 1 or labels is None:
        return labels
    rows = labels.reshape(groups, -1)
    channels.tie(np.tile(rows[0], groups), labels)
    return rows[0]


def _transposed_config(layer, config, sizes):
    return {**config, "filters": sizes.weight("kernel")[-2]}


@register_rule(
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    config=_transposed_config,
)
def transposed_conv(layer, channels, x):
    """The last axis of the kernel reads; the last axis but one makes channels."""
    axis = channel_axis(layer, x)
    read = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    channels.reads(layer, "kernel", -1, read)
    new_labels = channels.makes(layer, "kernel", -2)
    channels.along(layer, "bias", 0, new_labels)
    return activated(
        channels, layer.activation, x.along(channels.shape, axis, new_labels, zero=True)
    )


@register_rule(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise_conv(layer, channels, x):
    """Each input channel has a filter, and becomes `depth_multiplier` output channels."""
    axis = channel_axis(layer, x)
    labels = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    channels.along(layer, "kernel", -2, labels)
    new_labels = _repeated(labels, layer.depth_multiplier)
    channels.along(layer, "bias", 0, new_labels)
    return activated(
        channels, layer.activation, x.along(channels.shape, axis, new_labels, zero=True)
    )


def _repeated(labels: np.ndarray | None, times: int) -> np.ndarray | None:
    return None if labels is None else np.repeat(labels, times)


def _separable_config(layer, config, sizes):
    return {**config, "filters": sizes.weight("pointwise_kernel")[-1]}


@register_rule(layers.SeparableConv1D, layers.SeparableConv2D, config=_separable_config)
def separable_conv(layer, channels, x):
    """A depthwise convolution, and a convolution that reads its output and makes channels."""
    axis = channel_axis(layer, x)
    labels = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    channels.along(layer, "depthwise_kernel", -2, labels)
    channels.reads(layer, "pointwise_kernel", -2, _repeated(labels, layer.depth_multiplier))
    new_labels = channels.makes(layer, "pointwise_kernel", -1)
    channels.along(layer, "bias", 0, new_labels)
    return activated(
        channels, layer.activation, x.along(channels.shape, axis, new_labels, zero=True)
    )


# --- embeddings --------------------------------------------------------------------------------------


def _embedding_config(layer, config, sizes):
    return {**config, "output_dim": sizes.weight("embeddings")[-1]}


@register_rule(layers.Embedding, config=_embedding_config)
def embedding(layer, channels, x):
    """Axis 1 of the table makes channels. The entries of the input are rows of the table."""
    channels.fix(x, f"'{layer.name}' looks them up in its table")
    new_labels = channels.makes(layer, "embeddings", 1)
    return Axes.fixed(channels.shape).along(channels.shape, -1, new_labels)


# Keras has it since 3.13.
_NEWER = [getattr(layers, name) for name in ("ReversibleEmbedding",) if hasattr(layers, name)]


@register_rule(*_NEWER, config=_embedding_config)
def reversible_embedding(layer, channels, x, reverse=False):
    """As an embedding. In reverse, the same axis of the table, or one of a second one, reads."""
    if not reverse:
        return embedding(layer, channels, x)
    read = channels.keeps_only(x, -1, f"'{layer.name}' runs over them")
    name, axis = ("embeddings", 1) if layer.tie_weights else ("reverse_embeddings", 0)
    channels.reads(layer, name, axis, read)
    return Axes.fixed(channels.shape)
