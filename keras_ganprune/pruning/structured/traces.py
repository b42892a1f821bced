"""What a `call` does on symbols: its operations, and the concrete sizes that stand for unknown ones."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.pruning.structured.made_tensors import Recorder

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


def is_array(value: Any) -> bool:
    """Return whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray) or bool(keras.ops.is_tensor(value))


def same_array(one: Any, other: Any) -> bool:
    """Return whether two arrays or tensors have the same shape and values."""
    if isinstance(one, keras.KerasTensor) or isinstance(other, keras.KerasTensor):
        return False
    a, b = (np.asarray(keras.ops.convert_to_numpy(v)) for v in (one, other))
    return a.shape == b.shape and np.array_equal(a, b)


@dataclass
class UnknownSizes:
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


def sizes_to_try(shapes: Sequence[tuple[int | None, ...]]) -> Iterator[UnknownSizes]:
    """Yield sizes in the place of the unknown ones, the likeliest first."""
    unknown = sum(n is None for shape in shapes for n in shape[1:])
    for batch in _BATCHES:
        for other in _OTHERS if unknown else _OTHERS[:1]:
            for joined in (False, True) if unknown > 1 else (False,):
                yield UnknownSizes(list(shapes), joined, batch, other)


# Tracing patches classes and modules of Keras, which all threads share.
_LOCK = threading.RLock()


@contextlib.contextmanager
def one_thread() -> Iterator[Callable[[], bool]]:
    """Within the context no other thread traces.

    Other threads may build models meanwhile: what is patched asks who calls it, and is as before for them.

    Yields: Function that returns whether the thread that asks is the one that traces.
    """
    with _LOCK:
        owner = threading.get_ident()
        yield lambda: threading.get_ident() == owner


@contextlib.contextmanager
def symbols_as_tensors(is_tracing: Callable[[], bool]) -> Iterator[None]:
    """Within the context, symbols take the keys that tensors take, and refuse `==` and `!=` with a value.

    A symbol has no such operators, so that Python compares identities and gives False or True. The graph
    would hold this constant in the place of the comparison.

    Args:
        is_tracing: Function of `one_thread`.
    """

    def refuse(symbol: Any, other: Any) -> Any:
        if not is_tracing() or other is None or isinstance(other, (keras.KerasTensor, str, type)):
            return NotImplemented
        raise TypeError("it compares a tensor by `==` or `!=`; use `keras.ops.equal` instead")

    def get_item(symbol: Any, key: Any) -> Any:
        if not is_tracing():
            return before(symbol, key)
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
