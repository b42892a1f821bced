"""Says when the file of a smaller model could not be loaded, although the user's model can be."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import keras

from keras_ganprune.errors import PruningNotice
from keras_ganprune.layers.copy_state import is_of_keras
from keras_ganprune.pruning.structured.layer_objects import functions_of, own_objects
from keras_ganprune.pruning.structured.rebuild import Builder
from keras_ganprune.utils.foreign_errors import sentence_of


def say_if_not_loaded(builder: Builder, small: keras.Model) -> None:
    """Give a `PruningNotice` if a layer of a smaller model cannot be made from what its file would hold.

    The layers of Keras can be, so that only those are tried that are of a user's class or hold a user's
    function. Whole models are not loaded: Keras needs a time for it that grows with the square of the
    layers. Layers that the user's model writes in the same way need no notice: its own file is as good.

    Args:
        builder: The builder of the smaller network.
        small: The smaller network.
    """
    written = _written(builder.graph.model)
    seen: set[int] = set()
    for call in builder.graph.calls:
        new = builder.new_calls.get(id(call))
        if new is None or id(call.operation) in written or id(new.operation) in seen:
            continue
        seen.add(id(new.operation))
        reason = _why_not(new.operation)
        if reason is not None:
            warnings.warn(
                f"The file of the smaller model could not be loaded: `{type(new.operation).__name__}` "
                f"'{new.operation.name}' {reason} Or save the weights alone (`save_weights`), and shrink the "
                f"same model again before `load_weights`. '{small.name}' itself works.",
                PruningNotice,
                stacklevel=4,
            )
            return


def _written(model: Any) -> set[int]:
    """Return the layers and operations that Keras writes one by one for a model, by id."""
    plain = type(model).get_config in (keras.Model.get_config, keras.Sequential.get_config)
    if not plain and not is_of_keras(type(model)):
        return set()
    parts = getattr(model, "operations", None) or model.layers
    found = {id(part) for part in parts}
    for part in parts:
        if isinstance(part, keras.Model):
            found |= _written(part)
    return found


def _why_not(operation: Any) -> str | None:
    """Return why an operation cannot be made from its file, and what helps; None if it can be."""
    kind = type(operation).__name__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            operation.get_config()
    except Exception:
        return f"has no configuration. Let `{kind}` define `get_config`."
    if not isinstance(operation, keras.layers.Layer) or isinstance(operation, keras.layers.Lambda):
        return None
    objects = own_objects(operation)
    if not objects:
        return None
    # Everybody knows to give their own classes to `load_model`. They may not know of functions inside.
    classes = {name: value for name, value in objects.items() if isinstance(value, type)}
    try:
        with warnings.catch_warnings(), keras.saving.custom_object_scope(classes):
            warnings.simplefilter("ignore")
            again = _loaded(operation)
    except Exception as error:
        missing = [
            getattr(f, "__name__", name)
            for name, f in functions_of(operation).items()
            if not is_of_keras(f)
        ]
        text = f"cannot be made from its configuration ({sentence_of(error)})."
        if missing:
            options = f"custom_objects={{'{missing[0]}': ...}}"
            return f"{text} Give `load_model` the function, `{options}`."
        return f"{text} Let `{kind}.from_config(layer.get_config())` work."
    shapes = sorted(tuple(w.shape) for w in again.weights)
    if shapes != sorted(tuple(w.shape) for w in operation.weights):
        return f"makes its weights only in `call`. Let `{kind}.build` build its layers, too."
    return None


def _loaded(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return what Keras makes of a layer when it reads a functional model: built, and called on symbols."""
    written: Any = keras.saving.serialize_keras_object(layer)
    again: Any = keras.saving.deserialize_keras_object(written, safe_mode=False)
    # Private touch: only the nodes of a graph hold the arguments of the calls.
    for node in layer._inbound_nodes[:1]:
        arguments: Any = keras.tree.map_structure(
            lambda x: (
                keras.Input(batch_shape=x.shape, dtype=x.dtype)
                if isinstance(x, keras.KerasTensor)
                else x
            ),
            (node.arguments.args, node.arguments.kwargs),
        )
        # Keras reads a call that does not work on symbols likewise: from its recorded shapes.
        with contextlib.suppress(Exception):
            again(*arguments[0], **arguments[1])
    return again
