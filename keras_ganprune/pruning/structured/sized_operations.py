"""Operations whose arguments depend on the sizes of other tensors, written with plain operations of Keras.

`keras.ops.reshape(x, (b, n, 8))` needs the numbers b and n. In a functional model they are known only
when it runs. There, a line of ones with the length of an axis stands for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.pruning.structured.sizes import Scalar, Size

# Keras's stubs say that every operation may return None, which none does.
ops: Any = keras.ops


class Lines:
    """The unknown sizes of one call, as lines of ones.

    Args:
        tensors: For each size a tensor that has it.
        axes: For each size the axis of that tensor.
    """

    def __init__(self, tensors: dict[int, Any], axes: dict[int, int]):
        self.tensors, self.axes = tensors, axes

    def _ones(self, k: int) -> Any:
        x, axis = self.tensors[k], self.axes[k]
        rank = len(x.shape)
        if rank > 1:
            x = x[tuple(slice(None) if a == axis else 0 for a in range(rank))]
        return ops.ones_like(x, dtype="int32")

    def of(self, size: Size | int) -> Any:
        """Return a tensor of ones of shape (size,)."""
        if isinstance(size, int):
            return np.ones(size, "int32")
        parts = []
        for names, factor in size.terms:
            line = self._ones(names[0])
            for k in names[1:]:
                line = ops.reshape(ops.expand_dims(line, 1) * self._ones(k), (-1,))
            if factor.numerator != 1:
                line = ops.reshape(
                    ops.expand_dims(line, 1) * np.ones((1, factor.numerator), "int32"), (-1,)
                )
            if factor.denominator != 1:
                line = line[(slice(factor.denominator - 1, None, factor.denominator),)]
            parts.append(line)
        if size.shift > 0:
            # The first part is a tensor, so that this is an operation of the graph.
            parts.append(np.ones(size.shift, "int32"))
        line = ops.concatenate(parts, axis=0) if len(parts) > 1 else parts[0]
        return line[(slice(-size.shift, None),)] if size.shift < 0 else line

    def number(self, value: Any, dtype: str) -> Any:
        """Return a number as a tensor without axes; a constant stays as it is."""
        if isinstance(value, Scalar):
            base = ops.cast(self.number(value.size, "int32"), "float32")
            return ops.cast(ops.power(base, value.power) * value.factor, dtype)
        if not isinstance(value, Size):
            return value
        if all(factor > 0 for _, factor in value.terms) and value.shift >= 0:
            return ops.cast(ops.sum(self.of(value)), dtype)
        total: Any = value.shift
        for names, factor in value.terms:
            one = Size(((names, abs(factor)),))
            total = total + (1 if factor > 0 else -1) * ops.sum(self.of(one))
        return ops.cast(total, dtype)

    def range(self, start: Any, length: Size | int, step: Any = 1, dtype: str = "int32") -> Any:
        """Return `length` numbers from `start`."""
        if not isinstance(length, Size):
            line: Any = ops.convert_to_tensor(np.arange(length, dtype="int32"))
        else:
            line = ops.cumsum(self.of(length)) - 1
        line = ops.cast(line, dtype)
        step, start = self.number(step, dtype), self.number(start, dtype)
        line = line if isinstance(step, (int, float)) and step == 1 else line * step
        return line if isinstance(start, (int, float)) and start == 0 else line + start

    def zeros(self, shape: Sequence[Size | int]) -> Any:
        """Return zeros of type int32. At least one size is not known."""
        total = None
        for axis, size in enumerate(shape):
            if isinstance(size, Size):
                line = self.of(size) * 0
                if len(shape) > 1:
                    line = ops.expand_dims(line, [a for a in range(len(shape)) if a != axis])
                total = line if total is None else _sum(total, line)
        repeats = tuple(1 if isinstance(n, Size) else n for n in shape)
        return ops.tile(total, repeats) if any(n != 1 for n in repeats) else total


def _sum(one: Any, other: Any) -> Any:
    """Return the sum of two tensors that are broadcast.

    A difference, because `add` of Keras on TensorFlow takes (1, n, 1) beside (1, 1, n) for a bias of the last
    axis, and returns (1, 1, n).
    """
    return ops.subtract(one, ops.negative(other))


def _full(op: Sized, lines: Lines) -> Any:
    zeros, value = lines.zeros(op.numbers["shape"]), op.numbers["value"]
    if op.dtype == "bool":
        return ops.equal(zeros, 0 if value else 1)
    zeros = ops.cast(zeros, op.dtype)
    return zeros + value if np.any(value) else zeros


def _arange(op: Sized, lines: Lines) -> Any:
    numbers = op.numbers
    return lines.range(numbers["start"], numbers["length"], numbers["step"], op.dtype)


def _diagonals(op: Sized, lines: Lines) -> Any:
    rows, columns = (lines.range(0, op.numbers[n]) for n in ("rows", "columns"))
    compare = ops.equal if op.kind == "eye" else ops.less_equal
    distance = ops.expand_dims(columns, 0) - ops.expand_dims(rows, 1)
    return ops.cast(compare(distance, op.numbers["k"]), op.dtype)


def _linspace(op: Sized, lines: Lines) -> Any:
    numbers = op.numbers
    count = lines.range(0, numbers["num"], 1, op.dtype)
    last = lines.number(numbers["num"], op.dtype) - (1 if numbers["endpoint"] else 0)
    return numbers["start"] + count * (numbers["stop"] - numbers["start"]) / last


def _scalar(op: Sized, lines: Lines) -> Any:
    return lines.number(op.numbers["value"], op.dtype)


def _broadcast(op: Sized, lines: Lines, x: Any) -> Any:
    zeros = lines.zeros(op.numbers["shape"])
    if op.dtype == "bool":
        return ops.logical_or(ops.cast(zeros, "bool"), x)
    return _sum(ops.cast(zeros, op.dtype), x)


def _slice(op: Sized, lines: Lines, x: Any) -> Any:
    for axis, (start, length, step) in op.numbers["parts"]:
        x = ops.take(x, lines.range(start, length, step), axis=axis)
    key = op.numbers["key"]
    return x if key is None else x[key]


def _pick(op: Sized, lines: Lines, x: Any) -> Any:
    numbers = op.numbers
    return ops.take(x, lines.range(numbers["start"], numbers["length"]), axis=numbers["axis"])


def _repeated(op: Sized, lines: Lines, x: Any) -> Any:
    """Tile (all places again and again) or repeat (each place by itself) along an axis."""
    numbers = op.numbers
    index, period = lines.range(0, numbers["length"]), lines.number(numbers["period"], "int32")
    index = ops.mod(index, period) if op.kind == "tile" else ops.floor_divide(index, period)
    return ops.take(x, index, axis=numbers["axis"])


def _reshape(op: Sized, lines: Lines, x: Any) -> Any:
    """A reshape to several unknown sizes keeps one axis apart, which a Reshape layer takes for the batch."""
    target, apart = op.numbers["shape"], op.numbers["apart"]
    plain = [-1 if isinstance(n, Size) else n for n in target]
    if apart is None:
        return ops.reshape(x, tuple(plain))
    old, new = apart
    rank = len(x.shape)
    if old:
        x = ops.transpose(x, [old, *(a for a in range(rank) if a != old)])
    inner = [n for axis, n in enumerate(plain) if axis != new]
    x = keras.layers.Reshape(inner)(x)
    return ops.transpose(x, [*range(1, new + 1), 0, *range(new + 1, len(target))]) if new else x


def _places(op: Sized, lines: Lines, x: Any) -> Any:
    """A reshape to several unknown sizes: the places of the result are taken from one row of places."""
    target = op.numbers["shape"]
    last = max(axis for axis, n in enumerate(target) if isinstance(n, Size))
    rows = ops.reshape(x, (-1, *target[last + 1 :]))
    index: Any = None
    stride: Any = 1
    for axis in range(last, -1, -1):
        size = target[axis]
        line = lines.range(0, size)
        if axis != last:
            line = line * stride
        others = [a for a in range(last + 1) if a != axis]
        line = ops.expand_dims(line, others) if others else line
        index = line if index is None else _sum(index, line)
        stride = lines.number(size, "int32") * stride
    return ops.take(rows, index, axis=0)


_KINDS: dict[str, Callable[..., Any]] = {
    "full": _full,
    "arange": _arange,
    "eye": _diagonals,
    "tri": _diagonals,
    "linspace": _linspace,
    "scalar": _scalar,
    "broadcast": _broadcast,
    "slice": _slice,
    "pick": _pick,
    "tile": _repeated,
    "repeat": _repeated,
    "reshape": _reshape,
    "places": _places,
}


class Sized(keras.Operation):
    """An operation with arguments that depend on sizes. Called, it runs plain operations of Keras.

    Args:
        kind: Name of the operation.
        numbers: Its arguments, with a `Size` in the place of an unknown number.
        dtype: Type of the result.
        axes: For each unknown size that is used, the axis of the tensor that has it.
        shape: Shape of the result in a trace.
    """

    def __init__(
        self,
        kind: str,
        numbers: dict[str, Any],
        dtype: str,
        axes: dict[int, int],
        shape: tuple[int | None, ...] = (),
    ):
        super().__init__()
        self.kind, self.numbers, self.dtype, self.axes = kind, numbers, dtype, axes
        self.shape = shape
        self._traced: Any = None

    def __call__(self, tensors: list[Any], references: dict[Any, Any]) -> Any:
        """Return the result for tensors, or for symbols.

        Args:
            tensors: The operands.
            references: For each unknown size, as text, a tensor that has it.
        """
        lines = Lines({int(k): x for k, x in references.items()}, self.axes)
        return _KINDS[self.kind](self, lines, *tensors)

    def node(self, tensors: list[Any], references: dict[str, Any]) -> keras.KerasTensor:
        """Return a symbol that a trace records as the result of this operation."""
        self._traced = keras.KerasTensor(self.shape, self.dtype)
        try:
            # Keras's stubs do not have the method.
            return cast("Any", super()).symbolic_call(tensors, references)
        finally:
            self._traced = None

    def compute_output_spec(self, tensors: list[Any], references: dict[str, Any]) -> Any:
        """Return the shape and the type of the result."""
        return self(tensors, references) if self._traced is None else self._traced

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            "kind": self.kind,
            "numbers": self.numbers,
            "dtype": self.dtype,
            "axes": self.axes,
            "shape": self.shape,
        }
