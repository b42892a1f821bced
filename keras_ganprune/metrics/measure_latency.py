"""The latency of models and SavedModels, timed in turns."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np

from keras_ganprune.errors import ArgumentTypeError, FileFormatError, InvalidArgumentError
from keras_ganprune.layers.inference import inner_function, symbolic_inputs
from keras_ganprune.metrics.milliseconds import Milliseconds
from keras_ganprune.utils import annotated, files, validation
from keras_ganprune.utils import random_inputs as inputs_for

Name = TypeVar("Name", bound=Hashable)

# Timed calls per function: so many, or as many as fit in these seconds, but not less than one.
_REPEATS, _SECONDS = 30, 5.0
# Who waits for longer is told why.
SLOW_SECONDS = 3.0


def latency(
    functions: Mapping[Name, Callable[[Any], Any]],
    inputs: Any,
    *,
    repeats: int | None = None,
    warmup: int = 3,
) -> dict[Name, Milliseconds]:
    """Return the median time that each function takes, in milliseconds.

    The functions run in turns, so that other load on the machine affects all of them alike.

    Args:
        functions: Dict, name -> function of `inputs` that returns when its result is ready.
        inputs: The argument of every function.
        repeats: Positive int, number of timed calls per function. Defaults to None: 30, or fewer if these
            would take more than about 5 seconds per function.
        warmup: Non-negative int, number of calls per function before the timing: the first calls trace and
            compile. Defaults to 3. A function that takes seconds is called once or twice only, if `repeats`
            is None.

    Returns:
        Dict, name -> median time in milliseconds, a float with `quartiles`. Lower is better.

    Raises:
        InvalidArgumentError: `repeats` is not a positive int, or `warmup` is not a non-negative int.

    Example:
    >>> times = latency({"sort": np.sort, "sum": np.sum}, np.ones(100), repeats=5)
    >>> sorted(times), all(time > 0 for time in times.values())
    (['sort', 'sum'], True)
    """
    annotated.check(latency, locals(), "functions")
    if not functions or not all(callable(function) for function in functions.values()):
        raise ArgumentTypeError(
            "`functions` must be a dict of name -> function with at least one entry. Received: "
            f"{functions!r}."
        )
    if repeats is not None:
        validation.positive_int(repeats, "repeats")
    return timed(functions, inputs, repeats, validation.non_negative_int(warmup, "warmup"))


def timed(
    functions: Mapping[Name, Callable[[Any], Any]],
    inputs: Any,
    repeats: int | None,
    warmup: int = 3,
    slow: Callable[[float], None] | None = None,
) -> dict[Name, Milliseconds]:
    """Return what `latency` returns.

    Args:
        functions, inputs, repeats, warmup: As for `latency`.
        slow: Function that is called once, with the seconds that all functions take together, if these are
            more than about 3. Defaults to None.
    """
    rounds = _REPEATS if repeats is None else repeats
    begin = time.perf_counter()

    def late(seconds: float) -> bool:
        """Return whether the time is used up. A requested number of repeats is kept."""
        return repeats is None and time.perf_counter() - begin > seconds * len(functions)

    for call in range(warmup):
        for function in functions.values() if not (call and late(_SECONDS / 5)) else ():
            function(inputs)
        seconds = time.perf_counter() - begin
        if slow is not None and not call and seconds > SLOW_SECONDS:
            slow(seconds)
    times: dict[Name, list[float]] = {name: [] for name in functions}
    order = list(functions)
    for call in range(rounds):
        if call and late(_SECONDS):
            break
        for name in order:
            start = time.perf_counter()
            functions[name](inputs)
            times[name].append(time.perf_counter() - start)
        order.append(order.pop(0))  # rotated, so that no function always runs after the same one
    return {name: Milliseconds.of(seconds) for name, seconds in times.items()}


def input_specs(model: keras.Model, inputs: Any = None) -> Any:
    """Return the structure of symbolic inputs that a model is called with.

    Private attribute of Keras: only `_inputs_struct` holds the structure of the inputs of a functional model.

    Args:
        model: A built Keras model.
        inputs: Structure of `keras.Input`s, for a subclassed model. Defaults to None: it is read from the
            model.
    """
    function = inner_function(model)
    if function is None or inputs is not None:
        return symbolic_inputs(model, inputs)
    return getattr(function, "_inputs_struct")  # noqa: B009  (Keras's stubs do not have it)


def random_inputs(specs: Any, batch: int, seed: int = 0) -> Any:
    """Return a batch of random inputs: normal floats, and zeros and ones for integer inputs.

    Args:
        specs: Structure of symbolic inputs, as `input_specs` returns it.
        batch: Positive int, batch size.
        seed: Int. Defaults to 0.

    Raises:
        InvalidArgumentError: An input size (other than the batch size) is not known, or the model has a fixed
            batch size that is not `batch`.
    """
    flat = keras.tree.flatten(specs)
    for spec in flat:
        if None in spec.shape[1:]:
            raise InvalidArgumentError(
                "Latency can only be measured if all input sizes are known. The input "
                f"'{spec.name}' has the shape {tuple(spec.shape)}. Pass a model with known sizes, such as "
                "`keras.models.clone_model(model, input_tensors=keras.Input((64, 64, 3)))`, or pass "
                "`latency=False`."
            )
        if spec.shape and spec.shape[0] not in (None, batch):
            raise InvalidArgumentError(
                f"The model has a fixed batch size of {spec.shape[0]}, so `batch_sizes` must be "
                f"({spec.shape[0]},). Received: {batch}."
            )
    tensors = [
        keras.ops.convert_to_tensor(array, dtype=keras.backend.standardize_dtype(spec.dtype))
        for array, spec in zip(inputs_for.random_inputs(flat, batch, seed), flat, strict=True)
    ]
    return keras.tree.pack_sequence_as(specs, tensors)


def _finished(outputs: Any) -> Any:
    """Return outputs as arrays; the conversion waits until they are computed."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def compiled(model: keras.Model) -> Callable[..., Any]:
    """Return a model as a compiled function that returns when its outputs are computed.

    The function takes the positional arguments of the model. It changes no state or seed of it.
    """
    # `predict_on_batch` would add a few milliseconds, and would leave its compiled function in the model.
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def function(*x):
            with keras.StatelessScope():
                return model(*x, training=False)

        # Private attribute of TensorFlow: it would warn that models of one process are traced several times.
        function._omit_frequent_tracing_warning = True
        return lambda *x: _finished(function(*x))
    if backend == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        @jax.jit
        def stateless(values, *x):
            mapping = zip(model.variables, values, strict=True)
            with keras.StatelessScope(state_mapping=mapping):
                return model(*x, training=False)

        return lambda *x: _finished(stateless([v.value for v in model.variables], *x))
    import torch  # pyright: ignore[reportMissingImports]

    def eager(*x):
        with torch.no_grad(), keras.StatelessScope():
            return _finished(model(*x, training=False))

    return eager


