"""A tf_keras (Keras 2) network made anew in Keras 3: the same graph, layers and weights."""

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

# Where Keras 3 calls an option by another name.
_RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}
# Options that Keras 3 has no use for, whatever their value.
_DROPPED = {
    "batch_input_shape",
    "implementation",
    "input_length",
    "key_shape",
    "query_shape",
    "rng_type",
    "value_shape",
}
# What `x + y` and the like become: a layer of two tensors, or, of a tensor and a number c, a `Rescaling`
# with this scale and offset; the second function is for c on the left.
_COMBINED = {
    "__operators__.add": keras.layers.Add,
    "math.add": keras.layers.Add,
    "math.subtract": keras.layers.Subtract,
    "math.multiply": keras.layers.Multiply,
}
_RESCALED = {
    "__operators__.add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "math.add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "math.subtract": (lambda c: (1.0, -c), lambda c: (-1.0, c)),
    "math.multiply": (lambda c: (c, 0.0), lambda c: (c, 0.0)),
    "math.truediv": (lambda c: (1.0 / c, 0.0), None),
}


def _plain(value: Any) -> Any:
    """Return a configuration value in the form that Keras 3 reads."""
    if isinstance(value, Mapping):
        value = {key: _plain(entry) for key, entry in value.items()}
        cls = getattr(keras.layers, str(value.get("class_name")), None)
        if cls is not None and str(value.get("module")).startswith("keras.layers"):
            value["config"] = _options(cls, value["config"])
        return value
    if isinstance(value, tf.TensorShape):
        return tuple(value.as_list())
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0:
        return value.item()
    return value


