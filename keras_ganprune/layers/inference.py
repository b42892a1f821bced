"""A model called in inference, with nothing of it changed: its inputs, its arguments, its layer calls."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from keras_ganprune.backend.no_gradients import no_gradients
from keras_ganprune.errors import UnbuiltModelError


def inner_function(layer: keras.layers.Layer) -> keras.Function | None:
    """Return the graph that a Sequential or functional model runs, or None.

    Private touch: a Sequential keeps its graph in `_functional`. A functional model whose class defines
    `call` runs that instead, so it has no such graph.
    """
    if isinstance(layer, keras.Sequential):
        return layer._functional
    if not isinstance(layer, keras.Function):
        return None
    owner = next(cls for cls in type(layer).__mro__ if "call" in vars(cls))
    return layer if owner.__module__.split(".")[0] == "keras" else None


def symbolic_inputs(model: keras.layers.Layer, inputs: Any) -> Any:
    """Return the structure of symbols that a subclassed model is called with."""
    if inputs is not None:
        return inputs
    if isinstance(model, keras.Function):
        # Private attribute of Keras. The class has a `call` of its own, which takes the same inputs.
        return getattr(model, "_inputs_struct")  # noqa: B009  (Keras's stubs do not have it)
    config = model.get_build_config() or {}
    shapes = config.get("input_shape")
    if shapes is None and "shapes_dict" in config:
        # A `build` with several arguments: their names are those of `call`, with this ending.
        shapes = list(config["shapes_dict"].values())
    if shapes is None:
        raise UnbuiltModelError(
            f"The inputs of `{type(model).__name__}` '{model.name}' are not known: it has several, or "
            "was never built. Pass symbols of their shapes and types, such as "
            "`inputs=[keras.Input((64,)), keras.Input((), dtype='int32')]`."
        )
    single = isinstance(shapes, (tuple, list)) and not any(
        isinstance(n, (tuple, list)) for n in shapes
    )

    def symbol(shape: Any) -> Any:
        return keras.KerasTensor((None, *shape[1:]), model.input_dtype)

    if single:
        return symbol(shapes)
    if isinstance(shapes, dict):
        return {name: symbol(shape) for name, shape in shapes.items()}
    return [symbol(shape) for shape in shapes]


def positional_names(model: keras.layers.Layer, required: bool = False) -> list[str]:
    """Return the names of the positional arguments of `call`, without `training` and `mask`.

    Args:
        model: Model or layer.
        required: Whether to leave out arguments with a default. Defaults to False.
    """
    return [
        p.name
        for p in inspect.signature(model.call).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.name not in ("training", "mask")
        and (p.default is p.empty or not required)
    ]


def arguments(model: keras.layers.Layer, structure: Any) -> tuple:
    """Return the positional arguments that a model is called with.

    A list is one argument, unless `call` has exactly as many parameters as the list has entries. The entries
    of a tuple are the arguments, unless `call` has fewer parameters or the model is functional.
    """
    positional = positional_names(model)
    if inner_function(model) is not None:
        return (structure,)
    if isinstance(structure, tuple) and 0 < len(structure) <= len(positional):
        return structure
    several = isinstance(structure, list) and len(structure) == len(positional) > 1
    return tuple(structure) if several else (structure,)


def run(model: keras.layers.Layer, inputs: Any, values: Any = ()) -> Any:
    """Return the outputs of a model in inference. No state, seed or weight of the model changes.

    Args:
        model: Built Keras model or layer.
        inputs: Structure of arrays, as `probe_inputs` returns it.
        values: Pairs (variable, array), the values that some variables have in this run; or a dict,
            `id(variable)` -> array. Defaults to (): no other values.

    Returns:
        The structure of tensors that the model returns.
    """
    if isinstance(values, dict):
        by_id = {id(v): v for v in model.variables}
        values = [(by_id[key], value) for key, value in values.items() if key in by_id]
    with no_gradients(), keras.StatelessScope(state_mapping=list(values)):
        return model(*arguments(model, inputs), training=False)


@contextlib.contextmanager
def replaced_calls(
    layers: Iterable[keras.layers.Layer],
    replacement: Callable[[keras.layers.Layer, Callable[..., Any]], Callable[..., Any]],
) -> Iterator[None]:
    """Within the context, each layer runs `replacement(layer, its call)` instead of its `call`.

    An attribute of the layer object hides the `call` of its class. Keras reads `call` from the object.
    """
    before = []
    try:
        for layer in layers:
            before.append((layer, vars(layer).get("call")))
            call = layer.call
            wrapped = functools.wraps(call)(replacement(layer, call))
            object.__setattr__(layer, "call", wrapped)
        yield
    finally:
        for layer, own in reversed(before):
            if own is None:
                layer.__dict__.pop("call", None)
            else:
                object.__setattr__(layer, "call", own)
