"""SavedModels of a model that runs on TensorFlow: write, load and compare."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.exporters import _comparison
from keras_ganprune.exporters._comparison import AS_IT_IS, Form
from keras_ganprune.exporters._inference import write_inference
from keras_ganprune.layers.inference import inner_function
from keras_ganprune.layers.same_outputs import arrays_of
from keras_ganprune.metrics import measure_latency
from keras_ganprune.utils import files


@dataclass(frozen=True)
class Comparison:
    """The comparison of a model with its reloaded SavedModel.

    Attributes:
        outputs: The outputs of the SavedModel.
        difference: The largest absolute difference from the outputs of the model.
    """

    outputs: list[Any]
    difference: float


def write_and_compare(
    network: keras.Model,
    folder: pathlib.Path,
    tolerance: float,
    inputs: Any,
    form: Form = AS_IT_IS,
) -> Comparison:
    """Write a model as a SavedModel, load it and run both.

    Args:
        network: A model whose layers have their plain classes. No state of it changes.
        folder: An empty folder.
        tolerance: Largest valid difference, relative to the largest output.
        inputs: Structure of arrays, as `probe_inputs` returns it.
        form: How the SavedModel calls and sizes its inputs.

    Raises:
        ExportError: The outputs differ, or are not finite.
        UnsupportedLayerError: TensorFlow cannot write the model, or not the structure of its outputs.
        OSError: The folder cannot be written, or the disk is full.
    """
    tf = files.tensorflow()
    arguments = _comparison.tensors(network, inputs)
    # The call is compiled, because eager TensorFlow fuses operations differently, which changes the last bit.
    outputs = measure_latency.compiled(network)(*arguments)
    _check_outputs(outputs, network)
    expected = arrays_of(outputs)
    try:
        write(network, folder, _comparison.signature(network, inputs, form))
        serve = measure_latency.served(folder)
    except tf.errors.OpError as error:
        # TensorFlow raises its own error class if the disk is full.
        raise OSError(str(error)) from error
    outputs = arrays_of(serve(*arguments))
    return Comparison(outputs, _comparison.difference(expected, outputs, tolerance, network.name))


def _check_outputs(outputs: Any, network: keras.Model) -> None:
    """Raise `UnsupportedLayerError` if outputs are nested: a SavedModel has one level of names."""
    if isinstance(outputs, Mapping):
        values = list(outputs.values())
    else:
        values = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    if not any(value is None or keras.tree.is_nested(value) for value in values):
        return
    structure = keras.tree.map_structure(
        lambda leaf: leaf if leaf is None else tuple(leaf.shape), outputs
    )
    fix = (
        "Export `keras.Model(model.inputs, keras.tree.flatten(model.outputs))`, which has the same layers"
        if inner_function(network)
        else "Return a list or dict of tensors from its `call`"
    )
    raise UnsupportedLayerError(
        f"A SavedModel returns one tensor, a list of tensors or a dict of tensors. '{network.name}' returns "
        f"tensors of the shapes {structure}. {fix}."
    )


def write(network: keras.Model, folder: pathlib.Path, signature: list[Any]) -> None:
    """Write a SavedModel that holds every variable once.

    Keras's exporter stores each variable twice (as a Keras and as a TensorFlow variable), which doubles the
    size of the files. So the SavedModel of Keras is loaded, and saved again with only the variables of its
    endpoint.

    Raises:
        UnsupportedLayerError: A variable or table is held where TensorFlow does not find it.
    """
    import tensorflow as tf

    full = folder / "full"
    try:
        write_inference(network, full, signature)
    except AssertionError as error:
        raise UnsupportedLayerError(
            f"TensorFlow cannot write '{network.name}': it computes with a variable or table that is no "
            "attribute of a layer. Make it an attribute of its layer: `self.table = tf.Variable(...)`."
        ) from error
    loaded: Any = tf.saved_model.load(str(full))
    function = loaded.signatures["serving_default"]
    compact: Any = tf.Module()
    compact.serve = loaded.serve
    compact.weights = list(function.variables)
    try:
        tf.saved_model.save(compact, str(folder), signatures={"serving_default": function})
    except AssertionError:
        # This fails for lookup tables, which are not variables. Then the larger SavedModel is kept.
        for entry in folder.iterdir():
            if entry != full:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(full, folder, dirs_exist_ok=True)
    shutil.rmtree(full)
