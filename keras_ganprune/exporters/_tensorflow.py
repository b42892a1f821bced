"""Writing a SavedModel with TensorFlow, for a model that runs on it, and comparing the two."""

from __future__ import annotations

import inspect
import pathlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.metrics import measure_latency
from keras_ganprune.utils import files, random_inputs


@dataclass(frozen=True)
class Compared:
    """Random inputs, the outputs of a reloaded SavedModel, and how far the model's own differ."""

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    difference: float


def input_specs(plain: keras.Model) -> Any:
    """Return the structure of symbols that a model is exported with.

    Raises:
        UnsupportedLayerError: it takes several arguments, or its inputs are not known.
    """
    parameters = inspect.signature(plain.call).parameters.values()
    required = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind is p.POSITIONAL_OR_KEYWORD
        and p.name not in ("training", "mask")
    ]
    try:
        if len(required) < 2:
            return measure_latency.input_specs(plain)
        reason = None
    except UnbuiltModelError as error:
        reason = error
    raise UnsupportedLayerError(
        "A model that is exported must take one argument (a list or dict for several inputs), and be "
        f"built by a call. Received: '{plain.name}' of {type(plain).__name__}, which takes "
        f"{', '.join(required)}. Write its `call` so, or export a functional model."
    ) from reason


def run(function: Callable[[Any], Any], specs: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of a function of tensors of the backend, such as `timing.compiled` gives."""
    tensors = [keras.ops.convert_to_tensor(x) for x in inputs]
    return keras.tree.flatten(function(keras.tree.pack_sequence_as(specs, tensors)))


def write_and_compare(plain: keras.Model, folder: pathlib.Path, tolerance: float) -> Compared:
    """Write a model as a SavedModel, load it again and run both.

    Raises:
        ExportError: the outputs differ.
        OSError: the folder cannot be written or the disk is full.
    """
    tf = files.tensorflow()
    specs = input_specs(plain)
    inputs = random_inputs.random_inputs(keras.tree.flatten(specs))
    # First, since Keras exports a subclassed model only when it has been called.
    # Compiled: eager TensorFlow fuses operations differently, which costs the last bit.
    expected = run(measure_latency.compiled(plain), specs, inputs)
    try:
        write(plain, folder)
        serve = measure_latency.served(folder)
    except tf.errors.OpError as error:
        # TensorFlow reports a full disk as an error class of its own.
        raise OSError(str(error)) from error
    outputs = run(serve, specs, inputs)
    return Compared(
        inputs, outputs, random_inputs.difference(expected, outputs, tolerance, plain.name)
    )


def write(plain: keras.Model, folder: pathlib.Path) -> None:
    """Write a SavedModel with every variable once.

    Keras's exporter stores each variable twice (as its own and as TensorFlow's), which doubles the
    file. So what it wrote is loaded, and saved again with only what the endpoint reads.
    """
    import tensorflow as tf

    full = folder / "full"
    plain.export(str(full), format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(full))
    signature = loaded.signatures["serving_default"]
    compact = tf.Module()
    compact.serve = loaded.serve
    compact.weights = list(signature.variables)
    try:
        tf.saved_model.save(compact, str(folder), signatures={"serving_default": signature})
    except AssertionError:
        # Lookup tables and the like are not variables; then the larger SavedModel is the right one.
        for entry in folder.iterdir():
            if entry != full:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(full, folder, dirs_exist_ok=True)
    shutil.rmtree(full)
