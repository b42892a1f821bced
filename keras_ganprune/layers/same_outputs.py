"""The proof that a copy of a model computes what the model computes, or the first layer that does not."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DifferentOutputsError, PruningWarning
from keras_ganprune.layers.copy_state import paired_layers
from keras_ganprune.layers.inference import replaced_calls, run
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.layers.traversal import walk


def outputs_of(model: keras.layers.Layer, inputs: Any, values: Any = ()) -> list[Any]:
    """Return the outputs of `run` as a flat list of arrays. An output that is no tensor stays as it is.

    Args:
        model, inputs, values: As for `run`.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> [output.shape for output in outputs_of(model, np.ones((3, 4), "float32"))]
    [(3, 2)]
    """
    return arrays_of(run(model, inputs, values))


def arrays_of(structure: Any) -> list[Any]:
    """Return the leaves of a structure of tensors as arrays. What is no tensor stays as it is."""
    result: list[Any] = []
    for leaf in keras.tree.flatten(structure):  # pyright: ignore[reportOptionalIterable]
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            result += arrays_of([getattr(leaf, f.name) for f in dataclasses.fields(leaf)])
            continue
        if hasattr(leaf, "to_tensor"):  # a ragged tensor
            leaf = getattr(leaf, "to_tensor")()  # noqa: B009  (pyright takes it for a dataclass)
        if isinstance(leaf, keras.Variable) or keras.ops.is_tensor(leaf):
            leaf = np.asarray(keras.ops.convert_to_numpy(leaf))
        elif isinstance(leaf, (bool, int, float, complex, str, bytes)):
            leaf = np.asarray(leaf)
        result.append(leaf)
    return result


@dataclass(frozen=True)
class Gap:
    """The difference of two lists of outputs.

    Attributes:
        largest: Float, largest absolute difference; infinite if NaNs differ, or texts, or kinds of outputs.
        scale: Float, largest absolute output of the first list.
        reason: Text that says what differs if it is no number, such as the shapes; or "".
        finite: Whether any output of the first list is a finite number, or there are no numbers.
    """

    largest: float
    scale: float
    reason: str = ""
    finite: bool = True

    def within(self, tolerance: float) -> bool:
        """Return whether the outputs agree up to a tolerance, relative to the largest output."""
        return not self.reason and self.largest <= tolerance * self.scale

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        return (
            f"Largest difference: {self.largest:.3g}, where the largest output is {self.scale:.3g}"
        )


def gap(expected: list[Any], actual: list[Any]) -> Gap:
    """Return the difference of two flat lists of outputs. NaN at the same place in both is none.

    Example:
    >>> print(gap([np.ones(2)], [np.full(2, 1.5)]))
    Largest difference: 0.5, where the largest output is 1
    """
    if len(expected) != len(actual):
        return Gap(np.inf, 0.0, f"Number of outputs: {len(actual)} instead of {len(expected)}")
    largest, scale, finite, numbers = 0.0, 0.0, False, False
    for a, b in zip(expected, actual, strict=True):
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
            if type(a) is not type(b):
                return Gap(np.inf, 0.0, f"Output: {type(b).__name__} instead of {type(a).__name__}")
            continue
        if a.shape != b.shape or a.dtype != b.dtype:
            return Gap(
                np.inf,
                0.0,
                f"Output: {b.dtype} of shape {b.shape} instead of {a.dtype} of {a.shape}",
            )
        if a.dtype.kind in "OSU":
            if not np.array_equal(a, b):
                return Gap(np.inf, 0.0, "Other texts")
            continue
        if not a.size:
            continue
        numbers = True
        a, b = (_wide(x) for x in (a, b))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        known = np.isfinite(a)
        finite |= bool(known.any())
        scale = max(scale, float(np.max(np.abs(a[known]), initial=0.0)))
        with np.errstate(invalid="ignore"):
            differences = np.abs(a - b)[~same]
        if not np.isfinite(differences).all():
            return Gap(np.inf, scale, "NaN or infinite outputs at other places", finite)
        largest = max(largest, float(np.max(differences, initial=0.0)))
    return Gap(largest, scale, "", finite or not numbers)


def _wide(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind == "c" else array.astype("float64")


def check_same_outputs(
    original: keras.layers.Layer,
    result: keras.layers.Layer,
    inputs: Any = None,
    expected: list[Any] | None = None,
    *,
    what: str = "copy",
    fix: str = "",
    tolerance: float = 0.0,
) -> None:
    """Raise an error that names the layer if a copy of a model has other outputs than the model.

    Both run on the same inputs. If the outputs differ, each layer of the copy runs on the arguments that the
    layer of the original got, and gets the outputs of the original's inner layers. So a difference is
    found where it arises, and rounding errors of other layers are not amplified: a model whose
    layers all agree is right, however chaotic it is.

    Args:
        original: The user's model. It is not changed.
        result: A copy with the same layers.
        inputs: As for `probe_inputs`. Defaults to None: random inputs.
        expected: The outputs of the original for `inputs`, if they are known. Defaults to None.
        what: What the copy is called in the error. Defaults to 'copy'.
        fix: Sentence that says what helps, for the error. Defaults to ''.
        tolerance: Largest valid difference, relative to the largest output. Defaults to 0: bit for bit.

    Raises:
        DifferentOutputsError: The copy has other outputs.
        UnbuiltModelError: The inputs of the model are not known.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> check_same_outputs(model, strip_pruning(model))
    """
    inputs = probe_inputs(original, inputs)
    expected = outputs_of(original, inputs) if expected is None else expected
    try:
        found = gap(expected, outputs_of(result, inputs))
    except Exception as error:
        found = Gap(np.inf, 0.0, _raised(error))
    if not found.finite:
        warnings.warn(
            f"All outputs of '{original.name}' on the inputs of the comparison are NaN or infinite, so the "
            f"{what} could not be compared with it. Pass `inputs`, a batch with finite outputs.",
            PruningWarning,
            stacklevel=3,
        )
    if found.within(tolerance):
        return
    parting = _parting(original, result, inputs, tolerance)
    if not parting.layer and found.reason and not parting.random:
        parting = _Parting(f"'{original.name}' ({type(original).__name__})", found, [])
    if parting.layer:
        raise DifferentOutputsError(
            f"The {what} of '{original.name}' must give its outputs. {parting.layer} of the {what} gives "
            f"others for the same inputs. {parting.gap}.{' ' if fix else ''}{fix}"
        )
    if parting.random:
        warnings.warn(
            f"{', '.join(parting.random)} of '{original.name}' gives other outputs in each call, from random "
            f"numbers without a seed. So the {what} could not be compared with it there; its other layers "
            "agree.",
            PruningWarning,
            stacklevel=3,
        )


# Four rounding steps of a type, relative to the largest output. The same operation may round differently for
# arrays that lie elsewhere in memory.
_STEPS = {"float64": 2.0**-50, "float32": 2.0**-21, "float16": 2.0**-8, "bfloat16": 2.0**-5}
# A layer that differs from itself by more than this draws random numbers. Less is rounding: a GPU adds
# numbers in no fixed order.
_NOISE = 1e-3


# --- the layer at which two models part -------------------------------------------------------------


@dataclass
class _Call:
    """One call of a layer: its arguments, and what it returned."""

    layer: keras.layers.Layer
    args: tuple
    kwargs: dict[str, Any]
    outputs: Any


@dataclass
class _Parting:
    """Where two models part.

    Attributes:
        layer: The first layer whose outputs differ, in words, or "" if every layer agrees.
        gap: The difference of its outputs.
        random: The layers that give other outputs in each call.
    """

    layer: str
    gap: Gap
    random: list[str]


def _parting(
    original: keras.layers.Layer, result: keras.layers.Layer, inputs: Any, tolerance: float
) -> _Parting:
    """Return the first layer of a copy that computes something else than that of the original."""
    pairs = paired_layers(original, result)
    partner = {id(a): b for _, a, b in reversed(pairs)}
    paths = {id(a): path for path, a, _ in reversed(pairs)}
    random: list[str] = []
    # Calls that cannot be repeated alone. They run as a part of the call around them.
    opaque: set[int] = set()
    for call, inner in _with_inner(_recorded(original, inputs)):
        inner = [c for c in inner if id(c) not in opaque]
        copies = [dataclasses.replace(c, layer=partner[id(c.layer)]) for c in inner]
        actual = _replayed(partner[id(call.layer)], call, copies)
        first = _replayed(call.layer, call, inner)
        if isinstance(first, Exception):
            opaque.add(id(call))
            continue
        found = _local_gap(first, actual, tolerance)
        if found is None:
            continue
        second = _replayed(call.layer, call, inner)
        noise = _local_gap(first, second, 0.0)
        name = f"'{paths[id(call.layer)]}' ({type(call.layer).__name__})"
        if noise is None:
            return _Parting(name, found, random)
        if not noise.within(_NOISE):
            random.append(name)
        elif found.largest > 10 * noise.largest:
            return _Parting(name, found, random)
    return _Parting("", Gap(0.0, 0.0), random)


def _local_gap(expected: Any, actual: Any, tolerance: float) -> Gap | None:
    """Return the difference of the outputs of one layer, or None if it is at most one of rounding."""
    if isinstance(actual, Exception):
        return Gap(np.inf, 0.0, _raised(actual))
    found = gap(expected, actual)
    steps = [_STEPS.get(str(a.dtype), 0.0) for a in expected if isinstance(a, np.ndarray)]
    return None if found.within(max([tolerance, *steps])) else found


def _raised(error: Exception) -> str:
    """Return an error of a layer as text. Keras puts the error itself in the middle of its own words."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = (
        lines[1] if len(lines) > 1 and lines[0].startswith("Exception encountered") else str(error)
    )
    text = " ".join(re.sub("\x1b\\[[0-9;]*m", "", text).split())
    return f"It raises {type(error).__name__}: {text[:300].rstrip('.')}"


