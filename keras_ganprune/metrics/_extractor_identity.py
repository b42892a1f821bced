"""A fingerprint of the function that a feature extractor computes."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.layers.tensors import to_numpy

# Settings that change the output of a layer but not the shapes of its weights.
_SETTINGS = {
    "activation", "strides", "padding", "dilation_rate", "groups", "axis", "epsilon", "pool_size",
    "negative_slope", "alpha", "scale", "offset", "height", "width", "interpolation", "target_shape",
}  # fmt: skip


def fingerprint(
    model: keras.Model,
    layer: keras.layers.Layer | None,
    value_range: tuple[float, float],
    classes: int | None,
) -> str:
    """Return the SHA-256 of layers, weights, chosen layer, range and number of classes.

    Names of layers are left out, because Keras numbers them automatically.
    """
    layers = list(model._flatten_layers(include_self=False))
    position = next((i for i, x in enumerate(layers) if x is layer), None)
    identity = {
        "layers": [[type(x).__name__, _settings(x)] for x in layers],
        "weights": [list(w.shape) for w in model.weights],
        "layer": position,
        "value_range": value_range,
        "classes": classes,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for weight in model.weights:
        digest.update(np.ascontiguousarray(to_numpy(weight)).tobytes())
    return digest.hexdigest()


def _settings(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the settings of a layer that change its output, as JSON values."""
    try:
        config = layer.get_config()
    except NotImplementedError:
        return {}
    plain = keras.tree.map_structure(
        lambda x: x if isinstance(x, (str, int, float, bool, type(None))) else type(x).__name__,
        {k: v for k, v in config.items() if k in _SETTINGS and not isinstance(v, dict)},
    )
    # Keras's stubs say that the result may be None.
    return cast("dict[str, Any]", plain)
