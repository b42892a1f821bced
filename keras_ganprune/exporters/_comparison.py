"""The comparison of an exported model with the user's model."""

from __future__ import annotations

import re
from typing import Any

import attrs
import keras
import numpy as np

from keras_ganprune.errors import ExportError, PruningError
from keras_ganprune.layers.given_inputs import cannot_be_called
from keras_ganprune.layers.inference import (
    arguments,
    inner_function,
    run,
    symbolic_inputs,
)
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.layers.same_outputs import Gap, arrays_of, gap
from keras_ganprune.layers.traversal import walk


def inputs_for(network: keras.Model, inputs: Any) -> Any:
    """Return the arrays that a network is compared on.

    Raises:
        UnbuiltModelError: The inputs of the network are not known.
        UnsupportedLayerError: It could not be called on random inputs.
        InvalidArgumentError: It could not be called on `inputs`, or they have another structure.
    """
    try:
        arrays = probe_inputs(network, inputs)
        if inputs is not None:
            run(network, arrays)
        return arrays
    except Exception as error:
        if inputs is None or isinstance(error, PruningError):
            raise
        raise cannot_be_called(network, inputs, error) from error


@attrs.frozen
class Form:
    """How a SavedModel names and sizes its inputs.

    Attributes:
        names: A name for each input. Defaults to None: the names of Keras.
        batch_size: Positive int, fixed batch size. Defaults to None: any, if the model has no fixed one.
    """

    names: tuple[str, ...] | None = None
    batch_size: int | None = None


AS_IT_IS = Form()

# Names of inputs that TensorFlow takes.
_VALID = re.compile(r"[A-Za-z_][\w./-]*")
# Names that Keras makes, which depend on how many layers were made before.
_MADE_BY_KERAS = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?(_CLONE)?")


def _valid(name: str) -> str:
    """Return a name with letters, digits and '_' only, which begins with no digit."""
    name = re.sub(r"\W", "_", name)
    return f"input_{name}" if name[:1].isdigit() else name


def input_names(network: keras.Model, inputs: Any) -> tuple[str, ...]:
    """Return a valid and unique name for each input: that of the user, or 'input_0', ..."""
    specs = keras.tree.flatten(_signature(network, inputs))
    names = []
    for number, spec in enumerate(specs):
        name = _valid(spec.name or "")
        names.append(f"input_{number}" if not name or _MADE_BY_KERAS.fullmatch(name) else name)
    if len(set(names)) < len(names):
        return tuple(f"input_{number}" for number in range(len(specs)))
    return tuple(names)


def signature(network: keras.Model, inputs: Any, form: Form = AS_IT_IS) -> list[Any]:
    """Return the `keras.InputSpec`s of the positional arguments of a network.

    Sizes that may vary are those that the model does not fix. A batch size is fixed only if the model has
    a fixed one, such as a stateful recurrent layer, or if `form` has one.
    """
    specs = _signature(network, inputs)
    if form == AS_IT_IS:
        return specs
    flat = keras.tree.flatten(specs)
    names = form.names or [spec.name for spec in flat]

    def formed(spec: Any, name: str | None) -> keras.InputSpec:
        shape = spec.shape
        if shape and form.batch_size is not None:
            shape = (form.batch_size, *shape[1:])
        return keras.InputSpec(shape=shape, dtype=spec.dtype, name=name)

    new = [formed(spec, name) for spec, name in zip(flat, names, strict=True)]
    return keras.tree.pack_sequence_as(specs, new)


def fixed_batch(network: keras.Model, inputs: Any) -> int | None:
    """Return the batch size that a network fixes, such as by a stateful layer, or None."""
    sizes = [
        spec.shape[0] for spec in keras.tree.flatten(_signature(network, inputs)) if spec.shape
    ]
    return next((size for size in sizes if size is not None), None)


def _signature(network: keras.Model, inputs: Any) -> list[Any]:
    function = inner_function(network)
    stateful = any(getattr(layer, "stateful", False) for _, layer in walk(network))
    if function is not None:
        symbols = keras.tree.flatten(getattr(function, "_inputs_struct"))  # noqa: B009
    else:
        try:
            symbols = keras.tree.flatten(symbolic_inputs(network, None))
        except ValueError:
            symbols = []
    left = list(symbols or [])

    def spec(array: np.ndarray) -> keras.InputSpec:
        symbol = left.pop(0) if left else None
        shape = tuple(array.shape)
        if symbol is not None and len(symbol.shape) == len(shape):
            shape = tuple(symbol.shape)
        batch = array.shape[0] if array.ndim and stateful else None
        if function is not None and symbol is not None:
            batch = symbol.shape[0] if len(symbol.shape) else None
            name = symbol.name
            if name is not None and not _VALID.fullmatch(name):
                name = _valid(name)  # TensorFlow takes names of Python only
            dtype = keras.backend.standardize_dtype(symbol.dtype)
        else:
            name, dtype = None, _dtype(array)
        return keras.InputSpec(shape=(batch, *shape[1:]) if shape else (), dtype=dtype, name=name)

    return [keras.tree.map_structure(spec, argument) for argument in arguments(network, inputs)]


def _dtype(array: np.ndarray) -> str:
    if array.dtype.kind in "OSU":
        return "string"
    return keras.config.floatx() if array.dtype == "float64" else str(array.dtype)


def tensors(network: keras.Model, inputs: Any) -> list[Any]:
    """Return the positional arguments of a network as tensors of the types of its signature."""

    def tensor(array: np.ndarray, spec: Any) -> Any:
        value = keras.ops.convert_to_tensor(array)
        return value if spec.dtype == "string" else keras.ops.cast(value, spec.dtype)

    return [
        keras.tree.map_structure(tensor, array, spec)
        for array, spec in zip(arguments(network, inputs), signature(network, inputs), strict=True)
    ]


def difference(expected: Any, actual: Any, tolerance: float, name: str) -> float:
    """Return the largest absolute difference between the outputs of a model and of its SavedModel.

    Args:
        expected: Outputs of the model.
        actual: Outputs of the SavedModel for the same inputs.
        tolerance: Largest allowed difference, relative to the largest absolute output (at least 1).
        name: Name of the model, for the error.

    Raises:
        ExportError: The outputs differ by more than `tolerance`, have other shapes, or are NaN or infinite.
    """
    expected, actual = ([_wide(a) for a in arrays_of(outputs)] for outputs in (expected, actual))
    if any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in expected if a is not None):
        raise ExportError(
            f"The outputs of the model '{name}' on the inputs of the comparison must be finite. Received: "
            "NaN or infinite outputs. Nothing was written."
        )
    found: Gap = gap(expected, actual)
    if found.reason:
        raise ExportError(
            "The reloaded SavedModel must give the outputs of the model. Received: "
            f"{found.reason[0].lower()}{found.reason[1:]}. Nothing was written."
        )
    if found.largest > tolerance * max(1.0, found.scale):
        raise ExportError(
            "The reloaded SavedModel must give the outputs of the model. Largest difference: "
            f"{found.largest:g}. Allowed: {tolerance:g} times the largest output. Nothing was written."
        )
    return found.largest


def _wide(array: Any) -> Any:
    """Return an array of numbers as float64: files and backends may have other types for them."""
    if not isinstance(array, np.ndarray) or array.dtype.kind in "OSUc":
        return array
    return array.astype("float64")
