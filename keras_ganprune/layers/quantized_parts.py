"""Quantized layers inside another layer of Keras, which a file holds and Keras does not load."""

from __future__ import annotations

import math
import pathlib
import zipfile

import h5py
import keras

# Number of scales that Keras keeps for each tensor of a layer that is quantized to float8.
_HISTORY = 1024


def has_unknown_parts(path: pathlib.Path, model: keras.layers.Layer) -> bool:
    """Return whether a `.keras` file has more quantized weights than the model that Keras makes from it.

    The configuration of an attention layer does not say that its inner layers are quantized.

    Args:
        path: The file.
        model: The model of its configuration.
    """
    known = sum(
        _is_quantized(tuple(v.shape), keras.backend.standardize_dtype(v.dtype), v.name)
        for v in model.weights
    )
    found = 0

    def visit(name: str, item: object) -> None:
        nonlocal found
        if isinstance(item, h5py.Dataset) and "/pruning_masks/" not in f"/{name}":
            if not name.startswith("optimizer/"):
                found += _is_quantized(tuple(item.shape), str(item.dtype))

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member:
        with h5py.File(member, "r") as weights:
            weights.visititems(visit)
    return found > known


def _is_quantized(shape: tuple[int, ...], dtype: str, name: str = "amax_history") -> bool:
    """Return whether a weight is a kernel of integers, or the scales of a tensor of float8."""
    if dtype in ("int8", "uint8"):
        return len(shape) > 1 and math.prod(shape) > 0
    return shape == (_HISTORY,) and dtype == "float32" and name.endswith("amax_history")
