"""A tf_keras (Keras 2) network rebuilt in Keras 3, with the same graph, layers and weights."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from keras_ganprune.errors import (
    InvalidArgumentError,
    PruningError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.interop.tfmot.layer_options import describe, keras_name, options_of, plain

# The layer that replaces an operation between two tensors.
_COMBINED = {
    "__operators__.add": keras.layers.Add,
    "math.add": keras.layers.Add,
    "math.subtract": keras.layers.Subtract,
    "math.multiply": keras.layers.Multiply,
}
# Functions that return the scale and offset of the `Rescaling` that replaces an operation between a tensor
# and a number c; the second function is for c on the left.
_RESCALED = {
    "__operators__.add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "math.add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "math.subtract": (lambda c: (1.0, -c), lambda c: (-1.0, c)),
    "math.multiply": (lambda c: (c, 0.0), lambda c: (c, 0.0)),
    "math.truediv": (lambda c: (1.0 / c, 0.0), None),
}


class Rebuilder:
    """Builds the Keras 3 twins of tf_keras networks. A shared layer has one twin, also across networks.

    Args:
        unwrap: Function that returns, for a tf_keras layer, the layer to convert, such as the layer inside a
            wrapper.
        custom_objects: Keras 3 classes and functions, by their names in the network.
        overrides: Options that replace options of a layer, by the id of the layer.

    Attributes:
        variables: dict from the id of each old variable to the new variable; empty before
            `copy_weights`.
        pairs: List of (old layer, new layer), each pair once. Pairs of networks are left out.
        traces: dict from the id of an old functional model to (new inputs, calls). Each call is (old
            layer, old output, new output).
    """

    def __init__(
        self,
        unwrap: Callable[[Any], Any],
        custom_objects: Mapping[str, Any],
        overrides: Mapping[int, Mapping[str, Any]],
    ):
        self.unwrap = unwrap
        self.custom_objects = custom_objects
        self.overrides = overrides
        self._twins: dict[int, keras.layers.Layer] = {}
        self.variables: dict[int, keras.Variable] = {}
        self.pairs: list[tuple[Any, keras.layers.Layer]] = []
        self.traces: dict[int, tuple[list, list[tuple[Any, Any, Any]]]] = {}

    # --- structure -------------------------------------------------------------------------------

    def network(self, old: Any) -> keras.Model:
        """Return the twin of a Sequential or functional model."""
        if id(old) in self._twins:
            return self._twins[id(old)]
        sequential = isinstance(old, tf_keras.Sequential)
        # Private attribute: there is no public way to find out whether a model is functional.
        if not (sequential or old._is_graph_network):
            raise UnsupportedLayerError(
                "Only Sequential and functional tf_keras models can be rebuilt. Received: "
                f"{describe(old)}, a subclassed model. Write its class with `import keras`, convert "
                "each Sequential or functional network inside it, and use the new networks in that class."
            )
        if not old.built or not old.inputs:
            raise UnbuiltModelError(
                f"{describe(old)} must be built before it is converted. Call it once on a batch "
                "(`model(x)`), or give its first layer an `input_shape`."
            )
        new = self._sequential(old) if sequential else self._functional(old)
        if not old.trainable:
            new.trainable = False
        self._twins[id(old)] = new
        return new

    def _input(self, tensor: Any, name: str) -> Any:
        if not isinstance(tensor.type_spec, tf.TensorSpec):
            raise UnsupportedLayerError(
                f"Only dense inputs can be converted. Received: input '{name}', "
                f"a {type(tensor.type_spec).__name__}."
            )
        return keras.Input(
            batch_shape=tuple(tensor.shape), dtype=tensor.dtype.name, name=keras_name(name)
        )

    def _sequential(self, old: Any) -> keras.Sequential:
        (tensor,) = old.inputs
        name = tensor._keras_history.layer.name.removeprefix("prune_low_magnitude_")
        symbol = self._input(tensor, name)
        new: list[Any] = [symbol]
        for layer in old.layers:
            new.append(self.layer(layer))
            # Here an error names the layer. `Sequential.add` would call all layers before it again.
            with _explained(self.unwrap(layer)):
                symbol = new[-1](symbol)
        return keras.Sequential(new, name=keras_name(old.name))

    def _functional(self, old: Any) -> keras.Model:
        twins: dict[int, Any] = {}
        for tensor in old.inputs:
            twins[id(tensor)] = self._input(tensor, tensor._keras_history.layer.name)
        trace: list[tuple[Any, Any, Any]] = []
        self.traces[id(old)] = ([twins[id(tensor)] for tensor in old.inputs], trace)
        # Private attributes: tf_keras has no public way to read a graph with the arguments of its calls.
        for depth in sorted(old._nodes_by_depth, reverse=True):
            for node in old._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                args, kwargs = tf.nest.map_structure(
                    lambda value: twins.get(id(value), value), (node.call_args, node.call_kwargs)
                )
                outputs = self._call(node.layer, args, kwargs)
                before, after = tf.nest.flatten(node.outputs), tf.nest.flatten(outputs)
                for tensor, twin in zip(before, after, strict=True):
                    twins[id(tensor)] = twin
                    trace.append((node.layer, tensor, twin))
        inputs, outputs = tf.nest.map_structure(
            lambda tensor: twins[id(tensor)], (old._nested_inputs, old._nested_outputs)
        )
        return keras.Model(inputs, outputs, name=keras_name(old.name))

    def _call(self, old: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Call the twin of a layer on symbolic tensors."""
        old = self.unwrap(old)
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        if type(old).__name__ == "TFOpLambda":
            return _arithmetic(old, args, kwargs)
        new = self.layer(old)
        if isinstance(old, (tf_keras.layers.RNN, tf_keras.layers.Bidirectional)):
            if isinstance(args[0], (list, tuple)):  # tf_keras passes an initial state like this
                args, kwargs = (args[0][0],), {**kwargs, "initial_state": list(args[0][1:])}
        if "training" not in inspect.signature(new.call).parameters:
            kwargs.pop("training", None)
        with _explained(old):
            return new(*args, **kwargs)

    def layer(self, old: Any) -> keras.layers.Layer:
        """Return the twin of a layer. The first call creates the twin."""
        old = self.unwrap(old)
        if isinstance(old, tf_keras.Model):
            return self.network(old)
        if id(old) not in self._twins:
            cls = self._keras_class(old)
            with _explained(old):
                self._twins[id(old)] = self._make(old, cls)
            self.pairs.append((old, self._twins[id(old)]))
        return self._twins[id(old)]

    def _keras_class(self, old: Any) -> type:
        name = type(old).__name__
        of_keras = _is_of_tf_keras(old)
        for known in (name, tf_keras.saving.get_registered_name(type(old))):
            if known in self.custom_objects:
                return _checked_class(known, self.custom_objects[known])
        cls = getattr(keras.layers, name, None) if of_keras else None
        if cls is None:
            raise UnsupportedLayerError(
                f"{describe(old)} cannot be converted: "
                + (
                    "Keras 3 has no layer of that name. Replace it in the tf_keras model"
                    if of_keras
                    else "it is not one of tf_keras's own layers. Write the class with `import keras`"
                )
                + f", or pass a Keras 3 class for it: `custom_objects={{{name!r}: MyLayer}}`."
            )
        return cls

    def _make(self, old: Any, cls: type) -> keras.layers.Layer:
        if cls is keras.layers.Lambda:
            # The configuration of a `Lambda` holds the function as marshalled byte code.
            return cls(old.function, arguments=old.arguments or None, name=keras_name(old.name))
        config = {**old.get_config(), **self.overrides.get(id(old), {})}
        of_keras = _is_of_tf_keras(old)
        inner = None
        if isinstance(old, tf_keras.layers.Wrapper) and not isinstance(
            old, tf_keras.layers.Bidirectional
        ):
            config.pop("layer", None)
            inner = self.layer(old.layer)
        options = options_of(cls, config) if of_keras else plain(config)
        if not of_keras:
            options.pop("batch_input_shape", None)
            if isinstance(options.get("dtype"), dict):
                options["dtype"] = options["dtype"]["config"]["name"]
        with keras.saving.custom_object_scope(dict(self.custom_objects)):
            if isinstance(options.get("activation"), dict):
                # Keras 3.8 cannot read a layer as an activation.
                options["activation"] = keras.saving.deserialize_keras_object(options["activation"])
            return cls.from_config(options) if inner is None else cls(inner, **options)

    # --- weights ---------------------------------------------------------------------------------

    def copy_weights(self, ignored: set[int]) -> None:
        """Copy the weights of every layer to its twin, in order, and fill `variables`.

        Args:
            ignored: Ids of the old variables that have no twin.

        Raises:
            UnsupportedLayerError: The weights of a layer and of its twin have other shapes.
        """
        for old, new in self.pairs:
            old_inner, new_inner = set(ignored), set()
            if (
                isinstance(old, tf_keras.layers.Wrapper)
                and id(self.unwrap(old.layer)) in self._twins
            ):
                # The inner layer is a separate pair. A wrapper may list its weights in any order.
                old_inner |= {id(w) for w in old.layer.weights}
                new_inner = {id(w) for w in self.layer(old.layer).weights}
            before = [w for w in old.weights if id(w) not in old_inner]
            after = [w for w in new.weights if id(w) not in new_inner]
            shapes = [tuple(w.shape) for w in before], [tuple(w.shape) for w in after]
            if shapes[0] != shapes[1]:
                raise UnsupportedLayerError(
                    f"{describe(old)} cannot be converted: its weights have the shapes {shapes[0]} in "
                    f"tf_keras, and {shapes[1]} in Keras 3 ({type(new).__module__}.{type(new).__name__}). "
                    "Pass a Keras 3 class with the same weights in the same order as `custom_objects`."
                )
            for source, variable in zip(before, after, strict=True):
                variable.assign(source.numpy())
                self.variables[id(source)] = variable


