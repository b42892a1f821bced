"""Loading saved models with their masks."""

from __future__ import annotations

import os
import pathlib
import zipfile
from typing import Any

import h5py
import keras

from keras_ganprune.errors import FileFormatError
from keras_ganprune.layers.prunable import (
    add_masks,
    drop_empty_masks,
    holders,
    make_prunable,
    prunable_layers,
)


def _masked_layers(path: pathlib.Path) -> int:
    """Return of how many layers the weights in a `.keras` file hold masks."""
    found = 0

    def visit(name: str) -> None:
        nonlocal found
        found += f"/{name}".endswith("/pruning_masks/vars/clock")

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member:
        with h5py.File(member, "r") as weights:
            weights.visit(visit)
    return found


def _optimizers() -> dict[str, type]:
    """Return Keras's optimizers by name.

    What PyTorch has trained names the subclass of that backend in its file, which no other one can use.
    """
    found = {name: getattr(keras.optimizers, name) for name in dir(keras.optimizers)}
    base = keras.optimizers.Optimizer
    return {n: c for n, c in found.items() if isinstance(c, type) and issubclass(c, base)}


def load_model(path: str | os.PathLike, **kwargs: Any) -> Any:
    """Load a `.keras` file, masks included, also where a subclassed network made its layers anew.

    `keras.saving.load_model` does the same for Sequential and functional models and for `GANModel`.
    A network of your own class comes back from it with plain layers; this makes them Prunable again
    and reads their masks. It also reads a compiled model that was written on PyTorch on any backend.

    Args:
        path: The `.keras` file.
        **kwargs: As `keras.saving.load_model`, such as `custom_objects`.

    Raises:
        FileFormatError: there is no such file, it is damaged, or a class in it is not known.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileFormatError(f"There is no file '{path}'.")
    if not zipfile.is_zipfile(path):
        raise FileFormatError(
            f"'{path}' is not a `.keras` file of Keras 3, or it is damaged (not a zip archive). "
            "Save the model with `model.save('name.keras')`."
        )
    # Not every version of Keras reads the checksums.
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        damaged = str(error)
    if damaged:
        raise FileFormatError(
            f"'{path}' is a damaged file: the checksum of '{damaged}' in it is wrong. Replace it."
        )
    try:
        known = _optimizers() | (kwargs.pop("custom_objects", None) or {})
        model = keras.saving.load_model(path, custom_objects=known, **kwargs)
        if _masked_layers(path) > len(prunable_layers(model)):
            # Layers inside others are made anew by these, as plain ones.
            make_prunable(model)
            scales = holders(model)
            for layer in scales:
                add_masks(layer, [])  # its masks are made when they are found in the file
            model.load_weights(path)
            for layer in scales:
                drop_empty_masks(layer)
    except Exception as error:
        raise FileFormatError(
            f"'{path}' could not be loaded ({type(error).__name__}: {str(error)[:600]}). A class of your "
            "own must be imported first (and `register_prunable` called for it), or passed in "
            "`custom_objects`."
        ) from error
    return model
