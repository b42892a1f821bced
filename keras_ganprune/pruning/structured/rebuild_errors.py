"""What is said of a layer that cannot be built or called again, or is another one then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, PruningError, UnsupportedLayerError
from keras_ganprune.layers.copy_state import is_of_keras
from keras_ganprune.layers.prunable import weight_variable
from keras_ganprune.pruning.structured.carry_state import tied_by_hand
from keras_ganprune.pruning.structured.graph import Call
from keras_ganprune.pruning.structured.rules.registry import entry_of
from keras_ganprune.utils.foreign_errors import sentence_of


def asked_weight(layer: Any, name: str) -> keras.Variable:
    """Return a weight that the configuration of a smaller layer depends on, or raise."""
    variable = weight_variable(layer, name)
    if variable is None:
        raise UnsupportedLayerError(
            f"{type(layer).__name__} '{layer.name}' has no weight `{name}`, which the `config=` of its "
            "rule asks for. Name an attribute that holds a variable of the built layer."
        )
    return variable


def advice(call: Call) -> str:
    """Return what helps if a layer has other sizes than its rule says, when it is built again."""
    entry, cls = entry_of(call.operation), type(call.operation)
    if isinstance(call.operation, keras.layers.Layer):
        tied = tied_by_hand(call.operation)
        if tied:
            return (
                f"Its attribute `{tied[0]}` is the weight {tied[1]} of another layer, and such ties cannot "
                f"be cut. Leave both layers alone with `keep`, as in `keep=['{call.path}']` for this one."
            )
    if entry is not None and entry.is_of_user:
        return "Check its rule and the `config=` of `register_rule`."
    if not is_of_keras(cls):
        return f"`{cls.__name__}.get_config` must return all arguments of the constructor."
    return (
        f"Leave the layer alone with `keep=['{call.path}']`, and name those in front of it, too; or shrink "
        "before the layer is changed (`enable_lora`, `quantize`)."
    )


def check_shape(
    call: Call, shape: tuple[int | None, ...], expected: tuple[int | None, ...]
) -> None:
    """Raise if an output of a new layer has another shape than after the cut.

    Args:
        call: The old call.
        shape: Shape of the output.
        expected: Shape of the old output without the channels that were removed.

    Raises:
        InvalidArgumentError: The shapes differ.
    """
    if not _fits(shape, expected):
        raise InvalidArgumentError(
            f"'{call.path}' ({type(call.operation).__name__}) must give the shape {expected} after the cut, "
            f"but gives {shape}. {advice(call)}"
        )


def _fits(shape: tuple, expected: tuple) -> bool:
    """Return whether a shape is the expected one. A size that one of the two leaves open fits any other."""
    return len(shape) == len(expected) and all(
        a == b or a is None or b is None for a, b in zip(shape, expected, strict=True)
    )


@contextlib.contextmanager
def named(call: Call) -> Iterator[None]:
    """Within the context, an error of Keras names the layer that is built or called again."""
    try:
        yield
    except PruningError:
        raise
    except Exception as error:
        raise UnsupportedLayerError(
            f"`{type(call.operation).__name__}` '{call.path}' could not be called on symbols after it was "
            f"built again ({sentence_of(error)})."
        ) from error