def _options(cls: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a tf_keras layer as those of its Keras 3 class.

    Raises:
        ValueError: an option is in use that the class does not have.
    """
    known: set[str] = set()
    for base in cls.__mro__:
        known.update(inspect.signature(base.__init__).parameters)
    options = {}
    for key, value in config.items():
        key = _RENAMED.get(cls.__name__, {}).get(key, key)
        value = _plain(value)
        if key == "dtype" and isinstance(value, dict):
            value = value["config"]["name"]
        elif key == "axis" and cls is keras.layers.BatchNormalization and isinstance(value, list):
            (value,) = value
        if key in known:
            options[key] = value
        elif (
            key not in _DROPPED
            # Weights are copied; so `SeparableConv2D` may have one for a kernel that it has not.
            and not key.endswith("_initializer")
            and (value is True or value not in (None, False, 1))
        ):
            raise ValueError(f"Keras 3's {cls.__name__} has no option `{key}`, here {value!r}")
    if "name" in options:
        options["name"] = _name(options["name"])
    return options


def _name(name: str) -> str:
    # Keras 3 uses the slash to join names into paths.
    return name.replace("/", "_")


def describe(layer: Any) -> str:
    return f"'{layer.name}' ({type(layer).__name__})"


class Rebuilder:
    """Makes the Keras 3 twin of a tf_keras network; a shared layer has one twin, also across models.

    Args:
        unwrap: Function from a tf_keras layer to the layer that counts, such as the inside of a wrapper.
        custom_objects: Keras 3 classes and functions by the names that the network has for them.
        overrides: Options that a twin gets in place of its layer's, by the id of the layer.

    Attributes:
        variables: dict, id of each old variable -> the new variable, once `copy_weights` was called.
        pairs: List of (old layer, new layer), each once; not of networks.
        traces: dict, id of an old functional model -> (new inputs, list of (old layer, old output, new
            output) for each call in it).
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

    # --- Structure -------------------------------------------------------------------------------

    def network(self, old: Any) -> keras.Model:
        """Return the twin of a Sequential or functional model."""
        if id(old) in self._twins:
            return self._twins[id(old)]
        sequential = isinstance(old, tf_keras.Sequential)
        # Private touch: there is no public way to ask whether a model is functional.
        if not (sequential or old._is_graph_network):
            raise UnsupportedLayerError(
                "Only Sequential and functional tf_keras models have a structure that can be rebuilt. "
                f"{describe(old)} is a subclassed model: write its class with `import keras`, convert "
                "the Sequential or functional networks inside it one by one, and put them there."
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

    def _input(self, tensor: Any, name: str) -> keras.KerasTensor:
        if not isinstance(tensor.type_spec, tf.TensorSpec):
            raise UnsupportedLayerError(
                f"Only dense inputs can be converted. Input '{name}' is a {type(tensor.type_spec).__name__}."
            )
        return keras.Input(
            batch_shape=tuple(tensor.shape), dtype=tensor.dtype.name, name=_name(name)
        )

    def _sequential(self, old: Any) -> keras.Sequential:
        (tensor,) = old.inputs
        name = tensor._keras_history.layer.name.removeprefix("prune_low_magnitude_")
        new = keras.Sequential([self._input(tensor, name)], name=_name(old.name))
        for layer in old.layers:
            twin = self.layer(layer)
            with _explained(self.unwrap(layer)):
                new.add(twin)
        return new

    def _functional(self, old: Any) -> keras.Model:
        made: dict[int, Any] = {}
        for tensor in old.inputs:
            made[id(tensor)] = self._input(tensor, tensor._keras_history.layer.name)
        trace: list[tuple[Any, Any, Any]] = []
        self.traces[id(old)] = ([made[id(tensor)] for tensor in old.inputs], trace)
        # Private touch: tf_keras has no public way to walk a graph with the arguments of its calls.
        for depth in sorted(old._nodes_by_depth, reverse=True):
            for node in old._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                args, kwargs = tf.nest.map_structure(
                    lambda value: made.get(id(value), value), (node.call_args, node.call_kwargs)
                )
                outputs = self._call(node.layer, args, kwargs)
                before, after = tf.nest.flatten(node.outputs), tf.nest.flatten(outputs)
                for tensor, twin in zip(before, after, strict=True):
                    made[id(tensor)] = twin
                    trace.append((node.layer, tensor, twin))
        inputs, outputs = tf.nest.map_structure(
            lambda tensor: made[id(tensor)], (old._nested_inputs, old._nested_outputs)
        )
        return keras.Model(inputs, outputs, name=_name(old.name))

    def _call(self, old: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Call the twin of a layer on symbolic tensors."""
        old = self.unwrap(old)
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        if type(old).__name__ == "TFOpLambda":
            return _arithmetic(old, args, kwargs)
        new = self.layer(old)
        if isinstance(old, (tf_keras.layers.RNN, tf_keras.layers.Bidirectional)):
            if isinstance(args[0], (list, tuple)):  # how tf_keras passes an initial state
                args, kwargs = (args[0][0],), {**kwargs, "initial_state": list(args[0][1:])}
        if "training" not in inspect.signature(new.call).parameters:
            kwargs.pop("training", None)
        with _explained(old):
            return new(*args, **kwargs)

    def layer(self, old: Any) -> keras.layers.Layer:
        """Return the twin of a layer, made at the first time of asking."""
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
        own = type(old).__module__.split(".")[0] == "tf_keras"
        for known in (name, tf_keras.saving.get_registered_name(type(old))):
            if known in self.custom_objects:
                return _checked_class(known, self.custom_objects[known])
        cls = getattr(keras.layers, name, None) if own else None
        if cls is None:
            raise UnsupportedLayerError(
                f"{describe(old)} cannot be converted: "
                + (
                    "Keras 3 has no layer of that name. Replace it in the tf_keras model"
                    if own
                    else "it is not one of tf_keras's own layers. Write the class with `import keras`"
                )
                + f", or pass a Keras 3 class for it: `custom_objects={{{name!r}: MyLayer}}`."
            )
        return cls

    def _make(self, old: Any, cls: type) -> keras.layers.Layer:
        if cls is keras.layers.Lambda:
            # From its configuration it would come back as marshalled byte code.
            return cls(old.function, arguments=old.arguments or None, name=_name(old.name))
        config = {**old.get_config(), **self.overrides.get(id(old), {})}
        ours = type(old).__module__.split(".")[0] == "tf_keras"
        inner = None
        if isinstance(old, tf_keras.layers.Wrapper) and not isinstance(
            old, tf_keras.layers.Bidirectional
        ):
            config.pop("layer", None)
            inner = self.layer(old.layer)
        options = _options(cls, config) if ours else _plain(config)
        if not ours:
            options.pop("batch_input_shape", None)
            if isinstance(options.get("dtype"), dict):
                options["dtype"] = options["dtype"]["config"]["name"]
        with keras.saving.custom_object_scope(dict(self.custom_objects)):
            if isinstance(options.get("activation"), dict):
                # Keras 3.8 cannot read a layer as an activation.
                options["activation"] = keras.saving.deserialize_keras_object(options["activation"])
            return cls.from_config(options) if inner is None else cls(inner, **options)

    # --- Weights ---------------------------------------------------------------------------------

    def copy_weights(self, ignored: set[int]) -> None:
        """Give every twin the weights of its layer, in order, and fill `variables`.

        Args:
            ignored: Ids of the old variables that have no twin.

        Raises:
            UnsupportedLayerError: the two layers have other weights, or another order.
        """
        for old, new in self.pairs:
            old_inner, new_inner = set(ignored), set()
            if (
                isinstance(old, tf_keras.layers.Wrapper)
                and id(self.unwrap(old.layer)) in self._twins
            ):
                # The inner layer is a pair of its own; a wrapper may list its weights in any order.
                old_inner |= {id(w) for w in old.layer.weights}
                new_inner = {id(w) for w in self.layer(old.layer).weights}
            before = [w for w in old.weights if id(w) not in old_inner]
            after = [w for w in new.weights if id(w) not in new_inner]
            shapes = [tuple(w.shape) for w in before], [tuple(w.shape) for w in after]
            if shapes[0] != shapes[1]:
                raise UnsupportedLayerError(
                    f"{describe(old)} cannot be converted: its weights have the shapes {shapes[0]} in "
                    f"tf_keras, and {shapes[1]} in Keras 3 ({type(new).__module__}.{type(new).__name__})."
                )
            for source, variable in zip(before, after, strict=True):
                variable.assign(source.numpy())
                self.variables[id(source)] = variable


@contextlib.contextmanager
def _explained(layer: Any) -> Iterator[None]:
    """Within the context, an error says which layer could not be rebuilt."""
    try:
        yield
    except PruningError:
        raise
    except Exception as error:
        # Keras puts the whole configuration before the reason.
        reason = str(error).rpartition("Exception encountered:")[2].strip()[:600]
        raise UnsupportedLayerError(
            f"{describe(layer)} cannot be rebuilt in Keras 3 ({type(error).__name__}: {reason}). Change the "
            "layer, or pass Keras 3 classes or functions for what Keras does not know, by name: "
            f"`custom_objects={{{type(layer).__name__!r}: MyLayer}}`."
        ) from error


def _arithmetic(old: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return what an operation between tensors gives, as layers."""
    operands = [*args, *(value for key, value in kwargs.items() if key != "name")]
    tensors = [isinstance(x, keras.KerasTensor) for x in operands]
    name = _name(old.name)
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
        f"{describe(old)} cannot be converted: of TensorFlow operations between layers only +, - and * "
        "can, of two tensors, or of a tensor and a number. Write the operation as a layer of its own "
        "(such as `Reshape`, `Concatenate` or `Lambda`) in the tf_keras model."
    )


def _checked_class(name: str, cls: Any) -> type:
    if isinstance(cls, type) and issubclass(cls, keras.layers.Layer):
        return cls
    raise InvalidArgumentError(
        f"`custom_objects[{name!r}]` must be a Keras 3 layer class, since a layer of the network has "
        f"that name. Received: {cls!r}."
    )


def check_custom_objects(custom_objects: Any) -> dict[str, Any]:
    """Return the dictionary, or raise if it holds what Keras 3 cannot use."""
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
