"""The layer calls of a model that cannot be traced symbolically, observed while it runs once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, cast

import keras

from keras_ganprune.layers.traversal import walk
from keras_ganprune.metrics import measure_latency
from keras_ganprune.pruning.structured.graph import Call, Graph, Tensor
from keras_ganprune.pruning.structured.rules.macs import is_counted


def observed_graph(model: keras.Model, inputs: Any = None) -> Graph:
    """Return the graph of the layer calls that one run of a model makes.

    Operations between the layers are not observed: each input of a layer is an input of the graph, and the
    outputs of the graph are None.

    Args:
        model: A built Keras model.
        inputs: Structure of `keras.Input`s, for a subclassed model with several inputs. Defaults to None.
    """
    calls: list[Call] = []
    tensors: list[Tensor] = []

    def to_symbol(leaf: Any) -> Any:
        if not keras.ops.is_tensor(leaf):
            return leaf
        return Tensor(tuple(leaf.shape), keras.backend.standardize_dtype(leaf.dtype))

    def record(path: str, layer: keras.layers.Layer, args: Any, kwargs: Any, outputs: Any) -> None:
        # Keras's stubs say that the result may be None.
        args, kwargs = cast(Any, keras.tree.map_structure(to_symbol, (args, kwargs)))
        result = keras.tree.map_structure(to_symbol, outputs)
        calls.append(Call(layer, path, tuple(args), kwargs, result))
        tensors.extend(calls[-1].inputs)

    specs = measure_latency.input_specs(model, inputs)
    with _recording(model, record):
        model(measure_latency.random_inputs(specs, 1), training=False)
    if not calls:
        calls.append(Call(model, model.name, (), {}, [], "no layer with a known class was called"))
    return Graph(model, tensors, None, [], calls)


@contextlib.contextmanager
def _recording(model: keras.Model, record: Callable[..., None]) -> Iterator[None]:
    """Record, inside the context, each call of a layer with known costs and each call of a leaf layer.

    Calls inside such a call are not recorded. Within the context, an attribute of the layer object hides the
    `call` of its class. Keras reads `call` from the object.
    """
    active: list[keras.layers.Layer] = []

    def recorded(path: str, layer: keras.layers.Layer) -> Callable[..., Any]:
        call = layer.call

        @functools.wraps(call)
        def call_and_record(*args, **kwargs):
            active.append(layer)
            try:
                outputs = call(*args, **kwargs)
            finally:
                active.pop()
            if not active:
                record(path, layer, args, kwargs, outputs)
            return outputs

        return call_and_record

    layers = []
    for path, layer in walk(model)[1:]:
        if is_counted(layer) or len(walk(layer)) == 1:
            layers.append(layer)
            object.__setattr__(layer, "call", recorded(path, layer))
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("call", None)
