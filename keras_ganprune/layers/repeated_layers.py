"""Sequential models that hold one layer in several places, such as an activation that is used again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_ganprune.layers.traversal import walk

NAME = "_SequentialWithRepeatedLayers"
_ORDER = "order_of_repeated_layers"


def with_repeated_layers(model: keras.layers.Layer) -> list[keras.Sequential]:
    """Return the Sequential models that hold one layer in several places."""
    return [
        layer
        for _, layer in walk(model)
        if type(layer) is keras.Sequential and len({*map(id, layer.layers)}) < len(layer.layers)
    ]


@contextlib.contextmanager
def kept(model: keras.layers.Layer) -> Iterator[dict[str, Any]]:
    """Within the context, a configuration holds the order of repeated layers; yield the custom objects.

    Keras's own configuration lists such a layer once, so a model that is made of it lacks the others.
    """
    models = with_repeated_layers(model)
    for layer in models:
        object.__setattr__(layer, "get_config", _with_order(layer))
    try:
        yield {NAME: _Rebuilder} if models else {}
    finally:
        for layer in models:
            layer.__dict__.pop("get_config", None)


def _with_order(model: keras.Sequential) -> Callable[[], dict[str, Any]]:
    def get_config() -> dict[str, Any]:
        config = keras.Sequential.get_config(model)
        names = [entry["config"].get("name") for entry in config["layers"]]
        order = [names.index(layer.name) for layer in model.layers]
        inputs = [
            i for i, entry in enumerate(config["layers"]) if entry["class_name"] == "InputLayer"
        ]
        return {**config, _ORDER: inputs + order}

    return get_config


def renamed(config: Any) -> Any:
    """Return a configuration in which such models are read by the rebuilder."""
    if isinstance(config, list):
        return [renamed(entry) for entry in config]
    if not isinstance(config, dict):
        return config
    config = {key: renamed(value) for key, value in config.items()}
    inner = config.get("config")
    if config.get("class_name") == "Sequential" and isinstance(inner, dict) and _ORDER in inner:
        config |= {"module": None, "class_name": NAME, "registered_name": NAME}
        config.pop("build_config", None)
    return config


class _Rebuilder:
    """Stands for `keras.Sequential` while a configuration is read."""

    @staticmethod
    def from_config(config: dict[str, Any]) -> keras.Sequential:
        """Return the model, with each layer in all its places."""
        layers = [keras.saving.deserialize_keras_object(entry) for entry in config["layers"]]
        return keras.Sequential([layers[i] for i in config[_ORDER]], name=config["name"])