@contextlib.contextmanager
def _explained(layer: Any) -> Iterator[None]:
    """Within the context, an error names the layer that could not be rebuilt."""
    try:
        yield
    except PruningError:
        raise
    except Exception as error:
        # Keras puts the whole configuration before the reason.
        reason = str(error).rpartition("Exception encountered:")[2].strip()[:600]
        raise UnsupportedLayerError(
            f"{describe(layer)} cannot be rebuilt in Keras 3 ({type(error).__name__}: {reason}). Change the "
            "layer, or pass Keras 3 classes or functions for the names that Keras does not know: "
            f"`custom_objects={{{type(layer).__name__!r}: MyLayer}}`."
        ) from error


def _arithmetic(old: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return the output of the layers that replace an operation between tensors."""
    operands = [*args, *(value for key, value in kwargs.items() if key != "name")]
    tensors = [isinstance(x, keras.KerasTensor) for x in operands]
    name = keras_name(old.name)
    with _explained(old):
        if tensors == [True, True] and old.symbol in _COMBINED:
            return _COMBINED[old.symbol](name=name)(operands)
        if sorted(tensors) == [False, True] and old.symbol in _RESCALED:
            number = operands[tensors.index(False)]
            rescaling = _RESCALED[old.symbol][tensors.index(True)]
            if np.ndim(number) == 0 and rescaling is not None:
                scale, offset = rescaling(float(number))
                return keras.layers.Rescaling(scale, offset, name=name)(
                    operands[tensors.index(True)]
                )
    raise UnsupportedLayerError(
        f"{describe(old)} cannot be converted: among TensorFlow operations between layers, only +, - and * "
        "can, between two tensors or a tensor and a number. Use a layer for the operation (such as "
        "`Reshape`, `Concatenate` or `Lambda`) in the tf_keras model."
    )


def _is_of_tf_keras(layer: Any) -> bool:
    return type(layer).__module__.split(".")[0] == "tf_keras"


def _checked_class(name: str, cls: Any) -> type:
    if isinstance(cls, type) and issubclass(cls, keras.layers.Layer):
        return cls
    raise InvalidArgumentError(
        f"`custom_objects[{name!r}]` must be a Keras 3 layer class, because a layer of the network has "
        f"this name. Received: {cls!r}."
    )


def check_custom_objects(custom_objects: Any) -> dict[str, Any]:
    """Return the argument `custom_objects` of `convert` as a dictionary.

    Raises:
        InvalidArgumentError: It is not a dictionary from names, or it holds tf_keras classes.
    """
    if custom_objects is None:
        return {}
    if not isinstance(custom_objects, Mapping) or not all(
        isinstance(k, str) for k in custom_objects
    ):
        raise InvalidArgumentError(
            "`custom_objects` must be a dictionary from names to Keras 3 classes or functions. "
            f"Received: {custom_objects!r}."
        )
    for name, value in custom_objects.items():
        if isinstance(value, type) and issubclass(value, tf_keras.layers.Layer):
            raise InvalidArgumentError(
                f"`custom_objects` must hold Keras 3 classes. {name!r} is a tf_keras class ({value}); "
                "write it with `import keras`."
            )
    return dict(custom_objects)
