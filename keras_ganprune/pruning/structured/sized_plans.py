"""The `Sized` operations in the place of operations and functions that take numbers of places.

`Traces` are the runs of one `call` with several sizes, see `concrete_calls.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import keras
import numpy as np

from keras_ganprune.pruning.structured.keys import parts_by_axis
from keras_ganprune.pruning.structured.made_tensors import Made
from keras_ganprune.pruning.structured.sizes import Size
from keras_ganprune.pruning.structured.traces import NotFollowedError, Step, leaves, same_array


class Traces(Protocol):
    """The runs of one `call` with several sizes."""

    def number(self, values: Sequence[Any], what: str) -> Any:
        """Return a number that is the same in all traces, or how it depends on the sizes."""
        ...

    def numbers(self, rows: Sequence[Sequence[Any]], what: str) -> list[Any]:
        """Return the numbers of lists, such as shapes."""
        ...

    def one(self, kind: str, numbers: dict, first: Step, place: int = 0) -> Step:
        """Return a `Sized` operation on the first tensor of a call, for one of its outputs."""
        ...


@dataclass
class Plan:
    """A `Sized` operation in the place of a function that makes a tensor."""

    kind: str
    numbers: dict[str, Any]
    tensors: tuple = ()


# --- tensors made from numbers -----------------------------------------------------------------------


def plan(traces: Traces, made: list[Made]) -> Plan | None:
    """Return the operations that make a tensor for all sizes, or None if it is a constant."""
    first, name = made[0], made[0].name
    if any(m.name != name for m in made):
        raise NotFollowedError("it makes other tensors for other sizes")
    arguments = [m.arguments for m in made]
    if all(m.is_like(name, first.arguments) and m.shape == first.shape for m in made):
        return None
    what = f"`{name}`"

    def number(key: str, default: Any = None) -> Any:
        return traces.number([default if a[key] is None else a[key] for a in arguments], what)

    shape = traces.numbers([m.shape for m in made], what)
    if name in ("zeros", "ones", "full"):
        value = {"zeros": 0, "ones": 1}.get(name)
        value = first.arguments["fill_value"] if value is None else value
        return Plan("full", {"shape": shape, "value": value})
    if name == "arange":
        rows = [
            (0, a["start"]) if a["stop"] is None else (a["start"], a["stop"]) for a in arguments
        ]
        numbers = {
            "start": traces.number([row[0] for row in rows], what),
            "length": shape[0],
            "step": number("step", 1),
        }
        return Plan("arange", numbers)
    if name in ("eye", "tri", "identity"):
        k = 0 if name == "identity" else number("k", 0)
        numbers = {"rows": shape[0], "columns": shape[1], "k": k}
        return Plan("tri" if name == "tri" else "eye", numbers)
    if name == "linspace" and not first.arguments["retstep"] and len(first.shape) == 1:
        numbers = {key: number(key) for key in ("start", "stop", "endpoint")}
        return Plan("linspace", {**numbers, "num": shape[0]})
    if name in ("broadcast_to", "tile", "repeat"):
        x = first.arguments["x"]
        if all(same_array(x, a["x"]) for a in arguments):
            return _repeated_constant(traces, name, x, shape, made)
    raise NotFollowedError(f"{what} makes a tensor that depends on a size in an unknown way")


def _repeated_constant(traces: Traces, name: str, x: Any, shape: list, made: list[Made]) -> Plan:
    x = np.asarray(keras.ops.convert_to_numpy(x))
    x = x.reshape((1,) * (len(shape) - x.ndim) + x.shape) if name != "repeat" else x
    spread = all(n == 1 for n, new in zip(x.shape, shape, strict=True) if isinstance(new, Size))
    if name == "broadcast_to" or (spread and name == "tile"):
        if name == "tile":
            x = np.tile(
                x,
                [1 if isinstance(n, Size) else n // m for n, m in zip(shape, x.shape, strict=True)],
            )
        return Plan("broadcast", {"shape": shape}, (x,))
    if sum(isinstance(n, Size) for n in shape) != 1 or len(shape) != x.ndim:
        raise NotFollowedError(f"`{name}` makes a tensor that depends on several sizes")
    axis = next(a for a, n in enumerate(shape) if isinstance(n, Size))
    if name == "tile":
        repeats = [
            1 if a == axis else n // m for a, (n, m) in enumerate(zip(shape, x.shape, strict=True))
        ]
        x, period = np.tile(x, repeats), x.shape[axis]
    else:
        period = traces.number([m.shape[axis] // x.shape[axis] for m in made], f"`{name}`")
    return Plan(name, {"axis": axis, "length": shape[axis], "period": period}, (x,))


# --- operations that take sizes ----------------------------------------------------------------------


def _reshape(traces: Traces, first: Step, steps: list[Step]) -> list[Step]:
    target = traces.numbers([s.shapes[0] for s in steps], "`reshape`")
    unknown = [axis for axis, n in enumerate(target) if isinstance(n, Size)]
    apart = None
    if len(unknown) > 1:
        olds = [tuple(leaves((s.args, s.kwargs))[0].shape) for s in steps]
        news = [s.shapes[0] for s in steps]
        if len(unknown) == 2:
            apart = next((p for p in _shared_axes(olds, news) if p[1] in unknown), None)
        if apart is None:
            return [traces.one("places", {"shape": target}, first)]
    return [traces.one("reshape", {"shape": target, "apart": apart}, first)]


def _shared_axes(olds: list[tuple], news: list[tuple]) -> list[tuple[int, int]]:
    """Return the pairs of axes that a reshape leaves as they are."""
    return [
        (i, j)
        for i in range(len(olds[0]))
        for j in range(len(news[0]))
        if all(
            a[i] == b[j] and np.prod(a[:i], dtype=int) == np.prod(b[:j], dtype=int)
            for a, b in zip(olds, news, strict=True)
        )
    ]


def _broadcast_to(traces: Traces, first: Step, steps: list[Step]) -> list[Step]:
    shape = traces.numbers([s.shapes[0] for s in steps], "`broadcast_to`")
    return [traces.one("broadcast", {"shape": shape}, first)]


def _repeated(kind: str) -> Callable[..., list[Step]]:
    def handler(traces: Traces, first: Step, steps: list[Step]) -> list[Step]:
        olds = [tuple(leaves((s.args, s.kwargs))[0].shape) for s in steps]
        news = [s.shapes[0] for s in steps]
        if len(olds[0]) != len(news[0]):
            raise NotFollowedError(f"`{kind}` adds axes and takes a number that depends on a size")
        axes = [
            a
            for a in range(len(news[0]))
            if any(m[a] != n[a] for m, n in zip(olds, news, strict=True))
        ]
        shape = traces.numbers(news, f"`{kind}`")
        if all(old[a] == 1 for old in olds for a in axes):
            return [traces.one("broadcast", {"shape": shape}, first)]
        if len(axes) != 1:
            raise NotFollowedError(f"`{kind}` repeats several axes and depends on a size")
        (axis,) = axes
        periods = [
            m[axis] if kind == "tile" else n[axis] // m[axis]
            for m, n in zip(olds, news, strict=True)
        ]
        period = traces.number(periods, f"`{kind}`")
        numbers = {"axis": axis, "length": shape[axis], "period": period}
        return [traces.one(kind, numbers, first)]

    return handler


def _get_item(traces: Traces, first: Step, steps: list[Step]) -> list[Step]:
    rows, shapes = [], []
    for step in steps:
        key = step.kwargs["key"] if "key" in step.kwargs else step.args[1]
        shapes.append(tuple(step.args[0].shape))
        rows.append(parts_by_axis(key, len(shapes[-1])))
    if any(row is None or len(row) != len(rows[0]) for row in rows):
        raise NotFollowedError(
            "it picks places one by one, and takes a number that depends on a size"
        )
    parts, key, axis = [], [], 0
    for entries in zip(*rows, strict=True):
        if entries[0] is None:
            key.append(None)
            continue
        if all(e == entries[0] for e in entries):
            key.append(entries[0])
        else:
            sizes = [shape[axis] for shape in shapes]
            start, length, step = _range_of(traces, entries, sizes)
            parts.append((axis, (start, length, step)))
            key.append(0 if isinstance(entries[0], int) else slice(None))
        axis += 1
    plain = all(isinstance(part, slice) and part == slice(None) for part in key)
    numbers = {"parts": parts, "key": None if plain else tuple(key)}
    return [traces.one("slice", numbers, first)]


def _range_of(traces: Traces, entries: Sequence[Any], sizes: Sequence[int]) -> tuple:
    """Return start, length and step of the places that slices or ints take, as numbers."""
    found = []
    for entry, size in zip(entries, sizes, strict=True):
        if isinstance(entry, slice):
            places = range(*entry.indices(size))
            found.append((places.start, len(places), places.step))
        else:
            found.append((entry % size, 1, 1))
    return tuple(traces.numbers(found, "a slice"))


def _split(traces: Traces, first: Step, steps: list[Step]) -> list[Step]:
    axis = first.operation.axis % len(first.shapes[0])
    made, starts = [], [0] * len(steps)
    for place in range(len(first.outputs)):
        lengths = [s.shapes[place][axis] for s in steps]
        numbers = {
            "axis": axis,
            "start": traces.number(starts, "`split`"),
            "length": traces.number(lengths, "`split`"),
        }
        made.append(traces.one("pick", numbers, first, place))
        starts = [a + cast("int", n) for a, n in zip(starts, lengths, strict=True)]
    return made


HANDLERS: dict[str, Callable[..., list[Step]]] = {
    "Reshape": _reshape,
    "BroadcastTo": _broadcast_to,
    "Tile": _repeated("tile"),
    "Repeat": _repeated("repeat"),
    "GetItem": _get_item,
    "Split": _split,
}
