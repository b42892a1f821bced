"""A second model with the same architecture and weights."""

from __future__ import annotations

from typing import Any

import keras

from keras_ganprune.errors import UnsupportedLayerError


def clone(model: keras.Model, classes: list[type]) -> keras.Model:
    """Return an uncompiled copy of a built model, rebuilt from its configuration.

    Args:
        model: Built model. A subclassed model needs `get_config`, as for saving.
        classes: Classes of its layers. They are passed to Keras, because a user's own classes may not be
            registered with it.

    Raises:
        UnsupportedLayerError: The model cannot be rebuilt from its configuration.
    """
    custom = {cls.__name__: cls for cls in classes if cls.__module__.split(".")[0] != "keras"}
    try:
        config: Any = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        copy: Any = keras.saving.deserialize_keras_object(
            config, custom_objects=custom, safe_mode=False
        )
        copy.set_weights(model.get_weights())
    except Exception as error:
        raise UnsupportedLayerError(
            f"`{type(model).__name__}` '{model.name}' could not be rebuilt from its configuration "
            f"({type(error).__name__}: {error}). A subclassed model needs `get_config` (all its "
            "constructor arguments) and must be built by `build`, exactly as for `model.save`."
        ) from error
    return copy
