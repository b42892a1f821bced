"""Rules for the multiply-accumulates of Keras's layers and operations, one small function per kind.

Each returns products of sizes; `register_macs` explains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras import layers

from keras_ganprune.pruning.structured.rules.macs import (
    Products,
    Seen,
    Size,
    register_macs,
    register_operation_macs,
)


def _places(layer: Any, size: Size) -> Size:
    """Return all sizes of an image-like tensor except that of its channels."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return size[:1] + size[2:] if first else size[:-1]


def _times(products: Products, *sizes: Any) -> Products:
    """Return products with further factors."""
    return None if products is None else [product + list(sizes) for product in products]


@register_macs(layers.Dense)
def _dense(layer, seen, x, *_, **__):
    return [seen.kernel(layer, "kernel") + x[:-1]]


@register_macs(
    layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D
)
def _conv(layer, seen, x, *_, **__):
    # The kernel of a grouped convolution has only the inputs of one group.
    return [seen.kernel(layer, "kernel") + _places(layer, seen.outputs[0])]


@register_macs(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def _transposed_conv(layer, seen, x, *_, **__):
    # Every place of the input is multiplied by the whole kernel.
    return [seen.kernel(layer, "kernel") + _places(layer, x)]


@register_macs(layers.SeparableConv1D, layers.SeparableConv2D)
def _separable_conv(layer, seen, x, *_, **__):
    places = _places(layer, seen.outputs[0])
    names = ("depthwise_kernel", "pointwise_kernel")
    return [seen.kernel(layer, name) + places for name in names]


def _letters(terms: Sequence[str], sizes: Sequence[Size]) -> Size:
    """Return the size of every letter of an equation, once."""
    size_of: dict[str, Any] = {}
    for term, size in zip(terms, sizes, strict=True):
        before, dots, after = term.partition("...")
        hidden = len(size) - len(before) - len(after) if dots else 0
        # Axes behind the dots are aligned at the right.
        letters = [*before, *(f"-{i}" for i in range(hidden, 0, -1)), *after]
        for letter, n in zip(letters, size, strict=True):
            known = size_of.get(letter, 1)
            # An axis of length one is broadcast over others.
            if known is None or (isinstance(known, int) and known == 1):
                size_of[letter] = n
    return list(size_of.values())


@register_macs(layers.EinsumDense)
def _einsum_dense(layer, seen, x, *_, **__):
    terms = layer.equation.replace(" ", "").split("->")[0].split(",")
    return [_letters(terms, [x, seen.kernel(layer, "kernel")])]


def _step(cell: Any, seen: Seen, x: Size) -> list[Size]:
    """Return the products of a recurrent cell in one step."""
    return [seen.kernel(cell, name) + x[:1] for name in ("kernel", "recurrent_kernel")]


@register_macs(layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
def _cell(layer, seen, x, *_, **__):
    return _step(layer, seen, x)


@register_macs(layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN)
def _recurrent(layer, seen, x, *_, **__):
    products = []
    for cell in getattr(layer.cell, "cells", [layer.cell]):
        if not isinstance(cell, (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)):
            return None
        products += _step(cell, seen, x)
    return _times(products, x[1])


@register_macs(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
def _conv_lstm(layer, seen, x, *_, **__):
    out = seen.outputs[0]
    places = _places(layer, out[:1] + out[2:] if layer.return_sequences else out)
    names = ("cell.kernel", "cell.recurrent_kernel")
    return _times([seen.kernel(layer, name) + places for name in names], x[1])


@register_macs(layers.Bidirectional)
def _bidirectional(layer, seen, *args, **kwargs):
    forward = seen.count(layer.forward_layer, seen, args, kwargs)
    backward = seen.count(layer.backward_layer, seen, args, kwargs)
    return None if forward is None or backward is None else forward + backward


@register_macs(layers.SpectralNormalization)
def _spectral_normalization(layer, seen, *args, **kwargs):
    return seen.count(layer.layer, seen, args, {})


@register_macs(layers.TimeDistributed)
def _time_distributed(layer, seen, x, *_, **__):
    step = replace(seen, outputs=[out[:1] + out[2:] for out in seen.outputs])
    return _times(seen.count(layer.layer, step, (x[:1] + x[2:],), {}), x[1])


@register_macs(layers.MultiHeadAttention, layers.GroupQueryAttention)
def _multi_head_attention(layer, seen, query, value, key=None, *_, **__):
    """The projections, and two products for each pair of places."""
    key = value if key is None else key
    kernels = {part: seen.kernel(layer, f"_{part}_dense.kernel") for part in ("query", "value")}
    products = [kernels["query"] + query[:-1], kernels["value"] + value[:-1]]
    products.append(seen.kernel(layer, "_key_dense.kernel") + key[:-1])
    products.append(seen.kernel(layer, "_output_dense.kernel") + query[:-1])
    if getattr(layer, "_gate_dense", None) is not None:
        products.append(seen.kernel(layer, "_gate_dense.kernel") + query[:-1])
    # Private touch: the attention axes are not public in all versions. Other axes are like a batch.
    axes = getattr(layer, "_attention_axes", None) or range(1, len(query) - 1)
    axes = [axis % len(query) for axis in axes]
    pairs = query[:-1] + [key[axis] for axis in axes]
    heads, width = kernels["query"][-2:]
    return [*products, [*pairs, heads, width], [*pairs, heads, kernels["value"][-1]]]


@register_macs(layers.Attention, layers.AdditiveAttention)
def _attention(layer, seen, inputs, *_, **__):
    query, value = inputs[:2]
    pairs = [*query[:-1], value[-2]]
    return [[*pairs, query[-1]], [*pairs, value[-1]]]


@register_macs(layers.Dot)
def _dot(layer, seen, inputs, *_, **__):
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return [seen.outputs[0] + [inputs[0][axis]]]


@register_operation_macs("Matmul", "Dot", "Inner")
def _matmul(operation, seen, x1, x2, **_):
    both = isinstance(x1, list) and isinstance(x2, list) and x1 and x2
    return [seen.outputs[0] + x1[-1:]] if both else []


@register_operation_macs("Tensordot")
def _tensordot(operation, seen, x1, x2, **_):
    axes = operation.axes
    axes = range(len(x1) - axes, len(x1)) if isinstance(axes, int) else axes[0]
    axes = [axes] if isinstance(axes, int) else axes
    return [seen.outputs[0] + [x1[axis] for axis in axes]]


@register_operation_macs("Einsum")
def _einsum(operation, seen, *operands, **_):
    if len(operands) != 2:
        # The cost of three operands depends on the order in which they are multiplied.
        return [] if len(operands) == 1 else None
    return [_letters(operation.subscripts.replace(" ", "").split("->")[0].split(","), operands)]


@register_operation_macs("Conv", "DepthwiseConv", "SeparableConv")
def _conv_operation(operation, seen, x, *kernels, **named):
    return [kernel + _places(operation, seen.outputs[0]) for kernel in (*kernels, *named.values())]


@register_operation_macs("ConvTranspose")
def _transposed_conv_operation(operation, seen, x, kernel, **_):
    return [kernel + _places(operation, x)]


@register_operation_macs("DotProductAttention")
def _dot_product_attention(operation, seen, query, key, value, *_, **__):
    return [[*query, key[1]], [*query[:-1], value[-1], key[1]]]
