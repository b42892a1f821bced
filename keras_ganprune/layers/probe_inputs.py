"""Inputs to compare two models with: arrays of the shapes, types and ranges that a model takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.layers.argument_shapes import argument_symbols
from keras_ganprune.layers.given_inputs import check_given
from keras_ganprune.layers.inference import (
    inner_function,
    positional_names,
    replaced_calls,
    run,
    symbolic_inputs,
)
from keras_ganprune.layers.traversal import walk
from keras_ganprune.layers.value_ranges import Fill, values_for

# Sizes that stand for an unknown one. Those behind the first are for models that fail on it: they need
# multiples, a least or a largest size.
SIZES = (8, 16, 32, 64, 96, 128, 256, 4, 12, 6, 2, 1, 10, 5, 3)
# Numbers of samples for models that fail on that of the caller: they divide a batch into groups.
_BATCHES = (8, 32, 12, 2, 1)
# So many entries an input of unknown size may have.
_MOST = 4_000_000
# So many times, values that were found are put in, to find those of layers behind.
_ROUNDS = 4


@dataclass
class _Leaf:
    """One input.

    Attributes:
        shape: Tuple of ints or None.
        dtype: Name of the type.
        guessed: Whether the type is not known: a subclassed model knows the shapes only.
        array: The user's own array, or None.
    """

    shape: tuple[int | None, ...]
    dtype: str
    guessed: bool = False
    array: Any = None


@dataclass
class _Found:
    """What a layer takes: the entries of an input that reach it unchanged, and values for them."""

    index: int
    entries: np.ndarray
    fill: Fill
    shape: tuple[int, ...]


def probe_inputs(
    model: keras.layers.Layer, inputs: Any = None, batch: int = 4, seed: int = 0
) -> Any:
    """Return arrays to call a model with, of its own shapes and types and in the range of its layers.

    The range is read from the layers that an input reaches unchanged: tokens for an embedding, words for a
    lookup, values around its mean for a `Normalization`. Other floats are standard normal, other ints 0 or 1.

    Args:
        model: A built Keras model.
        inputs: Arrays or tensors, or a list or dict of them; a tuple of positional arguments of `call`; or
            `keras.Input`s, which are filled as above. Defaults to None: the model's own inputs.
        batch: Size of the first axis, where the model has no fixed one. Defaults to 4.
        seed: Int, seed of the random numbers. Defaults to 0.

    Returns:
        Structure of NumPy arrays. A tuple holds the positional arguments of `call`.

    Raises:
        InvalidArgumentError: `inputs` cannot be inputs of the model.
        UnbuiltModelError: The inputs of the model are not known.
        UnsupportedLayerError: The model has unknown sizes, and fails on every size that was tried.

    Example:
    >>> model = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(50, 2)])
    >>> int(probe_inputs(model).max())
    49
    """
    candidates = [_given(inputs)] if inputs is not None else _own_inputs(model)
    if inputs is not None:
        check_given(model, candidates[0])
    failure: Exception | None = None
    for count, size in _tries(candidates[0], batch):
        for structure in candidates:
            arrays = _arrays(structure, count, size, np.random.default_rng(seed))
            arrays = _in_range(model, structure, arrays, seed)
            packed = keras.tree.pack_sequence_as(structure, arrays)
            error = _failure(model, packed)
            if error is None:
                return packed
            failure = failure or error
    reason = " ".join(str(failure).split())[:300]
    raise UnsupportedLayerError(
        f"'{model.name}' could not be called on random inputs ({type(failure).__name__}: {reason}). Pass "
        "`inputs`, a batch that it can be called with."
    ) from failure


def _tries(structure: Any, batch: int) -> list[tuple[int, int]]:
    """Return the pairs (number of samples, unknown size) to try, the likeliest first."""
    leaves = _leaves(structure)
    open_batch = any(leaf.shape and leaf.shape[0] is None for leaf in leaves)
    unknown = max((leaf.shape[1:].count(None) for leaf in leaves), default=0)
    known = [int(np.prod([n for n in leaf.shape if n is not None])) for leaf in leaves]
    sizes = [
        n for n in SIZES if batch * max(known, default=1) * n**unknown <= _MOST or n == SIZES[0]
    ]
    tries = [(batch, size) for size in (sizes if unknown else SIZES[:1])]
    others = [n for n in (4, *_BATCHES) if n != batch] if open_batch else []
    return tries + [(n, size) for n in others for size in (sizes[:3] if unknown else SIZES[:1])]


def _leaves(structure: Any) -> list[_Leaf]:
    return keras.tree.flatten(structure)  # pyright: ignore[reportReturnType]  (Keras's stubs: or None)


def _leaf(spec: Any, guessed: bool = False) -> _Leaf:
    dtype = str(getattr(spec.dtype, "name", spec.dtype))
    return _Leaf(tuple(spec.shape), dtype, guessed)


def _given(inputs: Any) -> Any:
    """Return the user's inputs as a structure of leaves."""

    def leaf(value: Any) -> _Leaf:
        if isinstance(value, keras.KerasTensor):
            return _leaf(value)
        if keras.ops.is_tensor(value) or isinstance(value, keras.Variable):
            value = keras.ops.convert_to_numpy(value)
        array = np.asarray(value)
        return _Leaf(array.shape, str(array.dtype), array=array)

    flat: list[Any] = keras.tree.flatten(inputs)  # pyright: ignore[reportAssignmentType]
    if isinstance(inputs, list) and all(np.ndim(x) == 0 and not _is_symbol(x) for x in flat):
        return leaf(np.asarray(inputs))  # a batch, written as a list of numbers or words
    return keras.tree.map_structure(leaf, inputs)


