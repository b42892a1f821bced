"""Inner outputs of a network, made of its own layers: the features by which images are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.gan import network_checks


class Features:
    """Features of a network. It may be another network in the next call, as after a cut by `Shrink`.

    Args:
        layers: Names of the layers whose outputs are the features. None for the input of the last layer
            with weights.
        what: How an error names the feature, such as '`Distillation(features=...)`'.
        instead: What an error recommends instead, such as 'use `output` alone'.
    """

    def __init__(self, layers: Sequence[str] | None, what: str, instead: str):
        self.layers = layers
        self._what = what
        self._instead = instead
        # The network, and the model of its features. PyTorch needs it in every step.
        self._cache: tuple[keras.Model, keras.Model] | None = None

    def of(self, network: keras.Model, inputs: Any) -> list[Any]:
        """Return the float32 features of a network in inference mode."""
        outputs = self.model(network)(inputs, training=False)
        return [ops.cast(x, "float32") for x in keras.tree.flatten(outputs)]

    def model(self, network: keras.Model) -> keras.Model:
        """Return a model from the inputs of a network to its features.

        Raises:
            UnsupportedLayerError: The network is subclassed, so its inner outputs are not known.
            InvalidArgumentError: It has no such layer, or no layer with weights.
        """
        if self._cache is None or self._cache[0] is not network:
            self._cache = network, self._new_model(network)
        return self._cache[1]

    def _new_model(self, network: keras.Model) -> keras.Model:
        inputs = network_checks.inputs_of(network)
        if not inputs:
            raise UnsupportedLayerError(
                f"{self._what} needs inner outputs of a network, but {type(network).__name__} is a "
                f"subclassed model. Use a Sequential or functional network, or {self._instead}."
            )
        inputs = inputs if len(inputs) > 1 else inputs[0]
        if self.layers is None:
            last = next((x for x in reversed(network.layers) if x.weights), None)
            if last is None:
                raise InvalidArgumentError(
                    f"{self._what} needs a network with a layer with weights, whose input gives the "
                    f"features. Received: '{network.name}' without weights. Name `layers`, or "
                    f"{self._instead}."
                )
            return keras.Model(inputs, last.input)
        known = {layer.name: layer for layer in network.layers}
        missing = [name for name in self.layers if name not in known]
        if missing:
            raise InvalidArgumentError(
                f"`layers` must be names of layers of '{network.name}'. Received: {missing}. Known: "
                f"{', '.join(known)}."
            )
        return keras.Model(inputs, [known[name].output for name in self.layers])
