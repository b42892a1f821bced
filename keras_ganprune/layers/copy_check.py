"""The comparison of a copy with the model, also where the whole model cannot be called."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from keras_ganprune.errors import (
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers.copy_state import paired_layers
from keras_ganprune.layers.given_inputs import cannot_be_called
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.layers.same_outputs import check_same_outputs, outputs_of


def check_copy(
    model: keras.layers.Layer, copy: keras.layers.Layer, inputs: Any, *, what: str, fix: str
) -> None:
    """Compare a copy with a model, or its networks if the model itself cannot be called.

    Args:
        model: The user's model.
        copy: A copy with the same layers.
        inputs: As for `probe_inputs`, or None.
        what: What the copy is called in messages.
        fix: Sentence for the error that says what helps.

    Raises:
        DifferentOutputsError: The copy has other outputs.
        InvalidArgumentError: The model cannot be called on `inputs`.
    """
    known = known_outputs(model, inputs)
    if not isinstance(known, str):
        check_same_outputs(model, copy, *known, what=what, fix=fix)
        return
    parts = _callable_parts(model, copy)
    for old, new, part in parts:
        check_same_outputs(old, new, *part, what=what, fix=fix)
    # A GAN without a `call` is its networks.
    networks = [layer for layer in model._flatten_layers(include_self=False, recursive=False)]
    if not parts or any(id(n) not in {id(old) for old, _, _ in parts} for n in networks):
        warnings.warn(
            f"'{model.name}' ({type(model).__name__}) could not be called on random inputs ({known}), so "
            f"only {len(parts)} of its layers were compared with those of the {what}. Pass `inputs`, a "
            "batch that it can be called with.",
            PruningWarning,
            stacklevel=2,
        )


def known_outputs(model: keras.layers.Layer, inputs: Any = None) -> tuple[Any, list[Any]] | str:
    """Return inputs that a model can be called with and its outputs, or the reason why there are none.

    Raises:
        InvalidArgumentError: The model cannot be called on `inputs`.
    """
    try:
        arrays = probe_inputs(model, inputs)
        return arrays, outputs_of(model, arrays)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if inputs is not None:
            if isinstance(error, InvalidArgumentError):
                raise
            raise cannot_be_called(model, inputs, error) from error
        if isinstance(error, (UnbuiltModelError, UnsupportedLayerError)):
            return reason
        return f"{type(error).__name__}: {reason}"


def _callable_parts(
    model: keras.layers.Layer, copy: keras.layers.Layer
) -> list[tuple[keras.layers.Layer, keras.layers.Layer, tuple[Any, list[Any]]]]:
    """Return the outermost layers that can be called alone, their copies, and their inputs and outputs."""
    found = []
    covered: set[int] = set()
    for _, old, new in paired_layers(model, copy)[1:]:
        if id(old) in covered:
            continue
        known = known_outputs(old)
        if not isinstance(known, str):
            found.append((old, new, known))
            covered |= {id(layer) for layer in old._flatten_layers()}
    return found
