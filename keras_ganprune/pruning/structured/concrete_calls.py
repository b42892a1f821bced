"""The inside of a layer, traced with concrete sizes as Keras does it, once more for each unknown size.

A number that changes with a size belongs to the batch or to a length, not to channels. The operations that
take such numbers are replaced by `Sized` ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.pruning.structured.made_tensors import Made, Recorder
from keras_ganprune.pruning.structured.sized_operations import Sized
from keras_ganprune.pruning.structured.sized_plans import HANDLERS, Plan, plan
from keras_ganprune.pruning.structured.sizes import Scalar, Size, solve
from keras_ganprune.pruning.structured.traces import (
    NotFollowedError,
    Run,
    Spec,
    Step,
    Trace,
    UnknownSizes,
    is_array,
    leaves,
    same_array,
    sizes_to_try,
    steps_of,
)


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
            return Traces(sizes, [dtype for _, dtype in specs], run).result()
        except NotFollowedError:
            raise
        except Exception as error:
            failure = failure or error
    raise failure or NotFollowedError("it has no inputs")


class Traces:
    """The traces of one call: the first, and one for each unknown size."""

    def __init__(self, sizes: UnknownSizes, dtypes: list[str], run: Run):
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
            raise NotFollowedError(
                f"{what} takes a number that depends on a size in an unknown way"
            )
        return found

    def numbers(self, rows: Sequence[Sequence[Any]], what: str) -> list[Any]:
        """Return the numbers of lists, such as shapes."""
        if len({len(row) for row in rows}) > 1:
            raise NotFollowedError(f"{what} takes more numbers for other sizes")
        return [self.number(values, what) for values in zip(*rows, strict=True)]

    # --- tensors made from numbers ----------------------------------------------------------------

    def _replace_made(self) -> None:
        """Trace again with symbols in the place of tensors that depend on sizes."""
        plans = [
            self._planned([t.recorder.made[i] for t in self.all])
            for i in range(len(self.all[0].recorder.made))
        ]
        if not any(plans):
            return
        before, self.all = self.all, []
        for trace, changed in zip(before, self._changes(), strict=True):
            recorder, symbols = Recorder(), self._symbols(changed)
            for planned, made in zip(plans, trace.recorder.made, strict=True):
                node = None if planned is None else self._node(planned, made, symbols)
                recorder.replaced.append((made, node))
            self.all.append(self._trace(symbols, recorder))

    def _planned(self, made: list[Made]) -> Plan | NotFollowedError | None:
        try:
            return plan(self, made)
        except NotFollowedError as error:
            # It may be made from a tensor that is a symbol in the next traces.
            return error

    def _node(
        self, plan: Plan | NotFollowedError, made: Made, symbols: list[Any]
    ) -> Callable[[], Any]:
        def make() -> Any:
            if isinstance(plan, NotFollowedError):
                raise plan
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

    # --- operations -------------------------------------------------------------------------------

    def result(self) -> Trace:
        """Return the first trace, with `Sized` operations in the place of those that depend on sizes."""
        first = self.all[0]
        if any(len(trace.steps) != len(first.steps) for trace in self.all):
            raise NotFollowedError("it runs more operations for more places (a loop over a size?)")
        steps: list[Step] = []
        shapes = {id(k): s for k, s in zip(first.symbols, self.sizes.shapes, strict=True)}
        for i in range(len(first.steps)):
            for step in self._step([trace.steps[i] for trace in self.all]):
                _check_open(step, shapes)
                shapes.update((id(k), s) for k, s in zip(step.outputs, step.shapes, strict=True))
                steps.append(step)
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
        handler = HANDLERS.get(kind)
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


def _check_open(step: Step, shapes: dict[int, tuple[int | None, ...]]) -> None:
    """Raise if an operation cannot run on symbols of unknown sizes, as the smaller model will."""
    operation = step.operation
    if isinstance(operation, (keras.layers.Layer, Sized)):
        return

    def symbol(leaf: Any) -> Any:
        is_symbol = isinstance(leaf, keras.KerasTensor)
        return (
            keras.KerasTensor(shapes.get(id(leaf), leaf.shape), leaf.dtype) if is_symbol else leaf
        )

    args, kwargs = cast("Any", keras.tree.map_structure(symbol, (step.args, step.kwargs)))
    try:
        operation.compute_output_spec(*args, **kwargs)
    except Exception as error:
        name = type(operation).__name__
        raise NotFollowedError(f"`{name}` needs to know all sizes ({error})") from error


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


def _are_other(values: Sequence[Any]) -> bool:
    """Return whether the traces have other values at one place of their arguments."""
    first = values[0]
    if isinstance(first, (keras.KerasTensor, keras.Variable)):
        return False
    if is_array(first):
        return not all(is_array(v) and same_array(first, v) for v in values[1:])
    return not all(v is first or v == first for v in values[1:])


def _as_number(value: Any, kind: str) -> Any:
    if isinstance(value, (bool, str)) or value is None:
        raise NotFollowedError(f"`{kind}` takes a value that depends on a size")
    if is_array(value):
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
    if is_array(value):
        return keras.backend.standardize_dtype(value.dtype)
    met = [k.dtype for k in row if isinstance(k, keras.KerasTensor)]
    return next(
        (d for d in met if "float" in d), "float32" if isinstance(value, float) else "int32"
    )
