"""Loading saved models with their masks."""

from __future__ import annotations

import os
import pathlib
import zipfile
from typing import Any

import h5py
import keras

from keras_ganprune.errors import FileFormatError
from keras_ganprune.layers.traversal import holders, prunable_layers
from keras_ganprune.layers.upgrade import add_masks, drop_empty_masks, make_prunable


def _masked_layers(path: pathlib.Path) -> int:
    """Return the number of layers with masks in a `.keras` file."""
    count = 0

    def visit(name: str) -> None:
        nonlocal count
        count += f"/{name}".endswith("/pruning_masks/vars/clock")

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member:
        with h5py.File(member, "r") as weights:
            weights.visit(visit)
    return count


def _optimizers() -> dict[str, type]:
    """Return the optimizer classes of Keras, by name.

    A file that was written on PyTorch names the optimizer class of that backend, which the other backends do
    not have. The public class of the same name replaces it.
    """
    members = {name: getattr(keras.optimizers, name) for name in dir(keras.optimizers)}
    base = keras.optimizers.Optimizer
    return {
        name: cls
        for name, cls in members.items()
        if isinstance(cls, type) and issubclass(cls, base)
    }


def load_model(path: str | os.PathLike, **kwargs: Any) -> Any:
    """Load a `.keras` file with its masks, also if it contains a subclassed network.

    For Sequential models, functional models and `GANModel`, `keras.saving.load_model` does the same. A
    subclassed network creates plain layers when it is loaded. This function makes them Prunable again and
    reads their masks. On any backend, it also loads a compiled model that was saved on PyTorch.

    Args:
        path: Path of the `.keras` file.
        **kwargs: Arguments of `keras.saving.load_model`, such as `custom_objects`.

    Returns:
        The model, compiled as it was saved.

    Raises:
        FileFormatError: `path` does not exist, is not a `.keras` file, is damaged, or contains an unknown
            class.

    Example:
    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.keras")
    ...     loaded = load_model(f"{folder}/model.keras")
    >>> int(np.count_nonzero(loaded.layers[0].kernel))
    4
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileFormatError(f"`path` must be a `.keras` file. There is no file '{path}'.")
    if not zipfile.is_zipfile(path):
        raise FileFormatError(
            f"'{path}' is not a `.keras` file of Keras 3, or it is damaged (not a zip archive). "
            "Save the model with `model.save('name.keras')`."
        )
    # Some versions of Keras do not check the checksums.
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        damaged = str(error)
    if damaged:
        raise FileFormatError(
            f"'{path}' is damaged: the checksum of '{damaged}' in it is wrong. Replace the file."
        )
    try:
        known = _optimizers() | (kwargs.pop("custom_objects", None) or {})
        model: Any = keras.saving.load_model(path, custom_objects=known, **kwargs)
        if _masked_layers(path) > len(prunable_layers(model)):
            # A subclassed network has created plain layers for its inner parts.
            make_prunable(model)
            scales = holders(model)
            for layer in scales:
                add_masks(layer, [])  # The store adds a mask for each mask in the file.
            model.load_weights(path)
            for layer in scales:
                drop_empty_masks(layer)
    except Exception as error:
        raise FileFormatError(
            f"'{path}' could not be loaded ({type(error).__name__}: {str(error)[:600]}). Import the classes "
            "of your own first, with their calls of `register_prunable`, or pass them in `custom_objects`."
        ) from error
    return model
