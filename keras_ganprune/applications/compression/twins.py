"""A second object of a class that Keras cannot copy, such as a GAN class of the user's own."""

from __future__ import annotations

import types
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import PruningError
from keras_ganprune.layers.cloning import clone
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import is_built
from keras_ganprune.training import discovery


class NoTwinError(Exception):
    """A model cannot be copied; the text says why."""


def twin_of(model: Any) -> Any:
    """Return a second object of a model's class, with copies of its networks, optimizers and variables.

    The constructor is not called: nobody knows its arguments. Every attribute is copied instead; what is
    no network, optimizer, metric or variable is shared, such as losses, numbers and functions. Whether a
    function still uses the networks of the model is seen in training: the model must not change.

    Raises:
        NoTwinError: The networks share weights, are not built, or cannot be copied.
    """
    _check_apart(model)
    copier = _Copier(model)
    try:
        twin = copier.empty()
        known = set(discovery.attributes(twin))
        keras.Model.compile(twin, **_compiled(model))
        # What Keras derives from `compile` is there now. The optimizer is an attribute as any other.
        known |= set(discovery.attributes(twin)) - {"optimizer"}
        for name, value in discovery.attributes(model).items():
            if name not in known and not name.startswith("_self_") and name not in _OURS:
                setattr(twin, name, copier.copied(value))
        copier.finish()
    except NoTwinError:
        raise
    except Exception as error:
        raise NoTwinError(
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error
    twin.built = model.built
    return twin


# What this package notes at a model while it is fitted.
_OURS = ("_gradient_tap", "_nan_guarded", "_shrunk_by", "_step_with_masks", "_pruned_by")


def _compiled(model: Any) -> dict[str, Any]:
    """Return what `keras.Model.compile` was called with.

    Private attribute of Keras: only it has the losses and metrics as objects.
    """
    config = dict(getattr(getattr(model, "_compile_config", None), "config", {}))
    config.pop("optimizer", None)
    return {**config, "optimizer": None}


def _check_apart(model: Any) -> None:
    """Raise if two networks of a model share a variable: their copies would not."""
    seen: dict[int, str] = {}
    for name, network in discovery.networks(model).items():
        for variable in network.variables:
            other = seen.setdefault(id(variable), name)
            first = discovery.networks(model)[other]
            if first is not network:
                raise NoTwinError(f"'{other}' and '{name}' share '{variable.path}'.")


class _Copier:
    """Copies the attributes of a model, each object once."""

    def __init__(self, model: Any):
        self.model = model
        self.memo: dict[int, Any] = {}
        self.variables: dict[int, Any] = {}
        self.twin: Any = None
        self.optimizers: list[tuple[Any, Any]] = []

    def empty(self) -> Any:
        """Return an object of the class without the attributes of the user."""
        if getattr(self.model, "inputs", None):
            self.twin = clone(self.model)
            self._pair(self.model, self.twin)
        else:
            cls: Any = type(self.model)
            self.twin = cls.__new__(cls)
            keras.Model.__init__(self.twin, name=self.model.name)
        return self.twin

    def _pair(self, old: Any, new: Any) -> None:
        for a, b in zip(old.variables, new.variables, strict=True):
            self.variables[id(a)] = b

    def copied(self, value: Any) -> Any:
        """Return the copy of a value, or the value itself if it is shared."""
        if id(value) in self.memo:
            return self.memo[id(value)]
        copy = self._copy(value)
        if copy is not value:
            self.memo[id(value)] = copy
        return copy

    def _copy(self, value: Any) -> Any:
        if isinstance(value, keras.Variable):
            return self._variable(value)
        if isinstance(value, keras.metrics.Metric):
            return type(value).from_config(value.get_config())
        if isinstance(value, keras.optimizers.Optimizer):
            # Its variables may be of a network that comes later.
            twin = type(value).from_config(value.get_config())
            self.optimizers.append((value, twin))
            return twin
        if isinstance(value, keras.layers.Layer):
            return self._layer(value)
        if isinstance(value, keras.random.SeedGenerator):
            twin = keras.random.SeedGenerator(0)
            twin.state.assign(np.array(to_numpy(value.state)))
            return twin
        if isinstance(value, types.MethodType) and value.__self__ is self.model:
            return getattr(self.twin, value.__name__)
        if isinstance(value, dict):
            return {key: self.copied(entry) for key, entry in value.items()}
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            return tuple(self.copied(entry) for entry in value)
        if isinstance(value, list):
            return [self.copied(entry) for entry in value]
        return value

    def _variable(self, value: keras.Variable) -> Any:
        if id(value) not in self.variables:
            self.variables[id(value)] = keras.Variable(
                np.array(to_numpy(value)),
                dtype=value.dtype,
                trainable=value.trainable,
                name=value.name,
            )
        return self.variables[id(value)]

    def _layer(self, layer: Any) -> Any:
        if isinstance(layer, keras.Model) and is_built(layer):
            try:
                twin = clone(layer)
            except PruningError as error:
                raise NoTwinError(str(error)) from error
            twin.trainable = layer.trainable
            self._pair(layer, twin)
            return twin
        if layer.variables and not isinstance(layer, keras.Model):
            twin = type(layer).from_config(layer.get_config())
            if layer.built and layer.get_build_config() is not None:
                twin.build_from_config(layer.get_build_config())
            if [v.shape for v in twin.variables] != [v.shape for v in layer.variables]:
                raise NoTwinError(f"'{layer.name}' cannot be made again from its configuration.")
            for old, new in zip(layer.variables, twin.variables, strict=True):
                new.assign(np.array(to_numpy(old)))
            self._pair(layer, twin)
            return twin
        if isinstance(layer, keras.Model):
            raise NoTwinError(f"'{layer.name}' has no weights yet.")
        return layer

    def finish(self) -> None:
        """Build the optimizers over the copied variables, in the state of the old ones."""
        for old, new in self.optimizers:
            trained = discovery.trained_variables(old)
            if not trained:
                continue
            missing = [v.path for v in trained if id(v) not in self.variables]
            if missing:
                raise NoTwinError(f"An optimizer trains '{missing[0]}', which is in no attribute.")
            new.build([self.variables[id(v)] for v in trained])
            plain = [v.shape for v in new.variables]
            values = list(old.variables)[: len(plain)]
            if [v.shape for v in values] != plain:
                raise NoTwinError("The state of an optimizer cannot be copied.")
            for source, to in zip(values, new.variables, strict=True):
                to.assign(np.array(to_numpy(source)))
