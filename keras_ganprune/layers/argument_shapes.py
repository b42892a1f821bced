"""The shapes of the arguments of a `call` with several: Keras stores only that of the first.

Shapes are tried. A shape is right if every layer inside gets what it was built for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.inference import positional_names, replaced_calls, run, symbolic_inputs
from keras_ganprune.layers.traversal import walk

# An unlikely number of samples: broadcasting could hide a wrong shape.
_BATCH = 7
# Floats first: a model with integer inputs would round floats that it gets later.
_DTYPES = ("float32", "int32")


def argument_symbols(model: keras.layers.Layer) -> list[tuple[Any, ...]]:
    """Return the symbols that a subclassed model may be called with, one tuple for each set of shapes.

    Args:
        model: Built model whose `call` takes several arguments, of which Keras knows the first.

    Returns: List of tuples of symbols. More than one if several shapes fit; empty if none does.
    """
    first: Any = symbolic_inputs(model, None)
    missing = len(positional_names(model, required=True)) - 1
    if not isinstance(first, keras.KerasTensor) or missing < 1:
        return []
    shapes = list(dict.fromkeys([(None,), (None, 1), tuple(first.shape)]))
    found = []
    for others in itertools.product(shapes, repeat=missing):
        for dtypes in itertools.product(_DTYPES, repeat=missing):
            symbols = [keras.KerasTensor(s, d) for s, d in zip(others, dtypes, strict=True)]
            if _fits(model, (first, *symbols)):
                found.append((first, *symbols))
                break
    return found


def _fits(model: keras.layers.Layer, symbols: tuple[Any, ...]) -> bool:
    """Return whether a model runs on arrays of some shapes, and its layers get what they were built for."""
    rng = np.random.default_rng(0)
    arrays = []
    for symbol in symbols:
        shape = tuple(_BATCH if i == 0 else n or 8 for i, n in enumerate(symbol.shape))
        values = rng.integers(0, 2, shape) if "int" in symbol.dtype else rng.uniform(0, 1, shape)
        arrays.append(values.astype(symbol.dtype))
    wrong: list[str] = []

    def checked(layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        def check_and_call(*args: Any, **kwargs: Any) -> Any:
            built = (layer.get_build_config() or {}).get("input_shape")
            shape = getattr(args[0], "shape", None) if args else None
            if (
                _is_shape(built)
                and shape is not None
                and not _is_like(tuple(shape), tuple(built or ()))
            ):
                wrong.append(layer.name)
            return call(*args, **kwargs)

        return check_and_call

    try:
        with replaced_calls([layer for _, layer in walk(model)[1:]], checked):
            run(model, tuple(arrays))
    except Exception:
        return False
    return not wrong


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(n is None or isinstance(n, int) for n in value)


def _is_like(shape: tuple, built: tuple) -> bool:
    """Return whether two shapes have the same rank, and the same last axis unless that is the batch."""
    if len(shape) != len(built):
        return False
    return len(shape) < 2 or built[-1] is None or shape[-1] == built[-1]
