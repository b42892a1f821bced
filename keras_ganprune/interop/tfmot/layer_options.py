"""Convert the options of tf_keras layers to the options of the Keras 3 layers of the same name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Options that have another name in Keras 3.
_RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}
# Options that Keras 3 does not need, whatever their value.
_DROPPED = {
    "batch_input_shape",
    "implementation",
    "input_length",
    "key_shape",
    "query_shape",
    "rng_type",
    "value_shape",
}


def plain(value: Any) -> Any:
    """Return a value of a tf_keras configuration in the form that Keras 3 reads."""
    if isinstance(value, Mapping):
        value = {key: plain(entry) for key, entry in value.items()}
        cls = getattr(keras.layers, str(value.get("class_name")), None)
        if cls is not None and str(value.get("module")).startswith("keras.layers"):
            value["config"] = options_of(cls, value["config"])
        return value
    if isinstance(value, tf.TensorShape):
        return tuple(value.as_list())
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0:
        return value.item()
    return value


def options_of(cls: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a tf_keras layer as options of its Keras 3 class.

    Args:
        cls: The Keras 3 class.
        config: The configuration of the tf_keras layer.

    Raises:
        ValueError: The class lacks an option that is in use.
    """
    known: set[str] = set()
    for base in cls.__mro__:
        known.update(inspect.signature(base.__init__).parameters)
    options = {}
    for key, value in config.items():
        key = _RENAMED.get(cls.__name__, {}).get(key, key)
        value = plain(value)
        if key == "dtype" and isinstance(value, dict):
            value = value["config"]["name"]
        elif key == "axis" and cls is keras.layers.BatchNormalization and isinstance(value, list):
            (value,) = value
        if key in known:
            options[key] = value
        elif (
            key not in _DROPPED
            # Initializers are not needed, because weights are copied. `SeparableConv2D` even has an
            # initializer for a kernel that it does not have.
            and not key.endswith("_initializer")
            and (value is True or value not in (None, False, 1))
        ):
            raise ValueError(f"Keras 3's {cls.__name__} has no option `{key}`, here {value!r}")
    if "name" in options:
        options["name"] = keras_name(options["name"])
    return options


def keras_name(name: str) -> str:
    """Return a name of tf_keras as a name of Keras 3, which joins names into paths by slashes."""
    return name.replace("/", "_")


def describe(layer: Any) -> str:
    """Return the name and the class of a layer, for an error."""
    return f"'{layer.name}' ({type(layer).__name__})"
