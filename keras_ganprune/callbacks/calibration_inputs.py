"""Inputs on which a criterion measures the pruned networks inside `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks._train_function_tap import Tap
from keras_ganprune.callbacks.fixed_inputs import FixedInputs
from keras_ganprune.errors import InvalidArgumentError, PruningError
from keras_ganprune.gan import GANModel, network_checks
from keras_ganprune.layers.tensors import to_numpy

# Latent vectors that are drawn for a generator.
_LATENTS = 256


class CalibrationInputs:
    """The calibration inputs of each network: those of the user, latent vectors, or recorded batches.

    The model itself gets the inputs of the batches, the generator of a `GANModel` latent vectors. Any other
    network gets the parts of a batch that have the shapes of its inputs; if there are none, and it takes
    latent vectors (and perhaps labels), these.

    Args:
        model: The model that is fitted.
        networks: List of (name, network).
        given: The `calibration` of the user: inputs of the network, or a list with an entry per network;
            None to find them.

    Attributes:
        batches: Int, number of batches recorded since the last `reset`; the caller counts calls of the
            train function in `active`.
        active: Bool, whether the next (or last) batch is recorded.
        records: Bool, whether batches are needed at all.
        recorded: List of the recorded batches, as arrays.
    """

    def __init__(
        self, model: keras.Model, networks: Sequence[tuple[str, keras.layers.Layer]], given: Any
    ):
        self.model = model
        self.networks = list(networks)
        self.given = given
        latents = [
            isinstance(model, GANModel) and network is model.generator for _, network in networks
        ]
        self.records = given is None and not all(latents)
        self.active = False
        self.recorded: list[Any] = []
        self._drawn = latents

    @property
    def batches(self) -> int:
        """Number of batches recorded since the last `reset`."""
        return len(self.recorded)

    def start(self) -> None:
        """Record the first batch of the next call of the train function."""
        self.active = True
        Tap.of(self.model).record(self._record)

    def stop(self) -> None:
        """Record no batch of the next call."""
        self.active = False
        Tap.of(self.model).disarm(self._record)

    def reset(self) -> None:
        """Forget the recorded batches."""
        self.recorded = []

    def _record(self, batch: Any) -> None:
        self.recorded.append(keras.tree.map_structure(_array, batch))

    def read(self) -> Any:
        """Return the inputs in the form of `Pruner.update(calibration=...)`.

        Raises:
            InvalidArgumentError: The inputs of a network are not known.
        """
        if self.given is not None:
            return self.given
        found = [
            self._inputs_of(name, network, drawn)
            for (name, network), drawn in zip(self.networks, self._drawn, strict=True)
        ]
        return found[0] if len(found) == 1 else found

    def _inputs_of(self, name: str, network: keras.layers.Layer, drawn: bool) -> Any:
        if network is self.model:
            return _joined([keras.utils.unpack_x_y_sample_weight(b)[0] for b in self.recorded])
        if not drawn:
            matching = [_matching(batch, network) for batch in self.recorded]
            if matching and all(x is not None for x in matching):
                return _joined(matching)
        try:
            arrays = FixedInputs(_LATENTS).arrays(self.model, network)
        except PruningError as error:
            raise InvalidArgumentError(
                f"The criterion measures '{name}' on its inputs, which were not found. Received: "
                f"{len(self.recorded)} recorded batches without arrays of their shapes, and {error} "
                f"Pass them to `Prune`: `calibration=`, an array of inputs of '{name}' (a list for several "
                "inputs, or for several targets)."
            ) from error
        return arrays[0] if len(arrays) == 1 else arrays


def _array(tensor: Any) -> Any:
    return None if tensor is None else np.array(to_numpy(tensor))


def _joined(structures: Sequence[Any]) -> Any:
    """Return the batches as one batch. Lone dimensions of tuples become those of lists."""
    return keras.tree.map_structure(lambda *x: np.concatenate(x), *structures)


def _matching(batch: Any, network: keras.layers.Layer) -> Any:
    """Return the parts of a batch that have the shapes of the inputs of a network, or None."""
    inputs = network_checks.inputs_of(network)
    if not inputs:
        return None
    leaves = [x for x in keras.tree.flatten(batch) if x is not None]
    found = []
    for wanted in inputs:
        shape = tuple(wanted.shape[1:])
        place = next((i for i, leaf in enumerate(leaves) if _fits(leaf, shape)), None)
        if place is None:
            return None
        found.append(leaves.pop(place))
    return found[0] if len(found) == 1 else found


def _fits(leaf: np.ndarray, shape: tuple[int | None, ...]) -> bool:
    return leaf.ndim == len(shape) + 1 and all(
        a is None or a == b for a, b in zip(shape, leaf.shape[1:], strict=True)
    )
