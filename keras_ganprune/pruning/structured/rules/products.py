"""Rules of products of tensors. Channels pass where one of the two is a weight of the layer around them."""

from __future__ import annotations

import string
from typing import Any

from keras_ganprune.pruning.structured.channels import IN, OUT, STATE, Axes, Channels
from keras_ganprune.pruning.structured.rules.registry import register_operation_rule


# Keras gives the output of `dot_product_attention` the shape of the query, also where the value is cut.
@register_operation_rule("Matmul", "Einsum", "Dot", "Tensordot", "DotProductAttention")
def products(operation, channels, *operands, **kwargs):
    """A kernel reads the channels along the axis that is summed, and makes those of its other axis.

    In a product of two tensors without weights all channels stay.
    """
    equation = _equation(operation, channels, operands)
    if equation is None or not any(isinstance(x, Axes) and x.weight for x in operands):
        for x in operands:
            if isinstance(x, Axes):
                channels.fix(x, f"'{operation.name}' is a product with them")
        outputs = [Axes.fixed(shape) for shape in channels.shapes]
        return outputs if len(outputs) > 1 else outputs[0]
    terms, output = equation
    labels: dict[str, Any] = {}
    for letter in sorted({letter for term in terms for letter in term}):
        pairs = zip(operands, terms, strict=True)
        met = [(x, x[term.index(letter)]) for x, term in pairs if letter in term]
        _meet(channels, operation, met, letter in output)
        labels[letter] = next((row for _, row in met if row is not None), None)
    zero = all(x.zero for x in operands)
    return Axes(tuple(channels.shape), tuple(labels[letter] for letter in output), zero)


def _meet(channels: Channels, operation: Any, met: list[tuple[Axes, Any]], stays: bool) -> None:
    """Tie the channels of the operands along one letter; `stays` if it is not summed over."""
    rows = [row for _, row in met]
    weights = [w for x, row in met if x.weight and (w := channels.followed_weight(row)) is not None]
    if not stays and not weights:
        for row in rows:
            channels.fix(row, f"'{operation.name}' sums over them")
        return
    if any(row is not None for row in rows):
        for row in rows[1:]:
            channels.tie(rows[0], row)
    for weight in weights:
        if weight.role == STATE:
            continue
        if stays and len(met) == 1:
            weight.role = OUT
        elif not stays and weight.role != OUT:  # a kernel that also makes channels
            weight.role = IN


def _equation(
    operation: Any, channels: Channels, operands: tuple[Any, ...]
) -> tuple[list[str], str] | None:
    """Return the letters of the axes of the operands and of the result, or None if not known."""
    if not all(isinstance(x, Axes) for x in operands) or len(channels.shapes) != 1:
        return None
    ranks = [x.rank for x in operands]
    if type(operation).__name__ == "Einsum":
        text = str(operation.subscripts).replace(" ", "")
        if "->" not in text or "." in text:
            return None
        left, output = text.split("->")
        terms = left.split(",")
        if [len(term) for term in terms] != ranks or any(len(set(t)) < len(t) for t in terms):
            return None
        return terms, output
    if type(operation).__name__ != "Matmul" or min(ranks) < 2:
        return None
    batch = string.ascii_uppercase[: max(ranks) - 2]
    ends = zip(ranks, ("ik", "kj"), strict=True)
    terms = [batch[len(batch) - (rank - 2) :] + end for rank, end in ends]
    for place in range(len(batch)):
        sizes = {x.shape[-3 - place] for x in operands if x.rank > 2 + place}
        if len(sizes) > 1:
            return None
    return terms, batch + "ij"


@register_operation_rule("Conv", "ConvTranspose", "DepthwiseConv")
def convolution(operation, channels, x, kernel):
    """A kernel of the layer around it reads the channels of the image and makes others."""
    kind = type(operation).__name__
    name = f"'{operation.name}'"
    known = isinstance(x, Axes) and isinstance(kernel, Axes) and kernel.weight
    first = operation.data_format == "channels_first"
    reads, makes = (-1, -2) if kind == "ConvTranspose" else (-2, -1)
    same = known and x.shape[1 if first else -1] == kernel.shape[reads]
    if not same or (kind == "DepthwiseConv" and kernel.shape[-1] != 1):
        for operand in (x, kernel):
            if isinstance(operand, Axes):
                channels.fix(operand, f"{name} is a product with them")
        return Axes.fixed(channels.shape)
    axis = 1 if first else x.rank - 1
    labels = channels.keeps_only(x, axis, f"{name} runs over them")
    for place in range(kernel.rank - 2):
        channels.fix(kernel[place], f"{name} runs over them")
    _meet(channels, operation, [(x, labels), (kernel, kernel[reads])], kind == "DepthwiseConv")
    if kind == "DepthwiseConv":
        channels.fix(kernel[-1], f"{name} has one filter for each channel")
        return x.along(channels.shape, axis, kernel[reads])
    _meet(channels, operation, [(kernel, kernel[makes])], True)
    return x.along(channels.shape, axis, kernel[makes], zero=True)


@register_operation_rule("Take")
def take(operation, channels, x, indices, *others, **kwargs):
    """Places are picked along one axis; the channels of the others pass, such as those of an embedding."""
    axis = operation.axis
    rank = len(channels.shape)
    if axis is None or not isinstance(x, Axes):
        for operand in (x, indices):
            if isinstance(operand, Axes):
                channels.fix(operand, f"'{operation.name}' picks some of them")
        return Axes.fixed(channels.shape)
    axis %= x.rank
    channels.fix(x[axis], f"'{operation.name}' picks some of them")
    if isinstance(indices, Axes):
        channels.fix(indices, f"'{operation.name}' takes them as places")
    front, back = x.labels[:axis], x.labels[axis + 1 :]
    between: list[Any] = [None] * (rank - len(front) - len(back))
    for row in (*front, *back):
        weight = channels.followed_weight(row) if x.weight else None
        if weight is not None and weight.role != STATE:
            weight.role = OUT
    return Axes(tuple(channels.shape), (*front, *between, *back), x.zero)