def served(path: str | os.PathLike[str]) -> Callable[..., Any]:
    """Return the `serve` endpoint of a SavedModel as a function.

    Raises:
        FileFormatError: The folder is not a SavedModel, or has no endpoint `serve`.
        MissingPackageError: TensorFlow is not installed.
    """
    tf = files.tensorflow()
    annotated.check(served, locals())
    if not (pathlib.Path(path) / "saved_model.pb").is_file():
        raise FileFormatError(
            f"`saved_model` must be a folder that `export_saved_model` wrote. Received: '{path}', which "
            "has no file saved_model.pb."
        )
    loaded = tf.saved_model.load(str(path))
    if not hasattr(loaded, "serve"):
        raise FileFormatError(
            "The SavedModel must have an endpoint `serve`. Received: "
            f"'{path}', which has none. Export the model again with `export_saved_model`."
        )
    # The closure keeps the loaded object alive: its functions refer to its variables only weakly.
    if keras.backend.backend() == "tensorflow":
        return lambda *x, loaded=loaded: _finished(loaded.serve(*x))

    def serve(*x, loaded=loaded):
        # TensorFlow cannot read the tensors of another backend.
        arguments: Any = keras.tree.map_structure(tf.constant, _finished(x))
        return keras.tree.map_structure(np.asarray, loaded.serve(*arguments))

    return serve


def check_batch_sizes(batch_sizes: Any) -> tuple[int, ...]:
    """Return one or several batch sizes as a tuple of positive ints.

    Raises:
        InvalidArgumentError: There is no batch size, or a batch size is not a positive int.
    """
    sizes = batch_sizes if isinstance(batch_sizes, (list, tuple)) else (batch_sizes,)
    if not sizes or any(not validation.is_int(n) or n < 1 for n in sizes):
        raise InvalidArgumentError(
            f"`batch_sizes` must be positive ints, such as (1, 16). Received: {batch_sizes!r}."
        )
    return tuple(int(n) for n in sizes)
