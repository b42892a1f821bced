"""The inputs that a user gives for a trace: arrays become symbols, and are compared with the model's own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.structured.traces import leaves
from keras_ganprune.utils import validation


def as_symbols(model: keras.layers.Layer, inputs: Any) -> Any:
    """Return inputs with a symbol in the place of each array. The batch size stays open."""

    def symbol(leaf: Any) -> Any:
        if isinstance(leaf, keras.KerasTensor):
            return leaf
        if isinstance(leaf, (type, keras.layers.Layer)) or callable(leaf):
            raise InvalidArgumentError(
                f"`inputs` must be a batch that '{model.name}' can be called with, or `keras.Input`s. "
                f"Received: {leaf!r}."
            )
        array = leaf if hasattr(leaf, "dtype") else validation.array(leaf, "inputs")
        dtype = str(getattr(array.dtype, "name", array.dtype))
        if dtype.startswith(("datetime", "timedelta", "complex")):
            raise InvalidArgumentError(
                f"`inputs` must be arrays of numbers, bools or texts. Received: {dtype}."
            )
        if dtype == "object" or dtype.startswith(("str", "bytes")):
            dtype = "string"
        elif "float" in dtype:
            dtype = model.input_dtype  # Keras converts an array of floats to it.
        return keras.KerasTensor((None, *tuple(array.shape)[1:]), dtype.removeprefix("torch."))

    numbers = isinstance(inputs, list) and all(
        not isinstance(leaf, keras.KerasTensor) and np.ndim(leaf) == 0 for leaf in leaves(inputs)
    )
    return (
        symbol(validation.array(inputs, "inputs"))
        if numbers
        else keras.tree.map_structure(symbol, inputs)
    )


def check_fit(model: keras.layers.Layer, function: keras.Function, inputs: Any) -> None:
    """Raise unless inputs have the number and the shapes of the inputs of a functional model."""
    given = [tuple(symbol.shape) for symbol in leaves(inputs)]
    own = [tuple(symbol.shape) for symbol in function.inputs]
    fits = len(given) == len(own) and all(
        len(a) == len(b)
        and all(m is None or n is None or m == n for m, n in zip(a, b, strict=True))
        for a, b in zip(given, own, strict=True)
    )
    if not fits:
        raise InvalidArgumentError(
            f"`inputs` must fit the inputs of '{model.name}', which have the shapes {own}. Received: inputs "
            f"of the shapes {given}. Leave `inputs` out, or give a batch that `model(inputs)` takes."
        )
