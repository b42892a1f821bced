"""How channels pass through the operations of `keras.ops` that stand in functional graphs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.rules.layers import reshaped, transposed
from keras_ganprune.pruning.structured.rules.merging import joined, together
from keras_ganprune.pruning.structured.rules.registry import operation_rule


def _argument(operation: Any, name: str, given: Any) -> Any:
    """Return an argument that may be an attribute of the operation or come with the call."""
    return getattr(operation, name, given) if given is None else given


# --- entry by entry ----------------------------------------------------------------------------------

ZERO_TO_ZERO = (
    "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Swish", "Tanh", "Softsign",
    "SoftShrink", "HardShrink", "TanhShrink", "HardTanh", "HardSilu", "Abs", "Absolute",
    "Negative", "Square", "Sqrt", "Sin", "Sinh", "Arcsinh", "Arctan", "Arctanh", "Expm1", "Log1p", "Sign",
    "Erf", "Cast", "Identity", "StopGradient", "Copy", "Round", "Floor", "Ceil", "Trunc", "Mish",
    "ZerosLike",
)  # fmt: skip
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


@operation_rule(*ZERO_TO_ZERO)
def zero_to_zero(operation, channels, x, *others, **kwargs):
    holds = type(operation).__name__ in ("Sqrt", "Abs", "Absolute", "Negative", "Square", "Cast")
    return dataclasses.replace(x, nonzero=x.nonzero and holds)


@operation_rule(*_ZERO_TO_OTHER)
def zero_to_other(operation, channels, x, *others, **kwargs):
    return Axes(x.shape, x.labels, False)


@operation_rule("Rsqrt", "Reciprocal", "Log", "Log2", "Log10")
def needs_nonzero(operation, channels, x):
    if not x.nonzero:
        channels.fix(x, f"'{operation.name}' must not get a zero")
    return Axes(
        x.shape, x.labels, False, nonzero=type(operation).__name__ in ("Rsqrt", "Reciprocal")
    )


@operation_rule("Clip")
def clip(operation, channels, x, x_min=None, x_max=None):
    low, high = (_argument(operation, n, g) for n, g in (("x_min", x_min), ("x_max", x_max)))
    holds = np.isscalar(low) and np.isscalar(high) and low <= 0 <= high
    return Axes(x.shape, x.labels, x.zero and bool(holds))


def _operand(channels: Channels, value: Any) -> Axes:
    """Return an operand of an arithmetic operation as axes: a number or a constant has no channels."""
    return value if isinstance(value, Axes) else Axes.fixed(np.shape(value))


def _is_zero(value: Any) -> bool:
    return value.zero if isinstance(value, Axes) else not np.any(value)


def _never_zero(value: Any) -> bool:
    return value.nonzero if isinstance(value, Axes) else bool(np.all(value))


@operation_rule("Add", "Subtract", "Maximum", "Minimum")
def add(operation, channels, x1, x2):
    operands = [_operand(channels, x) for x in (x1, x2)]
    numbers = [x for x in (x1, x2) if not isinstance(x, Axes)]
    found = together(
        channels,
        [o for o, x in zip(operands, (x1, x2), strict=True) if isinstance(x, Axes) or o.rank],
        all(_is_zero(x) for x in numbers),
    )
    if type(operation).__name__ in ("Add", "Subtract"):
        # A variance and its epsilon.
        shifted = (_is_zero(x1) and _never_zero(x2)) or (_never_zero(x1) and _is_zero(x2))
        found = dataclasses.replace(found, nonzero=shifted)
    return found


@operation_rule("Multiply")
def multiply(operation, channels, x1, x2):
    # Of two tensors it is enough that one is zero where a channel is masked.
    return together(channels, [_operand(channels, x1), _operand(channels, x2)], either=True)


@operation_rule("Divide", "TrueDivide")
def divide(operation, channels, x1, x2):
    if isinstance(x2, Axes) and not x2.nonzero:
        channels.fix(x2, "something is divided by them, which must not be by zero")
    first, second = _operand(channels, x1), _operand(channels, x2)
    # Zero divided by anything is zero, as far as it is of the shape of both.
    second = dataclasses.replace(second, zero=False)
    return together(channels, [first, second], either=True)


@operation_rule("Power")
def power(operation, channels, x1, x2):
    positive = np.isscalar(x2) and x2 > 0
    if not positive:
        for x in (x1, x2):
            if isinstance(x, Axes):
                channels.fix(x, "they are raised to a power that may not be of zero")
    return together(
        channels, [_operand(channels, x1), _operand(channels, x2)], positive and _is_zero(x1)
    )


# --- along an axis -----------------------------------------------------------------------------------


@operation_rule("Mean", "Sum", "Max", "Min", "Var", "Std", "Amax", "Amin")
def reduce(operation, channels, x, *others, **kwargs):
    axis = operation.axis
    axes = range(x.rank) if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
    gone = {a % x.rank for a in axes}
    for a in gone:
        # A sum, too: that it is the same without zeros is of use to nobody.
        channels.fix(x[a], f"'{operation.name}' runs over them")
    if operation.keepdims:
        labels = [None if a in gone else found for a, found in enumerate(x.labels)]
    else:
        labels = [found for a, found in enumerate(x.labels) if a not in gone]
    return Axes(tuple(channels.shape), tuple(labels), x.zero)


@operation_rule("Moments")
def moments(operation, channels, x, *others, **kwargs):
    gone = {a % x.rank for a in operation.axes}
    for a in gone:
        channels.fix(x[a], f"'{operation.name}' averages over them")
    if operation.keepdims:
        labels = [None if a in gone else found for a, found in enumerate(x.labels)]
    else:
        labels = [found for a, found in enumerate(x.labels) if a not in gone]
    return [Axes(tuple(shape), tuple(labels), x.zero) for shape in channels.shapes]


@operation_rule("Softmax", "LogSoftmax")
def softmax(operation, channels, x, *others, **kwargs):
    axis = operation.axis
    axes = range(x.rank) if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
    for a in axes:
        channels.fix(x[a], f"'{operation.name}' mixes them")
    return Axes(x.shape, x.labels, False)


@operation_rule("Normalize")
def normalize(operation, channels, x, *others, **kwargs):
    channels.fix(x[operation.axis], f"'{operation.name}' divides by a norm over them")
    return x


def _sections(operation, config, sizes):
    """Return where a split is, counted in the channels that are left."""
    places = operation.indices_or_sections
    kept = sizes.kept(0, operation.axis)
    if isinstance(places, int):
        step = len(kept) // places
        places = [step * i for i in range(1, places)]
    counted = np.concatenate([[0], np.cumsum(kept)])
    return {**config, "indices_or_sections": [int(counted[p]) for p in places]}


@operation_rule("Split", config=_sections)
def split(operation, channels, x):
    axis = operation.axis % x.rank
    places = operation.indices_or_sections
    parts = None if x[axis] is None else np.split(x[axis], places)
    found = []
    for i, shape in enumerate(channels.shapes):
        labels = list(x.labels)
        labels[axis] = None if parts is None else parts[i]
        found.append(Axes(tuple(shape), tuple(labels), x.zero))
    return found if len(found) > 1 else found[0]


@operation_rule("Pad")
def pad(operation, channels, x, constant_values=None):
    """Channels may be beside what is padded, not among it."""
    labels = list(x.labels)
    for axis, width in enumerate(operation.pad_width):
        if any(width):
            channels.fix(labels[axis], f"'{operation.name}' puts others beside them")
            labels[axis] = None
    return Axes(tuple(channels.shape), tuple(labels), x.zero and not constant_values)


@operation_rule("Concatenate")
def concatenate(operation, channels, xs):
    return joined(channels, list(xs), operation.axis)


@operation_rule("Matmul", "Einsum", "Dot", "Tensordot")
def products(operation, channels, *operands, **kwargs):
    for x in operands:
        if isinstance(x, Axes):
            channels.fix(x, f"'{operation.name}' is a product with them")
    found = [Axes.fixed(shape) for shape in channels.shapes]
    return found if len(found) > 1 else found[0]


# --- shape -------------------------------------------------------------------------------------------


def _new_shape(operation, config, sizes):
    old = operation.newshape
    new = sizes.outputs[0]
    return {
        **config,
        "newshape": [o if o == -1 or n is None else n for o, n in zip(old, new, strict=True)],
    }


@operation_rule("Reshape", config=_new_shape)
def reshape(operation, channels, x):
    if any(not isinstance(n, (int, np.integer)) for n in operation.newshape):
        channels.fix(x, "a reshape of unknown sizes cannot be followed")
        return Axes.fixed(channels.shape)
    return reshaped(channels, x)


@operation_rule("Transpose")
def transpose(operation, channels, x):
    order = operation.axes or range(x.rank)[::-1]
    return transposed(x, [a % x.rank for a in order])


@operation_rule("Swapaxes")
def swap_axes(operation, channels, x):
    order = list(range(x.rank))
    a, b = operation.axis1 % x.rank, operation.axis2 % x.rank
    order[a], order[b] = order[b], order[a]
    return transposed(x, order)


@operation_rule("Squeeze")
def squeeze(operation, channels, x):
    return _reindexed(channels, x, lambda a: x.shape[a] != 1 or _left(operation.axis, a, x.rank))


def _left(axis: Any, a: int, rank: int) -> bool:
    """Return whether a squeeze of `axis` leaves axis `a`."""
    if axis is None:
        return False
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    return a not in {n % rank for n in axes}


def _reindexed(channels: Channels, x: Axes, stays: Any) -> Axes:
    kept = [a for a in range(x.rank) if stays(a)]
    for a in set(range(x.rank)) - set(kept):
        channels.fix(x[a], "an axis of length one stays")
    return Axes(tuple(channels.shape), tuple(x[a] for a in kept), x.zero)


@operation_rule("ExpandDims")
def expand_dims(operation, channels, x):
    axes = operation.axis if isinstance(operation.axis, (list, tuple)) else (operation.axis,)
    rank = x.rank + len(axes)
    new = {a % rank for a in axes}
    old = iter(x.labels)
    labels = tuple(None if a in new else next(old) for a in range(rank))
    return Axes(tuple(channels.shape), labels, x.zero)


def _rearranged(inside: bool) -> Any:
    def rule(operation, channels, x, *others, **kwargs):
        """Depth to space, or back: (.., r, r, c) in the order of TensorFlow."""
        first = getattr(operation, "data_format", None) == "channels_first"
        size = operation.block_size
        if first or x[-1] is None or x.rank != 4:
            if x.rank == 4 and not first:
                channels.fix(x, "a pixel shuffle moves them")
                return Axes.fixed(channels.shape)
            channels.fix(x, "a pixel shuffle of this format is not followed")
            return Axes.fixed(channels.shape)
        for axis in (1, 2):
            channels.fix(x[axis], "a pixel shuffle moves them")
        if inside:
            return x.along(channels.shape, -1, np.tile(x[-1], size * size))
        rows = x[-1].reshape(size * size, -1)
        channels.tie(np.tile(rows[0], size * size), x[-1])
        return x.along(channels.shape, -1, rows[0])

    return rule


operation_rule("DepthToSpace")(_rearranged(inside=False))
operation_rule("SpaceToDepth")(_rearranged(inside=True))


# --- slices ------------------------------------------------------------------------------------------


def slice_places(key: Any, rank: int) -> list[Any] | None:
    """Return what a key says of each axis, with None for a new one; or None if it is no plain slice."""
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    named = sum(part is not None and part is not Ellipsis for part in key)
    if not any(part is Ellipsis for part in key):
        key.append(Ellipsis)
    at = next(i for i, part in enumerate(key) if part is Ellipsis)
    key[at : at + 1] = [slice(None)] * (rank - named)
    plain = all(part is None or isinstance(part, (int, slice)) for part in key)
    return key if plain else None


@operation_rule("GetItem")
def get_item(operation, channels, x, key):
    places = slice_places(key, x.rank)
    if places is None:
        channels.fix(x, "they are picked one by one")
        return Axes.fixed(channels.shape)
    labels: list[np.ndarray | None] = []
    axis = 0
    for place in places:
        if place is None:
            labels.append(None)
            continue
        own = x[axis]
        axis += 1
        if isinstance(place, int):
            channels.fix(own, "one of them is picked")
        elif own is None:
            labels.append(None)
        elif place.step not in (None, 1):
            channels.fix(own, "some of them are picked")
            labels.append(None)
        else:
            labels.append(own[place])
    return Axes(tuple(channels.shape), tuple(labels), x.zero)


def cut_key(key: Any, rank: int, kept: Any) -> Any:
    """Return a key counted in the channels that are left; `kept(axis)` is a bool array or None."""
    places = slice_places(key, rank)
    if places is None:
        return key
    axis, found = 0, []
    for place in places:
        if place is not None:
            own = kept(axis)
            axis += 1
            partly = isinstance(place, slice) and place != slice(None)
            if own is not None and not own.all() and partly:
                counted = np.concatenate([[0], np.cumsum(own)])
                start, stop, _ = place.indices(len(own))
                place = slice(int(counted[start]), int(counted[max(start, stop)]))
        found.append(place)
    return tuple(found)
