"""Copies of a callback: they have its arguments, and begin anew."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from keras_ganprune.training.running_fits import check_alone


class FreshCopies(keras.callbacks.Callback):
    """Base of callbacks whose copies begin anew, with the same arguments.

    `copy.copy`, `copy.deepcopy` and `pickle` make the callback again from the arguments of its constructor.
    So a copy can be made before, during and after a `fit`, and belongs to no model yet. Keras Tuner copies
    the callbacks for each trial. Networks, optimizers and functions among the arguments are not copied.
    """

    __signature__: inspect.Signature
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # `inspect` and `help` would show the arguments of `__new__`.
        parameters = list(inspect.signature(cls.__init__).parameters.values())
        cls.__signature__ = inspect.Signature(parameters[1:])

    if not TYPE_CHECKING:  # the types of the arguments are those of `__init__`

        def __new__(cls, *args, **kwargs):
            """Note the arguments."""
            callback = super().__new__(cls)
            callback._arguments = args, kwargs
            return callback

    def set_model(self, model):
        """Note the model of a `fit` that begins.

        Raises:
            InvalidArgumentError: The callback is twice in the list, or in another `fit` that is running.
        """
        check_alone(self)
        super().set_model(model)

    def __copy__(self):
        args, kwargs = self._arguments
        return type(self)(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]):
        args, kwargs = _copied(self._arguments, memo)
        memo[id(self)] = twin = type(self)(*args, **kwargs)
        return twin

    def __reduce__(self):
        args, kwargs = self._arguments
        return functools.partial(type(self), *args, **kwargs), ()


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """Return a deep copy of an argument, without a copy of what belongs to a model."""
    if type(value) in (list, tuple):
        return type(value)(_copied(entry, memo) for entry in value)
    if isinstance(value, Mapping) and type(value) is dict:
        return {key: _copied(entry, memo) for key, entry in value.items()}
    shared = (keras.layers.Layer, keras.optimizers.Optimizer, keras.Variable)
    if isinstance(value, shared) or (callable(value) and not hasattr(value, "get_config")):
        return value
    try:
        return copy.deepcopy(value, memo)
    except (TypeError, ValueError, NotImplementedError):
        return value  # such as an iterator or a lock, which cannot be copied
