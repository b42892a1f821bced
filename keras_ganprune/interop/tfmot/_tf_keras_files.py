"""tf_keras models: the packages that they need, and the files in which tf_keras saves them."""

from __future__ import annotations

import json
import os
import pathlib
import zipfile
from typing import Any

import h5py
import keras

from keras_ganprune.errors import ArgumentTypeError, FileFormatError, MissingPackageError


def require_packages() -> None:
    """Raise `MissingPackageError` if tf_keras or TFMOT cannot be imported."""
    for module, package in (
        ("tf_keras", "tf_keras"),
        ("tensorflow_model_optimization", "tensorflow-model-optimization"),
    ):
        try:
            __import__(module)
        except ImportError as error:
            raise MissingPackageError(
                f"`{module}` is needed to convert a model that TFMOT has pruned, and could not be "
                f"imported ({error}). Install it: `pip install {package}`."
            ) from error


def check_model(model: Any) -> None:
    """Raise `ArgumentTypeError` if `model` is not a tf_keras model."""
    import tf_keras

    if isinstance(model, tf_keras.Model):
        return
    kind = f"{model!r} (of type {type(model).__module__}.{type(model).__name__})"
    if isinstance(model, keras.layers.Layer):
        fix = (
            "This is a Keras 3 model already: call `keras_ganprune.make_prunable(model)`, or pass it to "
            "`Prune`."
        )
    elif isinstance(model, tf_keras.layers.Layer):
        fix = "This is a layer: put it into a model, `tf_keras.Sequential([layer])`, and build the model."
    else:
        fix = "Pass the model, or the path of its file."
    raise ArgumentTypeError(f"`model` must be a tf_keras model. Received: {kind}. {fix}")


def _saved_by(path: pathlib.Path) -> str:
    """Return the version of Keras that wrote a file, or '' if the file does not contain the version."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if "metadata.json" in archive.namelist():
                return str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
    elif path.is_file() and h5py.is_hdf5(path):
        with h5py.File(path) as file:
            return str(file.attrs.get("keras_version", ""))
    return ""


def load(path: str | os.PathLike) -> Any:
    """Return a model that tf_keras has saved, with its TFMOT wrappers.

    Raises:
        FileFormatError: The file does not exist, Keras 3 wrote it, or tf_keras cannot load it.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    path = pathlib.Path(path)
    if not path.exists():
        raise FileFormatError(f"There is no file '{path}'.")
    version = _saved_by(path)
    if version.startswith("3"):
        raise FileFormatError(
            f"'{path}' was saved by Keras {version}, not by tf_keras. Load it with "
            "`keras.saving.load_model`, and call `keras_ganprune.make_prunable` on the model."
        )
    try:
        with tfmot.sparsity.keras.prune_scope():
            return tf_keras.models.load_model(path, compile=False)
    except Exception as error:
        raise FileFormatError(
            f"'{path}' could not be loaded by tf_keras ({type(error).__name__}: {str(error)[:600]}). It "
            "must hold a whole model (`model.save`), not weights alone. If it has classes of your own, "
            "load it with tf_keras yourself and pass the model."
        ) from error
