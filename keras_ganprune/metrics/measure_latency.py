"""How long networks take, several of them measured in turn."""

from __future__ import annotations

import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import FileFormatError, InvalidArgumentError
from keras_ganprune.pruning.structured.graph import _symbolic_inputs, inner_function
from keras_ganprune.utils import files
from keras_ganprune.utils import random_inputs as inputs_for


def latency(
    functions: Mapping[str, Callable[[Any], Any]],
    inputs: Any,
    *,
    repeats: int = 30,
    warmup: int = 3,
) -> dict[str, float]:
    """Return the median time that each of some functions takes, in milliseconds.

    They are run in turn, so that what else the machine does in the meantime hits all of them alike.

    Args:
        functions: Dict, name -> function that is called with `inputs` and returns when it is done.
        inputs: What they are called with.
        repeats: Positive int, how often each is timed.
        warmup: Int, how often each is run before: the first calls trace and compile.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> found = latency({"sort": np.sort, "sum": np.sum}, np.ones(100), repeats=5)
    >>> sorted(found), all(time > 0 for time in found.values())
    (['sort', 'sum'], True)
    """
    for name, value, least in (("repeats", repeats, 1), ("warmup", warmup, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InvalidArgumentError(
                f"`{name}` must be an int of at least {least}. Received: {value!r}."
            )
    for function in functions.values():
        for _ in range(warmup):
            function(inputs)
    times: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions)
    for _ in range(repeats):
        for name in order:
            start = time.perf_counter()
            functions[name](inputs)
            times[name].append(time.perf_counter() - start)
        order.append(order.pop(0))  # nobody is always behind the same one
    return {name: 1000.0 * statistics.median(found) for name, found in times.items()}


def input_specs(model: keras.Model, inputs: Any = None) -> Any:
    """Return the structure of symbols that a model is called with.

    Private touch: the structure of the inputs of a functional model is only in `_inputs_struct`.
    """
    function = inner_function(model)
    if function is None or inputs is not None:
        return _symbolic_inputs(model, inputs)
    return function._inputs_struct


def random_inputs(specs: Any, batch: int, seed: int = 0) -> Any:
    """Return a batch of random inputs: normal numbers, and zeros and ones where ints are asked for.

    Raises: InvalidArgumentError (a ValueError): sizes are not known, or the batch is another.
    """
    flat = keras.tree.flatten(specs)
    for spec in flat:
        if None in spec.shape[1:]:
            raise InvalidArgumentError(
                f"Latency can only be measured where all sizes are known. '{spec.name}' has the shape "
                f"{tuple(spec.shape)}. Give a model with known sizes, such as "
                "`keras.models.clone_model(model, input_tensors=keras.Input((64, 64, 3)))`, or pass "
                "`latency=False`."
            )
        if spec.shape and spec.shape[0] not in (None, batch):
            raise InvalidArgumentError(
                f"The model was made for a batch of {spec.shape[0]}, so `batch_sizes` must be "
                f"({spec.shape[0]},). Received: {batch}."
            )
    drawn = [
        keras.ops.convert_to_tensor(array, dtype=keras.backend.standardize_dtype(spec.dtype))
        for array, spec in zip(inputs_for.random_inputs(flat, batch, seed), flat, strict=True)
    ]
    return keras.tree.pack_sequence_as(specs, drawn)


def _finished(outputs: Any) -> Any:
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def compiled(model: keras.Model) -> Callable[[Any], Any]:
    """Return a model as a compiled function, which returns when its outputs are there."""
    # `predict_on_batch` would take milliseconds of its own, and leave its function in the model.
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        function = tf.function(lambda x: model(x, training=False))
        return lambda x: _finished(function(x))
    if backend == "jax":
        import jax

        @jax.jit
        def stateless(values, x):
            mapping = zip(model.variables, values, strict=True)
            with keras.StatelessScope(state_mapping=mapping):
                return model(x, training=False)

        return lambda x: _finished(stateless([v.value for v in model.variables], x))
    import torch

    def eager(x):
        with torch.no_grad():
            return _finished(model(x, training=False))

    return eager


def served(path: str | os.PathLike) -> Callable[[Any], Any]:
    """Return the `serve` endpoint of a SavedModel as a function.

    Raises:
        FileFormatError: the folder is not a SavedModel, or was not written by `export_saved_model`.
        MissingPackageError: TensorFlow is not installed.
    """
    tf = files.tensorflow()
    if not (pathlib.Path(path) / "saved_model.pb").is_file():
        raise FileFormatError(
            f"`saved_model` must be a folder that `export_saved_model` wrote. '{path}' has no file "
            "saved_model.pb."
        )
    loaded = tf.saved_model.load(str(path))
    if not hasattr(loaded, "serve"):
        raise FileFormatError(
            f"The SavedModel must have an endpoint `serve`, as `export_saved_model` writes it. '{path}' "
            "has none; export the model again."
        )
    # The object is kept: its functions hold its variables weakly.
    if keras.backend.backend() == "tensorflow":
        return lambda x, loaded=loaded: _finished(loaded.serve(x))

    def serve(x, loaded=loaded):
        # Tensors of another backend mean nothing to TensorFlow.
        x = keras.tree.map_structure(tf.constant, _finished(x))
        return keras.tree.map_structure(np.asarray, loaded.serve(x))

    return serve


def check_batch_sizes(batch_sizes: Sequence[int]) -> tuple[int, ...]:
    """Return batch sizes as a tuple of positive ints, or raise."""
    sizes = batch_sizes if isinstance(batch_sizes, (list, tuple)) else (batch_sizes,)
    if not sizes or any(
        isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1 for n in sizes
    ):
        raise InvalidArgumentError(
            f"`batch_sizes` must be positive ints, such as (1, 16). Received: {batch_sizes!r}."
        )
    return tuple(int(n) for n in sizes)
