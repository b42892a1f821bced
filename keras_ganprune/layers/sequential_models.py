"""Sequential models that are built once when they are made of a configuration, and not after each layer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras

_LOCK = threading.Lock()
_OPEN: list[object] = []  # the contexts that are open, in all threads
_OF_KERAS: Any = vars(keras.Sequential)["from_config"].__func__


@contextlib.contextmanager
def built_once() -> Iterator[None]:
    """Within the context, `keras.Sequential.from_config` builds a model once, behind its last layer.

    Keras builds the model again for each layer that it adds, and calls all layers before it. So its time
    grows with the square of the number of layers. The models are the same, also inner ones and those of
    subclasses.

    Private touch: Keras has no argument for this. It reads the method from the class, so the context replaces
    it there, for all threads: what the method returns does not change.
    """
    with _LOCK:
        _OPEN.append(None)
        _set_from_config(_from_config)
    try:
        yield
    finally:
        with _LOCK:
            _OPEN.pop()
            if not _OPEN:
                _set_from_config(_OF_KERAS)


def _set_from_config(function: Any) -> None:
    cls: Any = keras.Sequential
    cls.from_config = classmethod(function)


def _from_config(cls: Any, config: dict[str, Any], custom_objects: Any = None) -> Any:
    entries = config.get("layers")
    current = isinstance(entries, list) and all("module" in entry for entry in entries)
    if not entries or not current or cls.add is not keras.Sequential.add:
        return _OF_KERAS(cls, config, custom_objects)
    model = _OF_KERAS(cls, {**config, "layers": [], "build_input_shape": None})
    for entry in entries:
        layer = keras.saving.deserialize_keras_object(entry, custom_objects=custom_objects)
        model.add(layer, rebuild=False)
    # Private touch: the one method that builds a model of an input layer, as `add` does.
    model._maybe_rebuild()
    shape = config.get("build_input_shape")
    if model._functional is None and isinstance(shape, (list, tuple)) and shape:
        model.build(shape)
    return model
