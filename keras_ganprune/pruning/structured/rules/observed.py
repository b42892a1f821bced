"""How channels pass through a function that has no rule: the function is run, and its outputs compared.

If taking some positions along an axis before the function gives the same as taking them after it, then
the function works on each position of that axis by itself, and its channels pass. Else they stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend.no_gradients import no_gradients
from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.graph import leaves
from keras_ganprune.pruning.structured.rules.merging import merged

# Called with arrays in the place of the tensors; returns the outputs as a flat list of arrays.
Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

# Sizes up to this one are run as they are; the probe has smaller axes in the place of longer ones.
_SMALL = 8
# The most entries of an array with the real sizes, for a function that knows them.
_MOST = 1_000_000
# Values that a channel may have if its weights are zero, such as 0.5 behind a sigmoid.
_CONSTANTS = (-2.0, -0.5, 0.5, 1.0, 2.0)


def observed(
    channels: Channels,
    run: Run,
    tensors: Sequence[Axes],
    dtypes: Sequence[str],
    shapes: Sequence[Sequence[int | None]],
    name: str,
) -> list[Axes]:
    """Return the axes of the outputs of a function. Channels that it mixes are recorded as such that stay.

    Args:
        channels: The channels of the network, while the rule of the call is running.
        run: The function, on arrays.
        tensors: The axes of its inputs.
        dtypes: The types of its inputs.
        shapes: The shapes of its outputs.
        name: Name of the function, for reasons.
    """
    outputs = [Axes.fixed(shape) for shape in shapes]
    if not any(channels.movable(row) for x in tensors for row in x.labels):
        for x in tensors:
            channels.fix(x, f"'{name}' mixes them")
        return outputs
    probe = _probe(run, tensors, dtypes, outputs)
    if probe is None:
        for x in tensors:
            channels.fix(x, f"'{name}' has no rule, and cannot be tried out")
        return outputs
    if len(tensors) > 1 and len(outputs) == 1:
        where = probe.together()
        if where is not None and not probe.is_finite(where):
            for x in tensors:
                channels.fix(x, f"'{name}' must not get a zero")
            return outputs
        if where is not None:
            axes = _meeting(channels, probe, where, outputs[0])
            return [dataclasses.replace(axes, zero=probe.is_zero(where))]
    return _one_by_one(channels, probe, outputs, name)


def _meeting(channels: Channels, probe: _Probe, where: _Where, output: Axes) -> Axes:
    """Tie the channels of inputs that meet, and return the axes of the output."""
    if all(probe.is_aligned(entry) for entry in where):
        return merged(channels, list(probe.tensors), shape=output.shape)
    labels: dict[int, np.ndarray] = {}
    for i, axis, (place,) in where:
        row = probe.tensors[i][axis]
        if place in labels:
            channels.tie(labels[place], row)
        elif row is not None:
            labels[place] = row
    return Axes(output.shape, tuple(labels.get(axis) for axis in range(output.rank)))


def _one_by_one(channels: Channels, probe: _Probe, outputs: list[Axes], name: str) -> list[Axes]:
    """Let the channels of each axis of each input pass for themselves, or stay."""
    labels: list[dict[int, np.ndarray]] = [{} for _ in outputs]
    zero = True
    for number, x in enumerate(probe.tensors):
        for axis, row in enumerate(x.labels):
            if row is None:
                continue
            places = probe.alone(number, axis)
            # Keras itself may promise a shape that a layer does not give.
            if places is None or any(
                b in taken or out.shape[b] != len(row)
                for b, taken, out in zip(places, labels, outputs, strict=True)
            ):
                channels.fix(row, f"'{name}' mixes them")
                continue
            where = [(number, axis, places)]
            if not probe.is_finite(where):
                channels.fix(row, f"'{name}' must not get a zero")
                continue
            zero = zero and probe.is_zero(where)
            for taken, place in zip(labels, places, strict=True):
                taken[place] = row
    return [
        Axes(out.shape, tuple(taken.get(axis) for axis in range(out.rank)), zero)
        for out, taken in zip(outputs, labels, strict=True)
    ]


# Which axis of which input is taken from, and the axis of each output that follows.
_Where = list[tuple[int, int, list[int]]]


class _Probe:
    """A function with the arrays that it is tried out on.

    Args:
        run: The function.
        tensors: The axes of its inputs.
        arrays: An array for each input.
        outputs: What the function makes of them.
    """

    def __init__(
        self,
        run: Run,
        tensors: Sequence[Axes],
        arrays: list[np.ndarray],
        outputs: list[np.ndarray],
    ):
        self.run, self.tensors, self.arrays, self.outputs = run, tensors, arrays, outputs

    def alone(self, number: int, axis: int) -> list[int] | None:
        """Return the axis of each output that follows one axis of one input, or None."""
        return self._follows([(number, axis)])

    def together(self) -> _Where | None:
        """Return which axes of the inputs meet, if the function works on each position by itself; else None.

        The last axes of all inputs meet, and so on, as in an addition or a stack.
        """
        where: _Where = []
        for back in range(1, max(a.ndim for a in self.arrays) + 1):
            meeting = [
                (i, a.ndim - back)
                for i, a in enumerate(self.arrays)
                if a.ndim >= back and a.shape[-back] > 1
            ]
            if not any(self.tensors[i][axis] is not None for i, axis in meeting):
                continue
            places = self._follows(meeting)
            if places is None:
                return None
            where += [(i, axis, places) for i, axis in meeting]
        same_rank = len({a.ndim for a in self.arrays}) == 1
        return where if same_rank or all(self.is_aligned(entry) for entry in where) else None

    def is_aligned(self, entry: tuple[int, int, list[int]]) -> bool:
        """Return whether an axis of an input is that of the output, counted from the last one."""
        i, axis, places = entry
        return self.arrays[i].ndim - axis == self.outputs[0].ndim - places[0]

    def _follows(self, axes: list[tuple[int, int]]) -> list[int] | None:
        """Return the axis of each output that follows if some axes are taken from, or None."""
        size = self.arrays[axes[0][0]].shape[axes[0][1]]
        if size < 2 or any(self.arrays[i].shape[axis] != size for i, axis in axes):
            return None
        # One position in the middle goes, then all but two: what counts positions gives something else.
        found: list[list[int]] = []
        for kept in (np.delete(np.arange(size), size // 2), np.array([0, size - 1])[: size - 1]):
            arrays = list(self.arrays)
            for i, axis in axes:
                arrays[i] = np.take(arrays[i], kept, axis=axis)
            places = _places(_quiet(self.run, arrays), self.outputs, kept)
            if places is None:
                return None
            found.append(places)
        return found[0] if found[0] == found[1] else None

    def _at(self, where: _Where, value: float) -> list[np.ndarray]:
        """Return the outputs at a position where the masked inputs have a value."""
        arrays = [a.copy() for a in self.arrays]
        for i, axis, _ in where:
            if value == 0 or not self.tensors[i].zero:
                np.moveaxis(arrays[i], axis, 0)[1] = np.asarray(value).astype(arrays[i].dtype)
        outputs = _quiet(self.run, arrays)
        if outputs is None:
            return [np.asarray(np.nan)]
        _, _, places = where[0]
        return [np.take(y, 1, axis=b) for y, b in zip(outputs, places, strict=True)]

    def _groups(self, where: _Where) -> list[_Where]:
        """Return the entries that meet in the same axis of the output."""
        by_place: dict[tuple[int, ...], _Where] = {}
        for entry in where:
            by_place.setdefault(tuple(entry[2]), []).append(entry)
        return list(by_place.values())

    def is_zero(self, where: _Where) -> bool:
        """Return whether masked channels, which are zero in the inputs, are zero in the outputs."""
        groups = self._groups(where)
        with_zeros = [[e for e in group if self.tensors[e[0]].zero] for group in groups]
        return all(with_zeros) and not any(
            np.any(y) for group in with_zeros for y in self._at(group, 0)
        )

    def is_finite(self, where: _Where) -> bool:
        """Return whether masked channels give numbers, whatever constants they are."""
        for group in self._groups(where):
            values = [0.0]
            if not all(self.tensors[i].zero or self.tensors[i].nonzero for i, _, _ in group):
                values += _CONSTANTS
            for y in (y for value in values for y in self._at(group, value)):
                if y.dtype.kind in "fc" and not np.isfinite(y).all():
                    return False
        return True


def _quiet(run: Run, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """Return what a function makes of arrays, or None if it does not take them."""
    try:
        # No state and no seed moves.
        with no_gradients(), keras.StatelessScope():
            return run(arrays)
    except Exception:
        return None


def _places(
    outputs: list[np.ndarray] | None, whole: list[np.ndarray], kept: np.ndarray
) -> list[int] | None:
    """Return the axis of each output along which it has the kept positions of the whole one, or None."""
    if outputs is None or len(outputs) != len(whole):
        return None
    places = []
    for y, before in zip(outputs, whole, strict=True):
        if y.ndim != before.ndim:
            return None
        other = [b for b in range(y.ndim) if y.shape[b] != before.shape[b]]
        if len(other) != 1 or y.shape[other[0]] != len(kept):
            return None
        if before.shape[other[0]] <= kept.max():
            return None
        if not _same(y, np.take(before, kept, axis=other[0])):
            return None
        places.append(other[0])
    return places


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.kind in "fc":
        return np.allclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)
    return np.array_equal(one, other)


def _probe(
    run: Run, tensors: Sequence[Axes], dtypes: Sequence[str], outputs: list[Axes]
) -> _Probe | None:
    """Return a function on small arrays, or on arrays of the real sizes if it takes no others."""
    sizes = sorted({n for x in tensors for n in x.shape if n is not None and n > _SMALL})
    # Each size has one that stands for it: even for an even one, and longer than the sizes that stay.
    small = {n: _SMALL + 2 * i + 2 - n % 2 for i, n in enumerate(sizes)}
    real = {n: n for n in sizes}
    for sizes_of in (small, real):
        shapes = [tuple(5 if n is None else sizes_of.get(n, n) for n in x.shape) for x in tensors]
        if sizes_of is small and len(tensors) == 1:
            # One channel shows nothing. Among several tensors, an axis of length 1 may be broadcast.
            rows = zip(shapes[0], tensors[0].labels, strict=True)
            shapes = [tuple(3 if n == 1 and row is not None else n for n, row in rows)]
        if max((int(np.prod(shape)) for shape in shapes), default=0) > _MOST:
            continue
        arrays = [_array(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        made = _quiet(run, arrays)
        if made is not None and [y.ndim for y in made] == [y.rank for y in outputs]:
            return _Probe(run, tensors, arrays, made)
    return None


def _array(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return random values. No two floats are equal, and none is zero."""
    rng = np.random.default_rng(len(shape))
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if "int" in dtype:
        return rng.integers(0, 3, shape).astype(dtype)
    # Keras converts them to the type of the layer where it is one of half precision.
    return rng.normal(0.2, 1.3, shape).astype("float32" if "16" in dtype else dtype)