def _is_symbol(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _own_inputs(model: keras.layers.Layer) -> list[Any]:
    """Return the structures of inputs that a model may take. The first is the likeliest."""
    function = inner_function(model)
    if function is not None:
        # Private attribute of Keras: only `_inputs_struct` holds the structure of the inputs.
        return [keras.tree.map_structure(_leaf, getattr(function, "_inputs_struct"))]  # noqa: B009
    if not model.built:
        raise UnbuiltModelError(
            f"`{type(model).__name__}` '{model.name}' must be built. Call it once on a batch first."
        )
    structure: Any = keras.tree.map_structure(
        lambda s: _leaf(s, True), symbolic_inputs(model, None)
    )
    if any(getattr(layer, "stateful", False) for _, layer in walk(model)):
        _fix_batch(model, structure)
    missing = len(positional_names(model, required=True)) - 1
    shapes = (model.get_build_config() or {}).get("shapes_dict")
    if missing < 1:
        # The entries of a list would be taken for the arguments.
        return [(structure,) if isinstance(structure, (list, tuple)) else structure]
    if shapes is not None:
        return [tuple(structure)]
    # Keras stores the shape of the first argument only. Those of the others are tried.
    found = [
        tuple(_leaf(symbol, True) for symbol in symbols) for symbols in argument_symbols(model)
    ]
    if found:
        return found
    first = _leaves(structure)[0]
    guesses = [((None,), "int32"), ((None,), "float32"), ((None, 1), "float32")]
    guesses += [((None, 1), "int32"), (first.shape, first.dtype)]
    return [(structure, *(_Leaf(shape, dtype) for _ in range(missing))) for shape, dtype in guesses]


def _fix_batch(model: keras.layers.Layer, structure: Any) -> None:
    """Give inputs the batch size that a stateful model was built with."""
    shapes = (model.get_build_config() or {}).get("input_shape")
    if shapes and isinstance(shapes[0], int):
        for leaf in _leaves(structure):
            leaf.shape = (shapes[0], *leaf.shape[1:])


def _arrays(structure: Any, batch: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return random arrays: standard normal floats, ints that are 0 or 1, byte strings."""
    leaves = _leaves(structure)
    batch = next((n for leaf in leaves for n in leaf.shape[:1] if n is not None), batch)
    arrays = []
    for leaf in leaves:
        shape = [batch if i == 0 and n is None else (n or size) for i, n in enumerate(leaf.shape)]
        if leaf.array is not None:
            arrays.append(leaf.array)
        elif leaf.dtype == "string":
            arrays.append(np.full(shape, "word", dtype=object))
        else:
            dtype = np.dtype("float32" if leaf.dtype == "bfloat16" else leaf.dtype)
            floats = dtype.kind == "f"
            values = rng.standard_normal(shape) if floats else rng.integers(0, 2, shape)
            arrays.append(np.asarray(values).astype(dtype))
    return arrays


def _failure(model: keras.layers.Layer, inputs: Any) -> Exception | None:
    """Return the error that a model raises for some inputs, or None.

    It is one, too, if no place of an image or sequence is left: a pooling of nothing gives any number.
    """
    empty: list[str] = []

    def checked(layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        def call_and_check(*args: Any, **kwargs: Any) -> Any:
            if not _is_large_enough(layer, args):
                raise ValueError(f"the inputs are too small for the window of '{layer.name}'")
            outputs = call(*args, **kwargs)
            leaves: list[Any] = keras.tree.flatten(outputs)  # pyright: ignore[reportAssignmentType]
            if any(0 in tuple(getattr(y, "shape", ()) or ()) for y in leaves):
                empty.append(layer.name)
            return outputs

        return call_and_check

    try:
        with replaced_calls([layer for _, layer in walk(model)[1:]], checked):
            run(model, inputs)
    except Exception as error:
        return error
    return ValueError(f"nothing is left of the inputs behind '{empty[0]}'") if empty else None


def _is_large_enough(layer: keras.layers.Layer, args: tuple) -> bool:
    """Return whether a convolution or pooling fits its input; TensorFlow does not always check it."""
    if not args or not (hasattr(layer, "kernel_size") or hasattr(layer, "pool_size")):
        return True
    shape = tuple(getattr(args[0], "shape", ()))
    try:
        found = layer.compute_output_shape(shape)
    except ValueError:
        return False
    except Exception:
        return True
    # One shape or several, as tuples or lists.
    sizes: list[Any] = keras.tree.flatten(found)  # pyright: ignore[reportAssignmentType]
    return all(n is None or n > 0 for n in sizes)


# --- the range of the values ----------------------------------------------------------------------


def _in_range(
    model: keras.layers.Layer, structure: Any, arrays: list[np.ndarray], seed: int
) -> list[np.ndarray]:
    """Return arrays in the range of the layers that take them.

    The model runs on arrays whose entries are all different, so the entries that reach a layer are known
    from their values. A layer with a range gets values in this range instead.
    """
    leaves = _leaves(structure)
    fills = {id(layer): fill for _, layer in walk(model) if (fill := values_for(layer)) is not None}
    if not fills or all(leaf.array is not None for leaf in leaves):
        return arrays
    arrays, found = list(arrays), []
    for _ in range(_ROUNDS):
        before = np.cumsum([0, *(array.size for array in arrays)])
        marks = [
            _marked(array, leaf, int(n))
            for array, leaf, n in zip(arrays, leaves, before[:-1], strict=True)
        ]
        found = _observed(model, structure, marks, fills, seed)
        if not _changed_types(found, leaves, arrays, seed):
            break
    # A layer with few tokens comes last, since its tokens are valid for one with many, too.
    rng = np.random.default_rng(seed)
    filled = [(f, f.fill(rng, f.shape)) for f in found]
    filled.sort(key=lambda pair: -float(pair[1].max()) if pair[1].dtype.kind in "iu" else 0.0)
    for f, values in filled:
        array = arrays[f.index]
        if leaves[f.index].array is None and (values.dtype.kind == "O") == (
            array.dtype.kind == "O"
        ):
            values = np.resize(values.reshape(-1), int(np.count_nonzero(f.entries)))
            if array.dtype.kind in "iu" and values.dtype.kind != "O":
                limits = np.iinfo(array.dtype)
                values = np.clip(values, limits.min, limits.max)
            array[f.entries] = values
    return arrays


def _marked(array: np.ndarray, leaf: _Leaf, before: int) -> np.ndarray:
    """Return an array of the same shape and type whose entries are all different, where possible.

    Args:
        array: The array.
        leaf: Its input.
        before: Number of entries of the inputs before it, which have other values.
    """
    if leaf.array is not None or array.dtype.kind == "b":
        return array
    numbers = before + np.arange(array.size, dtype="int64").reshape(array.shape)
    if array.dtype.kind == "O":
        marks = np.empty(array.shape, object)
        marks.reshape(-1)[:] = [f"mark{i}" for i in numbers.reshape(-1)]
        return marks
    if array.dtype.itemsize == 1:
        return (100 + numbers % 27).astype(array.dtype)
    # Far from the small ints that a model may make itself, such as positions in a sequence.
    marks = 1000 + 3 * numbers
    return (marks + 0.25 if array.dtype.kind == "f" else marks).astype(array.dtype)


def _observed(
    model: keras.layers.Layer, structure: Any, marks: list[np.ndarray], fills: dict, seed: int
) -> list[_Found]:
    """Return which entries of the inputs reach the layers with a range. The run may end in an error."""
    found: list[_Found] = []
    rng = np.random.default_rng(seed)

    def replacement(layer, call):
        def fill_and_call(*args, **kwargs):
            if args and not kwargs.get("reverse", False):
                value = _concrete(args[0])
                if value is not None and _note(value, marks, fills[id(layer)], found):
                    legal = fills[id(layer)](rng, value.shape)
                    if legal.dtype.kind != "O":
                        legal = legal.astype(value.dtype)
                    args = (keras.ops.convert_to_tensor(legal), *args[1:])
            return call(*args, **kwargs)

        return fill_and_call

    layers = [layer for _, layer in walk(model) if id(layer) in fills]
    with replaced_calls(layers, replacement):
        _failure(model, keras.tree.pack_sequence_as(structure, marks))
    return found


def _concrete(value: Any) -> np.ndarray | None:
    """Return a tensor as an array, or None inside a traced function."""
    try:
        return np.asarray(keras.ops.convert_to_numpy(value))
    except Exception:
        return None


def _note(value: np.ndarray, marks: list[np.ndarray], fill: Fill, found: list[_Found]) -> bool:
    """Add the entries of an input that are the argument of a layer. Return whether it is from an input."""
    if not value.size:
        return False
    text = value.dtype.kind in "OSU"
    for index, mark in enumerate(marks):
        if text != (mark.dtype.kind == "O"):
            continue
        if text:
            value = np.asarray([_word(x) for x in value.reshape(-1)], object).reshape(value.shape)
            known = {*mark.reshape(-1).tolist()}
            inside = all(x in known for x in value.reshape(-1).tolist())
        else:
            mark = mark.astype(value.dtype)
            inside = bool(np.isin(value, mark).all())
        if inside:
            found.append(_Found(index, np.isin(mark, value), fill, value.shape))
            return True
    return False


def _word(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _changed_types(
    found: list[_Found], leaves: list[_Leaf], arrays: list[np.ndarray], seed: int
) -> bool:
    """Give inputs whose type is not known the type that their layer takes. Return whether one changed."""
    changed = False
    for f in found:
        if not leaves[f.index].guessed or not f.entries.all():
            continue
        kind = f.fill(np.random.default_rng(seed), (1,)).dtype.kind
        dtype = {"O": object, "i": np.dtype("int32")}.get(kind)
        if dtype is not None and arrays[f.index].dtype != dtype:
            arrays[f.index] = np.zeros(arrays[f.index].shape, dtype)
            changed = True
    return changed
