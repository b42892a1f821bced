"""A second model with the same architecture, weights, states and functions, compared with the first."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, cast

import keras

from keras_ganprune.errors import (
    DifferentOutputsError,
    PruningError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers import as_saved, repeated_layers
from keras_ganprune.layers.carrier import Carrier, NotCarriedError
from keras_ganprune.layers.copy_check import check_copy
from keras_ganprune.layers.copy_state import copy_state, paired_layers
from keras_ganprune.layers.inference import run
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.layers.sequential_models import built_once
from keras_ganprune.layers.traversal import walk
from keras_ganprune.utils.foreign_errors import sentence_of


def clone(
    model: keras.Model, *, what: str = "copy", fix: str = "", inputs: Any = None
) -> keras.Model:
    """Return an uncompiled copy of a built model, rebuilt from its configuration and compared with it.

    Functions are those of the model itself. The state of each layer is copied by its own methods for
    saving, and so are states, arrays and constants that no file would hold.

    Args:
        model: Built model. It is not changed.
        what: What the copy is called in errors. Defaults to 'copy'.
        fix: Sentence for errors that says what helps. Defaults to ''.
        inputs: Inputs of the comparison, as for `probe_inputs`. Defaults to None: random inputs.

    Raises:
        UnsupportedLayerError: A layer cannot be rebuilt from its configuration.
        DifferentOutputsError: The copy has other outputs than the model.
    """
    different: PruningError | None = None
    unmade: Exception | None = None
    for attempt in _attempts(model):
        try:
            copy = _from_config(model, *attempt)
        except Exception as error:
            unmade = unmade or error
            continue
        try:
            _complete(model, copy, inputs, what, fix)
            return copy
        except (UnsupportedLayerError, DifferentOutputsError) as error:
            different = different or error
    if unmade is not None and different is None:
        raise _unmade(model, unmade, what, fix)
    raise cast("Exception", different)  # Each attempt fails in one of these two ways.


def _complete(model: keras.Model, copy: keras.Model, inputs: Any, what: str, fix: str) -> None:
    """Copy the state of all layers to a copy, and compare it with the model."""
    try:
        _build(model, copy, inputs)
        pairs = paired_layers(model, copy)
    except UnsupportedLayerError as error:
        raise UnsupportedLayerError(f"{error} {fix}".rstrip()) from error
    carrier = Carrier((old, new) for _, old, new in pairs)
    for path, old, new in pairs:
        _copy_layer(path, old, new, carrier, what, fix)
    check_copy(model, copy, inputs, what=what, fix=fix)


def _copy_layer(
    path: str,
    old: keras.layers.Layer,
    new: keras.layers.Layer,
    carrier: Carrier,
    what: str,
    fix: str,
) -> None:
    """Copy the name and the state of one layer."""
    new.name = old.name
    try:
        copy_state(old, new, carrier)
    except Exception as error:
        why = str(error) if isinstance(error, NotCarriedError) else sentence_of(error)
        raise UnsupportedLayerError(
            f"The state of '{path}' ({type(old).__name__}) cannot be written into its {what}: "
            f"{why}. {fix}".rstrip()
        ) from error


def _build(model: keras.Model, copy: keras.Model, inputs: Any) -> None:
    """Build layers of a copy that are built at their first call only."""
    built = sum(layer.built for _, layer in walk(model))
    if sum(layer.built for _, layer in walk(copy)) < built:
        # A model whose inputs are not known stays as it is. Then the state of its layers cannot be copied.
        with contextlib.suppress(UnbuiltModelError):
            run(copy, probe_inputs(model, inputs))
    # Layers that run in training only. The inner ones come first.
    for _, old, new in reversed(paired_layers(model, copy)):
        if old.built and not new.built:
            with contextlib.suppress(Exception):  # `copy_state` says what is missing.
                new.build_from_config(old.get_build_config())


# --- from the configuration -------------------------------------------------------------------------


# How layers of own classes are rebuilt: by Keras, or by `as_saved.rebuilders`.
_KERAS, _FILLED, _ATTRIBUTES = range(3)
# Whether functions get names of their own, and how layers are rebuilt. A class may expect its functions by
# name, may not expect an additional entry, or may accept a configuration that lacks an argument.
_ATTEMPTS = (
    (True, _KERAS),
    (True, _FILLED),
    (False, _KERAS),
    (False, _FILLED),
    (True, _ATTRIBUTES),
)


def _attempts(model: keras.layers.Layer) -> list[tuple[bool, int]]:
    """Return the forms of the configuration that are tried in turn, until a copy agrees with the model."""
    # Keras finds a class by its name only.
    by_number = as_saved.same_names(model)
    return [attempt for attempt in _ATTEMPTS if attempt[1] != _KERAS or not by_number]


def _unmade(model: keras.Model, error: Exception, what: str, fix: str) -> UnsupportedLayerError:
    """Return the error for a model that cannot be rebuilt, with the innermost layer that cannot."""
    path, layer, error = _first_failing_layer(model) or (model.name, model, error)
    text = (
        f"The {what} of '{model.name}' cannot be made: '{path}' ({type(layer).__name__}) cannot be rebuilt "
        f"from its configuration ({sentence_of(error)}). {fix}"
    )
    result = UnsupportedLayerError(text.rstrip())
    result.__cause__ = error
    return result


@contextlib.contextmanager
def _prepared(model: keras.layers.Layer, functions: bool, layers: int) -> Iterator[dict[str, Any]]:
    """Prepare a model for its configuration, and yield the custom objects that the configuration names."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_saved.uncompiled(model))
        objects = stack.enter_context(repeated_layers.kept(model)) | as_saved.own_objects(model)
        if functions:
            objects |= stack.enter_context(as_saved.named_functions(model))
        else:
            objects |= as_saved.own_functions(model)
        if layers != _KERAS:
            objects |= stack.enter_context(as_saved.rebuilders(model, layers == _ATTRIBUTES))
        yield objects


def _from_config(model: Any, functions: bool, layers: int) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*lambda.*", UserWarning)
        with _prepared(model, functions, layers) as objects:
            config: Any = keras.saving.serialize_keras_object(model)
        # Objects of a scope come before those that are registered, and reach every inner `from_config`.
        with keras.saving.CustomObjectScope(objects), built_once():
            config = repeated_layers.renamed(config)
            return keras.saving.deserialize_keras_object(config, safe_mode=False)


def _first_failing_layer(
    model: keras.Model,
) -> tuple[str, keras.layers.Layer, Exception] | None:
    """Return the path, layer and error of the innermost layer that cannot be rebuilt alone, or None."""
    for path, layer in reversed(walk(model)[1:]):
        first: Exception | None = None
        for attempt in _attempts(layer):
            try:
                _from_config(layer, *attempt)
                first = None
                break
            except Exception as error:
                first = first or error
        if first is not None:
            return path, layer, first
    return None
