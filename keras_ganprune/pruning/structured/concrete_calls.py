"""The inside of a layer, traced with concrete sizes as Keras does it, once more for each unknown size.

A number that changes with a size belongs to the batch or to a length, not to channels. The operations that
take such numbers are replaced by `Sized` ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.pruning.structured.made_tensors import Made, Recorder
from keras_ganprune.pruning.structured.sized_operations import Sized
from keras_ganprune.pruning.structured.sizes import Scalar, Size, solve

# Pairs of sizes (of the first trace, of the trace where it changes) for a batch and for any other axis.
# Layers divide them: into groups of samples, heads, patches, poolings.
_BATCHES = ((8, 12), (32, 64))
_OTHERS = ((16, 24), (4, 6), (8, 12), (64, 96), (224, 256), (5, 7), (2, 3))


class NotFollowedError(Exception):
    """The inside of a layer cannot be written as operations of Keras; the text says why."""


@dataclass
class Step:
    """One call inside a layer.

    Attributes:
        operation: The layer or operation.
        args: Positional arguments, with symbols of the first trace in the place of tensors.
        kwargs: Keyword arguments, likewise.
        outputs: The symbols that it returns.
        shapes: Their shapes, with None for unknown sizes.
    """

    operation: Any
    args: tuple
    kwargs: dict[str, Any]
    outputs: list[Any]
    shapes: list[tuple[int | None, ...]]


@dataclass
class Trace:
    """One run of a `call` on symbols.

    Attributes:
        symbols: The symbols in the place of the tensors among the arguments.
        outputs: The structure that `call` returned.
        steps: Its calls, in an order in which they can run.
        recorder: What it made from numbers.
    """

    symbols: list[Any]
    outputs: Any
    steps: list[Step]
    recorder: Recorder


# The shape and type of a tensor; None for an unknown size.
Spec = tuple[tuple["int | None", ...], str]
# Runs a `call` on symbols: (symbols, recorder) -> structure of outputs.
Run = Callable[[list[Any], Recorder], Any]


def leaves(structure: Any) -> list[Any]:
    """Return the leaves of a nested structure of lists, tuples and dicts."""
    # Keras annotates that `flatten` may return None, which it never does.
    return cast("list[Any]", keras.tree.flatten(structure))


def steps_of(symbols: Sequence[Any], outputs: Any) -> list[Step]:
    """Return the calls between symbols and outputs.

    Private touch: the nodes of a function, by depth, are the only record of its calls.
    """
    found = [leaf for leaf in leaves(outputs) if isinstance(leaf, keras.KerasTensor)]
    if not found:
        raise NotFollowedError("it returns no tensor that depends on its inputs")
    by_depth = keras.Function(list(symbols), found)._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [
        Step(
            node.operation,
            node.arguments.args,
            node.arguments.kwargs,
            list(node.outputs),
            [tuple(k.shape) for k in node.outputs],
        )
        for node in nodes
        if not node.is_input
    ]


@dataclass
class _Sizes:
    """The unknown sizes of a call.

    Attributes:
        shapes: Shapes of the tensors, with None for unknown sizes.
        joined: Whether the unknown sizes of all axes but the batch are the same.
        pairs: For each size, that of the first trace and that of the trace where it changes.
        places: For each size, the pairs (number of a tensor, axis) that have it.
    """

    shapes: list[tuple[int | None, ...]]
    joined: bool
    batch: tuple[int, int]
    other: tuple[int, int]
    pairs: list[tuple[int, int]] = field(default_factory=list)
    places: list[list[tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self):
        known: dict[Any, int] = {}
        for number, shape in enumerate(self.shapes):
            for axis, size in enumerate(shape):
                if size is not None:
                    continue
                key: Any = "batch" if not axis else "other" if self.joined else (number, axis)
                if key not in known:
                    known[key] = len(self.pairs)
                    self.pairs.append(self.batch if not axis else self.other)
                    self.places.append([])
                self.places[known[key]].append((number, axis))

    def concrete(self, changed: int | None) -> list[tuple[int, ...]]:
        """Return the shapes of the first trace, or of that where one size changes."""
        found = [list(shape) for shape in self.shapes]
        for k, (pair, places) in enumerate(zip(self.pairs, self.places, strict=True)):
            for number, axis in places:
                found[number][axis] = pair[k == changed]
        return [tuple(cast("list[int]", shape)) for shape in found]


def sizes_to_try(shapes: Sequence[tuple[int | None, ...]]) -> Iterator[_Sizes]:
    """Yield sizes in the place of the unknown ones, the likeliest first."""
    unknown = sum(n is None for shape in shapes for n in shape[1:])
    for batch in _BATCHES:
        for other in _OTHERS if unknown else _OTHERS[:1]:
            for joined in (False, True) if unknown > 1 else (False,):
                yield _Sizes(list(shapes), joined, batch, other)


def traced(specs: Sequence[Spec], run: Run) -> Trace:
    """Return the calls of a layer on tensors of unknown sizes, with `Sized` operations where they matter.

    Args:
        specs: Shapes and types of the tensors among the arguments.
        run: Function that runs `call` on symbols.

    Raises:
        NotFollowedError: An operation takes such a number and cannot be replaced.
        Exception: `call` fails for all sizes that were tried: its error for the first ones.
    """
    failure: Exception | None = None
    for sizes in sizes_to_try([shape for shape, _ in specs]):
        try:
            return _Traces(sizes, [dtype for _, dtype in specs], run).result()
        except NotFollowedError:
            raise
        except Exception as error:
            failure = failure or error
    raise failure or NotFollowedError("it has no inputs")


@dataclass
class _Plan:
    """A `Sized` operation in the place of a function that makes a tensor."""

    kind: str
    numbers: dict[str, Any]
    tensors: tuple = ()


class _Traces:
    """The traces of one call: the first, and one for each unknown size."""

    def __init__(self, sizes: _Sizes, dtypes: list[str], run: Run):
        self.sizes, self.dtypes, self.run = sizes, dtypes, run
        self.all = [self._trace(self._symbols(k), Recorder()) for k in self._changes()]
        count = len(self.all[0].recorder.made)
        if any(len(trace.recorder.made) != count for trace in self.all):
            raise NotFollowedError("it makes more tensors for more places (a loop over a size?)")
        self._replace_made()

    def _changes(self) -> list[int | None]:
        return [None, *range(len(self.sizes.pairs))]

    def _symbols(self, changed: int | None) -> list[Any]:
        shapes = self.sizes.concrete(changed)
        return [
            keras.Input(batch_shape=shape, dtype=dtype)
            for shape, dtype in zip(shapes, self.dtypes, strict=True)
        ]

    def _trace(self, symbols: list[Any], recorder: Recorder) -> Trace:
        outputs = self.run(symbols, recorder)
        return Trace(symbols, outputs, steps_of(symbols, outputs), recorder)

    def number(self, values: Sequence[Any], what: str) -> Any:
        """Return a number that is the same in all traces, or how it depends on the sizes."""
        values = [int(v) if isinstance(v, np.integer) else v for v in values]
        if all(v == values[0] for v in values):
            return values[0]
        found = None
        if all(isinstance(v, (int, float)) for v in values):
            found = solve(values, self.sizes.pairs)
        if found is None:
            raise NotFollowedError(f"{what} takes a number that depends on a size in an unknown way")
        return found

    def numbers(self, rows: Sequence[Sequence[Any]], what: str) -> list[Any]:
        """Return the numbers of lists, such as shapes."""
        if len({len(row) for row in rows}) > 1:
            raise NotFollowedError(f"{what} takes more numbers for other sizes")
        return [self.number(values, what) for values in zip(*rows, strict=True)]

    # --- tensors made from numbers ----------------------------------------------------------------

    def _replace_made(self) -> None:
        """Trace again with symbols in the place of tensors that depend on sizes."""
        count = len(self.all[0].recorder.made)
        plans = [self._plan([t.recorder.made[i] for t in self.all]) for i in range(count)]
        if not any(plans):
            return
        before, self.all = self.all, []
        for trace, changed in zip(before, self._changes(), strict=True):
            recorder, symbols = Recorder(), self._symbols(changed)
            for plan, made in zip(plans, trace.recorder.made, strict=True):
                node = None if plan is None else self._node(plan, made, symbols)
                recorder.replaced.append((made, node))
            self.all.append(self._trace(symbols, recorder))

    def _node(self, plan: _Plan, made: Made, symbols: list[Any]) -> Callable[[], Any]:
        def make() -> Any:
            axes, names = self._references(plan.numbers)
            references = {str(k): symbols[i] for k, i in names.items()}
            op = Sized(plan.kind, plan.numbers, made.dtype, axes, made.shape)
            return op.node(list(plan.tensors), references)

        return make

    def _references(self, numbers: Any) -> tuple[dict[int, int], dict[int, int]]:
        """Return, for each size that numbers depend on, its axis and the number of its tensor."""
        used = set().union(*(n.used for n in _numbers_in(numbers)))
        places = {k: self.sizes.places[k][0] for k in sorted(used)}
        return {k: axis for k, (_, axis) in places.items()}, {k: i for k, (i, _) in places.items()}

    def _plan(self, made: list[Made]) -> _Plan | None:
        """Return the operations that make a tensor for all sizes, or None if it is a constant."""
        first, name = made[0], made[0].name
        if any(m.name != name for m in made):
            raise NotFollowedError("it makes other tensors for other sizes")
        arguments = [m.arguments for m in made]
        if all(m.is_like(name, first.arguments) and m.shape == first.shape for m in made):
            return None
        what = f"`{name}`"

        def number(key: str, default: Any = None) -> Any:
            return self.number([default if a[key] is None else a[key] for a in arguments], what)

        shape = self.numbers([m.shape for m in made], what)
        if name in ("zeros", "ones", "full"):
            value = {"zeros": 0, "ones": 1}.get(name)
            value = first.arguments["fill_value"] if value is None else value
            return _Plan("full", {"shape": shape, "value": value})
        if name == "arange":
            rows = [(0, a["start"]) if a["stop"] is None else (a["start"], a["stop"]) for a in arguments]
            numbers = {
                "start": self.number([row[0] for row in rows], what),
                "length": shape[0],
                "step": number("step", 1),
            }
            return _Plan("arange", numbers)
        if name in ("eye", "tri", "identity"):
            k = 0 if name == "identity" else number("k", 0)
            numbers = {"rows": shape[0], "columns": shape[1], "k": k}
            return _Plan("tri" if name == "tri" else "eye", numbers)
        if name == "linspace" and not first.arguments["retstep"] and len(first.shape) == 1:
            numbers = {key: number(key) for key in ("start", "stop", "endpoint")}
            return _Plan("linspace", {**numbers, "num": shape[0]})
        if name in ("broadcast_to", "tile", "repeat"):
            x = first.arguments["x"]
            if all(_same_array(x, a["x"]) for a in arguments):
                return self._repeated_constant(name, x, shape, made)
        raise NotFollowedError(f"{what} makes a tensor that depends on a size in an unknown way")

    def _repeated_constant(self, name: str, x: Any, shape: list, made: list[Made]) -> _Plan:
        x = np.asarray(keras.ops.convert_to_numpy(x))
        x = x.reshape((1,) * (len(shape) - x.ndim) + x.shape) if name != "repeat" else x
        spread = all(n == 1 for n, new in zip(x.shape, shape, strict=True) if isinstance(new, Size))
        if name == "broadcast_to" or (spread and name == "tile"):
            if name == "tile":
                x = np.tile(x, [1 if isinstance(n, Size) else n // m for n, m in zip(shape, x.shape, strict=True)])
            return _Plan("broadcast", {"shape": shape}, (x,))
        if sum(isinstance(n, Size) for n in shape) != 1 or len(shape) != x.ndim:
            raise NotFollowedError(f"`{name}` makes a tensor that depends on several sizes")
        axis = next(a for a, n in enumerate(shape) if isinstance(n, Size))
        if name == "tile":
            repeats = [1 if a == axis else n // m for a, (n, m) in enumerate(zip(shape, x.shape, strict=True))]
            x, period = np.tile(x, repeats), x.shape[axis]
        else:
            period = self.number([m.shape[axis] // x.shape[axis] for m in made], f"`{name}`")
        return _Plan(name, {"axis": axis, "length": shape[axis], "period": period}, (x,))

    # --- operations -------------------------------------------------------------------------------

    def result(self) -> Trace:
        """Return the first trace, with `Sized` operations in the place of those that depend on sizes."""
        first = self.all[0]
        if any(len(trace.steps) != len(first.steps) for trace in self.all):
            raise NotFollowedError("it runs more operations for more places (a loop over a size?)")
        steps: list[Step] = []
        for i in range(len(first.steps)):
            steps += self._step([trace.steps[i] for trace in self.all])
        return Trace(first.symbols, first.outputs, steps, first.recorder)

    def _step(self, steps: list[Step]) -> list[Step]:
        """Return the calls in the place of one that occurs in all traces."""
        first, kind = steps[0], type(steps[0].operation).__name__
        if any(type(s.operation) is not type(first.operation) for s in steps):
            raise NotFollowedError("it runs other operations for other sizes")
        shapes = [
            tuple(None if len(set(sizes)) > 1 else sizes[0] for sizes in zip(*rows, strict=True))
            for rows in zip(*(s.shapes for s in steps), strict=True)
        ]
        first = Step(first.operation, first.args, first.kwargs, first.outputs, shapes)
        if isinstance(first.operation, Sized):
            return [first]
        changed = [name for name in _attributes(first.operation) if self._differ(steps, name)]
        rows = [leaves((s.args, s.kwargs)) for s in steps]
        if len({len(row) for row in rows}) > 1:
            raise NotFollowedError(f"`{kind}` gets more arguments for other sizes")
        places = [i for i, values in enumerate(zip(*rows, strict=True)) if _are_other(values)]
        if not changed and not places:
            return [first]
        handler = _HANDLERS.get(kind)
        is_layer = isinstance(first.operation, keras.layers.Layer)
        if handler is not None and not is_layer:
            return handler(self, first, steps)
        if changed or is_layer:
            raise NotFollowedError(f"`{kind}` takes a number that depends on a size")
        return self._with_scalars(first, rows, places)

    def _differ(self, steps: list[Step], name: str) -> bool:
        return len({str(getattr(s.operation, name)) for s in steps}) > 1

    def _with_scalars(self, first: Step, rows: list[list[Any]], places: list[int]) -> list[Step]:
        """Put tensors in the place of numbers that depend on sizes."""
        kind = type(first.operation).__name__
        flat, before = list(rows[0]), []
        for i in places:
            values = [_as_number(row[i], kind) for row in rows]
            number = self.number(values, f"`{kind}`")
            dtype = _number_type(rows[0], rows[0][i])
            symbol = keras.KerasTensor((), dtype)
            before.append(self._sized("scalar", {"value": number}, [], symbol, (), dtype))
            flat[i] = symbol
        args, kwargs = keras.tree.pack_sequence_as((first.args, first.kwargs), flat)  # type: ignore[misc]
        return [*before, Step(first.operation, args, kwargs, first.outputs, first.shapes)]

    def _sized(
        self, kind: str, numbers: dict, tensors: list, output: Any, shape: tuple, dtype: str
    ) -> Step:
        """Return a call of a `Sized` operation."""
        axes, names = self._references(numbers)
        symbols = self.all[0].symbols
        op = Sized(kind, numbers, dtype, axes, tuple(output.shape))
        references = {str(k): symbols[i] for k, i in names.items()}
        return Step(op, (tensors, references), {}, [output], [shape])

    def one(self, kind: str, numbers: dict, first: Step, place: int = 0) -> Step:
        """Return a `Sized` operation on the first tensor of a call, for one of its outputs."""
        output = first.outputs[place]
        x = leaves((first.args, first.kwargs))[0]
        return self._sized(kind, numbers, [x], output, first.shapes[place], output.dtype)


# --- operations that take sizes ----------------------------------------------------------------------


def _reshape(traces: _Traces, first: Step, steps: list[Step]) -> list[Step]:
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


def _broadcast_to(traces: _Traces, first: Step, steps: list[Step]) -> list[Step]:
    shape = traces.numbers([s.shapes[0] for s in steps], "`broadcast_to`")
    return [traces.one("broadcast", {"shape": shape}, first)]


def _repeated(kind: str) -> Callable[..., list[Step]]:
    def handler(traces: _Traces, first: Step, steps: list[Step]) -> list[Step]:
        olds = [tuple(leaves((s.args, s.kwargs))[0].shape) for s in steps]
        news = [s.shapes[0] for s in steps]
        if len(olds[0]) != len(news[0]):
            raise NotFollowedError(f"`{kind}` adds axes and takes a number that depends on a size")
        axes = [
            a for a in range(len(news[0])) if any(m[a] != n[a] for m, n in zip(olds, news, strict=True))
        ]
        shape = traces.numbers(news, f"`{kind}`")
        if all(old[a] == 1 for old in olds for a in axes):
            return [traces.one("broadcast", {"shape": shape}, first)]
        if len(axes) != 1:
            raise NotFollowedError(f"`{kind}` repeats several axes and depends on a size")
        (axis,) = axes
        periods = [
            m[axis] if kind == "tile" else n[axis] // m[axis] for m, n in zip(olds, news, strict=True)
        ]
        period = traces.number(periods, f"`{kind}`")
        numbers = {"axis": axis, "length": shape[axis], "period": period}
        return [traces.one(kind, numbers, first)]

    return handler


def _get_item(traces: _Traces, first: Step, steps: list[Step]) -> list[Step]:
    from keras_ganprune.pruning.structured.rules.slices import parts_by_axis

    rows, shapes = [], []
    for step in steps:
        key = step.kwargs["key"] if "key" in step.kwargs else step.args[1]
        shapes.append(tuple(step.args[0].shape))
        rows.append(parts_by_axis(key, len(shapes[-1])))
    if any(row is None or len(row) != len(rows[0]) for row in rows):
        raise NotFollowedError("it picks places one by one, and takes a number that depends on a size")
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


def _range_of(traces: _Traces, entries: Sequence[Any], sizes: Sequence[int]) -> tuple:
    """Return start, length and step of the places that slices or ints take, as numbers."""
    found = []
    for entry, size in zip(entries, sizes, strict=True):
        if isinstance(entry, slice):
            places = range(*entry.indices(size))
            found.append((places.start, len(places), places.step))
        else:
            found.append((entry % size, 1, 1))
    return tuple(traces.numbers(found, "a slice"))


def _split(traces: _Traces, first: Step, steps: list[Step]) -> list[Step]:
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


_HANDLERS: dict[str, Callable[..., list[Step]]] = {
    "Reshape": _reshape,
    "BroadcastTo": _broadcast_to,
    "Tile": _repeated("tile"),
    "Repeat": _repeated("repeat"),
    "GetItem": _get_item,
    "Split": _split,
}


# --- comparisons of traces ---------------------------------------------------------------------------


def _numbers_in(structure: Any) -> list[Any]:
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, (list, tuple)):
        return [n for part in structure for n in _numbers_in(part)]
    return [structure] if isinstance(structure, (Size, Scalar)) else []


def _attributes(operation: Any) -> list[str]:
    """Return the names of the arguments that an operation of `keras.ops` holds."""
    if isinstance(operation, keras.layers.Layer):
        return []
    return [n for n in vars(operation) if n != "name" and not n.startswith("_")]


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or bool(keras.ops.is_tensor(value))


def _same_array(one: Any, other: Any) -> bool:
    if isinstance(one, keras.KerasTensor) or isinstance(other, keras.KerasTensor):
        return False
    a, b = (np.asarray(keras.ops.convert_to_numpy(v)) for v in (one, other))
    return a.shape == b.shape and np.array_equal(a, b)


def _are_other(values: Sequence[Any]) -> bool:
    """Return whether the traces have other values at one place of their arguments."""
    first = values[0]
    if isinstance(first, (keras.KerasTensor, keras.Variable)):
        return False
    if _is_array(first):
        return not all(_is_array(v) and _same_array(first, v) for v in values[1:])
    return not all(v is first or v == first for v in values[1:])


def _as_number(value: Any, kind: str) -> Any:
    if isinstance(value, (bool, str)) or value is None:
        raise NotFollowedError(f"`{kind}` takes a value that depends on a size")
    if _is_array(value):
        array = np.asarray(keras.ops.convert_to_numpy(value))
        if array.ndim:
            raise NotFollowedError(
                f"`{kind}` takes an array that depends on a size and was not made by `keras.ops`"
            )
        return array.item()
    if not isinstance(value, (int, float, np.number)):
        raise NotFollowedError(f"`{kind}` takes an argument that depends on a size")
    return value if isinstance(value, (int, float)) else value.item()


def _number_type(row: list[Any], value: Any) -> str:
    """Return the type of a number: its own, or of the tensor that it meets, as in `x / n`."""
    if _is_array(value):
        return keras.backend.standardize_dtype(value.dtype)
    met = [k.dtype for k in row if isinstance(k, keras.KerasTensor)]
    return next((d for d in met if "float" in d), "float32" if isinstance(value, float) else "int32")


@contextlib.contextmanager
def symbols_as_tensors() -> Iterator[None]:
    """Within the context, symbols take the keys that tensors take, and refuse `==` and `!=` with a value.

    A symbol has no such operators, so that Python compares identities and gives False or True. The graph
    would hold this constant in the place of the comparison.
    """

    def refuse(symbol: Any, other: Any) -> Any:
        if other is None or isinstance(other, (keras.KerasTensor, str, type)):
            return NotImplemented
        raise TypeError("it compares a tensor by `==` or `!=`; use `keras.ops.equal` instead")

    def get_item(symbol: Any, key: Any) -> Any:
        entries = list(key) if isinstance(key, (tuple, list)) else [key]
        plain = [int(k) if isinstance(k, np.integer) else k for k in entries]
        return before(symbol, tuple(plain))

    before: Any = keras.KerasTensor.__getitem__
    for name in ("__eq__", "__ne__"):
        setattr(keras.KerasTensor, name, refuse)
    setattr(keras.KerasTensor, "__getitem__", get_item)  # noqa: B010
    try:
        yield
    finally:
        setattr(keras.KerasTensor, "__getitem__", before)  # noqa: B010
        for name in ("__eq__", "__ne__"):
            delattr(keras.KerasTensor, name)
