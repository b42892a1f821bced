"""The check of a batch that the user gives for a comparison, in words of this package."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.inference import inner_function

_FIX = "Leave `inputs` out, or give a batch that `model(inputs)` takes."


def check_given(model: keras.layers.Layer, structure: Any) -> None:
    """Raise an error if a batch cannot be an input of a model.

    Args:
        model: Model.
        structure: Structure of leaves with a `shape`, a `dtype` and an `array`, or None for a symbol.

    Raises:
        InvalidArgumentError: The batch is empty, holds other things than numbers, bools or texts, or has
            other shapes, types or names than the inputs of a functional model.
    """
    leaves: list[Any] = keras.tree.flatten(structure)  # pyright: ignore[reportAssignmentType]
    arrays = [leaf.array for leaf in leaves if leaf.array is not None]
    for array in arrays:
        words = array.dtype.kind in "OSU"
        if words and not all(isinstance(x, (str, bytes)) for x in array.flat):
            kind = next(type(x).__name__ for x in array.flat if not isinstance(x, (str, bytes)))
            raise InvalidArgumentError(
                f"`inputs` must be arrays of numbers, bools or texts. Received: {kind}. {_FIX}"
            )
        if array.dtype.kind in "cMm":
            raise InvalidArgumentError(
                f"`inputs` must be arrays of numbers, bools or texts. Received: {array.dtype}. {_FIX}"
            )
        if not array.size:
            raise InvalidArgumentError(
                f"`inputs` must have at least one entry, since nothing can be compared on an empty batch. "
                f"Received: an array of the shape {array.shape}. Leave `inputs` out, or give at least one "
                "row."
            )
    function = inner_function(model)
    if function is None or not leaves:
        return
    expected = getattr(function, "_inputs_struct")  # noqa: B009  (private touch: only it has the structure)
    symbols: list[Any] = keras.tree.flatten(expected)  # pyright: ignore[reportAssignmentType]
    if isinstance(structure, dict):
        names = set(expected) if isinstance(expected, dict) else {s.name for s in symbols}
        if not names <= set(structure):
            raise _unlike(
                model, f"the names {sorted(names)}", f"the names {sorted(map(str, structure))}"
            )
        if not isinstance(expected, dict):
            return
        leaves = [structure[name] for name in sorted(names)]
        symbols = [expected[name] for name in sorted(names)]
    if len(leaves) != len(symbols) or not all(map(_fits, leaves, symbols)):
        own, given = ([(tuple(x.shape), _name(x)) for x in of] for of in (symbols, leaves))
        raise _unlike(model, f"the shapes and types {own}", f"{given}")


def cannot_be_called(
    model: keras.layers.Layer, inputs: Any, error: Exception
) -> InvalidArgumentError:
    """Return the error for a batch on which a model fails."""
    flat: list[Any] = keras.tree.flatten(inputs)  # pyright: ignore[reportAssignmentType]
    shapes = [(tuple(np.shape(x)), _name(x)) for x in flat]
    return InvalidArgumentError(
        f"`inputs` must fit the inputs of '{model.name}': a batch that `model(inputs)` takes. Received: "
        f"shapes and types {shapes}, on which its `call` raises a {type(error).__name__}. {_FIX}"
    )


def _name(leaf: Any) -> str:
    return str(
        getattr(getattr(leaf, "dtype", None), "name", getattr(leaf, "dtype", type(leaf).__name__))
    )


def _fits(leaf: Any, symbol: Any) -> bool:
    """Return whether an array can be the value of a symbol."""
    words = _name(leaf) == "string" if leaf.array is None else leaf.array.dtype.kind in "OSU"
    if words != (_name(symbol) == "string"):
        return False
    shape, own = tuple(leaf.shape), tuple(symbol.shape)
    if len(shape) != len(own):
        # Keras adds or removes an axis of size one.
        return abs(len(shape) - len(own)) == 1
    return all(a is None or b is None or a == b for a, b in zip(shape[1:], own[1:], strict=True))


def _unlike(model: keras.layers.Layer, own: str, given: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"`inputs` must fit the inputs of '{model.name}', which have {own}. Received: {given}. {_FIX}"
    )
