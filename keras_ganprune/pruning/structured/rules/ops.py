"""Rules of `keras.ops` operations in functional models: arithmetic, reductions, shapes.

An operation has its arguments as attributes, or gets them with the call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from keras import ops

from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.rules.merging import concatenated, merged
from keras_ganprune.pruning.structured.rules.observed import observed_call
from keras_ganprune.pruning.structured.rules.registry import UNLISTED, register_operation_rule
from keras_ganprune.pruning.structured.rules.shapes import reshaped, transposed


def _argument(operation: Any, name: str, value: Any) -> Any:
    """Return an argument of the call, or if it is None the attribute of the operation."""
    return getattr(operation, name, value) if value is None else value


def _tuple(axes: Any) -> tuple[int, ...]:
    """Return one axis or several as a tuple."""
    return tuple(axes) if isinstance(axes, (list, tuple)) else (axes,)


# --- elementwise operations --------------------------------------------------------------------------


@register_operation_rule(UNLISTED)
def unlisted(operation, channels, *args, **kwargs):
    """Channels pass along each axis on which the operation works on every position by itself."""
    return observed_call(operation, channels, args, kwargs)


# Operations that map zero to zero.
ZERO_TO_ZERO = (
    "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Swish", "Tanh", "Softsign",
    "SoftShrink", "HardShrink", "TanhShrink", "HardTanh", "HardSilu", "Abs", "Absolute",
    "Negative", "Square", "Sqrt", "Sin", "Sinh", "Arcsinh", "Arctan", "Arctanh", "Expm1", "Log1p", "Sign",
    "Erf", "Cast", "Identity", "StopGradient", "Copy", "Round", "Floor", "Ceil", "Trunc", "Mish",
    "ZerosLike",
)  # fmt: skip
# Operations that map only zero to zero.
_ONLY_ZERO_TO_ZERO = ("Sqrt", "Abs", "Absolute", "Negative", "Square", "Cast")
_ZERO_TO_OTHER = (
    "Sigmoid",
    "HardSigmoid",
    "Softplus",
    "LogSigmoid",
    "Exp",
    "Cos",
    "Cosh",
    "SquarePlus",
    "SparsePlus",
    "OnesLike",
)


@register_operation_rule(*ZERO_TO_ZERO)
def zero_to_zero(operation, channels, x, *others, **kwargs):
    """Channels pass, and a zero stays a zero."""
    nonzero = x.nonzero and type(operation).__name__ in _ONLY_ZERO_TO_ZERO
    return dataclasses.replace(x, nonzero=nonzero)


@register_operation_rule(*_ZERO_TO_OTHER)
def zero_to_other(operation, channels, x, *others, **kwargs):
    """Channels pass, but a zero becomes another number."""
    return Axes(x.shape, x.labels, False)


@register_operation_rule("Rsqrt", "Reciprocal", "Log", "Log2", "Log10")
def defined_without_zero(operation, channels, x):
    """Channels pass if they are not zero where they are masked."""
    if not x.nonzero:
        channels.fix(x, f"'{operation.name}' must not get a zero")
    nonzero = type(operation).__name__ in ("Rsqrt", "Reciprocal")
    return Axes(x.shape, x.labels, False, nonzero=nonzero)


@register_operation_rule("Clip")
def clip(operation, channels, x, x_min=None, x_max=None):
    """Channels pass; a zero stays a zero if it is between the two limits."""
    limits = (_argument(operation, n, v) for n, v in (("x_min", x_min), ("x_max", x_max)))
    low, high = (cast("float", limit) if np.isscalar(limit) else np.nan for limit in limits)
    return Axes(x.shape, x.labels, x.zero and bool(low <= 0 <= high))


def _operand(value: Any) -> Axes:
    """Return an operand as axes; a number or a constant has no channels."""
    return value if isinstance(value, Axes) else Axes.fixed(np.shape(value))


def _is_zero(value: Any) -> bool:
    return value.zero if isinstance(value, Axes) else not np.any(_constant(value))


def _is_never_zero(value: Any) -> bool:
    return value.nonzero if isinstance(value, Axes) else bool(np.all(_constant(value)))


def _constant(value: Any) -> np.ndarray:
    """Return a number, an array or a tensor as an array."""
    return np.asarray(ops.convert_to_numpy(value) if ops.is_tensor(value) else value)


@register_operation_rule("Add", "Subtract", "Maximum", "Minimum")
def add(operation, channels, x1, x2):
    """Channels that meet are tied."""
    operands = [(x, _operand(x)) for x in (x1, x2)]
    constants = [x for x in (x1, x2) if not isinstance(x, Axes)]
    result = merged(
        channels,
        [axes for x, axes in operands if isinstance(x, Axes) or axes.rank],
        all(_is_zero(x) for x in constants),
    )
    if type(operation).__name__ in ("Add", "Subtract"):
        # For example a variance and its epsilon.
        shifted = (_is_zero(x1) and _is_never_zero(x2)) or (_is_never_zero(x1) and _is_zero(x2))
        result = dataclasses.replace(result, nonzero=shifted)
    return result


@register_operation_rule("Multiply")
def multiply(operation, channels, x1, x2):
    """Channels that meet are tied. The product is zero where one of the two is zero."""
    return merged(channels, [_operand(x1), _operand(x2)], either=True)


@register_operation_rule("Divide", "TrueDivide")
def divide(operation, channels, x1, x2):
    """Channels that meet are tied; a divisor that may be zero stays."""
    if isinstance(x2, Axes) and not x2.nonzero:
        channels.fix(x2, "something is divided by them, which must not be by zero")
    # The quotient is zero where the dividend is zero, whatever the divisor is.
    return merged(
        channels, [_operand(x1), dataclasses.replace(_operand(x2), zero=False)], either=True
    )


@register_operation_rule("Power")
def power(operation, channels, x1, x2):
    """Channels pass if the exponent is a positive number."""
    positive = bool(np.isscalar(x2) and cast("float", x2) > 0)
    if not positive:
        for x in (x1, x2):
            if isinstance(x, Axes):
                channels.fix(x, "they are raised to a power that may not be of zero")
    return merged(channels, [_operand(x1), _operand(x2)], positive and _is_zero(x1))


# --- operations along an axis ------------------------------------------------------------------------


def _reduced(channels: Channels, x: Axes, operation: Any, axes: Any, why: str) -> list[Any]:
    """Let the channels along the reduced axes stay; return the labels of the remaining axes."""
    reduced = set(range(x.rank)) if axes is None else {a % x.rank for a in _tuple(axes)}
    for axis in reduced:
        channels.fix(x[axis], why)
    if operation.keepdims:
        return [None if a in reduced else row for a, row in enumerate(x.labels)]
    return [row for a, row in enumerate(x.labels) if a not in reduced]


@register_operation_rule("Mean", "Sum", "Max", "Min", "Var", "Std", "Amax", "Amin")
def reduce(operation, channels, x, *others, **kwargs):
    """The reduced channels stay, also those of a sum, which would be the same without zeros."""
    why = f"'{operation.name}' runs over them"
    labels = _reduced(channels, x, operation, operation.axis, why)
    return Axes(tuple(channels.shape), tuple(labels), x.zero)


@register_operation_rule("Moments")
def moments(operation, channels, x, *others, **kwargs):
    """As a mean, with two outputs."""
    why = f"'{operation.name}' averages over them"
    labels = _reduced(channels, x, operation, operation.axes, why)
    return [Axes(tuple(shape), tuple(labels), x.zero) for shape in channels.shapes]


@register_operation_rule("Normalize")
def normalize(operation, channels, x, *others, **kwargs):
    """Channels along the axis stay."""
    channels.fix(x[operation.axis], f"'{operation.name}' divides by a norm over them")
    return x


@register_operation_rule("Pad")
def pad(operation, channels, x, constant_values=None):
    """Channels along a padded axis stay; the others pass."""
    labels = list(x.labels)
    for axis, width in enumerate(operation.pad_width):
        if any(width):
            channels.fix(labels[axis], f"'{operation.name}' puts others beside them")
            labels[axis] = None
    return Axes(tuple(channels.shape), tuple(labels), x.zero and not constant_values)


@register_operation_rule("Concatenate")
def concatenate(operation, channels, xs):
    """Labels are placed one after the other."""
    return concatenated(channels, list(xs), operation.axis)


# Keras gives the output of `dot_product_attention` the shape of the query, also where the value is cut.
@register_operation_rule("Matmul", "Einsum", "Dot", "Tensordot", "DotProductAttention")
def products(operation, channels, *operands, **kwargs):
    """All channels stay."""
    for x in operands:
        if isinstance(x, Axes):
            channels.fix(x, f"'{operation.name}' is a product with them")
    outputs = [Axes.fixed(shape) for shape in channels.shapes]
    return outputs if len(outputs) > 1 else outputs[0]


# --- shapes ------------------------------------------------------------------------------------------


def _reshape_config(operation, config, sizes):
    pairs = zip(operation.newshape, sizes.outputs[0], strict=True)
    return {**config, "newshape": [old if old == -1 or n is None else n for old, n in pairs]}


@register_operation_rule("Reshape", config=_reshape_config)
def reshape(operation, channels, x):
    """Axes are joined and divided; see `reshaped`."""
    if any(not isinstance(n, (int, np.integer)) for n in operation.newshape):
        channels.fix(x, "a reshape of unknown sizes cannot be followed")
        return Axes.fixed(channels.shape)
    return reshaped(channels, x)


@register_operation_rule("Transpose")
def transpose(operation, channels, x):
    """Axes change places."""
    order = operation.axes or range(x.rank)[::-1]
    return transposed(x, [a % x.rank for a in order])


@register_operation_rule("Swapaxes")
def swap_axes(operation, channels, x):
    """Two axes change places."""
    order = list(range(x.rank))
    a, b = operation.axis1 % x.rank, operation.axis2 % x.rank
    order[a], order[b] = order[b], order[a]
    return transposed(x, order)


@register_operation_rule("Squeeze")
def squeeze(operation, channels, x):
    """Axes of length one disappear; a single channel there stays."""
    named = None if operation.axis is None else {n % x.rank for n in _tuple(operation.axis)}
    gone = [a for a in range(x.rank) if x.shape[a] == 1 and (named is None or a in named)]
    for axis in gone:
        channels.fix(x[axis], "an axis of length one stays")
    labels = (row for a, row in enumerate(x.labels) if a not in gone)
    return Axes(tuple(channels.shape), tuple(labels), x.zero)


@register_operation_rule("ExpandDims")
def expand_dims(operation, channels, x):
    """New axes have no channels."""
    axes = _tuple(operation.axis)
    rank = x.rank + len(axes)
    new = {a % rank for a in axes}
    old = iter(x.labels)
    labels = tuple(None if a in new else next(old) for a in range(rank))
    return Axes(tuple(channels.shape), labels, x.zero)


def _pixel_shuffle(labels_of: Callable[[Channels, np.ndarray, int], np.ndarray]) -> Any:
    """Return the rule of a pixel shuffle in the order of TensorFlow: (..., size, size, channel)."""

    def rule(operation, channels, x, *others, **kwargs):
        first = getattr(operation, "data_format", None) == "channels_first"
        if first or x.rank != 4:
            channels.fix(x, "a pixel shuffle of this format is not followed")
            return Axes.fixed(channels.shape)
        channels.keeps_only(x, -1, "a pixel shuffle moves them")
        if x[-1] is None:
            return Axes.fixed(channels.shape)
        labels = labels_of(channels, x[-1], operation.block_size**2)
        return x.along(channels.shape, -1, labels)

    return rule


def _shared_by_places(channels: Channels, labels: np.ndarray, places: int) -> np.ndarray:
    """Tie the channels that become the places of one channel."""
    rows = labels.reshape(places, -1)
    channels.tie(np.tile(rows[0], places), labels)
    return rows[0]


register_operation_rule("DepthToSpace")(_pixel_shuffle(_shared_by_places))
register_operation_rule("SpaceToDepth")(
    _pixel_shuffle(lambda channels, labels, places: np.tile(labels, places))
)
