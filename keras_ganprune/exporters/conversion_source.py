"""The SavedModel that the converters of other formats read, with a name for each input and output."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.exporters._comparison import Form, input_names, signature
from keras_ganprune.exporters.contract import Arrays, ConversionSource
from keras_ganprune.exporters.saved_model import write_and_compare
from keras_ganprune.utils import files


def conversion_source(
    network: keras.Model,
    folder: pathlib.Path,
    inputs: Any,
    batch_size: int | None,
    tolerance: float,
) -> ConversionSource:
    """Write a SavedModel, compare it with the network, and return it.

    Args:
        network: A model whose layers have their plain classes.
        folder: An empty folder.
        inputs: Structure of arrays, as `probe_inputs` returns it.
        batch_size: Positive int, or None: any batch size.
        tolerance: As for `export_saved_model`.

    Raises:
        UnsupportedLayerError: An input is text, which the converters cannot read.
        ExportError: The SavedModel gives other outputs.
    """
    tf = files.tensorflow()
    form = Form(input_names(network, inputs), batch_size)
    for spec in keras.tree.flatten(signature(network, inputs, form)):
        if spec.dtype == "string":
            raise UnsupportedLayerError(
                f"Only a SavedModel takes text. The input '{spec.name}' is text. Write a SavedModel, or "
                "export the network behind the layer that turns text into numbers."
            )
    write_and_compare(network, folder, tolerance, sized(inputs, batch_size), form)
    loaded: Any = tf.saved_model.load(str(folder))
    function = loaded.signatures["serving_default"]
    # TensorFlow flattens outputs in the order of their names.
    source = ConversionSource(folder, tuple(sorted(function.structured_outputs)), function)
    vars(function)["_kept"] = loaded  # a function alone does not keep its variables
    return source


def sized(inputs: Any, batch_size: int | None) -> Any:
    """Return inputs with as many rows as a batch size: rows are repeated or left out."""
    if batch_size is None:
        return inputs
    return keras.tree.map_structure(
        lambda a: np.resize(a, (batch_size, *a.shape[1:])) if a.ndim else a, inputs
    )


def named_inputs(network: keras.Model, inputs: Any) -> Arrays:
    """Return arrays by the names of the inputs of a file, in the types of its signature."""
    form = Form(input_names(network, inputs))
    specs = keras.tree.flatten(signature(network, inputs, form))
    arrays = keras.tree.flatten(inputs)
    return {
        spec.name: np.asarray(array, spec.dtype) for array, spec in zip(arrays, specs, strict=True)
    }


def named_outputs(outputs: Any) -> dict[str, Any]:
    """Return the outputs of a model by name: the keys of its dict, or 'output_0', ..."""
    if isinstance(outputs, Mapping):
        return {str(key): value for key, value in outputs.items()}
    return {f"output_{n}": value for n, value in enumerate(keras.tree.flatten(outputs))}


def in_batches(function: Callable[[Any], Any], inputs: Any, size: int) -> Any:
    """Return the outputs of a function for inputs of any number of rows.

    Args:
        function: Function of a structure of arrays of `size` rows.
        inputs: Structure of arrays.
        size: Rows per call. The last call gets rows twice, and its outputs are cut.
    """
    count = max((len(a) for a in keras.tree.flatten(inputs) if np.ndim(a)), default=1)
    parts = []
    for begin in range(0, count, size):
        rows = keras.tree.map_structure(
            lambda a, begin=begin: np.asarray(a)[begin : begin + size] if np.ndim(a) else a, inputs
        )
        found = function(sized(rows, size))
        left = min(size, count - begin)
        parts.append(keras.tree.map_structure(lambda a, left=left: np.array(a)[:left], found))
    return keras.tree.map_structure(lambda *a: np.concatenate(a), *parts)