def _concrete(structure: Any) -> bool:
    """Return whether all tensors have values. Those of a traced function have none."""
    try:
        arrays_of(structure)
    except Exception:
        return False
    return True


def _recorded(model: keras.layers.Layer, inputs: Any) -> list[tuple[_Call, int]]:
    """Return the layer calls of one run, each with its depth, inner calls before the call around them."""
    calls: list[tuple[_Call, int]] = []
    depth = 0

    def replacement(layer, call):
        def call_and_record(*args, **kwargs):
            nonlocal depth
            depth += 1
            try:
                outputs = call(*args, **kwargs)
            finally:
                depth -= 1
            if _concrete((args, kwargs, outputs)):
                calls.append((_Call(layer, args, dict(kwargs), outputs), depth))
            return outputs

        return call_and_record

    with replaced_calls([layer for _, layer in walk(model)], replacement):
        run(model, inputs)
    return calls


def _with_inner(calls: list[tuple[_Call, int]]) -> Iterator[tuple[_Call, list[_Call]]]:
    """Return each call with the calls that it makes itself."""
    open_calls: list[tuple[_Call, int]] = []
    for call, depth in calls:
        inner = [c for c, d in open_calls if d > depth]
        nearest = min((d for _, d in open_calls if d > depth), default=0)
        yield call, [c for c, d in open_calls if d == nearest] if inner else []
        open_calls = [pair for pair in open_calls if pair[1] <= depth]
        open_calls.append((call, depth))


def _replayed(layer: keras.layers.Layer, call: _Call, inner: list[_Call]) -> Any:
    """Return what a layer computes for the arguments of a call, as arrays, or the error that it raises.

    Its inner layers return what they returned in that call. So the result is what the layer itself
    computes: the arguments of its inner layers, and its outputs.
    """
    left = list(inner)
    passed: list[Any] = []

    def replacement(child, own_call):
        def replay(*args, **kwargs):
            for i, record in enumerate(left):
                if record.layer is child:
                    passed.append((args, kwargs))
                    return left.pop(i).outputs
            return own_call(*args, **kwargs)

        return replay

    children = {id(c.layer): c.layer for c in inner}
    kwargs = {k: v for k, v in call.kwargs.items() if k != "training"}
    with replaced_calls(children.values(), replacement), keras.StatelessScope():
        try:
            outputs = layer(*call.args, **kwargs, training=False)
            return arrays_of((passed, outputs))
        except Exception as error:
            return error