def runner(function: Callable, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Run:
    """Return a function of arrays that calls another one.

    Args:
        function: Function, called with tensors in the place of each `Axes`.
        args: Its positional arguments.
        kwargs: Its keyword arguments. Defaults to None: none.
    """

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        rest = iter(arrays)
        filled: Any = keras.tree.map_structure(
            lambda leaf: (
                keras.ops.convert_to_tensor(next(rest)) if isinstance(leaf, Axes) else leaf
            ),
            (args, kwargs or {}),
        )
        result = leaves(function(*filled[0], **filled[1]))
        return [np.asarray(keras.ops.convert_to_numpy(y)) for y in result]

    return run


def observed_call(
    operation: Any, channels: Channels, args: tuple, kwargs: dict[str, Any]
) -> Axes | list[Axes]:
    """Return the axes of the outputs of the call whose rule is running.

    Args:
        operation: The layer or operation. It has no weights.
        channels: The channels of the network.
        args: Its positional arguments, with an `Axes` for each tensor.
        kwargs: Its keyword arguments, likewise.
    """
    # `__call__` of a layer would check the sizes that it was built with.
    run = runner(operation.call, args, kwargs)
    tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Axes)]
    dtypes = [t.dtype for t in channels.call.inputs] if channels.call else []
    results = observed(channels, run, tensors, dtypes, channels.shapes, operation.name)
    return results if len(results) > 1 else results[0]
