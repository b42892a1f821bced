"""Loading saved models with their masks."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import h5py
import keras

from keras_ganprune.errors import ArgumentTypeError, FileFormatError, unknown_name
from keras_ganprune.layers import file_checksums
from keras_ganprune.layers.quantized_parts import has_unknown_parts
from keras_ganprune.layers.quantized_zeros import refuse_lora_in
from keras_ganprune.layers.sequential_models import built_once
from keras_ganprune.layers.traversal import holders, prunable_layers
from keras_ganprune.layers.upgrade import add_masks, drop_empty_masks, upgrade_layers
from keras_ganprune.utils import annotated, given_paths
from keras_ganprune.utils.foreign_errors import sentence_of

# The arguments of `keras.saving.load_model` besides the path.
_OPTIONS = ("verify", "custom_objects", "compile", "safe_mode")


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


def load_model(path: str | os.PathLike, *, verify: bool = True, **kwargs: Any) -> Any:
    """Load a `.keras` file or folder with its masks, also if it contains a subclassed network.

    For Sequential models, functional models and `GANModel`, `keras.saving.load_model` does the same. A
    subclassed network, such as a GAN class of your own, creates plain layers when it is loaded. This function
    makes them Prunable again and reads their masks. On any backend, it also loads a compiled model that was
    saved on PyTorch.

    Args:
        path: Path of the `.keras` file, or of the folder that `model.save(path, zipped=False)` has written.
        verify: Whether the file is compared with the checksum in it. Set it to False for a file that you
            have changed on purpose. Defaults to True.
        **kwargs: Arguments of `keras.saving.load_model`, such as `custom_objects`.

    Returns:
        The model, compiled as it was saved.

    Raises:
        ArgumentTypeError: `path` is no path, or an argument has the wrong type or is unknown.
        FileFormatError: `path` does not exist, is not a `.keras` file, is damaged, or was changed after it
            was written.
        FileFormatError: The file contains an unknown class, or a class that cannot be made from its
            configuration.
        FileFormatError: The weights in the file do not fit the model that its classes make.

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
    annotated.check(load_model, locals(), "path", "verify")
    for name in kwargs:
        if name not in _OPTIONS:
            raise ArgumentTypeError(unknown_name("argument of `load_model`:", name, _OPTIONS))
    annotated.check_value(kwargs.get("custom_objects"), "custom_objects", Mapping[str, Any] | None)
    path = pathlib.Path(path)
    if not path.is_dir():
        return _load(path, verify, **kwargs)
    with tempfile.TemporaryDirectory() as folder:
        archive = _packed(path, pathlib.Path(folder))
        try:
            return _load(archive, verify, **kwargs)
        except FileFormatError as error:
            raise FileFormatError(str(error).replace(str(archive), str(path))) from error


