"""The values that a layer takes: the tokens of an embedding, the words of a lookup, the range of a scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

# Makes an array of a shape from random numbers.
Fill = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def _ints(count: int) -> Fill:
    """Return ints in [0, count), the largest and 0 among them."""

    def fill(rng, shape):
        values = rng.integers(0, max(1, count), shape)
        if values.size:
            values.flat[0] = max(0, count - 1)
        if values.size > 1:
            values.flat[-1] = 0
        return values

    return fill


def _chosen(values: list[Any], unknown: Any, words: int = 1) -> Fill:
    """Return entries of a vocabulary, and the unknown one (if it is not None) as the first."""
    numbers = bool(values) and not isinstance(values[0], str)

    def fill(rng, shape):
        size = int(np.prod(shape))
        known = values or [unknown]
        rows = [rng.integers(0, len(known), words if words == 1 else 4) for _ in range(size)]
        entries = [known[row[0]] if numbers else " ".join(known[i] for i in row) for row in rows]
        if entries and unknown is not None:
            entries[0] = unknown
        array = np.empty(size, dtype="int64" if numbers else object)
        array[:] = entries
        return array.reshape(shape)

    return fill


def _embedding(layer: Any) -> Fill:
    return _ints(int(layer.input_dim))


def _category_encoding(layer: Any) -> Fill:
    return _ints(int(layer.num_tokens))


def _lookup(layer: Any) -> Fill:
    if layer.invert:
        return _ints(int(layer.vocabulary_size()))
    values = list(layer.get_vocabulary(include_special_tokens=False))
    has_unknown = getattr(layer, "num_oov_indices", 1) > 0
    if isinstance(layer, keras.layers.IntegerLookup):
        values = [int(v) for v in values]
        return _chosen(values, max([*values, 0]) + 7 if has_unknown else None)
    return _chosen([str(v) for v in values], "an unknown word" if has_unknown else None)


def _text(layer: Any) -> Fill:
    words = [str(v) for v in layer.get_vocabulary(include_special_tokens=False)]
    return _chosen(words, "unknown words", words=4)


def _array(value: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(value), "float64")


def _normalization(layer: Any) -> Fill | None:
    if layer.invert or layer.mean is None:
        return None
    mean, deviation = _array(layer.mean), np.sqrt(_array(layer.variance))

    def fill(rng, shape):
        noise = rng.standard_normal(shape)
        try:
            return np.broadcast_to(mean + deviation * noise, shape)
        except ValueError:  # a part of the features, or another order
            return np.mean(mean) + np.mean(deviation) * noise

    return fill


def _rescaling(layer: Any) -> Fill | None:
    scale, offset = _array(layer.scale), _array(layer.offset)
    if not np.all(scale):
        return None

    def fill(rng, shape):
        target = rng.uniform(-1.0, 1.0, shape)
        try:
            return np.broadcast_to((target - offset) / scale, shape)
        except ValueError:
            return (target - np.mean(offset)) / np.mean(scale)

    return fill


def _discretization(layer: Any) -> Fill | None:
    edges = np.asarray(layer.bin_boundaries if layer.bin_boundaries is not None else [], "float64")
    if not edges.size:
        return None

    def fill(rng, shape):
        width = max(1.0, float(edges.max() - edges.min()))
        values = rng.uniform(edges.min() - 0.2 * width, edges.max() + 0.2 * width, shape)
        values.flat[: edges.size] = edges[: values.size]  # A boundary belongs to the bin above it.
        return values

    return fill


_RANGES: list[tuple[type, Callable[[Any], Fill | None]]] = [
    (keras.layers.Embedding, _embedding),
    (keras.layers.CategoryEncoding, _category_encoding),
    (keras.layers.TextVectorization, _text),
    (keras.layers.StringLookup, _lookup),
    (keras.layers.IntegerLookup, _lookup),
    (keras.layers.Normalization, _normalization),
    (keras.layers.Rescaling, _rescaling),
    (keras.layers.Discretization, _discretization),
]


def values_for(layer: keras.layers.Layer) -> Fill | None:
    """Return a function that makes inputs of a layer in the range that it takes, or None for any range."""
    for cls, rule in _RANGES:
        if isinstance(layer, cls):
            return rule(layer)
    return None
