"""The inputs of a network that takes one array, a list or a dict of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.gan import network_checks


class InputForm:
    """How a network takes its inputs, and the one form that this package gives them: a condition.

    A condition is one array for a network with one input, and a tuple of arrays in the order of the inputs
    for a network with several. For a subclassed network, whose inputs are not known, a dict stays a dict.

    Args:
        network: A built Keras model.

    Attributes:
        names: Names of the inputs in their order, or None if they are not known.
        shapes: Shapes of the inputs with the batch axis, or None if they are not known.

    Raises:
        InvalidArgumentError: The inputs are nested.
    """

    def __init__(self, network: keras.Model):
        self.names: list[str] | None = None
        self.shapes: list[tuple] | None = None
        self._keys: list[str] | None = None
        if not network_checks.inputs_of(network):
            return
        structure: Any = network.input
        if isinstance(structure, Mapping):
            self._keys = list(structure)
            tensors = list(structure.values())
        else:
            tensors = list(structure) if isinstance(structure, (list, tuple)) else [structure]
        if not all(isinstance(x, keras.KerasTensor) for x in tensors):
            raise InvalidArgumentError(
                "The inputs of a generator must be one tensor, a list or a dict of tensors. Received: "
                f"'{network.name}' with nested inputs. Build it as `keras.Model([image, mask], output)`."
            )
        self.names = self._keys or [x.name for x in tensors]
        self.shapes = [tuple(x.shape) for x in tensors]

    def condition(self, inputs: Any) -> Any:
        """Return what the user passes as inputs as a condition.

        Raises:
            DataError: The number of inputs, or a name, does not fit the network.
        """
        if self.names is None:
            return tuple(inputs) if isinstance(inputs, list) else inputs
        if isinstance(inputs, Mapping):
            if set(inputs) != set(self.names):
                raise DataError(
                    f"The inputs must have the names of the generator's inputs, {self.names}. Received: "
                    f"{list(inputs)}. Rename them, or name the inputs: `keras.Input(..., name='image')`."
                )
            given = tuple(inputs[name] for name in self.names)
        else:
            given = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
        if len(given) != len(self.names):
            raise DataError(
                f"The generator takes {len(self.names)} input(s), {self.names}. Received: {len(given)}. "
                "Pass several inputs as a tuple: `gan.fit((images, masks), targets)`."
            )
        return given if len(given) > 1 else given[0]

    def pack(self, condition: Any) -> Any:
        """Return a condition in the form in which the network takes its inputs."""
        parts = self.parts(condition)
        if self._keys is not None:
            return dict(zip(self._keys, parts, strict=True))
        if isinstance(condition, Mapping):
            return condition
        return parts if len(parts) > 1 else parts[0]

    def parts(self, condition: Any) -> list[Any]:
        """Return the arrays of a condition as a list."""
        if isinstance(condition, Mapping):
            return list(condition.values())
        return list(condition) if isinstance(condition, tuple) else [condition]

    def with_parts(self, condition: Any, parts: list[Any]) -> Any:
        """Return a condition of the same form with other arrays."""
        if isinstance(condition, Mapping):
            return dict(zip(condition, parts, strict=True))
        return tuple(parts) if isinstance(condition, tuple) else parts[0]