def _packed(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Pack the folder of a model into a `.keras` file, and return the path of that file."""
    if not (path / "config.json").is_file():
        raise FileFormatError(
            f"`path` must be a `.keras` file, or a folder that Keras has saved unzipped. Received: the "
            f"folder '{path}', which has no config.json."
        )
    target = folder / "model.keras"
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(path).as_posix())
    return target


def _load(path: pathlib.Path, verify: bool, **kwargs: Any) -> Any:
    """Load a `.keras` file with its masks."""
    _check_file(path, verify)
    known = _optimizers() | (kwargs.pop("custom_objects", None) or {})
    try:
        with file_checksums.off():  # The file was checked as a whole.
            with built_once():
                model: Any = keras.saving.load_model(path, custom_objects=known, **kwargs)
            if _masked_layers(path) > len(prunable_layers(model)):
                _load_masks(model, path)
        refuse_lora_in(model)
    except Exception as error:
        raise FileFormatError(
            f"'{path}' could not be loaded ({sentence_of(error)}). "
            + _advice(path, known, kwargs.get("safe_mode", True))
        ) from error
    return model


def _check_file(path: pathlib.Path, verify: bool) -> None:
    """Raise `FileFormatError` if a file is not a `.keras` file, or is damaged."""
    given_paths.check_model(path)
    if path.name.endswith(".weights.h5"):
        raise FileFormatError(
            f"'{path}' contains weights and masks, but no model. Build the model, call "
            "`kgp.make_prunable(model)`, then `model.load_weights(path)`."
        )
    if path.suffix in (".h5", ".hdf5") and h5py.is_hdf5(path):
        raise FileFormatError(
            f"'{path}' is a legacy HDF5 file, which has no masks. Load it with `keras.saving.load_model`, "
            "then call `kgp.masks_from_zeros(model)`. A `.keras` file would keep the masks."
        )
    if not zipfile.is_zipfile(path):
        raise FileFormatError(
            f"'{path}' is not a `.keras` file of Keras 3, or it is damaged (not a zip archive). "
            "Save the model with `model.save('name.keras')`."
        )
    # Some versions of Keras do not check the checksums.
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile and zlib raise many kinds of errors for damaged archives.
        raise FileFormatError(
            f"'{path}' is damaged: it cannot be unpacked ({error or type(error).__name__}). Replace the file."
        ) from error
    if damaged:
        raise FileFormatError(
            f"'{path}' is damaged: the checksum of '{damaged}' in it is wrong. Replace the file."
        )
    if verify:
        file_checksums.check_archive(path)


def _load_masks(model: Any, path: pathlib.Path) -> None:
    """Read the masks of a file into a model whose classes have created plain layers."""
    upgrade_layers(model, lora=True)
    scales = holders(model)
    for layer in scales:
        add_masks(layer, [])  # The store adds a mask for each mask in the file.
    built = model.built
    # A GAN without a `call` is never built itself, but its networks are.
    model.built = True
    try:
        model.load_weights(path)
    finally:
        model.built = built
    for layer in scales:
        drop_empty_masks(layer)


def _advice(path: pathlib.Path, known: dict[str, Any], safe_mode: bool) -> str:
    """Return what to do about a file that could not be loaded: the cause is in its classes or its weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        config.pop("compile_config", None)
        model: Any = keras.saving.deserialize_keras_object(
            config, custom_objects=known, safe_mode=safe_mode
        )
    except Exception as error:
        if "Could not locate" in str(error):
            return (
                "The file contains a class or function that Keras does not know. Import the classes of your "
                "own first, with their calls of `register_prunable`, or pass them in `custom_objects`."
            )
        if "Could not interpret activation function identifier: {'value'" in str(error):
            return (
                "The file contains a layer whose `activation` is a lambda. Keras writes such a lambda, but "
                "cannot read it: use a function with a name. For this file, make the model as you did then, "
                "call `kgp.make_prunable(model)` and `model.load_weights(path)`."
            )
        if safe_mode and "safe_mode" in str(error):
            return (
                "The file contains code, such as a lambda, which can do anything when it runs. If you trust "
                "the file, call `kgp.load_model(path, safe_mode=False)`."
            )
        return (
            "A class in the file could not be made from its configuration. Its `get_config` must return all "
            "arguments of its constructor, and its `from_config` must deserialize the layers and models "
            "among them (`keras.saving.deserialize_keras_object`). Try "
            "`type(model).from_config(model.get_config())`."
        )
    if has_unknown_parts(path, model):
        return (
            "The file contains layers that were quantized inside another layer, such as those of a "
            "`MultiHeadAttention`. Keras does not write to the file that they are quantized, so it makes "
            "plain ones. Make the model as you did then, call `model.quantize(mode)` with the same mode, "
            "then `model.load_weights(path)`."
        )
    return (
        "The classes were found and the model was made, but the weights do not fit it. When its constructor "
        "has run, its networks must be built (give them a `keras.Input`, or call them there), with the "
        "layers and shapes that they had when the file was written. Or make the model as you did then, "
        "call `kgp.make_prunable(model)` and `model.load_weights(path)`."
    )
