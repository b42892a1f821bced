"""Comparison of the outputs of a tf_keras network and its Keras 3 twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from keras_ganprune.errors import ExportError
from keras_ganprune.interop.tfmot.layer_options import describe
from keras_ganprune.interop.tfmot.rebuilder import Rebuilder


def compare(rebuilder: Rebuilder, old: Any, inputs: Any, tolerance: float | None) -> float:
    """Return the largest difference between the outputs of a network and of its twin.

    Args:
        rebuilder: The `Rebuilder` that made the twin.
        old: The tf_keras model.
        inputs: Inputs of both, or None for random inputs.
        tolerance: Largest valid difference, relative to the largest output. None means 1e-5, or 2e-2 if
            a layer computes in half precision.

    Raises:
        ExportError: The outputs differ, or are not finite.
    """
    new = rebuilder.network(old)
    if tolerance is None:
        half = any("16" in str(layer.compute_dtype) for _, layer in rebuilder.pairs)
        tolerance = 2e-2 if half else 1e-5
    if inputs is None:
        flat = [tf.constant(x) for x in _random_inputs(old, rebuilder.unwrap)]
        inputs = tf.nest.pack_sequence_as(old._nested_inputs, flat)
    inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    _reset_states(rebuilder)
    before, after = old(inputs, training=False), new(inputs, training=False)
    _reset_states(rebuilder)
    gap, allowed = _gap(before, after, tolerance)
    if gap <= allowed:
        return gap
    if not all(np.isfinite(x).all() for x in _arrays(before)):
        raise ExportError(
            f"The outputs of {describe(old)} must be finite to be compared. Received: NaN or infinite "
            "outputs. Check the weights, or pass `inputs=` for which the outputs are finite."
        )
    raise ExportError(
        f"The converted model must give the outputs of {describe(old)}. Largest difference: {gap:g}, "
        f"allowed: {allowed:g} ({tolerance:g} of the largest output). "
        f"{_first_difference(rebuilder, old, inputs, tolerance)}A layer of Keras 3 may compute another "
        "function than the tf_keras layer of the same name (as `hard_sigmoid` does), or may be random. "
        "Replace the layer. If only rounding differs, pass a larger `tolerance`."
    )


def _reset_states(rebuilder: Rebuilder) -> None:
    for old, new in rebuilder.pairs:
        if getattr(old, "stateful", False) and hasattr(new, "reset_state"):
            old.reset_states()
            new.reset_state()


def _first_difference(rebuilder: Rebuilder, old: Any, inputs: Any, tolerance: float) -> str:
    """Return a sentence that names the first layer whose output differs."""
    if isinstance(old, tf_keras.Sequential):
        steps, before, after = [], inputs, inputs
        for layer, twin in zip(old.layers, rebuilder.network(old).layers, strict=True):
            before, after = layer(before, training=False), twin(after, training=False)
            steps.append((layer, before, after))
    else:
        sources, calls = rebuilder.traces[id(old)]
        layers, olds, news = zip(*calls, strict=True)
        flat = tf.nest.flatten(inputs)
        before = tf_keras.Model(old.inputs, list(olds))(flat, training=False)
        after = keras.Model(sources, list(news))(flat, training=False)
        steps = zip(layers, tf.nest.flatten(before), tf.nest.flatten(after), strict=True)
    for layer, before, after in steps:
        gap, allowed = _gap(before, after, tolerance)
        if gap > allowed:
            inner = rebuilder.unwrap(layer)
            return f"The first layer that differs is {describe(inner)}, by {gap:g}. "
    return ""


def _random_inputs(model: Any, unwrap: Callable[[Any], Any]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    layers = (unwrap(layer) for layer in model._flatten_layers())
    rows = [layer.input_dim for layer in layers if isinstance(layer, tf_keras.layers.Embedding)]
    # A float input may hold row numbers of an embedding, because float is the default dtype of an `Input`.
    top = min([4, *rows]) if rows else 0
    inputs = []
    for tensor in model.inputs:
        shape = [2 if i == 0 and n is None else (n or 32) for i, n in enumerate(tensor.shape)]
        dtype = tensor.dtype.as_numpy_dtype
        if tensor.dtype.is_floating:
            x = rng.uniform(0, top, shape) if top else rng.standard_normal(shape)
        else:
            x = rng.integers(0, top or 2, shape)
        inputs.append(np.asarray(x).astype(dtype))
    return inputs


def _arrays(outputs: Any) -> list[np.ndarray]:
    return [np.asarray(tf.cast(x, tf.float64)) for x in tf.nest.flatten(outputs)]


def _gap(before: Any, after: Any, tolerance: float) -> tuple[float, float]:
    """Return (largest difference, largest valid difference) of the output with the worst agreement."""
    gaps = []
    for a, b in zip(_arrays(before), _arrays(after), strict=True):
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return np.inf, 0.0
        gap = float(np.max(np.abs(a - b), initial=0.0))
        # Values near zero differ in their last bits.
        allowed = tolerance * float(np.max(np.abs(a), initial=0.0)) + 1e-7
        gaps.append((gap > allowed, gap, allowed))
    return max(gaps)[1:]
