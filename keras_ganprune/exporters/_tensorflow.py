"""SavedModels of a model that runs on TensorFlow: write, load and compare."""

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
class Comparison:
    """The comparison of a model with its reloaded SavedModel.

    Attributes:
        inputs: Random inputs.
        outputs: The outputs of the SavedModel for them.
        difference: The largest absolute difference from the outputs of the model.
    """

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    difference: float


def input_specs(plain: keras.Model) -> Any:
    """Return the structure of symbolic inputs that a model is exported with.

    Raises:
        UnsupportedLayerError: `call` takes several arguments, or the input shapes are not known.
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
        f"{', '.join(required)}. Change its `call`, or export a functional model."
    ) from reason


def run(function: Callable[[Any], Any], specs: Any, inputs: list[np.ndarray]) -> list[Any]:
    """Return the outputs of a function of backend tensors, such as `measure_latency.compiled` returns."""
    tensors = [keras.ops.convert_to_tensor(x) for x in inputs]
    return keras.tree.flatten(function(keras.tree.pack_sequence_as(specs, tensors)))


def write_and_compare(plain: keras.Model, folder: pathlib.Path, tolerance: float) -> Comparison:
    """Write a model as a SavedModel, load it and run both on random inputs.

    Args:
        plain: A model without masks.
        folder: An empty folder.
        tolerance: Largest valid difference, relative to the largest output.

    Raises:
        ExportError: The outputs differ, or are not finite.
        OSError: The folder cannot be written, or the disk is full.
    """
    tf = files.tensorflow()
    specs = input_specs(plain)
    inputs = random_inputs.random_inputs(keras.tree.flatten(specs))
    # The model is called before it is written, because Keras exports a subclassed model only after a call.
    # The call is compiled, because eager TensorFlow fuses operations differently, which changes the last bit.
    expected = run(measure_latency.compiled(plain), specs, inputs)
    try:
        write(plain, folder)
        serve = measure_latency.served(folder)
    except tf.errors.OpError as error:
        # TensorFlow raises its own error class if the disk is full.
        raise OSError(str(error)) from error
    outputs = run(serve, specs, inputs)
    return Comparison(
        inputs, outputs, random_inputs.difference(expected, outputs, tolerance, plain.name)
    )


def write(plain: keras.Model, folder: pathlib.Path) -> None:
    """Write a SavedModel that holds every variable once.

    Keras's exporter stores each variable twice (as a Keras and as a TensorFlow variable), which doubles the
    size of the files. So the SavedModel of Keras is loaded, and saved again with only the variables of its
    endpoint.
    """
    import tensorflow as tf

    full = folder / "full"
    plain.export(str(full), format="tf_saved_model", verbose=False)
    loaded: Any = tf.saved_model.load(str(full))
    signature = loaded.signatures["serving_default"]
    compact: Any = tf.Module()
    compact.serve = loaded.serve
    compact.weights = list(signature.variables)
    try:
        tf.saved_model.save(compact, str(folder), signatures={"serving_default": signature})
    except AssertionError:
        # This fails for lookup tables, which are not variables. Then the larger SavedModel is kept.
        for entry in folder.iterdir():
            if entry != full:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(full, folder, dirs_exist_ok=True)
    shutil.rmtree(full)
