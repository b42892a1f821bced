"""What reaches a layer of a network: its inputs, batch by batch, in a run that ends at that layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ganprune.layers.inference import replaced_calls, run
from keras_ganprune.layers.tensors import to_numpy

Values = Sequence[tuple[keras.Variable, Any]]
"""Pairs of a variable and the value that it has in a run."""


class _ReachedError(BaseException):
    """Ends a run. No `except Exception` of a user's `call` takes it for an error."""


def first_calls(
    network: keras.layers.Layer, layers: Sequence[keras.layers.Layer], batch: Any, values: Values
) -> dict[int, list[Any]]:
    """Return id of a layer -> inputs of its calls, in the order of the first calls.

    Args:
        network: Built network.
        layers: Layers inside it.
        batch: Inputs of the network.
        values: Values that some variables have in this run.
    """
    found: dict[int, list[Any]] = {}

    def note(layer: keras.layers.Layer, x: Any) -> None:
        found.setdefault(id(layer), []).append(x)

    with replaced_calls(layers, _noting(note)):
        run(network, batch, values)
    return found


def inputs_of(
    network: keras.layers.Layer,
    layer: keras.layers.Layer,
    count: int,
    batches: Sequence[Any],
    values: Values,
) -> list[Any]:
    """Return the inputs of the first calls of a layer.

    Args:
        network: Built network.
        layer: Layer inside it.
        count: Number of its calls per run.
        batches: Inputs of the network.
        values: Values that some variables have in each run.

    Returns: List of tensors: the calls on the first batch, those on the second, and so on.
    """
    found: list[Any] = []

    def note(_: keras.layers.Layer, x: Any) -> None:
        found.append(x)
        if len(found) % count == 0:
            raise _ReachedError

    with replaced_calls([layer], _noting(note)):
        for batch in batches:
            try:
                run(network, batch, values)
            except _ReachedError:
                pass
    return found


def _noting(note: Callable[[keras.layers.Layer, Any], None]) -> Callable[..., Any]:
    def replacement(layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            note(layer, args[0] if args else next(iter(kwargs.values())))
            return call(*args, **kwargs)

        return noted

    return replacement


def is_known(x: Any) -> bool:
    """Return whether a value is one tensor of numbers, not a symbol of a function that is being traced."""
    if not keras.ops.is_tensor(x):
        return False
    try:
        return to_numpy(keras.ops.cast(x, "float32")).dtype == "float32"
    except Exception:  # each backend has its own error for a symbol
        return False
